"""Baselines of finding the truth: the particle types alone, and true entries among others of equal types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import finite, is_directed, reduced
from hepxai.attribution.spread import over_trainings
from hepxai.core.estimate import Array, Estimate, share
from hepxai.core.jagged import IntArray, offsets_from_counts, parents, row_sum
from hepxai.events import Events
from hepxai.metrics.null import NullDistribution
from hepxai.metrics.ranking import Places
from hepxai.metrics.truth import Flags, comparable_events, event_auroc, true_entries


def types_of_entries(attribution: Attribution) -> IntArray:
    """Number of the particle type of every entry, or of the two types of a pair.

    Both orders of a pair have the same number in a map without direction.
    """
    kind, pairs = attribution.events.type, attribution.pairs
    if pairs is None:
        return kind
    ends = np.stack([kind[pairs.dst], kind[pairs.src]])
    first, second = ends if is_directed(attribution) else np.sort(ends, axis=0)
    return np.asarray(first * len(attribution.events.schema.types) + second)


@over_trainings
def truth_by_type(attribution: Attribution, truth: str) -> Estimate:
    """AUROC of a map that gives all entries of equal types the fraction of them that is true.

    The fractions are those of the events compared, which have a true entry and another one, with the
    magnitude of their weights. They need not be the order of the types with the largest AUROC.
    See `hepxai.metrics.find_truth`.

    Parameters
    ----------
    attribution : Attribution
        With the particles or pairs; its values do not matter.
    truth : str
        A key of ``events.truth``.
    """
    plain = _comparable(attribution, truth)
    return share(_aurocs(_map_of_types(plain, truth), truth), plain.events.weight, "AUROC of the types")


@over_trainings
def truth_beyond_types(attribution: Attribution, truth: str) -> Estimate:
    """AUROC of a map less that of `truth_by_type`, with the error of the difference in each event.

    Parameters
    ----------
    attribution, truth
        See `hepxai.metrics.find_truth`.
    """
    plain = _comparable(attribution, truth)
    difference = _aurocs(plain, truth) - _aurocs(_map_of_types(plain, truth), truth)
    return Estimate.of(difference, plain.events.weight).bounded("AUROC less that of the types", -1.0)


def _comparable(attribution: Attribution, truth: str) -> Attribution:
    plain = reduced(attribution)
    return plain[comparable_events(plain, truth)]


def _aurocs(plain: Attribution, truth: str) -> Array:
    """AUROC of each comparable event."""
    return event_auroc(Places.of(np.abs(finite(plain)), plain.offsets), true_entries(plain, truth))


def _map_of_types(plain: Attribution, truth: str) -> Attribution:
    """Map with the fraction of true entries of each type as its values."""
    true, kind = true_entries(plain, truth), types_of_entries(plain)
    weight = np.abs(plain.events.weight)[parents(plain.offsets)]
    number, of_true = (np.bincount(kind, w) for w in (weight, weight * true))
    return plain.replace(values=(of_true / np.where(number > 0, number, 1.0))[kind])


@over_trainings
def truth_within_types(attribution: Attribution, truth: str) -> Estimate:
    """AUROC of the true entries of an event among the others of equal types, mean over events.

    All comparisons of a true entry with another one of the same type, or of a pair of the same two types,
    count equally inside an event. Events without such a comparison are left out: NaN if no event has one.
    A map that knows the types alone has ½; see `null_within_types`.

    Parameters
    ----------
    attribution, truth
        See `hepxai.metrics.find_truth`.
    """
    plain = reduced(attribution)
    return _Blocks.of(plain).auroc(true_entries(plain, truth))


def null_within_types(
    attribution: Attribution, truth: str, *, draws: int = 200, seed: int = 0
) -> NullDistribution:
    """Values of `truth_within_types` for a truth that is shuffled among the particles of equal type.

    Each event keeps its number of true particles of every type. Particles are shuffled, not pairs: pairs
    that share a particle rise and fall together, which makes the distribution wider.

    Parameters
    ----------
    attribution, truth
        See `hepxai.metrics.find_truth`.
    draws, seed : int
    """
    plain = reduced(attribution)
    plain = plain[np.isfinite(_Blocks.of(plain).per_event(true_entries(plain, truth)))]
    blocks, rng, events = _Blocks.of(plain), np.random.default_rng(seed), plain.events
    values = np.full(draws, np.nan)
    for draw in range(draws if len(events) else 0):
        flags = _shuffled(events, events.truth[truth], rng)
        shuffled = plain.replace(events=events.replace(truth={truth: flags}))
        values[draw] = blocks.auroc(true_entries(shuffled, truth)).value
    return NullDistribution(values)


def _shuffled(events: Events, flags: Flags, rng: np.random.Generator) -> Flags:
    """Flags of particles, shuffled among those of one type in an event."""
    group = events.parent * len(events.schema.types) + events.type
    result = np.empty_like(flags)
    result[np.lexsort((rng.random(len(group)), group))] = flags[np.argsort(group, kind="stable")]
    return result


@dataclass(frozen=True)
class _Blocks:
    """Entries of a map, in one block for each type that an event has.

    Attributes
    ----------
    order : ndarray of int64, shape [N]
        Entries, block by block.
    places : Places
        Places of |value| in the blocks.
    events : ndarray of int64, shape [E+1]
        Offsets of the blocks of each event.
    weight : ndarray, shape [E]
    """

    order: IntArray
    places: Places
    events: IntArray
    weight: Array

    @staticmethod
    def of(plain: Attribution) -> _Blocks:
        number = int(types_of_entries(plain).max(initial=0)) + 1
        block = parents(plain.offsets) * number + types_of_entries(plain)
        order, size = np.argsort(block, kind="stable"), len(plain.events)
        counts = np.bincount(block, minlength=size * number)
        places = Places.of(np.abs(finite(plain))[order], offsets_from_counts(counts[counts > 0]))
        of_event = (counts > 0).reshape(size, number).sum(axis=1)
        return _Blocks(order, places, offsets_from_counts(of_event), plain.events.weight)

    def per_event(self, true: Flags) -> Array:
        """AUROC of each event, NaN for one without a comparison."""
        true, offsets = true[self.order], self.places.offsets
        number = row_sum(true, offsets)
        comparisons = number * (np.diff(offsets) - number)
        with np.errstate(invalid="ignore"):
            wins = np.nan_to_num(event_auroc(self.places, true)) * comparisons
            return np.asarray(row_sum(wins, self.events) / row_sum(comparisons, self.events))

    def auroc(self, true: Flags) -> Estimate:
        """Weighted mean over events."""
        values = self.per_event(true)
        used = np.isfinite(values)
        return share(values[used], self.weight[used], "AUROC within equal types")
