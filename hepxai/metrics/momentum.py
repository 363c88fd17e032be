"""How well a muon's momentum is found: errors, the trigger's efficiency with its turn-on, and fakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from hepxai.estimate import Estimate, ratio_mean
from hepxai.metrics.binning import bin_of

Array = NDArray[np.float64]

WINDOW = (7.0, 13.0)
"""True pt of the spread, GeV: that of the study which the figures are compared with."""
THRESHOLD = 15.0
"""Trigger threshold, GeV, of the same study."""
ONE_SIGMA = 0.682689


@dataclass(frozen=True)
class Efficiency:
    """Shares of events that pass, with intervals.

    Attributes
    ----------
    value, low, high : ndarray
        Share and the ends of its interval; NaN, 0 and 1 where there are no events.
    n_eff : ndarray
        Effective number of events, (Σw)² / Σw².
    """

    value: Array
    low: Array
    high: Array
    n_eff: Array

    @property
    def error(self) -> Array:
        """Half the length of the interval."""
        return np.asarray((self.high - self.low) / 2)

    def __str__(self) -> str:
        if np.ndim(self.value):
            return f"{self.value} [{self.low}, {self.high}]"
        if self.n_eff == 0:
            return "no events"
        value = float(self.value)
        return f"{value:.4g} +{float(self.high) - value:.2g} -{value - float(self.low):.2g}"


def clopper_pearson(value: Array, n_eff: Array, *, level: float = ONE_SIGMA) -> tuple[Array, Array]:
    """Central interval of a share [Clopper & Pearson, Biometrika 26 (1934) 404].

    It covers at least ``level``, also where nothing or everything passes. For weighted events the number of
    events is the effective one, which is an approximation.
    """
    passed = np.clip(value, 0, 1) * n_eff
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = beta.ppf(tail, passed, n_eff - passed + 1)
        high = beta.ppf(1 - tail, passed + 1, n_eff - passed)
    none, all_ = passed <= 0, passed >= n_eff
    return np.where(none, 0.0, low), np.where(all_, 1.0, high)


def efficiency(
    passed: NDArray[np.bool_], weight: Array, group: NDArray[np.int64] | None = None, groups: int = 1
) -> Efficiency:
    """Weighted share of events that pass, of all or of each group.

    Parameters
    ----------
    passed, weight : ndarray, shape [E]
        Signed weights stay signed; a share may then lie outside 0 to 1, its interval does not.
    group : ndarray of int64, shape [E], optional
        Number of each event's group, -1 for none.
    groups : int
        How many there are.
    """
    own = np.zeros(len(passed), dtype=np.int64) if group is None else group
    used = own >= 0
    own, w, hit = own[used], weight[used], passed[used]
    total, good, squares = (np.bincount(own, x, groups) for x in (w, w * hit, w * w))
    with np.errstate(invalid="ignore", divide="ignore"):
        value, n_eff = good / total, np.nan_to_num(total**2 / squares)
    low, high = clopper_pearson(np.nan_to_num(value), n_eff)
    found = (value, low, high, n_eff)
    return Efficiency(*(np.asarray(x[0]) for x in found)) if group is None else Efficiency(*found)


@dataclass(frozen=True)
class TurnOn:
    """Efficiency of a momentum threshold against the true pt.

    Attributes
    ----------
    edges : ndarray, shape [B+1]
        Of true pt, GeV.
    efficiency : Efficiency, shape [B]
    threshold : float
        On the predicted pt, GeV.
    """

    edges: Array
    efficiency: Efficiency
    threshold: float


def turn_on(
    predicted: Array, true: Array, weight: Array, *, edges: Array, threshold: float = THRESHOLD
) -> TurnOn:
    """Share of events with predicted pt at or above a threshold, in bins of true pt.

    Parameters
    ----------
    predicted, true, weight : ndarray, shape [E]
        True pt is NaN where there is no muon; such events are left out.
    edges : ndarray
    threshold : float
    """
    found = efficiency(predicted >= threshold, weight, bin_of(true, edges), len(edges) - 1)
    return TurnOn(np.asarray(edges, dtype=np.float64), found, threshold)


@dataclass(frozen=True)
class MomentumMerit:
    """Figures of merit of a predicted pt, in GeV where they have a unit.

    Attributes
    ----------
    mae : Estimate
        Mean |predicted - true| of all muons.
    spread : Estimate
        The same for true pt in a window, 7 to 13 GeV by default.
    bias : Estimate
        Mean predicted - true in this window.
    efficiency : Efficiency
        P(predicted >= threshold | true >= threshold).
    leak : Efficiency
        P(predicted >= threshold | true < threshold).
    fakes : Efficiency
        P(predicted >= threshold) of events without a muon.
    """

    mae: Estimate
    spread: Estimate
    bias: Estimate
    efficiency: Efficiency
    leak: Efficiency
    fakes: Efficiency

    def rows(self) -> dict[str, str]:
        """Names and values with errors, for a table."""
        return {name: str(getattr(self, name)) for name in self.__dataclass_fields__}


def momentum_merit(
    predicted: Array,
    true: Array,
    weight: Array,
    *,
    window: tuple[float, float] = WINDOW,
    threshold: float = THRESHOLD,
) -> MomentumMerit:
    """Figures of merit of a predicted pt.

    Parameters
    ----------
    predicted, true, weight : ndarray, shape [E]
        GeV; true pt is NaN where there is no muon.
    window : tuple of float
        True pt of the spread, lower end included.
    threshold : float
        Of the trigger.

    Raises
    ------
    ValueError
        If a prediction is not finite, or the columns differ in length.
    """
    predicted, true = (np.asarray(x, dtype=np.float64) for x in (predicted, true))
    if not len(predicted) == len(true) == len(weight):
        raise ValueError(f"{len(predicted)} predictions, {len(true)} true values, {len(weight)} weights")
    if not np.isfinite(predicted).all():
        raise ValueError(f"{(~np.isfinite(predicted)).sum()} predictions are not finite")
    muon = np.isfinite(true)
    off = np.where(muon, predicted - true, 0.0)
    inside = muon & (true >= window[0]) & (true < window[1])
    high = np.where(muon, true, -np.inf) >= threshold
    passed = predicted >= threshold

    def mean(values: Array, used: NDArray[np.bool_]) -> Estimate:
        return ratio_mean(values[used], np.ones(int(used.sum())), weight[used])

    return MomentumMerit(
        mae=mean(abs(off), muon),
        spread=mean(abs(off), inside),
        bias=mean(off, inside),
        efficiency=efficiency(passed[high], weight[high]),
        leak=efficiency(passed[muon & ~high], weight[muon & ~high]),
        fakes=efficiency(passed[~muon], weight[~muon]),
    )
