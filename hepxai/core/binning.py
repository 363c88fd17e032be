"""Bins of an event quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["linear", "log"]
"""Scale of the axis that the bins are drawn on."""


def checked_edges(
    edges: Sequence[float] | NDArray[np.floating], scale: Scale = "linear"
) -> NDArray[np.float64]:
    """Bin edges that a user gave, as an array ``[B+1]``.

    Raises
    ------
    ValueError
        If there are fewer than two, they do not rise, or one has no place on the axis.
    """
    array = np.asarray(edges, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"found {len(np.atleast_1d(array))} bin edge; a bin needs two, such as [80, 100]")
    if not np.isfinite(array).all():
        raise ValueError("an edge is not a finite number; events beyond the outermost edges are left out")
    if falls := np.flatnonzero(np.diff(array) <= 0).tolist():
        before, after = array[falls[0] : falls[0] + 2]
        raise ValueError(f"edge {after:g} comes after {before:g}; write the edges in rising order, each once")
    if scale == "log" and not array[0] > 0:
        raise ValueError(
            f"edge {array[0]:g} has no place on a logarithmic axis; begin above 0, or take scale: linear"
        )
    return array


def bin_of(values: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of every value, -1 outside and for NaN; the last bin includes its upper edge."""
    position = np.searchsorted(edges, values, side="right") - 1
    position[values == edges[-1]] = len(edges) - 2
    outside = ~np.isfinite(values) | (position < 0) | (position > len(edges) - 2)
    return np.where(outside, -1, position)


def resolving_bins(
    samples: Sequence[NDArray[np.floating]], *, least: int = 5, most: int = 25, finest: int = 200
) -> NDArray[np.float64]:
    """Edges that resolve the narrowest of some samples, such as a resonance beside a broad background.

    Steps of 2 IQR n^(-1/3) of the narrowest sample [Freedman & Diaconis, Z. Wahrscheinlichkeit 57 (1981) 453]
    are joined until a bin has enough values of one sample. The outermost bins reach to the last value.

    Parameters
    ----------
    samples : sequence of ndarray
        NaN are left out.
    least, most : int
        A bin is full with ``least`` values of a sample, or the ``most``-th part of it if that is more.
    finest : int
        Steps in the range that holds all but 0.5 % of the values on each side, at most.
    """
    finite = [v[np.isfinite(v)] for v in samples]
    everything, finite = np.concatenate([*finite, np.zeros(0)]), [v for v in finite if len(v) > 1]
    if not finite or not np.ptp(everything) > 0:
        return equal_bins(everything, 1)
    low, high = np.quantile(everything, [0.005, 0.995])
    low, high = (low, high) if high > low else (everything.min(), everything.max())
    widths = [2 * float(np.subtract(*np.quantile(v, [0.75, 0.25]))) * len(v) ** (-1 / 3) for v in finite]
    step = float(np.clip(min(widths), (high - low) / finest, (high - low) / 8))
    fine = np.linspace(low, high, round((high - low) / step) + 1)
    fine[0], fine[-1] = everything.min(), everything.max()
    full = np.array([max(least, len(v) / most) for v in finite])
    return fine[_full(np.stack([np.histogram(v, fine)[0] for v in finite]), full)]


def _full(counts: NDArray[np.int64], full: NDArray[np.float64]) -> list[int]:
    """Edges of the fewest neighbours ``[S, B]`` that are full together; the last bin takes the rest."""
    edges, inside = [0], np.zeros(len(counts))
    for b, column in enumerate(counts.T):
        inside = inside + column
        if (inside >= full).any():
            edges.append(b + 1)
            inside = np.zeros(len(counts))
    return [*edges[: max(len(edges) - 1, 1)], counts.shape[1]]


def equal_bins(values: NDArray[np.floating], bins: int) -> NDArray[np.float64]:
    """Edges that put about the same number of events into each bin; fewer bins where values repeat."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.array([0.0, 1.0])
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.array([edges[0] - 0.5, edges[0] + 0.5])
