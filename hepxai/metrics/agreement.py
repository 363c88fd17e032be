"""Per-event agreement of two methods: rank correlation and top-k overlap."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import edge_keys, finite, pairs_of, reduced, short_name
from hepxai.core.estimate import Array, Estimate, ratio_mean
from hepxai.core.jagged import IntArray, offsets_from_counts, row_sum
from hepxai.metrics.ranking import Places, rank_correlation


@dataclass(frozen=True)
class Agreement:
    """Agreement of two methods over a population.

    Attributes
    ----------
    mean : Estimate
        Weighted mean over events.
    chance : Estimate
        The mean that two unrelated methods would have.
    per_event : ndarray, shape [E]
        NaN for events left out.
    left_out : int
        Events with too few pairs, or without an order among them.
    """

    mean: Estimate
    chance: Estimate
    per_event: Array
    left_out: int

    def bounded(self) -> Agreement:
        """Copy with an interval, for shares from 0 to 1; see `hepxai.core.estimate.Estimate.bounded`."""
        return dataclasses.replace(self, mean=self.mean.bounded("overlap"))

    def __repr__(self) -> str:
        figures = f"{self.mean:.3g}, by chance {self.chance.value:.3g}"
        return f"<Agreement: {figures}, of {len(self.per_event):,} events, {self.left_out:,} left out>"


@dataclass(frozen=True)
class SharedPairs:
    """Strength of the pairs that two maps share.

    Attributes
    ----------
    first, second : ndarray, shape [S]
        Absolute values.
    offsets : ndarray of int64, shape [E+1]
    weight : ndarray, shape [E]
    """

    first: Array
    second: Array
    offsets: IntArray
    weight: Array


def shared_pairs(first: Attribution, second: Attribution, *, unordered: bool = False) -> SharedPairs:
    """Absolute values of two maps at the pairs that both have, matched by sender and receiver.

    Parameters
    ----------
    first, second : Attribution
        Of the same events, with a "pair" axis and at most one layer each; heads are averaged.
    unordered : bool
        Add up the two messages of a pair, with their signs, before the absolute value is taken.

    Raises
    ------
    ValueError
        If the events differ, or a map has values that are not finite.
    """
    same_events(first, second)
    size = first.events.n_particles
    (keys_1, values_1), (keys_2, values_2) = (_by_key(m, unordered) for m in (first, second))
    keys, place_1, place_2 = np.intersect1d(keys_1, keys_2, assume_unique=True, return_indices=True)
    # Keys grow with the receiver, receivers with the event: shared pairs come event by event.
    counts = np.bincount(first.events.parent[keys // max(size, 1)], minlength=len(first.events))
    return SharedPairs(values_1[place_1], values_2[place_2], offsets_from_counts(counts), first.events.weight)


def rank_agreement(first: Attribution, second: Attribution, *, unordered: bool = False) -> Agreement:
    """Spearman's rank correlation of |value| over the pairs of an event, averaged over events.

    Equal values share the mean of their ranks. 1: the same order; 0: unrelated, the value by chance.
    Events with fewer than two shared pairs, or where all pairs of a method are equal, are left out.

    Parameters
    ----------
    first, second, unordered
        See `shared_pairs`.
    """
    shared = shared_pairs(first, second, unordered=unordered)
    correlation = rank_correlation(shared.first, shared.second, shared.offsets)
    return agreement_of(correlation, np.zeros(len(correlation)), shared.weight)


def top_agreement(
    first: Attribution, second: Attribution, *, k: int = 3, unordered: bool = False
) -> Agreement:
    """Share of the k strongest pairs of an event that two methods have in common, averaged over events.

    Of m pairs, two unrelated methods share k / m by chance; more where pairs have the value 0, which cannot
    win: the chance level shuffles each method's values among its pairs that are not 0. Values tied at the
    last place share the remaining places equally. Events with k pairs or fewer are left out: there everything
    is shared.

    Parameters
    ----------
    k : int
        At least 1.
    first, second, unordered
        See `shared_pairs`.
    """
    if k < 1:
        raise ValueError(f"k={k}; at least one pair is needed")
    shared = shared_pairs(first, second, unordered=unordered)
    large = np.diff(shared.offsets) > k

    def overlap(*values: Array) -> Array:
        one, two = (Places.of(v, shared.offsets).among_top(k) for v in values)
        return np.where(large, row_sum(one * two, shared.offsets) / k, np.nan)

    shares, chance = (
        overlap(shared.first, shared.second),
        overlap(*map(np.sign, (shared.first, shared.second))),
    )
    return agreement_of(shares, chance, shared.weight).bounded()


@dataclass(frozen=True)
class AgreementMatrix:
    """Agreement of each method with each other.

    Attributes
    ----------
    methods : tuple of str
    mean, chance : Estimate
        ``[method, method]``; 1 ± 0 on the diagonal of ``mean``.
    left_out : ndarray of int64, shape [method, method]
    caveat : str, optional
        Concerns about the maps, to be printed beside these numbers.
    titles : tuple of str
        Short names of the methods in words, where they are known.
    """

    methods: tuple[str, ...]
    mean: Estimate
    chance: Estimate
    left_out: IntArray
    caveat: str | None = None
    titles: tuple[str, ...] = ()

    def __repr__(self) -> str:
        apart = self.mean.value[np.triu_indices(len(self.methods), 1)]
        ends = f"; {apart.min():.3g} to {apart.max():.3g}" if len(apart) else ""
        return f"<AgreementMatrix: {', '.join(self.methods)}{ends}>"


def agreement_matrix(
    maps: Mapping[str, Attribution],
    measure: Callable[[Attribution, Attribution], Agreement] = rank_agreement,
) -> AgreementMatrix:
    """Agreement of any number of methods on the same events, two by two.

    Parameters
    ----------
    maps : mapping
        ``name → attribution``.
    measure : callable
        `rank_agreement` by default, or ``functools.partial(top_agreement, k=2)``, say.
    """
    names, size = tuple(maps), len(maps)
    mean, chance = (Estimate(np.ones((size, size)), np.zeros((size, size)), np.nan) for _ in range(2))
    left_out = np.zeros((size, size), dtype=np.int64)
    for i, j in zip(*np.triu_indices(size, 1), strict=True):
        agreement = measure(maps[names[i]], maps[names[j]])
        for at in ((i, j), (j, i)):
            left_out[at] = agreement.left_out
            for table, one in ((mean, agreement.mean), (chance, agreement.chance)):
                table.value[at], table.error[at] = one.value, one.error
    caveats = dict.fromkeys(m.caveat for m in maps.values() if m.caveat is not None)
    titles = tuple(short_name(m, name) for name, m in maps.items())
    return AgreementMatrix(names, mean, chance, left_out, "; ".join(caveats) or None, titles)


def agreement_of(per_event: Array, chance: Array, weight: Array) -> Agreement:
    """Means over the events of an agreement and of its value by chance; NaN leaves an event out."""
    used = np.isfinite(per_event)
    mean, expected = (
        ratio_mean(np.where(used, v, 0.0), used.astype(np.float64), weight) for v in (per_event, chance)
    )
    return Agreement(mean, expected, per_event, int(np.count_nonzero(~used)))


def _by_key(attribution: Attribution, unordered: bool) -> tuple[IntArray, Array]:
    """Keys of the pairs, increasing, and the absolute value of each."""
    plain, size = reduced(attribution), attribution.events.n_particles
    pairs, values = pairs_of(plain), finite(plain)
    ends = (pairs.src, pairs.dst)
    src, dst = (np.minimum(*ends), np.maximum(*ends)) if unordered else ends
    keys, place = np.unique(edge_keys(src, dst, size), return_inverse=True)
    return keys, np.abs(np.bincount(place, weights=values, minlength=len(keys)))


def same_events(first: Attribution, second: Attribution) -> None:
    """Refuse, with a ValueError, maps that explain different events."""
    for name in ("offsets", "file", "entry", "event"):
        one, two = (getattr(m.events, name) for m in (first, second))
        if not np.array_equal(one, two):
            raise ValueError(
                f"{first.method} and {second.method} explain different events: {len(first.events)} and "
                f"{len(second.events)}, which differ in {name}; explain the same events with both"
            )
