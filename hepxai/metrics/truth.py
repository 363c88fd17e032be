"""Agreement of an attribution with the truth: AUROC and precision for true particles and pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import finite, reduced
from hepxai.attribution.spread import over_trainings
from hepxai.core.binning import bin_of
from hepxai.core.estimate import Array, Estimate, ratio_mean, share
from hepxai.core.jagged import parents, row_sum
from hepxai.events import Events
from hepxai.metrics.pooled import pooled_auroc, pooled_by_chance, pooled_precision
from hepxai.metrics.ranking import Places

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class TruthFinding:
    """Figures of merit of a map whose strongest entries should be the true ones.

    Attributes
    ----------
    auroc, average_precision : Estimate
        Weighted mean over events of the figure of each event.
    chance_precision : Estimate
        Expected ``average_precision`` for randomly chosen true entries of an event. For AUROC it is ½.
    pooled_auroc, pooled_average_precision : Estimate
        Of all entries of all events together, errors with events as independent units.
    chance_pooled_auroc, chance_pooled_precision : float
        The two for true entries shuffled inside each event. Larger than ½ and than the prevalence if events
        with a larger share of true entries have larger values.
    prevalence : Estimate
        Weighted fraction of true entries.
    events : int
        Events used.
    without_truth, all_true : int
        Events left out: with no true entry, or with nothing else.
    caveat : str, optional
        Concerns about the map, to be printed beside these numbers.
    method, short_title : str
        Those of the attribution.
    """

    auroc: Estimate
    average_precision: Estimate
    chance_precision: Estimate
    pooled_auroc: Estimate
    pooled_average_precision: Estimate
    chance_pooled_auroc: float
    chance_pooled_precision: float
    prevalence: Estimate
    events: int
    without_truth: int
    all_true: int
    caveat: str | None = None
    method: str = ""
    short_title: str = ""


@over_trainings
def find_truth(attribution: Attribution, truth: str) -> TruthFinding:
    """AUROC and average precision with which a map finds the true pairs, or the true particles.

    An entry counts by its absolute value. A pair is true if both particles are; of an ordered map, both
    messages of a true pair are. Definitions:

    - AUROC of an event: probability that a true entry has a larger value than another, ties ½.
    - Average precision: Σ_t (R_t - R_{t-1}) P_t over falling thresholds t, recall R, precision P, as in
      scikit-learn. T of n entries chosen at random have Σ_k ((k - 1)(T - 1)/(n - 1) + 1) / (n k) for
      k = 1 … n on average [Bestgen, J. Quant. Linguist. 22 (2015) 161], more than their fraction T / n; of
      equal values, each has the k of the last.
    - Pooled: all entries ranked together, each with the signed weight of its event. Attention falls with
      multiplicity, so that pooled numbers also see from how large an event an entry comes: compare them
      with their own values by chance.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" or a "particle" axis and at most one layer; heads are averaged, features summed.
    truth : str
        A key of ``events.truth``.

    Raises
    ------
    KeyError
        If the events have no such truth.
    ValueError
        If the map is per event, has values that are not finite.
    """
    plain = reduced(attribution)
    true, offsets = true_entries(plain, truth), plain.offsets
    number, size = row_sum(true, offsets), np.diff(offsets).astype(np.float64)
    used = comparable_events(plain, truth)
    entries = used[parents(offsets)]
    value, true = np.abs(finite(plain))[entries], true[entries]
    weight, places = plain.events.weight[used], Places.of(value, plain[used].offsets)
    owner, share_of_true = parents(places.offsets), (number / np.maximum(size, 1))[used]
    chance = pooled_by_chance(value, share_of_true, weight, owner)
    expected = expected_precision(number[used], places)
    return TruthFinding(
        auroc=share(event_auroc(places, true), weight, "AUROC"),
        average_precision=share(event_precision(places, true), weight, "average precision"),
        chance_precision=ratio_mean(expected, np.ones(len(expected)), weight),
        pooled_auroc=pooled_auroc(value, true, weight, owner),
        pooled_average_precision=pooled_precision(value, true, weight, owner),
        chance_pooled_auroc=chance[0],
        chance_pooled_precision=chance[1],
        prevalence=ratio_mean(number[used], size[used], weight),
        events=len(weight),
        without_truth=int(np.count_nonzero(number == 0)),
        all_true=int(np.count_nonzero((number > 0) & (number == size))),
        caveat=attribution.caveat,
        method=attribution.method,
        short_title=attribution.short_title,
    )


@over_trainings
def truth_auroc(attribution: Attribution, truth: str) -> Estimate:
    """AUROC per event as in `find_truth`, without the other figures of merit."""
    plain = reduced(attribution)
    used = comparable_events(plain, truth)
    entries = used[parents(plain.offsets)]
    places = Places.of(np.abs(finite(plain))[entries], plain[used].offsets)
    true = true_entries(plain, truth)[entries]
    return share(event_auroc(places, true), plain.events.weight[used], "AUROC")


def comparable_events(attribution: Attribution, truth: str) -> Flags:
    """Events ``[E]`` with a true entry and another one."""
    number = row_sum(true_entries(attribution, truth), attribution.offsets)
    return np.asarray((number > 0) & (number < np.diff(attribution.offsets)))


def true_entries(attribution: Attribution, truth: str) -> Flags:
    """Entries of a map that are true: particles that are, pairs of two that are."""
    flags, pairs = _flags(attribution.events, truth), attribution.pairs
    if attribution.axes[0] == "event":
        raise ValueError(f"truth is about particles and pairs; {attribution.method} has one value per event")
    return np.asarray(flags if pairs is None else flags[pairs.src] & flags[pairs.dst])


def _flags(events: Events, truth: str) -> Flags:
    if truth not in events.truth:
        there = ", ".join(events.truth) or "none: the card names it under `particles: … truth:`"
        raise KeyError(f"the events have no truth {truth!r}; there is {there}")
    return events.truth[truth]


def true_pt(events: Events, truth: str) -> Array:
    """Transverse momentum of all true particles of an event together [GeV], ``[E]``; NaN without one."""
    flags = _flags(events, truth)
    pt, phi = (np.where(flags, events.values_of(n), 0.0).astype(np.float64) for n in ("pt", "phi"))
    x, y = (row_sum(pt * turn(phi), events.offsets) for turn in (np.cos, np.sin))
    return np.where(row_sum(flags, events.offsets) > 0, np.hypot(x, y), np.nan)


@dataclass(frozen=True)
class TruthSlices:
    """`find_truth` in bins of an event quantity.

    Attributes
    ----------
    edges : ndarray, shape [B+1]
    found : tuple of TruthFinding, length B
    outside : int
        Events in no bin, or without the quantity.
    """

    edges: Array
    found: tuple[TruthFinding, ...]
    outside: int


def find_truth_in_slices(
    attribution: Attribution, truth: str, quantity: NDArray[np.number], edges: Array
) -> TruthSlices:
    """`find_truth` in bins of an event quantity.

    Parameters
    ----------
    attribution, truth
        See `find_truth`.
    quantity : ndarray, shape [E]
        ``events.counts``, `true_pt`, an observer …; NaN leaves an event out.
    edges : ndarray
        Increasing; the last bin includes its upper edge. See `hepxai.core.binning.equal_bins`.
    """
    position = bin_of(np.asarray(quantity, dtype=np.float64), edges)
    findings = tuple(find_truth(attribution[position == b], truth) for b in range(len(edges) - 1))
    return TruthSlices(edges, findings, int(np.count_nonzero(position < 0)))


# --- a single event ------------------------------------------------------------------------------


def event_auroc(places: Places, true: Flags) -> Array:
    """AUROC of each row, from the ranks of its true entries (Mann and Whitney)."""
    number, size = row_sum(true, places.offsets), np.diff(places.offsets)
    ranks = row_sum(np.where(true, places.rank, 0.0), places.offsets)
    return np.asarray((ranks - number * (number + 1) / 2) / (number * (size - number)))


def event_precision(places: Places, true: Flags) -> Array:
    """Average precision of each row: the precision at each true entry, averaged."""
    precision = places.at_least(true) / (places.above + places.ties)
    return np.asarray(row_sum(np.where(true, precision, 0.0), places.offsets) / row_sum(true, places.offsets))


def expected_precision(number: Array, places: Places) -> Array:
    """Mean average precision of each row if ``number`` > 0 of its entries, more than one, were drawn as true.

    The values and their ties stay: where all are equal it is the fraction of true entries.
    """
    size = np.diff(places.offsets)
    selected, owner = places.above + places.ties, parents(places.offsets)
    others = ((number - 1) / (size - 1))[owner]  # true share of the other entries, if one is true
    return np.asarray(row_sum((1 + (selected - 1) * others) / selected, places.offsets) / size)
