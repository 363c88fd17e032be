"""Settings of the muon spectrometer for tests, and one track followed slowly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import simulate_helpers

from hepxai.simulate.spectrometer.settings import SpectrometerSettings

SHIPPED = simulate_helpers.DATASETS / "muon_patterns"


def settings_with(**changes: dict[str, Any]) -> SpectrometerSettings:
    """The shipped settings with some entries of some sections replaced."""
    content = simulate_helpers.content(SHIPPED)
    for section, entries in changes.items():
        content[section] |= entries
    return SpectrometerSettings.model_validate(content)


def write_settings(folder: Path, *, chunk_events: int = 50) -> Path:
    content = simulate_helpers.content(SHIPPED) | {"chunk_events": chunk_events}
    return simulate_helpers.write_settings(folder, content, SHIPPED)


def slow_track(
    z: float, angle: float, momentum: float, charge: int, settings: SpectrometerSettings, step: float = 1e-3
) -> list[float | None]:
    """Where one particle crosses the layers: small steps under the Lorentz force (midpoint rule)."""
    toroid, r = settings.toroid, settings.calorimeter.outer_radius

    def turn(radius: float) -> float:
        inside = toroid.inner_radius <= radius <= toroid.outer_radius
        field = toroid.field * toroid.inner_radius / radius if inside else 0.0
        return 0.299792458 * charge * field / momentum

    crossings: list[float | None] = []
    while len(crossings) < len(settings.layers.radii):
        middle = angle + turn(r) * step / 2
        r_next = r + math.cos(middle) * step
        z_next = z + math.sin(middle) * step
        if r_next <= r:
            return crossings + [None] * (len(settings.layers.radii) - len(crossings))
        angle += turn((r + r_next) / 2) * step
        while len(crossings) < len(settings.layers.radii) and settings.layers.radii[len(crossings)] <= r_next:
            part = (settings.layers.radii[len(crossings)] - r) / (r_next - r)
            crossings.append(z + part * (z_next - z))
        r, z = r_next, z_next
    return crossings
