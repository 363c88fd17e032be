"""Permutation importance of the columns of the event-level table, for any model that scores it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest
from hepxai.core.console import track
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError
from hepxai.importance.forest import Forest
from hepxai.importance.scores import Score
from hepxai.importance.shuffling import among_all, cells, permute_within_cells
from hepxai.metrics.classification import both_classes, has_weight, placements
from hepxai.metrics.importance import Importance, correlated_groups
from hepxai.models.ensemble import Ensemble
from hepxai.models.protocols import Tabular
from hepxai.models.table.rows import need_scores, need_values

Array = NDArray[np.float64]
ROWS = 65_536
"""Rows of the table that are permuted and scored at a time."""
MEMORY = 2**28
"""Bytes of scores that are held at a time."""


def permutation_importance(
    model: Tabular,
    events: Events,
    *,
    target: str | None = None,
    metric: str | None = None,
    repeats: int = 5,
    groups: Mapping[str, Sequence[str]] | str | None = None,
    threshold: float = 0.7,
    conditional: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Importance:
    """Loss of a metric when the values of a column are shuffled among the events.

    ``I_f = M - mean_r M(column f permuted by π_r)`` [Breiman, Machine Learning 45 (2001) 5]. All columns
    share the permutations, so that they can be compared. It describes a population, so it is not one of
    the registered explainers, which explain single events.

    For scikit-learn's gradient boosting, only the trees with a cut in the column are evaluated again; the
    result is the same up to rounding. Other models score the whole table for every repeat.

    The error is linearised: an event contributes by its own score, and by its values in the events that
    receive them. The variance of a single shuffle is estimated from the spread of the repeats; with one
    repeat this is impossible, and the error is too large by a factor of up to 1.4.

    Parameters
    ----------
    model : Tabular
    events : Events
        Events that did not train the model. Signed weights enter the metric, not the shuffle.
    target : str, optional
        Optional if the model has one output, or two for two classes. Of several classes ``"signal"`` or
        ``"signal-rest"``, a class against all others by its log-odds ``z_C - log Σ_{D≠C} exp z_D``, or
        ``"signal-ttbar"``, two classes on their events by ``z_C - z_D``. Of a regression one of its targets,
        on the events that have it.
    metric : str, optional
        Of classes "auc", the default, "accuracy" (fraction on the right side of logit 0) or "loss" (mean
        cross-entropy of the logit); of a regression "mae", the default, or "mse".
    repeats : int
    groups : mapping of str to sequence of str, or "auto", optional
        Columns that are permuted together; groups may overlap, columns in none are permuted alone. "auto":
        those that `hepxai.metrics.importance.correlated_groups` finds at ``threshold``.
    threshold : float
        Smallest |rank correlation| of a group, for "auto".
    conditional : bool
        Shuffle among similar events only: the information of a column beyond the others, without impossible
        events. Values are permuted within cells of the other columns [Strobl et al., BMC Bioinformatics 9
        (2008) 307], which are the leaves of a tree that predicts the column [Molnar et al., Data Min. Knowl.
        Discov. 38 (2024) 2903; arXiv:2006.04628]; see `hepxai.importance.shuffling.cells`.
    seed : int
    progress : bool

    Returns
    -------
    Importance

    Raises
    ------
    CannotExplainError
        The model cannot score rows of the table.
    KeyError
        Unknown target, or unknown column in a group.
    ValueError
        Unknown metric, one class only, weights that cancel, a column that is NaN for all events, or
        another invalid setting.
    """
    if not isinstance(model, Tabular):
        raise CannotExplainError(
            f"permutation needs Tabular; {type(model).__name__} has no score_table{_remedy(model)}"
        )
    score_of = Score.of(model, events, target)
    metrics = DISTANCES if score_of.regression else METRICS
    metric = metric or next(iter(metrics))
    if metric not in metrics:
        raise ValueError(f"metric {metric!r}; choose one of {', '.join(metrics)}")
    if repeats < 1:
        raise ValueError(f"repeats={repeats}; at least 1 is needed")
    events = events if score_of.rows.all() else events[score_of.rows]
    need_values(events)
    measure = metrics[metric](score_of.truth[score_of.rows], events.weight)
    members = _members(events, groups, threshold)
    score = score_of(model.logits(events))
    need_scores(score, events)
    original = measure(score)
    lost, error = np.zeros((len(members), repeats)), np.zeros(len(members))
    influence = np.zeros((len(members), len(events)), dtype=np.float32)
    scorer = PermutedScorer(model, events, score_of, repeats, seed, conditional)
    with track("permutation", len(members) * repeats, show=progress) as advance:
        for i, (scores, orders) in enumerate(scorer.each(_numbers(events, members), score)):
            if orders:
                permuted = map(measure, scores)
                lost[i], error[i], influence[i] = _compare(original, permuted, orders, events.weight)
            advance(repeats)
    sign = 1.0 if metric in ("auc", "accuracy") else -1.0
    figures = (sign * original.value, lost, error, conditional, _covariance(influence, error))
    return Importance(tuple(members), members, metric, score_of.name, *figures)


def _remedy(model: object) -> str:
    each = "; permute the columns for each of its .models, and take hepxai.metrics.columns.Ranking.mean_of"
    return each if isinstance(model, Ensemble) else ""


# --- metrics as means over events --------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A metric, larger for better models, as a weighted mean of contributions of the events.

    Attributes
    ----------
    contribution : ndarray, shape [E]
    share : ndarray, shape [E]
        Normalised weights. A small change of the sample changes the metric by Σ share (contribution - value).
    """

    contribution: Array
    share: Array

    @property
    def value(self) -> float:
        """The metric."""
        return float(np.sum(self.share * self.contribution) / np.sum(self.share))


Measure = Callable[[Array], Measured]


def _auc(signal: NDArray[np.bool_], weight: Array) -> Measure:
    _need_classes(signal, weight)
    share = np.where(signal, weight / weight[signal].sum(), weight / weight[~signal].sum())
    return lambda score: Measured(placements(score, signal, weight), share)


def _accuracy(signal: NDArray[np.bool_], weight: Array) -> Measure:
    _need_classes(signal, weight)
    return lambda score: Measured(((score > 0) == signal).astype(np.float64), weight / weight.sum())


def _loss(signal: NDArray[np.bool_], weight: Array) -> Measure:
    _need_classes(signal, weight)
    sign = np.where(signal, -1.0, 1.0)
    return lambda score: Measured(-np.logaddexp(0.0, sign * score), weight / weight.sum())


def _distance(power: int) -> Callable[[NDArray[Any], Array], Measure]:
    def of(truth: NDArray[Any], weight: Array) -> Measure:
        if not has_weight(weight):
            raise ValueError("the weights sum to zero; permutation_importance needs a weighted mean")
        return lambda score: Measured(-(np.abs(score - truth) ** power), weight / weight.sum())

    return of


METRICS: dict[str, Callable[[NDArray[Any], Array], Measure]] = {
    "auc": _auc,
    "accuracy": _accuracy,
    "loss": _loss,
}
DISTANCES: dict[str, Callable[[NDArray[Any], Array], Measure]] = {"mae": _distance(1), "mse": _distance(2)}


def _need_classes(signal: NDArray[np.bool_], weight: Array) -> None:
    total = abs(weight.sum()) > 1e-9 * np.abs(weight).sum()
    if signal.all() or not signal.any():
        raise ValueError(f"both classes are needed; {int(signal.sum())} of {len(signal)} events are signal")
    if not (total and both_classes(signal, weight)):
        sums = f"{weight[signal].sum():g} (signal) and {weight[~signal].sum():g} (background)"
        raise ValueError(f"weights must not sum to zero, neither in a class nor together; they sum to {sums}")


def _compare(
    original: Measured, permuted: Iterator[Measured], orders: Sequence[IntArray], weight: Array
) -> tuple[Array, float, Array]:
    """Loss of the metric in each repeat ``[R]``, standard error of its mean, influence of each event ``[E]``.

    The influence of an event in one repeat includes that of the events with which it exchanges values. This
    part changes from repeat to repeat and is counted for both events: its variance is estimated from the
    spread over the repeats and subtracted. The variance from the shuffles is that of the losses.
    """
    lost, total, squares = [], np.zeros(len(weight)), np.zeros(len(weight))
    for order, metric in zip(orders, permuted, strict=True):
        lost.append(original.value - metric.value)
        difference = original.contribution - metric.contribution
        influence = metric.share * (difference - lost[-1])
        influence[order] += influence.copy()  # event e got the values of event order[e]
        total += influence
        squares += influence**2
    repeats, counted = len(lost), int(np.count_nonzero(weight))
    mean, small = total / repeats, counted / (counted - 1) if counted > 1 else np.nan
    variance = small * float(np.sum(mean**2))
    if repeats > 1:
        new = small * float(np.sum(squares - repeats * mean**2)) / (repeats - 1)
        variance = max(variance - new / repeats, 0.0) + float(np.var(lost, ddof=1)) / repeats
    return np.array(lost), float(np.sqrt(variance)), mean


def _covariance(influence: NDArray[np.float32], error: Array) -> Array:
    """Covariance of the importances: their errors, with the correlations of the influences of the events."""
    size = np.sqrt(np.einsum("ne,ne->n", influence, influence, dtype=np.float64))
    unit = influence / np.where(size > 0, size, 1.0)[:, None]
    covariance = np.asarray((unit @ unit.T) * np.outer(error, error))
    np.fill_diagonal(covariance, error**2)
    return covariance


# --- the permuted table ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PermutedScorer:
    """Scores of the table with shuffled columns; settings as of `permutation_importance`."""

    model: Tabular
    events: Events
    score_of: Score
    repeats: int
    seed: int
    conditional: bool

    def each(
        self, groups: Sequence[IntArray], score: Array
    ) -> Iterator[tuple[Iterable[Array], list[IntArray]]]:
        """Scores and permutation of every repeat, for each group; none for groups that change no score."""
        column = self.score_of.column
        forest = None if column is None else Forest.of(self.model, self.events.table()[0], column, score)
        size = 1 if forest is None else _at_a_time(groups, self.repeats * len(score))
        for first in range(0, len(groups), size):
            some = groups[first : first + size]
            orders = [self._orders(columns, forest) for columns in some]
            if forest is not None:
                yield from zip(forest.permuted_scores(some, orders), orders, strict=True)
            else:
                yield from ((map(partial(self._scores, c), o), o) for c, o in zip(some, orders, strict=True))

    @cached_property
    def _common(self) -> list[IntArray]:
        return among_all(len(self.events), self.repeats, self.seed)

    def _orders(self, columns: IntArray, forest: Forest | None) -> list[IntArray]:
        if _constant(self.events, columns) or not (forest is None or forest.uses(columns)):
            return []
        if self.conditional:
            return permute_within_cells(cells(self.events.table()[0], columns), self._common)
        return self._common

    def _scores(self, columns: IntArray, order: IntArray) -> Array:
        """Scores of the table with permuted columns, a block of rows at a time to save memory."""
        table, _ = self.events.table()
        buffer = np.empty((min(ROWS, len(table)), table.shape[1]), dtype=table.dtype)
        scores = np.empty(len(table))
        for start in range(0, len(table), ROWS):
            rows = slice(start, min(start + ROWS, len(table)))
            part = buffer[: rows.stop - start]
            part[:] = table[rows]
            part[:, columns] = table[order[rows][:, None], columns]
            scores[rows] = self.score_of(self.model.score_table(part))
        return scores


def _at_a_time(groups: Sequence[IntArray], scores: int) -> int:
    """Number of groups that are evaluated together; 1 if groups have a column in common."""
    columns = [int(c) for group in groups for c in group]
    return max(1, MEMORY // (8 * scores)) if len(set(columns)) == len(columns) else 1


def _constant(events: Events, columns: IntArray) -> bool:
    part = events.table()[0][:, columns]
    return bool(((part == part[0]) | (np.isnan(part) & np.isnan(part[0]))).all())


def _numbers(events: Events, members: Mapping[str, tuple[str, ...]]) -> list[IntArray]:
    position = {name: i for i, name in enumerate(events.table()[1])}
    return [np.array([position[n] for n in names], dtype=np.int64) for names in members.values()]


# --- arguments -----------------------------------------------------------------------------------------


def _members(
    events: Events, groups: Mapping[str, Sequence[str]] | str | None, threshold: float
) -> dict[str, tuple[str, ...]]:
    """Columns of every group, then each column without a group."""
    table, columns = events.table()
    groups = {} if groups is None else groups
    if groups == "auto":
        return correlated_groups(table, columns, threshold=threshold)
    if not isinstance(groups, Mapping):
        raise ValueError(f"groups={groups!r}; give 'auto' or a mapping of names to columns")
    for group, names in groups.items():
        _check_group(group, names, columns)
    grouped = {name for names in groups.values() for name in names}
    return {g: tuple(names) for g, names in groups.items()} | {n: (n,) for n in columns if n not in grouped}


def _check_group(group: str, names: Sequence[str], columns: Sequence[str]) -> None:
    if isinstance(names, str) or not names:
        raise ValueError(f"group {group!r} is {names!r}; a list of columns is needed")
    for name in names:
        if name not in columns:
            hint = nearest(name, columns)
            raise KeyError(f"group {group!r} has no column {name!r}{hint}; there are {', '.join(columns)}")
    if group in columns and tuple(names) != (group,):
        raise ValueError(f"group {group!r} has the name of a column; choose another one")
