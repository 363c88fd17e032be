"""Isolation of a pair of particles: fraction of the received attribution from inside the pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.attribution import Attribution, Pairs
from hepxai.attribution.reductions import at_edges, finite, in_focus, pairs_of, reduced, whole_pairs
from hepxai.attribution.spread import over_trainings
from hepxai.core.estimate import Array, Estimate, ratio_mean
from hepxai.core.jagged import IntArray, row_sum


@over_trainings
def pair_mean(attribution: Attribution, pair: tuple[str, str]) -> Estimate:
    """Weighted mean of an attribution over the pairs of two particle types, in either order.

    Every message counts as a pair; of a method without direction, every two particles.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged.
    pair : tuple of two str
        Particle types.

    Returns
    -------
    Estimate
        Events are the independent units; NaN if no event has such a pair.
    """
    return whole_pairs(reduced(attribution)).select(pair=pair).population()


@dataclass(frozen=True)
class PairShares:
    """Shares of one kind of pair, event by event, relative to equal shares.

    Attributes
    ----------
    inside, from_rest : ndarray, shape [E]
        See `isolation` and `attention_from_rest`; NaN for an event that is left out. The mean over the
        pairs of the event where it has several.
    weight : ndarray, shape [E]
    without_pair, too_small, silent : int
        Events left out: without such a pair; with one, but fewer than three particles; with nothing
        received by the pair, or by the rest.
    """

    inside: Array
    from_rest: Array
    weight: Array
    without_pair: int
    too_small: int
    silent: int


def pair_shares(attribution: Attribution, pair: tuple[str, str]) -> PairShares:
    """Shares of every event; see `isolation` and `attention_from_rest` for their definition.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged. The whole map, not a selection.
    pair : tuple of two str
        Particle types.

    Raises
    ------
    ValueError
        If the map holds nothing but these pairs while the events have other particles, or values that are not
        finite.
    """
    plain = reduced(attribution)
    plain = plain.replace(values=np.abs(finite(plain)))
    _need_the_rest(plain, pair)
    events, (first, second) = plain.events, _unordered(plain, pair)
    owner = events.parent[first]
    inside, from_rest = _relative(plain, first, second, owner)
    has_pair = np.bincount(owner, minlength=len(events)) > 0
    shares = [_event_mean(v, owner, len(events)) for v in (inside, from_rest)]
    large = events.counts > 2
    silent = has_pair & large & ~(np.isfinite(shares[0]) & np.isfinite(shares[1]))
    left_out = (int(np.count_nonzero(m)) for m in (~has_pair, has_pair & ~large, silent))
    return PairShares(shares[0], shares[1], events.weight, *left_out)


@over_trainings
def isolation(attribution: Attribution, pair: tuple[str, str]) -> Estimate:
    """Share of the attribution received by the pair from inside the pair, relative to an equal share.

    For a pair {i, j} in an event of n particles, with a_kl the attribution of the message from k to l,

        I = (n - 1) (|a_ij| + |a_ji|) / Σ_k (|a_ki| + |a_kj|).

    1: the two receive equally from all n - 1 others; n - 1: everything stays in the pair;
    0: nothing passes between them. For attention, which adds up to one for each receiver, this is
    ½ (α_ij + α_ji)(n - 1). For signed methods it is the share of |a|: how much of the effect the messages
    between the two have, whatever its direction. Edges that a sparse layer lacks count as 0.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged. The whole map, not a selection.
    pair : tuple of two str
        Particle types.

    Returns
    -------
    Estimate
        Weighted mean over events. Events without the pair or with fewer than three particles are left
        out; `pair_shares` counts them.
    """
    return _mean(pair_shares(attribution, pair), "inside")


@over_trainings
def attention_from_rest(attribution: Attribution, pair: tuple[str, str]) -> Estimate:
    """Share of the attribution received by all other particles from the pair, relative to an equal share.

        J = ½ (n - 1) Σ_{l ∉ {i, j}} (|a_il| + |a_jl|) / Σ_{l ∉ {i, j}} Σ_k |a_kl|

    with the notation of `isolation`. 1: the rest receives from the two as from any others; 0: nothing;
    (n - 1) / 2: from nothing else. A pair is isolated from the rest
    if I > 1 and J < 1.
    """
    return _mean(pair_shares(attribution, pair), "from_rest")


def _need_the_rest(attribution: Attribution, pair: tuple[str, str]) -> None:
    chosen = in_focus(attribution, pair)
    first, _ = _unordered(attribution, pair)
    bystanders = attribution.events.counts[attribution.events.parent[first]] > 2
    if len(chosen) and chosen.all() and bystanders.any():
        raise ValueError(
            f"this map holds {pair[0]}–{pair[1]} pairs only, and isolation compares them with others of the "
            "event: give the whole map, not a selection; events of one particle type have no others"
        )


def _unordered(attribution: Attribution, pair: tuple[str, str]) -> tuple[IntArray, IntArray]:
    """Flat indices of the two particles of each pair of these types, once each."""
    pairs = Pairs.complete(attribution.events)
    chosen = pairs.between(attribution.events, pair) & (pairs.src < pairs.dst)
    return pairs.src[chosen], pairs.dst[chosen]


def _relative(
    attribution: Attribution, first: IntArray, second: IntArray, owner: IntArray
) -> tuple[Array, Array]:
    """I and J of each pair; NaN where nothing is received."""
    pairs, events, size = pairs_of(attribution), attribution.events, attribution.events.n_particles
    received, sent = (np.bincount(end, attribution.values, size) for end in (pairs.dst, pairs.src))
    inside = at_edges(attribution, first, second) + at_edges(attribution, second, first)
    by_pair = received[first] + received[second]
    by_rest = row_sum(attribution.values, pairs.offsets)[owner] - by_pair
    to_rest = sent[first] + sent[second] - inside
    others = np.where(events.counts[owner] > 2, events.counts[owner] - 1.0, np.nan)
    # Sums of the rest are differences: below rounding, nothing was received.
    by_rest = np.where(by_rest > 1e-12 * (by_pair + by_rest), by_rest, np.nan)
    by_pair = np.where(by_pair > 0, by_pair, np.nan)
    return others * inside / by_pair, 0.5 * others * to_rest / by_rest


def _event_mean(values: Array, owner: IntArray, events: int) -> Array:
    """Mean over the pairs of each event that have a value; NaN without any."""
    used = np.isfinite(values)
    number = np.bincount(owner[used], minlength=events)
    total = np.bincount(owner[used], weights=values[used], minlength=events)
    return np.asarray(total / np.where(number > 0, number, np.nan))


def _mean(shares: PairShares, which: str) -> Estimate:
    values: Array = getattr(shares, which)
    used = np.isfinite(values)
    return ratio_mean(np.where(used, values, 0.0), used.astype(np.float64), shares.weight)
