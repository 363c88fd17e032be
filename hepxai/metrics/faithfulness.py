"""Faithfulness of maps over pixels to the model: removal of pixels, and the change of the output.

Pixels are removed: set to a baseline in all channels. Only pixels that differ from the baseline count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Array, Estimate, ratio_mean
from hepxai.events import Events
from hepxai.metrics.ranking import rank_correlation
from hepxai.metrics.removals import Baseline, RemovablePixels, Score, has_sign, pixel_values, rounded

CHECK_EVENTS, CHECK_DRAWS, CHECK_LEAST = 16, 32, 8
"""Events and blocks of `quick_check`, and the fewest events with a correlation for a verdict."""


def mean_of(per_event: Array, weight: Array) -> Estimate:
    """Weighted mean over the events with a number; NaN leaves an event out."""
    used = np.isfinite(per_event)
    return ratio_mean(np.where(used, per_event, 0.0), used.astype(np.float64), weight)


# --- random removals -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removals:
    """Changes of the output when random groups of pixels are removed; the same for all maps of the events.

    Attributes
    ----------
    events : Events
    changes : ndarray, shape [E, M]
        ``F(x) - F(x without the group)``.
    n : float, optional
        Pixels of a group, or their share if below 1; without it groups are blocks.
    baseline : float, ndarray or callable
    seed : int
    """

    events: Events
    changes: Array
    n: float | None
    baseline: Baseline
    seed: int

    def __repr__(self) -> str:
        kind = "blocks" if self.n is None else f"groups of {self.n:g}"
        return f"<Removals: {self.changes.shape[1]} {kind}, {len(self.events):,} events>"

    @staticmethod
    def sample(
        score: Score,
        events: Events,
        *,
        n: float | None = None,
        draws: int = 32,
        baseline: Baseline = 0.0,
        seed: int = 0,
    ) -> Removals:
        """Remove ``draws`` random groups from each image; the cost is that of so many images an event.

        Parameters
        ----------
        score : callable
        events : Events
        n : float, optional
            Pixels of each group, or their share if below 1, for sensitivity-n; by default random blocks
            around a pixel that differs from the baseline.
        draws : int
            Groups of each event, at least 2.
        baseline : float, ndarray or callable
        seed : int
            Groups are functions of the seed and the numbers of the event.
        """
        if draws < 2 or (n is not None and n <= 0):
            raise ValueError(f"draws={draws}, n={n}; two draws or more and a positive n are needed")
        changes = np.zeros((len(events), draws))
        removals = Removals(events, changes, n, baseline, seed)
        for rows, pixels, chosen in removals._groups():
            full = pixels.outputs(score, np.zeros((1, len(pixels.place)), dtype=bool))
            changes[rows] = rounded(full - pixels.outputs(score, chosen), full)
        return removals

    def _groups(self) -> Iterator[tuple[slice, RemovablePixels, NDArray[np.bool_]]]:
        draws = self.changes.shape[1]
        for rows, pixels in RemovablePixels.chunks(self.events, self.baseline):
            if self.n is None:
                yield rows, pixels, pixels.blocks(draws, self.seed)
            else:
                yield rows, pixels, pixels.subsets(self.n, draws, self.seed)

    def totals(self, attribution: Attribution) -> Array:
        """Sum of a map over the pixels of each group that differ from the baseline, ``[E, M]``."""
        totals = np.empty(self.changes.shape)
        for rows, pixels, chosen in self._groups():
            values = pixels.values(attribution[rows]) * chosen
            sums = np.add.reduceat(np.pad(values, ((0, 0), (0, 1))), pixels.offsets[:-1], axis=1)
            totals[rows] = np.where(pixels.counts > 0, sums, 0.0).T
        return totals

    def compared(self, attribution: Attribution) -> tuple[Array, Array]:
        """Totals of a map, and the changes; their absolute values for a map without a sign (`has_sign`)."""
        signed = has_sign(attribution)
        return self.totals(attribution), self.changes if signed else np.abs(self.changes)


def region_correlation(removals: Removals, attribution: Attribution) -> Array:
    """Spearman's rank correlation of the totals of a map with the changes of the output, ``[E]``.

    0 if the totals are all equal; NaN if the changes are: then no map could tell anything.
    """
    totals, changes = removals.compared(attribution)
    offsets = np.arange(len(totals) + 1) * totals.shape[1]
    return _defined(rank_correlation(totals.ravel(), changes.ravel(), offsets), changes)


def sensitivity_n(removals: Removals, attribution: Attribution) -> Array:
    """Pearson's correlation of totals and changes, ``[E]`` [Ancona et al., arXiv:1711.06104].

    ``removals`` has groups of n pixels. 1 for a linear model and its exact map, for any n.
    """
    totals, changes = (v - v.mean(1, keepdims=True) for v in removals.compared(attribution))
    spread = np.sqrt((totals**2).sum(1) * (changes**2).sum(1))
    flat = np.ptp(changes, axis=1) == 0
    correlation = (totals * changes).sum(1) / np.where(spread > 0, spread, np.inf)
    return np.where(flat, np.nan, correlation)


def _defined(correlation: Array, changes: Array) -> Array:
    return np.where(np.ptp(changes, axis=1) == 0, np.nan, np.nan_to_num(correlation))


def infidelity(removals: Removals, attribution: Attribution, *, rescaled: bool = True) -> Array:
    """Relative infidelity ``Σ_m (β S_m - Δ_m)² / Σ_m Δ_m²``, ``[E]`` [Yeh et al., arXiv:1901.09392].

    S are the totals of the map and Δ the changes of the output. The paper's infidelity is the numerator over
    the number of groups, with the perturbation ``I = x - x_baseline`` inside the group already part of the
    map's values.

    Parameters
    ----------
    removals : Removals
    attribution : Attribution
    rescaled : bool
        Scale the map of each event by the best β, as the paper does to compare methods with other units;
        the result is then from 0 to 1. Else β = 1.

    Returns
    -------
    ndarray
        NaN where no removal changes the output.
    """
    totals, changes = removals.compared(attribution)
    norm, square = (changes**2).sum(1), (totals**2).sum(1)
    best = (totals * changes).sum(1) / np.where(square > 0, square, np.inf)
    scale = best if rescaled else np.ones(len(norm))
    error = ((scale[:, None] * totals - changes) ** 2).sum(1)
    return np.where(norm > 0, error / np.where(norm > 0, norm, 1.0), np.nan)


# --- of the map alone ------------------------------------------------------------------------------


def gini(attribution: Attribution) -> Array:
    """Gini index of |value| over all pixels, ``[E]`` [Chalasani et al., arXiv:1810.06583].

    ``G = 1 - 2 Σ_k v_(k) (d - k + ½) / (d Σ v)`` for values ``v_(1) ≤ … ≤ v_(d)``: 0 if all are equal,
    1 - 1/d if a single one is not 0. NaN for a map of zeros.
    """
    values = np.abs(pixel_values(attribution)).reshape(len(attribution.events), -1)
    values.sort(axis=1)
    d, total = values.shape[1], values.sum(1)
    weight = d - np.arange(1, d + 1) + 0.5
    return np.asarray(1 - 2 * (values @ weight) / (d * np.where(total > 0, total, np.nan)))


def quick_check(score: Score, attribution: Attribution, baseline: Baseline = 0.0) -> dict[str, float]:
    """Cheap faithfulness check: mean of `region_correlation` over few events, and its error.

    At most `CHECK_EVENTS` evenly spread events with `CHECK_DRAWS` random blocks each: 528 images, whatever
    the size of the population. Events are not weighted: this is a property of the method on the model.

    Returns
    -------
    dict
        ``faithfulness``, ``faithfulness_error`` and the number of events, ``faithfulness_events``; empty
        without an event in which the changes differ.
    """
    few = attribution.replace(sign="both" if has_sign(attribution) else "positive")
    few = few[evenly_spread(len(attribution.events), CHECK_EVENTS)]
    removals = Removals.sample(score, few.events, draws=CHECK_DRAWS, baseline=baseline)
    mean = mean_of(region_correlation(removals, few), np.ones(len(few.events)))
    if not np.isfinite(mean.value):
        return {}
    names = ("faithfulness", "faithfulness_error", "faithfulness_events")
    return dict(zip(names, (float(mean.value), float(mean.error), mean.n_eff), strict=True))


def quick_concern(checks: Mapping[str, float]) -> tuple[str, ...]:
    """Concern about a `quick_check` whose mean is not above 0 by two errors.

    None about fewer than `CHECK_LEAST` events.
    """
    mean, error = (checks.get(k, np.nan) for k in ("faithfulness", "faithfulness_error"))
    if checks.get("faithfulness_events", 0) < CHECK_LEAST or mean > 2 * error:
        return ()
    return (
        "the map does not tell which regions change the output: rank correlation of its sums over random "
        f"blocks with the change of the output when they are removed {mean:.2f} ± {error:.2f}; compare it "
        "with other methods (`hepxai compare`)",
    )
