"""Figures of merit of a muon momentum: errors, trigger efficiency with its turn-on, fakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.core.binning import bin_of
from hepxai.core.estimate import Array, Estimate, clopper_pearson, effective, ratio_mean
from hepxai.metrics.classification import need_numbers

WINDOW = (7.0, 13.0)
"""Range of true pt for the spread, GeV, as in the reference study."""
THRESHOLD = 15.0
"""Trigger threshold, GeV, of the same study."""


def efficiency(
    passed: NDArray[np.bool_], weight: Array, group: NDArray[np.int64] | None = None, groups: int = 1
) -> Estimate:
    """Weighted share of events that pass, of all or of each group, with an interval.

    If nothing passes, the upper end assumes that passing events would have the weights of the others.

    Parameters
    ----------
    passed, weight : ndarray, shape [E]
        Signed weights stay signed; a share may then lie outside 0 to 1, its interval does not.
    group : ndarray of int64, shape [E], optional
        Number of each event's group, -1 for none.
    groups : int
        Number of groups.
    """
    number = np.zeros(len(passed), dtype=np.int64) if group is None else group
    used = number >= 0
    number, w, hit = number[used], weight[used], passed[used]
    total, good, squares, of_good = (np.bincount(number, x, groups) for x in (w, w * hit, w**2, w**2 * hit))
    with np.errstate(invalid="ignore", divide="ignore"):
        value, n_eff = good / total, np.nan_to_num(total**2 / squares)
        error = np.sqrt((1 - value) ** 2 * of_good + value**2 * (squares - of_good)) / abs(total)
    if group is None:
        value, error, n_eff = value[0], error[0], n_eff[0]
    share = Estimate(np.asarray(value), np.asarray(error), effective(w))
    return share.bounded("efficiency", size=n_eff)


def upper_limit(share: Estimate, level: float = 0.95) -> float:
    """One-sided upper limit of a share at a confidence level [Clopper & Pearson]."""
    return float(clopper_pearson(share.value, np.asarray(share.n_eff), level=2 * level - 1)[1])


@dataclass(frozen=True)
class TurnOn:
    """Efficiency of a momentum threshold against the true pt.

    Attributes
    ----------
    edges : ndarray, shape [B+1]
        Of true pt, GeV.
    efficiency : Estimate, shape [B]
    threshold : float
        On the predicted pt, GeV.
    """

    edges: Array
    efficiency: Estimate
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
    need_numbers(predicted=predicted, weight=weight)
    share = efficiency(predicted >= threshold, weight, bin_of(true, edges), len(edges) - 1)
    return TurnOn(np.asarray(edges, dtype=np.float64), share, threshold)


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
    efficiency : Estimate
        P(predicted >= threshold | true >= threshold).
    leak : Estimate
        P(predicted >= threshold | true < threshold).
    fakes : Estimate
        P(predicted >= threshold) of events without a muon.
    """

    mae: Estimate
    spread: Estimate
    bias: Estimate
    efficiency: Estimate
    leak: Estimate
    fakes: Estimate

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
