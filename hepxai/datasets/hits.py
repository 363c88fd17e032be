"""Particles that light no pixel of the image: refused with file and entry, or dropped and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hepxai.datasets.columns import ReadError
from hepxai.events.images import ImageLayout

if TYPE_CHECKING:
    from hepxai.datasets.particles import Particles


def inside(particles: Particles) -> NDArray[np.bool_]:
    """Whether each particle lies inside the image, ``[n]``; those of types that are not drawn do."""
    layout = particles.names.card.image_layout
    if layout is None or particles.name not in layout.types:
        return np.ones(particles.n, dtype=np.bool_)
    return _pixels(particles, layout) >= 0


def refuse_outside(particles: Particles) -> None:
    """Raise if a particle lies outside the image.

    Raises
    ------
    ReadError
        Naming file, entry and branches of the first one.
    """
    layout = particles.names.card.image_layout
    good = inside(particles)
    if layout is None or good.all():
        return
    first = int(np.argmin(good))
    axes = (layout.rows, layout.columns)
    at = ", ".join(f"{_spelled(particles, a.feature)} = {particles.flat(a.feature)[first]:g}" for a in axes)
    events = np.searchsorted(particles.offsets, np.flatnonzero(~good), side="right") - 1
    raise ReadError(
        f"{particles.names.where}: entry {particles.entry(int(events[0]))}: a {particles.name} at {at} lies "
        f"outside the image of {layout.rows.size} rows and {layout.columns.size} columns, with "
        f"{len(events)} such in {len(np.unique(events))} events of this chunk; correct the bins of "
        "image:, or write outside: drop there"
    )


def _pixels(particles: Particles, layout: ImageLayout) -> NDArray[np.int64]:
    rows, columns = (
        particles.flat(a.feature).astype(np.float32, copy=False) for a in (layout.rows, layout.columns)
    )
    return layout.pixels(rows, columns)


def _spelled(particles: Particles, feature: str) -> str:
    """Feature, with the branch that it comes from where that is called otherwise."""
    origin = ", ".join(particles.origin(feature))
    return feature if origin == feature else f"{feature} ({origin})"
