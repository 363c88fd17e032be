"""Evenly spread events; chunks of events of similar size, and their results in order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, offsets_from_counts, take_rows

BUDGET = 16_384
"""Particle pairs (diagonal and padding included) in a chunk: 4 MB for 64 floats each, which caches hold."""
PIXELS = 16_384
"""Pixels in a chunk of images: their activations stay in the caches, and in memory that is used
again. Four images of 9 x 384 at a time are two to four times as fast as 256."""


def evenly_spread(size: int, maximum: int) -> IntArray:
    """Positions of at most ``maximum`` evenly spread entries of ``size``; with the first and the last."""
    return np.linspace(0, size - 1, min(size, maximum)).astype(np.int64)


def chunk_rows(counts: IntArray, budget: int = BUDGET) -> list[IntArray]:
    """Event numbers of each chunk.

    Events are sorted by multiplicity first, so that padding to the longest event of a chunk costs little and
    most chunks need none: one that is a quarter full or more ends where the multiplicity changes.
    """
    order = np.argsort(counts, kind="stable")
    sizes = counts[order]
    cost = np.concatenate([[0], np.cumsum(np.maximum(sizes, 4) ** 2)])
    cuts = [0]
    while cuts[-1] < len(order):
        start = cuts[-1]
        end = max(int(np.searchsorted(cost, cost[start] + budget, side="right")) - 1, start + 1)
        change = int(np.searchsorted(sizes, sizes[end])) if end < len(order) else end
        cuts.append(change if cost[change] - cost[start] >= budget / 4 else end)
    return np.split(order, cuts[1:-1]) if len(order) else []


def image_rows(events: int, shape: tuple[int, ...]) -> list[IntArray]:
    """Event numbers of each chunk of images of one shape: as many as ``PIXELS`` allows, at least one."""
    size = max(PIXELS // math.prod(shape), 1)
    return np.split(np.arange(events), range(size, events, size)) if events else []


def in_order(
    parts: Sequence[NDArray[np.floating]], chunks: Sequence[IntArray], empty: tuple[int, ...]
) -> NDArray[np.float64]:
    """Per-event results of the chunks, in the order of the events; ``empty`` is the shape without any."""
    if not chunks:
        return np.zeros(empty)
    back = np.argsort(np.concatenate(chunks), kind="stable")
    return np.concatenate(parts).astype(np.float64, copy=False)[back]


def jagged_in_order(
    parts: Sequence[NDArray[np.floating]], chunks: Sequence[IntArray], offsets: IntArray
) -> NDArray[np.floating]:
    """Per-particle or per-pair results of the chunks, in the order of the events with ``offsets``."""
    rows = np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.int64)
    sorted_offsets = offsets_from_counts(np.diff(offsets)[rows])
    flat, _ = take_rows(sorted_offsets, np.argsort(rows, kind="stable"))
    return np.concatenate(parts)[flat] if parts else np.zeros(0)
