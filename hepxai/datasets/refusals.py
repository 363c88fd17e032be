"""Refusal of particles that cannot be used: with file, entry and remedy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepxai.datasets.columns import ReadError
from hepxai.datasets.particles import Particles


def refuse_outside(particles: Particles) -> None:
    """Raise if a particle lies outside the image.

    Raises
    ------
    ReadError
        Naming file, entry and branches of the first one.
    """
    layout = particles.dataset.image_layout
    inside = particles.inside()
    if layout is None or inside.all():
        return
    first = int(np.argmin(inside))
    axes = (layout.rows, layout.columns)
    at = ", ".join(f"{_spelled(particles, a.feature)} = {particles.flat(a.feature)[first]:g}" for a in axes)
    events = np.searchsorted(particles.offsets, np.flatnonzero(~inside), side="right") - 1
    raise ReadError(
        f"{particles.place(int(events[0]))}: a {particles.name} at {at} lies "
        f"outside the image of {layout.rows.size} rows and {layout.columns.size} columns, with "
        f"{len(events)} such in {len(np.unique(events))} events of this chunk; correct the bins of "
        "image:, or write outside: drop there"
    )


def _spelled(particles: Particles, feature: str) -> str:
    """Feature, with the branch that it comes from if that has another name."""
    origin = ", ".join(particles.origin(feature))
    return feature if origin == feature else f"{feature} ({origin})"


def refuse_not_finite(particles: Particles, names: tuple[str, ...], table: NDArray[np.float32]) -> None:
    """Raise if a quantity in a table of particles is NaN or infinite.

    Raises
    ------
    ReadError
        Naming file, entry and quantity of the first one.
    """
    bad = np.argwhere(~np.isfinite(table))
    if not len(bad):  # only the sum overflows
        return
    row, column = bad[0]
    event = int(np.searchsorted(particles.offsets, row, side="right") - 1)
    name, value = names[column], float(table[row, column])
    raise ReadError(
        f"{particles.place(event)}: {name} of {particles.name} is {value} ({len(bad)} such in this chunk); "
        f"{_remedy(particles, name, value)}"
    )


def _remedy(particles: Particles, name: str, value: float) -> str:
    """Entries of the card that help."""
    selected = f"selection: isfinite({particles.name}.{name})"
    cut = selected if particles.one_each else f"cuts: isfinite({name}) for {particles.name}"
    origin = particles.origin(name)
    if len(origin) == 1 and origin[0] in particles.columns.all_names:
        text = ".nan" if np.isnan(value) else ".inf" if value > 0 else "-.inf"
        instead = f"say what stands for it with missing: {{{origin[0]}: {{values: [{text}], replace: 0}}}}"
    elif name in particles.card.features:
        instead = f"write where(isfinite(x), x, 0) with {origin[0]} as x"
    else:
        instead = f"correct {', '.join(origin)}, which it follows from"
    return f"cut such particles away with {cut}, or {instead}"
