"""Means of an attribution over groups of a population, class by class, with errors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hepxai.attribution.reductions import (
    at_step,
    in_focus,
    is_directed,
    labels_of,
    pair_name,
    pairs_of,
    pt_rank,
    whole_pairs,
)
from hepxai.attribution.result import Attribution
from hepxai.attribution.spread import over_trainings
from hepxai.attribution.sums import GroupSums, population_sums
from hepxai.core.binning import Scale, bin_of, checked_edges, equal_bins, resolving_bins
from hepxai.core.estimate import Array
from hepxai.core.jagged import IntArray
from hepxai.core.sums import RatioSums
from hepxai.events import Events

Groups = Mapping[tuple[int, ...], Attribution]


@dataclass(frozen=True)
class Means:
    """Weighted means over groups of a population, class by class.

    Attributes
    ----------
    axes : tuple of str
        Names of the axes; the first is "class".
    labels : tuple of tuple of str
        Names along each axis.
    value, error : ndarray of float64
        NaN where a group is empty.
    events : ndarray of int64
        Events that have an entry in the group.
    entries : ndarray of int64
        Particles or pairs averaged.
    spread : mapping of str to ndarray
        One standard deviation of what else varies, by its source; see `hepxai.core.estimate.Estimate`.
    """

    axes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    value: Array
    error: Array
    events: IntArray
    entries: IntArray
    spread: Mapping[str, Array] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """One record per group: its names, value, error, spreads, events, entries."""
        columns: dict[str, Any] = {"value": self.value, "error": self.error, **self.spread}
        columns |= {"events": self.events, "entries": self.entries}
        return [
            {a: names[i] for a, names, i in zip(self.axes, self.labels, at, strict=True)}
            | {name: column[at].item() for name, column in columns.items()}
            for at in np.ndindex(*self.value.shape)
        ]

    def at(self, **names: str) -> tuple[float, float]:
        """Value and error of one group, by the names along all axes."""
        where = tuple(labels.index(names[axis]) for axis, labels in zip(self.axes, self.labels, strict=True))
        return float(self.value[where]), float(self.error[where])

    @property
    def largest(self) -> float:
        """Largest magnitude of a mean; 0 where all groups are empty."""
        return float(np.nanmax(np.abs(self.value), initial=0.0)) if np.isfinite(self.value).any() else 0.0


RANKS = (1, 2, 4, 8, 16, 32)
"""Last pT rank of each group of particles of a single type; a last group holds all further ranks."""


def particle_groups(events: Events, most: int | None = None) -> tuple[tuple[str, ...], IntArray]:
    """Names of the particle groups in figures, and the group of every particle ``[N]``.

    The particle types; with a single type, such as the constituents of a jet, ranges of the pT rank.

    Parameters
    ----------
    events : Events
    most : int, optional
        Particles of the largest event, which the ranges reach to; that of these events by default. With one
        number, all parts and alternatives of a population have the same groups.
    """
    types, most = events.schema.types, most_particles(events) if most is None else most
    if len(types) > 1 or most < 2:
        return types, events.type
    last = np.array([r for r in RANKS if r < most])
    first = np.append(1, last + 1)
    ends = [f"–{e}" if e > f else "" for f, e in zip(first, last, strict=False)]
    names = [f"{types[0]} {f}{end}" for f, end in zip(first, [*ends, "+"], strict=True)]
    return tuple(names), np.searchsorted(last, pt_rank(events) + 1)


def most_particles(events: Events) -> int:
    """Particles of the largest event."""
    return int(events.counts.max(initial=0))


def type_means(attribution: Attribution, most: int | None = None) -> Means:
    """Mean per particle of each of the `particle_groups` ``[class, particle, ...]``; regular axes stay."""
    return _type_means(attribution, most_particles(attribution.events) if most is None else most)


@over_trainings
def _type_means(attribution: Attribution, most: int) -> Means:
    return means_of(type_sums(attribution, most))


def type_sums(attribution: Attribution, most: int) -> GroupSums:
    """Sums that give the `type_means`, without trainings and variations."""
    names, group = particle_groups(attribution.events, most)
    group = group if attribution.pairs is None else group[attribution.pairs.src]
    parts: Groups = {(i,): attribution.keep(group == i) for i in range(len(names))}
    return _stack(attribution, ("particle",), (names,), parts)


def event_sums(attribution: Attribution) -> GroupSums:
    """Sums that give the mean of each class ``[class, ...]`` of a map of events; regular axes stay."""
    return _stack(attribution, (), (), {(): attribution})


def step_means(attribution: Attribution, steps: int = 8) -> Means:
    """Mean at each time step, the particle of highest pT first, ``[class, step, ...]``.

    Each mean is over the events that have the step; further steps are left out.
    """
    return _step_means(attribution, min(steps, most_particles(attribution.events)))


@over_trainings
def _step_means(attribution: Attribution, last: int) -> Means:
    parts: Groups = {(s,): at_step(attribution, s) for s in range(last)}
    return means_of(_stack(attribution, ("step",), (tuple(str(s + 1) for s in range(last)),), parts))


ENDS = {True: ("receiver", "sender"), False: ("particle", "other particle")}
"""Names of the two ends of a pair, for methods with and without a direction."""


def pair_means(attribution: Attribution) -> Means:
    """Mean per pair of each combination of `particle_groups`, ``[class, receiver, sender, ...]``.

    For methods without direction each pair counts once, and the result is symmetric.
    """
    return _pair_means(attribution, most_particles(attribution.events))


@over_trainings
def _pair_means(attribution: Attribution, most: int) -> Means:
    return means_of(pair_sums(attribution, most))


def pair_sums(attribution: Attribution, most: int) -> GroupSums:
    """Sums that give the `pair_means`, without trainings and variations; ``most`` as of `particle_groups`."""
    whole, directed = whole_pairs(attribution), is_directed(attribution)
    names, group = particle_groups(attribution.events, most)
    pairs = pairs_of(whole)
    src, dst = group[pairs.src], group[pairs.dst]
    parts: Groups = {
        (i, j): whole.keep((dst == i) & (src == j) | (not directed) & (dst == j) & (src == i))
        for i in range(len(names))
        for j in range(len(names) if directed else i + 1)
    }
    return _stack(whole, ENDS[directed], (names, names), parts, symmetric=not directed)


@over_trainings
def focus_means(attribution: Attribution, focus: tuple[str, str]) -> Means:
    """Mean over the pairs of the two types in either order, and over all other pairs ``[class, pairs]``.

    The second mean is missing if there are no other pairs, as in events of one particle type.
    """
    whole = whole_pairs(attribution)
    chosen = in_focus(whole, focus)
    parts: dict[tuple[int, ...], Attribution] = {(0,): whole.keep(chosen)}
    if not chosen.all():
        parts[1,] = whole.keep(~chosen)
    return means_of(_stack(whole, ("pairs",), ((pair_name(focus), "other pairs")[: len(parts)],), parts))


@over_trainings
def bin_means(attribution: Attribution, observer: Array, edges: Array) -> Means:
    """Mean in bins of an event-level quantity ``[class, bin]``.

    Parameters
    ----------
    attribution : Attribution
        Without regular axes, for example a selection of pairs.
    observer : ndarray, shape [E]
        NaN leaves an event out.
    edges : ndarray
        Bin edges; the last bin includes its upper edge.
    """
    return means_of(bin_sums(attribution, observer, edges))


def bin_sums(attribution: Attribution, observer: Array, edges: Array) -> GroupSums:
    """Sums that give the `bin_means`, without trainings and variations."""
    position = bin_of(observer, edges)
    names = tuple(f"{a:.5g} to {b:.5g}" for a, b in itertools.pairwise(edges))
    parts: Groups = {(b,): attribution[position == b] for b in range(len(names))}
    return _stack(attribution, ("bin",), (names,), parts)


@dataclass(frozen=True)
class PairProfile:
    """Mean over pairs of two types in bins of an observer.

    Attributes
    ----------
    means : Means
        ``[class, bin]``.
    edges : ndarray, shape [B+1]
    middle : ndarray, shape [B]
        Median of the observer in each bin, at which its point is drawn.
    """

    means: Means
    edges: Array
    middle: Array


def profile_edges(
    attribution: Attribution,
    focus: tuple[str, str],
    observer: str,
    *,
    bins: int | None = None,
    scale: Scale = "linear",
) -> Array:
    """Bin edges of an observer ``[B+1]`` that suit the events with a pair in focus.

    Parameters
    ----------
    attribution : Attribution
        The nominal one: alternatives are measured in the bins of this one.
    focus : tuple of two str
    observer : str
        Name in ``events.observers``.
    bins : int, optional
        Of about equally many events with a pair; by default bins that resolve the narrowest class.
    scale : str
        "log" resolves the logarithm, and leaves out values that are not above 0.

    Raises
    ------
    ValueError
        If no value has a place on a logarithmic axis.
    """
    values, label = _observed(attribution.select(pair=focus), observer)
    if scale == "log" and len(values) and not (values > 0).any():
        raise ValueError(
            f"no value of {observer} is above 0 ({_range(values)}), so a logarithmic axis is empty; "
            "take scale: linear"
        )
    to, back = (np.log, np.exp) if scale == "log" else (np.asarray, np.asarray)
    placed = values > 0 if scale == "log" else np.ones(len(values), dtype=bool)
    numbers, label = to(values[placed]), label[placed]
    by_class = [numbers[label == c] for c in range(len(attribution.events.schema.classes))]
    edges = back(resolving_bins(by_class) if bins is None else equal_bins(numbers, bins))
    if scale == "log" and placed.any():  # the logarithm of an end rounds
        edges[0], edges[-1] = values[placed].min(), values[placed].max()
    return np.asarray(edges)


def pair_profile(
    attribution: Attribution,
    focus: tuple[str, str],
    observer: str,
    edges: Sequence[float] | Array | None = None,
) -> PairProfile:
    """Mean over the pairs in focus in bins of an observer.

    Parameters
    ----------
    attribution : Attribution
    focus : tuple of two str
    observer : str
        Name in ``events.observers``.
    edges : sequence of float, optional
        Rising bin edges; `profile_edges` by default. Events beyond them are left out. All alternatives of an
        attribution are measured in these bins.

    Raises
    ------
    ValueError
        If the edges do not rise, or no event with such a pair is inside.
    """
    fixed = profile_edges(attribution, focus, observer) if edges is None else checked_edges(edges)
    values, _ = _observed(attribution.select(pair=focus), observer)
    if len(values) and not (bin_of(values, fixed) >= 0).any():
        raise ValueError(
            f"no value of {observer} ({_range(values)}) is inside the bins from {fixed[0]:g} to "
            f"{fixed[-1]:g}; choose edges that reach the data"
        )
    position = bin_of(values, fixed)
    by_bin = [values[position == b] for b in range(len(fixed) - 1)]
    middle = np.array([np.median(v) if len(v) else np.nan for v in by_bin])
    return PairProfile(_profile_means(attribution, focus, observer, fixed), fixed, middle)


@over_trainings
def _profile_means(attribution: Attribution, focus: tuple[str, str], observer: str, edges: Array) -> Means:
    return means_of(profile_sums(attribution, focus, observer, edges))


def profile_sums(attribution: Attribution, focus: tuple[str, str], observer: str, edges: Array) -> GroupSums:
    """Sums that give the means of a `pair_profile`, without trainings and variations."""
    chosen = attribution.select(pair=focus)
    return bin_sums(chosen, np.asarray(chosen.events.observers[observer], dtype=np.float64), edges)


def _observed(chosen: Attribution, observer: str) -> tuple[Array, IntArray]:
    """Finite values of an observer of the events with a pair, and their labels."""
    values = np.asarray(chosen.events.observers[observer], dtype=np.float64)
    used = (np.diff(chosen.offsets) > 0) & np.isfinite(values)
    return values[used], chosen.events.label[used]


def _range(values: Array) -> str:
    return f"{len(values):,} values from {values.min():.4g} to {values.max():.4g}"


def _stack(
    attribution: Attribution,
    axes: Iterable[str],
    labels: Iterable[tuple[str, ...]],
    parts: Groups,
    *,
    symmetric: bool = False,
) -> GroupSums:
    classes = attribution.events.schema.classes
    sums: dict[tuple[int, ...], RatioSums] = {}
    events, entries = {}, {}
    for group, part in parts.items():
        if len(part.values) == 0:
            continue
        sizes = np.diff(part.offsets)
        for c in range(len(classes)):
            rows = part.events.label == c
            here = population_sums(part, rows)
            for at in {(c, *group), (c, *group[::-1])} if symmetric else ((c, *group),):
                sums[at] = here
                events[at], entries[at] = int(np.count_nonzero(sizes[rows])), int(sizes[rows].sum())
    regular = tuple(labels_of(attribution, a) for a in attribution.axes[1:])
    names = (classes, *labels, *regular)
    return GroupSums(("class", *axes, *attribution.axes[1:]), names, sums, events, entries)


def means_of(groups: GroupSums) -> Means:
    """Means and errors of all groups; NaN for those without entries."""
    shape = tuple(map(len, groups.labels))
    value, error = np.full(shape, np.nan), np.full(shape, np.nan)
    events, entries = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for at, sums in groups.sums.items():
        value[at], error[at] = sums.mean, sums.error
        events[at], entries[at] = groups.events[at], groups.entries[at]
    return Means(groups.axes, groups.labels, value, error, events, entries)
