"""Bins of an event quantity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bin_of(values: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of every value, -1 outside and for NaN; the last bin includes its upper edge."""
    position = np.searchsorted(edges, values, side="right") - 1
    position[values == edges[-1]] = len(edges) - 2
    outside = ~np.isfinite(values) | (position < 0) | (position > len(edges) - 2)
    return np.where(outside, -1, position)


def equal_bins(values: NDArray[np.floating], bins: int) -> NDArray[np.float64]:
    """Edges that put about the same number of events into each bin; fewer bins where values repeat."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.array([0.0, 1.0])
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.array([edges[0] - 0.5, edges[0] + 0.5])
