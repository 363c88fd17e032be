"""The numbers behind the figures: means of an attribution over groups of a population, with errors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import Colormap, Normalize
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.metrics.binning import bin_of
from hepxai.metrics.reductions import in_focus, is_directed, labels_of, pairs_of, reduced, whole_pairs
from hepxai.metrics.steps import at_step, pt_rank
from hepxai.plots.style import colours

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
    """

    axes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    value: NDArray[np.float64]
    error: NDArray[np.float64]
    events: NDArray[np.int64]
    entries: NDArray[np.int64]

    def rows(self) -> list[dict[str, Any]]:
        """One record per group: its names, value, error, events, entries."""
        kept = ("value", "error", "events", "entries")
        return [
            {a: names[i] for a, names, i in zip(self.axes, self.labels, at, strict=True)}
            | {k: getattr(self, k)[at].item() for k in kept}
            for at in np.ndindex(*self.value.shape)
        ]

    def at(self, **names: str) -> tuple[float, float]:
        """Value and error of one group, by the names along all axes."""
        where = tuple(labels.index(names[axis]) for axis, labels in zip(self.axes, self.labels, strict=True))
        return float(self.value[where]), float(self.error[where])


RANKS = (1, 2, 4, 8, 16, 32)
"""Last place by falling pT of each group of particles, where all are of one type; the rest is one more."""


def particle_groups(events: Events) -> tuple[tuple[str, ...], IntArray]:
    """Names of the groups that figures tell apart, and the group of every particle ``[N]``.

    Groups are the particle types; of a single type, such as the constituents of a jet, places by falling pT.
    """
    types, most = events.schema.types, int(events.counts.max(initial=0))
    if len(types) > 1 or most < 2:
        return types, events.type
    last = np.array([r for r in RANKS if r < most])
    first = np.append(1, last + 1)
    ends = [f"–{e}" if e > f else "" for f, e in zip(first, last, strict=False)]
    names = [f"{types[0]} {f}{end}" for f, end in zip(first, [*ends, "+"], strict=True)]
    return tuple(names), np.searchsorted(last, pt_rank(events) + 1)


def type_means(attribution: Attribution) -> Means:
    """Mean per particle of each of the `particle_groups` ``[class, particle, ...]``; regular axes stay."""
    names, group = particle_groups(attribution.events)
    own = group if attribution.pairs is None else group[attribution.pairs.src]
    parts: Groups = {(i,): attribution.keep(own == i) for i in range(len(names))}
    return _stack(attribution, ("particle",), (names,), parts)


def step_means(attribution: Attribution, steps: int = 8) -> Means:
    """Mean at each time step, the particle of highest pT first, ``[class, step, ...]``.

    Over the events that have such a step; later ones are left out.
    """
    last = min(steps, int(attribution.events.counts.max(initial=0)))
    parts: Groups = {(s,): at_step(attribution, s) for s in range(last)}
    return _stack(attribution, ("step",), (tuple(str(s + 1) for s in range(last)),), parts)


ENDS = {True: ("receiver", "sender"), False: ("particle", "other particle")}
"""Names of the two ends of a pair, for methods with and without a direction."""


def pair_means(attribution: Attribution) -> Means:
    """Mean per pair of each combination of `particle_groups`, ``[class, receiver, sender, ...]``.

    Each pair counts once, and the result is symmetric, where pairs have no direction.
    """
    whole, directed = whole_pairs(attribution), is_directed(attribution)
    names, group = particle_groups(attribution.events)
    pairs = pairs_of(whole)
    src, dst = group[pairs.src], group[pairs.dst]
    parts: Groups = {
        (i, j): whole.keep((dst == i) & (src == j) | (not directed) & (dst == j) & (src == i))
        for i in range(len(names))
        for j in range(len(names))
    }
    return _stack(whole, ENDS[directed], (names, names), parts)


def focus_means(attribution: Attribution, focus: tuple[str, str]) -> Means:
    """Mean over the pairs of the two types in either order, and over all other pairs ``[class, pairs]``.

    Where there are no others, as in events of one particle type, only over the first.
    """
    whole = whole_pairs(attribution)
    chosen = in_focus(whole, focus)
    parts: dict[tuple[int, ...], Attribution] = {(0,): whole.keep(chosen)}
    if not chosen.all():
        parts[1,] = whole.keep(~chosen)
    return _stack(whole, ("pairs",), ((pair_name(focus), "other pairs")[: len(parts)],), parts)


def profile(attribution: Attribution, observer: NDArray[np.float64], edges: NDArray[np.float64]) -> Means:
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
    position = bin_of(observer, edges)
    names = tuple(f"{a:.5g} to {b:.5g}" for a, b in itertools.pairwise(edges))
    parts: Groups = {(b,): attribution[position == b] for b in range(len(names))}
    return _stack(attribution, ("bin",), (names,), parts)


def _stack(
    attribution: Attribution, axes: Iterable[str], labels: Iterable[tuple[str, ...]], parts: Groups
) -> Means:
    classes = attribution.events.schema.classes
    regular = attribution.values.shape[1:]
    names = (classes, *labels)
    shape = (*map(len, names), *regular)
    value, error = np.full(shape, np.nan), np.full(shape, np.nan)
    events, entries = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for group, part in parts.items():
        if len(part.values) == 0:
            continue
        sizes = np.diff(part.offsets)
        for c in range(len(classes)):
            own = part.events.label == c
            mean = part.population(own)
            at = (c, *group)
            value[at], error[at] = mean.value, mean.error
            events[at], entries[at] = np.count_nonzero(sizes[own]), sizes[own].sum()
    regular_labels = tuple(labels_of(attribution, a) for a in attribution.axes[1:])
    return Means(
        ("class", *axes, *attribution.axes[1:]), names + regular_labels, value, error, events, entries
    )


# --- maps with several axes ------------------------------------------------------------------


def layers(attribution: Attribution) -> dict[str, Attribution]:
    """One number per particle or pair for each layer, heads averaged; "" where there is only one."""
    names = labels_of(attribution, "layer") if "layer" in attribution.axes else ()
    if len(names) < 2:
        return {"": reduced(attribution)}
    return {name: reduced(attribution, layer=name) for name in names}


# --- attention -------------------------------------------------------------------------------


def sums_to_one(attribution: Attribution) -> bool:
    """Whether what each particle receives is non-negative and adds up to one, as attention does."""
    if attribution.axes[0] != "pair" or len(attribution.values) == 0 or (attribution.values < 0).any():
        return False
    flat = attribution.values.reshape(len(attribution.values), -1).mean(axis=1)
    receiver = pairs_of(attribution).dst
    total = np.bincount(receiver, weights=flat)[np.unique(receiver)]
    return bool(np.allclose(total, 1.0, atol=1e-3))


def relative_to_uniform(attribution: Attribution) -> Attribution:
    """Attention times the number of senders that its receiver has.

    A particle that looked at all ``n - 1`` others alike would give each ``1 / (n - 1)``, so attention
    itself falls with multiplicity. Times ``n - 1`` (the number of neighbours, for a sparse layer) uniform
    attention is 1 in every event, and the mean over all pairs of an event is exactly 1: events of
    different multiplicity compare. Call it before any selection of pairs.
    """
    receiver = pairs_of(attribution).dst
    senders = np.bincount(receiver, minlength=attribution.events.n_particles)[receiver]
    column = (slice(None),) + (None,) * (attribution.values.ndim - 1)
    return attribution.replace(
        values=attribution.values * senders[column],
        settings=dict(attribution.settings) | {"relative_to": "uniform attention"},
    )


def is_relative(attribution: Attribution) -> bool:
    """Whether the values are attention relative to uniform."""
    return attribution.settings.get("relative_to") == "uniform attention"


def reference_value(attribution: Attribution) -> float:
    """Value that says nothing: 1 for relative attention, else 0."""
    return 1.0 if is_relative(attribution) else 0.0


def scale_of(attribution: Attribution, values: NDArray[np.floating]) -> tuple[Colormap, Normalize]:
    """Colours for some values of a map, around the value that says nothing; plain attention has none."""
    one_sided = attribution.method.endswith("attention") and not is_relative(attribution)
    return colours(values, centre=None if one_sided else reference_value(attribution))


def quantity(attribution: Attribution) -> str:
    """Axis label of the values, with their unit."""
    if is_relative(attribution):
        return "attention × (n − 1)"
    if attribution.method.endswith("attention"):
        return "attention"
    if not is_directed(attribution):
        return f"interaction of the pair for {attribution.target} [logit]"
    return f"attribution to {attribution.target} [{attribution.settings.get('unit', 'logit')}]"


# --- pairs in focus --------------------------------------------------------------------------


def pair_name(focus: tuple[str, str]) -> str:
    """``muon–muon pairs``."""
    return f"{focus[0]}–{focus[1]} pairs"
