"""Agreement of maps over pixels with the truth and with each other, with errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.attribution.reductions import finite
from hepxai.attribution.spread import over_trainings
from hepxai.core.estimate import Array, Estimate, ratio_mean
from hepxai.core.jagged import IntArray, distinct, offsets_from_counts, row_sum
from hepxai.events import Events
from hepxai.metrics.agreement import Agreement, agreement_of, same_events
from hepxai.metrics.hits import lit_pixels
from hepxai.metrics.ranking import Places, rank_correlation

CHUNK = 512
"""Events whose pixels are all sorted at a time."""


@dataclass(frozen=True)
class LitPixels:
    """Lit pixels of all events, each once, by event and place; channels are laid over each other.

    Attributes
    ----------
    event, place : ndarray of int64, shape [L]
        Event, and place ``row * columns + column``.
    true : ndarray of bool, shape [L]
        True for pixels with at least one true hit.
    offsets : ndarray of int64, shape [E+1]
    """

    event: IntArray
    place: IntArray
    true: NDArray[np.bool_]
    offsets: IntArray

    def __repr__(self) -> str:
        size = f"{len(self.place):,}, {np.count_nonzero(self.true):,} of them true"
        return f"<LitPixels: {size}, in {len(self.offsets) - 1:,} events>"

    @staticmethod
    def lit(events: Events, truth: str | None = None) -> LitPixels:
        """Lit pixels of the images of events.

        Parameters
        ----------
        events : Events
        truth : str, optional
            A key of ``events.truth``; nothing is true without.

        Raises
        ------
        KeyError
            If the events have no such truth.
        """
        if truth is not None and truth not in events.truth:
            raise KeyError(
                f"the events have no truth {truth!r}; there is {', '.join(events.truth) or 'none'}"
            )
        place, hits = _lit(events), None if truth is None else _lit(events, events.truth[truth])
        true = np.zeros(len(place), dtype=bool) if hits is None else np.isin(place, hits, assume_unique=True)
        _, rows, columns = events.image_layout().shape
        event, place = np.divmod(place, rows * columns)
        return LitPixels(event, place, true, offsets_from_counts(np.bincount(event, minlength=len(events))))

    def of(self, attribution: Attribution) -> Array:
        """|Value| of a map at these pixels, ``[L]``."""
        return np.asarray(np.abs(flat(attribution)[self.event, self.place]))


def _lit(events: Events, where: NDArray[np.bool_] | None = None) -> IntArray:
    """Event and place of every lit pixel in one number, rising."""
    _, rows, columns = events.image_layout().shape
    event, _, row, column = lit_pixels(events, where)
    return distinct((event * rows + row) * columns + column)


def flat(attribution: Attribution) -> Array:
    """Values of a map over pixels as ``[E, P]``, channels added up.

    Raises
    ------
    ValueError
        If it is no map over the pixels of the image, or has values that are not finite.
    """
    if attribution.axes == CHANNEL_PIXELS:
        attribution = attribution.sum("channel")
    if attribution.axes != PIXELS:
        axes = ", ".join(attribution.axes)
        raise ValueError(f"needs a map over pixels (event, row, column); {attribution.method} has {axes}")
    shape = attribution.events.image_layout().shape[1:]
    if attribution.values.shape[1:] != shape:
        pixels = " x ".join(map(str, attribution.values.shape[1:]))
        raise ValueError(
            f"the map of {attribution.method} has {pixels} pixels, the image {shape[0]} x {shape[1]}; "
            "explain with upsample=True"
        )
    values: Array = finite(attribution).reshape(len(attribution.events), -1)
    return values


@dataclass(frozen=True)
class TruthShare:
    """Share of a map on the true hits.

    Attributes
    ----------
    among_hits : Estimate
        Share of |attribution| on true pixels, of that on all lit pixels; weighted mean over events.
    chance : Estimate
        The same for a map with equal values on all lit pixels: the fraction of true ones.
    of_all : Estimate
        Share of the |attribution| of the whole image.
    per_event : ndarray, shape [E]
        ``among_hits`` of each event; NaN for those left out.
    left_out : int
        Events without a true pixel, or with no attribution on any lit one.
    """

    among_hits: Estimate
    chance: Estimate
    of_all: Estimate
    per_event: Array
    left_out: int

    def __repr__(self) -> str:
        figures = f"{self.among_hits:.3g} among hits, by chance {self.chance.value:.3g}"
        return f"<TruthShare: {figures}, of {len(self.per_event):,} events, {self.left_out:,} left out>"


@over_trainings
def truth_share(attribution: Attribution, truth: str) -> TruthShare:
    """Share of |attribution| on the true hits; see `TruthShare`.

    Parameters
    ----------
    attribution : Attribution
        Axes ("event", "row", "column").
    truth : str
        A key of ``events.truth``.
    """
    lit = LitPixels.lit(attribution.events, truth)
    value = lit.of(attribution)
    on_true = row_sum(np.where(lit.true, value, 0.0), lit.offsets)
    on_lit, number = row_sum(value, lit.offsets), row_sum(lit.true, lit.offsets)
    whole = np.abs(flat(attribution)).sum(1)
    used = (number > 0) & (on_lit > 0)

    def mean(total: Array, norm: Array) -> tuple[Estimate, Array]:
        share = np.divide(total, norm, out=np.full(len(norm), np.nan), where=used)
        zeroed = np.where(used, share, 0.0)
        mean = ratio_mean(zeroed, used.astype(np.float64), attribution.events.weight)
        return mean.bounded("share of a map"), share

    among, per_event = mean(on_true, on_lit)
    chance, _ = mean(number, np.diff(lit.offsets).astype(np.float64))
    of_all, _ = mean(on_true, whole)
    return TruthShare(among, chance, of_all, per_event, int(np.count_nonzero(~used)))


@over_trainings
def dark_share(attribution: Attribution) -> Estimate:
    """Share of |attribution| on pixels without a hit; weighted mean over the events with a map that is not 0.

    Parameters
    ----------
    attribution : Attribution
        Axes ("event", "row", "column"), or with a channel axis.
    """
    lit, values = LitPixels.lit(attribution.events), np.abs(flat(attribution))
    total = values.sum(1)
    values[lit.event, lit.place] = 0.0
    share = np.divide(values.sum(1), total, out=np.zeros(len(total)), where=total > 0)
    norm = (total > 0).astype(np.float64)
    return ratio_mean(share, norm, attribution.events.weight).bounded("share of a map")


def hit_rank_agreement(first: Attribution, second: Attribution) -> Agreement:
    """Spearman's rank correlation of |value| over the lit pixels of an event, averaged over events.

    Events with fewer than two lit pixels, or where all of them are equal for one method, are left out.
    """
    same_events(first, second)
    lit = LitPixels.lit(first.events)
    correlation = rank_correlation(lit.of(first), lit.of(second), lit.offsets)
    return agreement_of(correlation, np.zeros(len(correlation)), first.events.weight)


def top_pixel_agreement(first: Attribution, second: Attribution, *, k: int = 10) -> Agreement:
    """Share of the k strongest pixels of an image that two maps have in common, averaged over events.

    All pixels compete, lit or not. Values tied at the last place share the remaining places equally;
    events with the same value in all pixels are left out. By chance: each map's values shuffled
    among its pixels that are not 0, since a map that is 0 on dark pixels has no choice but the lit ones.

    Raises
    ------
    ValueError
        If k is below 1, or not below the number of pixels.
    """
    same_events(first, second)
    one, two = (np.abs(flat(a)) for a in (first, second))
    if not 1 <= k < one.shape[1]:
        raise ValueError(f"k={k}; from 1 to {one.shape[1] - 1} of {one.shape[1]} pixels can be compared")
    shares, chance = np.full((2, len(one)), np.nan)
    for start in range(0, len(one), CHUNK):
        rows = slice(start, start + CHUNK)
        shares[rows] = _overlap(one[rows], two[rows], k)
        chance[rows] = _overlap(np.sign(one[rows]), np.sign(two[rows]), k)
    says = (np.ptp(one, axis=1) > 0) & (np.ptp(two, axis=1) > 0)
    shares, chance = (np.where(says, v, np.nan) for v in (shares, chance))
    return agreement_of(shares, chance, first.events.weight).bounded()


def _overlap(one: Array, two: Array, k: int) -> Array:
    offsets = np.arange(len(one) + 1) * one.shape[1]
    top = [Places.of(v.ravel(), offsets).among_top(k) for v in (one, two)]
    return np.asarray(row_sum(top[0] * top[1], offsets) / k)


def map_correlation(first: Attribution, second: Attribution) -> Agreement:
    """Pearson's correlation of the signed values over all pixels of an image, averaged over events."""
    same_events(first, second)
    correlation = row_correlation(flat(first), flat(second))
    return agreement_of(correlation, np.zeros(len(correlation)), first.events.weight)


def row_correlation(first: Array, second: Array) -> Array:
    """Pearson's correlation ``[E]`` of the rows of two arrays ``[E, P]``; NaN where a row is constant."""
    one, two = (v - v.mean(1, keepdims=True) for v in (first, second))
    norm = np.sqrt((one**2).sum(1) * (two**2).sum(1))
    return np.asarray(np.divide((one * two).sum(1), norm, out=np.full(len(norm), np.nan), where=norm > 0))
