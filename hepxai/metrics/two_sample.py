"""Two-sample tests of event quantities with signed weights: axis by axis, and by a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier

from hepxai.core.estimate import Array, Estimate, effective, ratio_mean
from hepxai.metrics.classification import auc

BLOCK = 4_000_000
"""Signs that are held in memory at once."""
TREES: dict[str, Any] = {"max_iter": 50, "max_leaf_nodes": 8, "min_samples_leaf": 20, "early_stopping": False}
"""Settings of the classifier: shallow, as the samples hardly differ."""
BINS = 64
"""Bins of equal numbers of events in which the classifier sees an axis."""
FEWEST = 40
"""Events of a sample that a classifier needs."""
SPARSE = 20
"""Effective events of each sample off the commonest value that an axis needs: with fewer, random signs
understate the variance."""
DRAWS = 999
"""Draws of signs."""
SIGNIFICANT = 0.05
"""Samples differ if a p-value is at most this."""


@dataclass(frozen=True)
class EventTable:
    """Numbers of every event of a sample.

    Attributes
    ----------
    names : tuple of str, length K
    values : ndarray of float64, shape [E, K]
        NaN where an event has none, such as the pt of a second jet.
    weight : ndarray of float64, shape [E]
        Signed.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is infinite, a weight is not finite, or their sum is not positive.
    """

    names: tuple[str, ...]
    values: Array
    weight: Array

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.weight), len(self.names)):
            raise ValueError(
                f"values have shape {self.values.shape}, for {len(self.weight)} weights and "
                f"{len(self.names)} names"
            )
        if np.isinf(self.values).any() or not np.isfinite(self.weight).all():
            raise ValueError("values are finite or NaN, and weights finite: leave other events out")
        if not self.weight.sum() > 0:
            raise ValueError(
                f"the weights of {len(self.weight)} events sum to {self.weight.sum():g}; the shapes of two "
                "samples are compared, which takes a positive sum"
            )

    def __getitem__(self, rows: NDArray[np.generic]) -> EventTable:
        """Some of the events, by row number or mask."""
        return EventTable(self.names, self.values[rows], self.weight[rows])

    def columns(self, chosen: NDArray[np.generic]) -> EventTable:
        """Some of the columns, by number or mask."""
        names = tuple(np.array(self.names, dtype=object)[chosen])
        return EventTable(names, self.values[:, chosen], self.weight)


@dataclass(frozen=True)
class AxisTests:
    """Test of every axis, with the look-elsewhere effect of all axes.

    Attributes
    ----------
    names : tuple of str, length K
        Axes on which the values vary.
    statistic : ndarray, shape [K]
        Cramér–von Mises statistic; see `compare_axes`.
    p_local, p_global : ndarray, shape [K]
        Probability of at least this statistic for equal distributions, of this axis and of any of the axes.
    first, second : Estimate
        Means of the two samples, ``[K]``.
    left_out : tuple of str
        Axes that vary, with too few events for a test; see `compare_axes`.
    """

    names: tuple[str, ...]
    statistic: Array
    p_local: Array
    p_global: Array
    first: Estimate
    second: Estimate
    left_out: tuple[str, ...] = ()

    @property
    def p_value(self) -> float:
        """Probability of equal distributions on all axes; 1 without axes."""
        return float(self.p_global.min(initial=1.0))

    @property
    def pull(self) -> Array:
        """Difference of the means (first less second) in units of its error, ``[K]``."""
        error = np.hypot(self.first.error, self.second.error)
        return np.asarray((self.first.value - self.second.value) / np.where(error > 0, error, np.nan))


def compare_axes(first: EventTable, second: EventTable, *, draws: int = DRAWS, seed: int = 0) -> AxisTests:
    """Compare two samples axis by axis: weighted Cramér–von Mises tests and their look-elsewhere effect.

    With F the weighted cumulative distributions, and H that of all events, each counted once, the statistic
    of an axis is

        T = n₁ n₂ / (n₁ + n₂) ∫ (F₁ - F₂)² dH,    n = (Σw)² / Σw²,

    which for unweighted events is the classical one [Anderson, Ann. Math. Stat. 33 (1962) 1148]. Shapes are
    compared, not yields.

    The null distribution is a wild bootstrap, as in `hepxai.metrics.null.random_signs`: the contribution
    w_e (1{x_e ≤ t} - F(t)) / Σw of every event keeps its value and weight and gets a random sign, the same
    on all axes. Permuting events between the samples would assume that values *and weights* have the same
    distribution in both, which is not so for data of weight 1 and weighted simulation.

    The global p-value of an axis is the step-down maximum test of Westfall & Young (1993) with statistics
    scaled to mean 0 and variance 1 under the null: it takes the correlation of the axes into account, and
    holds with other axes being different, too [Romano & Wolf, Econometrica 73 (2005) 1237].

    Signs reproduce the variance of F only with enough events: an event that is alone in its sample has the
    contribution 0. An axis is left out, and listed, unless n (1 - s) is at least 20 in both samples, where s
    is the share of the commonest value, averaged over the samples, and n is of the events without NaN.

    Parameters
    ----------
    first, second : EventTable
        With the same names. Events with NaN are left out of their axis.
    draws, seed : int
        Draws of signs; the smallest p-value is 1 / (draws + 1).

    Raises
    ------
    ValueError
        If names differ.
    """
    _need_same_names(first, second)
    values = np.concatenate([first.values, second.values])
    varying = [k for k, column in enumerate(values.T) if _varies(column)]
    filled = {k: axis for k in varying if (axis := _Axis.of(first, second, k)) is not None}
    left_out = tuple(first.names[k] for k in varying if k not in filled)
    first, second = (t.columns(np.array([*filled], dtype=np.int64)) for t in (first, second))
    axes = [*filled.values()]
    observed = np.array([axis.statistic for axis in axes])
    null = _null(axes, len(values), draws, seed)
    p_local = (1 + np.count_nonzero(null >= observed, axis=0)) / (1 + draws)
    p_global = _step_down(observed, null)
    return AxisTests(first.names, observed, p_local, p_global, _means(first), _means(second), left_out)


def _need_same_names(first: EventTable, second: EventTable) -> None:
    if first.names != second.names:
        other = sorted(set(first.names) ^ set(second.names))
        raise ValueError(f"the samples have different axes ({', '.join(other[:5]) or 'in order'})")


def _varies(column: Array) -> bool:
    finite = column[np.isfinite(column)]
    return bool(len(finite)) and bool(finite.min() < finite.max())


@dataclass(frozen=True)
class _Axis:
    """Events in the order of one axis.

    Attributes
    ----------
    order : ndarray of int64, shape [n]
        Rows of both samples in the order of their values, without NaN.
    share : ndarray, shape [2, n]
        w / Σw of each sample, 0 for events of the other.
    ends : ndarray of int64, shape [m]
        Last event of each distinct value.
    measure : ndarray, shape [m]
        Fraction of the events with this value, times the normalisation of the statistic.
    residual : ndarray, shape [2, n]
        Shares times √(n / (n - 1)), for the variance of deviations from the mean of the sample.
    """

    order: NDArray[np.int64]
    share: Array
    ends: NDArray[np.int64]
    measure: Array
    residual: Array

    @classmethod
    def of(cls, first: EventTable, second: EventTable, column: int) -> _Axis | None:
        """Axis of a column; None if it has too few events."""
        value = np.concatenate([first.values[:, column], second.values[:, column]])
        weight = np.zeros((2, len(value)))
        weight[0, : len(first.weight)], weight[1, len(first.weight) :] = first.weight, second.weight
        order = np.argsort(value, kind="stable")
        order = order[np.isfinite(value[order])]
        value, weight = value[order], weight[:, order]
        total = weight.sum(axis=1)
        if not (total > 0).all():
            return None
        ends = np.flatnonzero(np.append(value[1:] != value[:-1], True))
        n = np.array([effective(w) for w in weight])
        measure = np.diff(ends, prepend=-1) / len(value) * n.prod() / n.sum()
        share = weight / total[:, None]
        axis = cls(order, share, ends, measure, share * np.sqrt(n / np.maximum(n - 1, 1))[:, None])
        commonest = np.diff(axis.cumulative, prepend=0.0).mean(axis=0).max()
        return axis if n.min() * (1 - commonest) >= SPARSE else None

    @property
    def cumulative(self) -> Array:
        """F of both samples at the distinct values, ``[2, m]``."""
        return np.asarray(np.cumsum(self.share, axis=1)[:, self.ends])

    @property
    def statistic(self) -> float:
        """Statistic of the data."""
        f = self.cumulative
        return float(self.measure @ (f[0] - f[1]) ** 2)

    def under_null(self, signs: Array) -> Array:
        """Statistic with signs ``[E, R]`` of the events, ``[R]``."""
        signs = signs[self.order]
        f, totals = self.cumulative, self.residual @ signs
        signs *= (self.residual[0] - self.residual[1])[:, None]
        difference = np.cumsum(signs, axis=0, out=signs)[self.ends]
        difference -= np.outer(f[0], totals[0]) - np.outer(f[1], totals[1])
        return np.asarray(self.measure @ np.square(difference, out=difference))


def _null(axes: list[_Axis], events: int, draws: int, seed: int) -> Array:
    """Statistics under the null hypothesis, ``[draws, K]``."""
    rng, parts = np.random.default_rng(seed), []
    step = max(1, BLOCK // max(events, 1))
    for start in range(0, draws, step):
        signs = rng.choice(np.array([-1.0, 1.0]), (min(step, draws - start), events))
        signs = np.ascontiguousarray(signs.T)
        parts.append(np.stack([axis.under_null(signs) for axis in axes], axis=1) if axes else signs[:0].T)
    return np.concatenate(parts)


def _step_down(observed: Array, null: Array) -> Array:
    """Global p-values of the axes, ``[K]``.

    The data count as one more draw in the scale, too: with few draws and many axes a scale of the others
    would make them more likely to be the largest.
    """
    draws = np.vstack([observed, null])
    spread = draws.std(axis=0)
    draws = (draws - draws.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    z, z_null = draws[0], draws[1:]
    order = np.argsort(-z)
    largest = np.maximum.accumulate(z_null[:, order[::-1]], axis=1)[:, ::-1]  # of this axis and weaker ones
    p = (1 + np.count_nonzero(largest >= z[order], axis=0)) / (1 + len(null))
    result = np.empty(len(z))
    result[order] = np.maximum.accumulate(p)
    return result


def _means(table: EventTable) -> Estimate:
    """Mean of every axis over its events, with errors."""
    parts = [ratio_mean(np.nan_to_num(c), np.isfinite(c), table.weight) for c in table.values.T]
    value, error = (np.array([float(getattr(p, n)) for p in parts]) for n in ("value", "error"))
    return Estimate(value, error, effective(table.weight))


# --- classifier ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassifierTest:
    """Test whether a classifier tells two samples apart.

    Attributes
    ----------
    auc : Estimate
        Of the events that did not train the classifier; 0.5 for equal distributions.
    p_value : float
        Probability of at least this AUC for equal distributions.
    """

    auc: Estimate
    p_value: float


def compare_by_classifier(first: EventTable, second: EventTable, *, seed: int = 0) -> ClassifierTest:
    """Classifier two-sample test: boosted trees learn to tell two samples apart from all axes together.

    One half of the events trains the trees, the other half tests them [Lopez-Paz & Oquab, arXiv:1610.06545].
    The AUC keeps signed weights, with DeLong's error, and is compared with 0.5 from above. A mean over folds
    would use each pair of folds twice, for training and for test: for a linear classifier this doubles the
    variance, and the error of the mean would miss it.

    In the training, where a negative weight makes the loss unbounded, an event of weight w < 0 counts as one
    of the other sample with weight |w|. With densities p = p⁺ - p⁻ of both signs, the ratio
    (p₁⁺ + p₂⁻) / (p₂⁺ + p₁⁻) is above 1 exactly where p₁ > p₂.

    Parameters
    ----------
    first, second : EventTable
        With the same names; NaN are allowed.
    seed : int
        Of the halves.

    Raises
    ------
    ValueError
        If names differ, no axis varies, or a sample has fewer than 40 events.
    """
    _need_same_names(first, second)
    if (fewest := min(len(first.weight), len(second.weight))) < FEWEST:
        raise ValueError(f"{fewest} events are too few for a classifier; give at least {FEWEST}")
    x = np.concatenate([first.values, second.values])
    weight = np.concatenate([t.weight / t.weight.sum() for t in (first, second)]) * len(x) / 2
    is_first = np.arange(len(x)) < len(first.weight)
    rng = np.random.default_rng(seed)
    train = np.concatenate([rng.permutation(len(t.weight)) % 2 > 0 for t in (first, second)])
    columns = [_in_bins(column, train) for column in x.T if _varies(column[train])]
    if not columns:
        raise ValueError(f"none of {len(x.T)} axes varies; give others")
    x = np.stack(columns, axis=1)
    trees = HistGradientBoostingClassifier(**TREES)
    trees.fit(x[train], (is_first ^ (weight < 0))[train], sample_weight=abs(weight[train]))
    score = trees.predict_proba(x[~train])[:, 1]
    area = auc(score, is_first[~train], weight[~train])
    return ClassifierTest(area, float(norm.sf((area.value - 0.5) / area.error)))


def _in_bins(column: Array, train: NDArray[np.bool_]) -> Array:
    """Number of the bin of each value, NaN for NaN; sklearn's own bins take long with weights."""
    edges = np.nanquantile(column[train], np.linspace(0, 1, BINS + 1)[1:-1])
    return np.where(np.isnan(column), np.nan, np.searchsorted(edges, column))
