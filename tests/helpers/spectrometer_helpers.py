"""Settings of the muon spectrometer for tests, and one track followed slowly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from hepxai.simulate.spectrometer.config import SpectrometerConfig

SHIPPED = Path(__file__).parents[2] / "datasets" / "muon_patterns"


def settings() -> dict[str, Any]:
    return yaml.safe_load((SHIPPED / "simulate.yaml").read_text())


def config_with(**changes: dict[str, Any]) -> SpectrometerConfig:
    """The shipped settings with some entries of some sections replaced."""
    content = settings()
    for section, entries in changes.items():
        content[section] |= entries
    return SpectrometerConfig.model_validate(content)


def write_settings(folder: Path, *, chunk_events: int = 50) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "simulate.yaml").write_text(
        yaml.safe_dump(settings() | {"chunk_events": chunk_events}, sort_keys=False)
    )
    return folder


def slow_track(
    z: float, angle: float, momentum: float, charge: int, config: SpectrometerConfig, step: float = 1e-3
) -> list[float | None]:
    """Where one particle crosses the layers: small steps under the Lorentz force (midpoint rule)."""
    toroid, r = config.toroid, config.calorimeter.outer_radius

    def turn(radius: float) -> float:
        inside = toroid.inner_radius <= radius <= toroid.outer_radius
        field = toroid.field * toroid.inner_radius / radius if inside else 0.0
        return 0.299792458 * charge * field / momentum

    crossings: list[float | None] = []
    while len(crossings) < len(config.layers.radii):
        middle = angle + turn(r) * step / 2
        r_next = r + math.cos(middle) * step
        z_next = z + math.sin(middle) * step
        if r_next <= r:
            return crossings + [None] * (len(config.layers.radii) - len(crossings))
        angle += turn((r + r_next) / 2) * step
        while len(crossings) < len(config.layers.radii) and config.layers.radii[len(crossings)] <= r_next:
            part = (config.layers.radii[len(crossings)] - r) / (r_next - r)
            crossings.append(z + part * (z_next - z))
        r, z = r_next, z_next
    return crossings
