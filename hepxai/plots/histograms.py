"""Signed-weight histograms with errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import hist
import numpy as np
from numpy.typing import NDArray

from hepxai.core.binning import bin_of
from hepxai.core.estimate import Array


@dataclass(frozen=True)
class Template:
    """Histogram of a sample, nominal and under the alternatives of each source of uncertainty.

    Attributes
    ----------
    nominal : hist.Hist
        Of signed weights, with variances.
    varied : mapping of str to sequence of hist.Hist
        Source → up and down, or a single alternative, in the same bins.
    """

    nominal: hist.Hist
    varied: Mapping[str, Sequence[hist.Hist]]


def signed_histogram(
    values: NDArray[np.floating],
    weight: Array,
    edges: Array,
    *,
    cluster: NDArray[np.int64] | None = None,
    name: str = "x",
    label: str = "",
) -> hist.Hist:
    """Weighted histogram with Σw² errors. Values beyond the edges are counted in the outermost bins.

    Parameters
    ----------
    values, weight : ndarray, shape [N]
    edges : ndarray
    cluster : ndarray of int64, shape [N], optional
        Event of every entry. Entries of one event rise and fall together, so that a bin's variance is
        Σ_e (Σ w of the event in the bin)².
    name, label : str
        Of the axis.
    """
    where = bin_of(np.clip(values, edges[0], edges[-1]), edges)
    bins, used = len(edges) - 1, where >= 0
    where, weight = where[used], weight[used]
    owner = np.arange(len(where)) if cluster is None else cluster[used]
    _, together = np.unique(owner * bins + where, return_inverse=True)
    sums = np.bincount(together, weights=weight)
    place = np.zeros(len(sums), dtype=np.int64)
    place[together] = where
    filled = hist.Hist(hist.axis.Variable(edges, name=name, label=label), storage=hist.storage.Weight())
    value = np.bincount(where, weights=weight, minlength=bins)
    variance = np.bincount(place, weights=sums**2, minlength=bins)
    filled[...] = np.stack([value, variance], axis=-1)
    return filled


def normalised(filled: hist.Hist) -> tuple[Array, Array, Array]:
    """Density with its errors, and the bin edges; NaN where the weights sum to zero."""
    edges = np.asarray(filled.axes[0].edges)
    total = float(filled.values().sum())
    norm = np.diff(edges) * (total if total != 0 else np.nan)
    return filled.values() / norm, np.sqrt(filled.variances()) / abs(norm), edges


def fitting_bins(sizes: Iterable[int], *, least: int = 8, most: int = 40) -> int:
    """Bins that the smallest of some samples can fill (Rice's rule, 2 n^⅓), within limits."""
    return int(np.clip(2 * min(sizes, default=0) ** (1 / 3), least, most))


def robust_edges(values: NDArray[np.floating], bins: int, *, tail: float = 0.002) -> Array:
    """Equal bins over all but the outermost ``tail`` of the values on each side."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.linspace(0.0, 1.0, bins + 1)
    low, high = np.quantile(finite, [tail, 1 - tail])
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)
