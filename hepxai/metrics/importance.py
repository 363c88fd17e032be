"""Importance of the columns of a table for a population of events, and groups of correlated columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from hepxai.core.estimate import Array, Estimate


@dataclass(frozen=True)
class Importance:
    """Loss of performance of a model without the information of each column, or group of columns.

    It belongs to a population, not to an event, and hence is no `hepxai.attribution.Attribution`.

    Attributes
    ----------
    names : tuple of str, length N
        Columns and groups.
    members : mapping of str to tuple of str
        Columns of each of them.
    metric, target : str
    score : float
        Metric of the model on the events as they are.
    repeats : ndarray of float64, shape [N, R]
        Loss of performance in each repeat: decrease of "auc" or "accuracy", increase of "loss".
        Positive where the model gets worse.
    error : ndarray of float64, shape [N]
        Standard error of `mean` from the finite number of events and of repeats.
    conditional : bool
        Columns were shuffled among similar events only; see
        `hepxai.importance.permutation.permutation_importance`.
    covariance : ndarray of float64, shape [N, N], optional
        Of the means, ``error`` squared on its diagonal; columns share the events that are hard.
    """

    names: tuple[str, ...]
    members: Mapping[str, tuple[str, ...]]
    metric: str
    target: str
    score: float
    repeats: Array
    error: Array
    conditional: bool = False
    covariance: Array | None = None

    def __post_init__(self) -> None:
        if self.repeats.ndim != 2 or not len(self.names) == len(self.repeats) == len(self.error):
            shapes = f"repeats {self.repeats.shape}, error {self.error.shape}"
            raise ValueError(f"{len(self.names)} names for {shapes}")

    def __repr__(self) -> str:
        first = ", ".join(f"{name} {estimate:.3g}" for name, estimate in self.ranked()[:3])
        return f"<Importance: {self.metric} of {self.target}, {len(self.names)} columns or groups; {first}>"

    @property
    def mean(self) -> Array:
        """Mean over the repeats, ``[N]``."""
        return np.asarray(self.repeats.mean(axis=1))

    @property
    def spread(self) -> Array:
        """Standard deviation of a single repeat, ``[N]``; NaN if there is only one."""
        if self.repeats.shape[1] < 2:
            return np.full(len(self.names), np.nan)
        return np.asarray(self.repeats.std(axis=1, ddof=1))

    def ranked(self) -> list[tuple[str, Estimate]]:
        """Names with their importance, the largest first; the number is that of the repeats."""
        mean, n = self.mean, float(self.repeats.shape[1])
        order = np.argsort(-mean, kind="stable")
        return [(self.names[i], Estimate(mean[i], self.error[i], n)) for i in order]


def rank_correlation(table: NDArray[np.floating]) -> Array:
    """Spearman's correlation of the columns, ``[G, G]``; 0 for a constant column, NaN counts as the lowest.

    Each event counts once: ranks cannot have signed weights.
    """
    if not len(table):
        raise ValueError("there are no events to correlate the columns of")
    ranks = rankdata(np.where(np.isnan(table), -np.inf, table), axis=0)
    centred = ranks - ranks.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    unit = np.divide(centred, size, out=np.zeros_like(centred), where=size > 0)
    correlation = np.clip(unit.T @ unit, -1, 1)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)


def correlation_tree(table: NDArray[np.floating]) -> Array:
    """Hierarchical clustering of the columns by 1 - |rank correlation|, mean linkage, as scipy has it.

    Returns
    -------
    ndarray, shape [G-1, 4]
        For ``scipy.cluster.hierarchy.dendrogram``.
    """
    distance = 1 - np.abs(rank_correlation(table))
    return np.asarray(linkage(squareform(distance, checks=False), method="average"))


def correlated_groups(
    table: NDArray[np.floating], columns: Sequence[str], *, threshold: float = 0.7
) -> dict[str, tuple[str, ...]]:
    """Groups of correlated columns, by a mean |rank correlation| of at least ``threshold``.

    Returns
    -------
    dict
        Name of the group, ``a + b``, to its columns, in the order of the columns.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold}; a correlation above 0 and at most 1 is needed")
    if len(columns) < 2:
        return {name: (name,) for name in columns}
    cluster = fcluster(correlation_tree(table), 1 - threshold, criterion="distance")
    groups = [
        tuple(n for n, c in zip(columns, cluster, strict=True) if c == k) for k in dict.fromkeys(cluster)
    ]
    return {" + ".join(names): names for names in groups}
