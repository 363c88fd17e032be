"""Rankings of columns or neurons by a method, for a population and per event."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import finite, labels_of, short_name, unit_of
from hepxai.attribution.spread import over_trainings, with_spread
from hepxai.core.estimate import Array, Estimate, total_error
from hepxai.metrics.agreement import Agreement, AgreementMatrix, agreement_of, same_events
from hepxai.metrics.importance import Importance
from hepxai.metrics.ranking import rank_correlation

TOYS = 500


@dataclass(frozen=True)
class Ranking:
    """Importance of each column for a population, by one method.

    Attributes
    ----------
    names : tuple of str, length N
        Columns, groups of columns, or neurons.
    value, error : ndarray of float64, shape [N]
        An error that is not known is NaN.
    what : str
        Name of the numbers, with their unit.
    method, short_title : str
        Those of the attribution that was ranked.
    spread : mapping of str to ndarray
        One standard deviation of what else varies, by its source; see `hepxai.core.estimate.Estimate`.
    """

    names: tuple[str, ...]
    value: Array
    error: Array
    what: str
    method: str = ""
    short_title: str = ""
    spread: Mapping[str, Array] = field(default_factory=dict)

    @staticmethod
    @over_trainings
    def of(source: Importance | Attribution, where: NDArray[np.bool_] | None = None) -> Ranking:
        """Ranking of any method.

        Parameters
        ----------
        source : Importance or Attribution
            Attributions have the axes ("event", "feature") or ("event", "neuron"): the weighted mean of
            |value| over the events, for values of both signs would cancel.
        where : ndarray of bool, shape [E], optional
            Events of an attribution to use, all by default.
        """
        if isinstance(source, Importance):
            return Ranking(source.names, source.mean, source.error, f"importance [{source.metric}]")
        axis = _column_axis(source)
        size = source.replace(values=np.abs(finite(source))).population(where)
        used = source.events.weight if where is None else source.events.weight[where]
        if len(used) and not np.isfinite(size.value).all():
            raise ValueError(f"columns cannot be ranked: the weights of the {len(used)} events sum to zero")
        what = f"mean |attribution| to {source.target} [{unit_of(source)}]"
        names = labels_of(source, axis)
        return Ranking(names, size.value, size.error, what, source.method, source.short_title, size.spread)

    @staticmethod
    def mean_of(trainings: Sequence[Ranking]) -> Ranking:
        """Mean over trainings on the same events, with their spread.

        Raises
        ------
        ValueError
            If the columns differ.
        """
        first = trainings[0]
        value, error = (np.mean([getattr(t, name) for t in trainings], axis=0) for name in ("value", "error"))
        mean = dataclasses.replace(first, value=value, error=error)
        return with_spread(mean, trainings) if len(trainings) > 1 else first

    def order(self) -> NDArray[np.int64]:
        """Places of the names, the most important first."""
        return np.argsort(-np.nan_to_num(self.value, nan=-np.inf), kind="stable")


def column_agreement(first: Attribution, second: Attribution) -> Agreement:
    """Spearman's rank correlation of |value| over the columns of an event, averaged over events.

    As `hepxai.metrics.agreement.rank_agreement`, for maps over columns. Columns are matched by name. Events
    where all columns of a method are equal are left out. For `hepxai.metrics.agreement.agreement_matrix`.

    Raises
    ------
    ValueError
        If the events or the columns differ.
    """
    same_events(first, second)
    names = labels_of(first, _column_axis(first))
    place = _places(first.method, names, second.method, labels_of(second, _column_axis(second)))
    values = [np.abs(finite(first)), np.abs(finite(second))[:, place]]
    offsets = np.arange(len(first.events) + 1) * len(names)
    correlation = rank_correlation(values[0].ravel(), values[1].ravel(), offsets)
    return agreement_of(correlation, np.zeros(len(correlation)), first.events.weight)


def ranking_agreement(rankings: Mapping[str, Ranking], *, seed: int = 0) -> AgreementMatrix:
    """Spearman's rank correlation of the columns of any number of methods, two by two.

    The error is the spread when every importance is moved by a normal number of the size of its total error,
    where it is known: whether the order of two columns is certain.

    Parameters
    ----------
    rankings : mapping
        ``method → ranking``, all of the same columns, in any order.
    seed : int

    Raises
    ------
    ValueError
        If the columns differ, or an importance is not finite.
    """
    methods = tuple(rankings)
    first = methods[0] if methods else ""
    toys = []
    for number, (method, ranking) in enumerate(rankings.items()):
        place = _places(first, rankings[first].names, method, ranking.names)
        if not np.isfinite(ranking.value).all():
            raise ValueError(f"{method}: an importance is not finite, it has no place in an order")
        moved = np.random.default_rng([seed, number]).normal(size=(TOYS, len(place)))
        moved[0] = 0.0  # the first are the numbers as they are
        toys.append((ranking.value + moved * np.nan_to_num(total_error(ranking)))[:, place])
    drawn = _correlations(np.array(toys)) if methods else np.ones((TOYS, 0, 0))
    error = drawn[1:].std(axis=0, ddof=1)
    np.fill_diagonal(error, 0.0)
    nothing = np.zeros_like(error)
    chance = Estimate(nothing, nothing, np.nan)
    mean, titles = Estimate(drawn[0], error, np.nan), tuple(short_name(r, m) for m, r in rankings.items())
    return AgreementMatrix(methods, mean, chance, nothing.astype(np.int64), None, titles)


def _correlations(toys: NDArray[np.float64]) -> Array:
    """Correlation of the ranks ``[T, M, M]`` of ``[M, T, N]`` numbers; NaN where all are equal."""
    ranks = rankdata(toys, axis=-1)
    centred = ranks - ranks.mean(axis=-1, keepdims=True)
    size = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    unit = np.moveaxis(centred / np.where(size > 0, size, np.nan), 0, 1)
    correlation = unit @ np.swapaxes(unit, 1, 2)
    correlation[:, *np.diag_indices(toys.shape[0])] = 1.0
    return np.asarray(correlation)


def _column_axis(source: Attribution) -> str:
    if source.axes not in (("event", "feature"), ("event", "neuron")):
        raise ValueError(
            f"needs one number per event and column; {source.method} has {', '.join(source.axes)}"
        )
    return source.axes[1]


def _places(one: str, names: tuple[str, ...], other: str, theirs: tuple[str, ...]) -> NDArray[np.int64]:
    """Positions of the names of one method among those of the other."""
    if sorted(names) != sorted(theirs):
        only = sorted({*names} ^ {*theirs})
        raise ValueError(f"{one} and {other} rank different columns; only one has {', '.join(only)}")
    return np.array([theirs.index(n) for n in names], dtype=np.int64)
