"""Expected discovery significance and upper limit of a counting experiment above a cut on the score.

The model: n ~ Poisson(μ s + b) events are counted, with signal strength μ, and the background b is known from
an auxiliary count m ~ Poisson(τ b) with τ = b/σ_b², which has the relative error σ_b/b. Without σ_b the
background is known exactly. The formulae are asymptotic and use the Asimov data set [Cowan, Cranmer, Gross
and Vitells, arXiv:1007.1727]; below about five expected events they are rough, and toys should be used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from hepxai.core.estimate import Array, Estimate, cancellation, effective
from hepxai.metrics.classification import need_numbers

BANDS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Standard deviations of the data from which an expected limit is given."""
FEWEST = 10.0
"""Effective background events of the simulation above a cut that is chosen."""
ASYMPTOTIC = 5.0
"""Expected events from which asymptotic formulae hold."""


def discovery_significance(signal: ArrayLike, background: ArrayLike, error: ArrayLike = 0.0) -> Array:
    """Median significance Z with which a signal of the expected size rejects the background alone.

    With n = s + b, Z² = 2 [n ln(n (b + σ²) / (b² + n σ²)) - (b²/σ²) ln(1 + σ² s / (b (b + σ²)))], and
    2 [n ln(1 + s/b) - s] for σ = 0 [arXiv:1007.1727, eq. 97; Li and Ma, Astrophys. J. 272 (1983) 317, with
    on and off counts]. NaN where b is not above 0; 0 where s is not.

    Parameters
    ----------
    signal, background : float or ndarray
        Expected numbers of events s and b.
    error : float or ndarray
        Standard deviation σ of the background, in events.
    """
    s, b, sigma = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (signal, background, error)))
    s, valid = np.maximum(s, 0.0), b > 0
    b = np.where(valid, b, 1.0)
    variance = sigma**2
    shift = variance * s / (b * (b + variance))  # relative change of the background that is fitted for μ = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        auxiliary = np.where(variance > 0, b**2 / variance * np.log1p(shift), s)
    squared = 2 * ((s + b) * (np.log1p(s / b) - np.log1p(shift)) - auxiliary)
    return np.where(valid, np.sqrt(np.maximum(squared, 0.0)), np.nan)


def limit_statistic(
    strength: ArrayLike, signal: ArrayLike, background: ArrayLike, error: ArrayLike = 0.0
) -> Array:
    """Test statistic q̃_μ of the background-only Asimov data, n = b and m = τ b [arXiv:1007.1727, sect. 2.5].

    Parameters
    ----------
    strength : float or ndarray
        Signal strength μ.
    signal, background, error : float or ndarray
        As in `discovery_significance`.
    """
    values = (strength, signal, background, error)
    mu, s, b, sigma = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in values))
    total, variance = b + mu * s, sigma**2
    product = b * mu * s * variance / (b + variance)
    change = -2 * product / (total + np.sqrt(total**2 - 4 * product))  # of the background that is fitted
    with np.errstate(divide="ignore", invalid="ignore"):
        auxiliary = np.where(variance > 0, b / variance * (change - b * np.log1p(change / b)), 0.0)
    counted = mu * s + change - b * np.log1p((mu * s + change) / b)
    return np.asarray(2 * np.maximum(counted + auxiliary, 0.0))


def expected_limit(
    signal: float,
    background: float,
    error: float = 0.0,
    *,
    level: float = 0.95,
    data: Sequence[float] = BANDS,
) -> Array:
    """Upper limits on the signal strength μ that background alone is expected to give, ``[D]``.

    Asymptotic CLs with q̃_μ: for data N standard deviations from the median, the limit solves
    √q̃_μ = Φ⁻¹(1 - (1 - level) Φ(N)) + N [arXiv:1007.1727, eq. 89; Read, J. Phys. G 28 (2002) 2693].

    Parameters
    ----------
    signal, background, error : float
        As in `discovery_significance`.
    level : float
        Confidence level.
    data : sequence of float
        Numbers N; 0 is the median.

    Returns
    -------
    ndarray
        NaN where s or b is not above 0.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}; a confidence level is between 0 and 1, such as 0.95")
    n = np.array(data, dtype=np.float64)
    if not (signal > 0 and background > 0):
        return np.full(len(n), np.nan)
    roots = stats.norm.isf((1 - level) * stats.norm.cdf(n)) + n
    return np.array([_strength(float(root), signal, background, error) for root in roots])


def _strength(root: float, signal: float, background: float, error: float) -> float:
    """Signal strength at which √q̃_μ has a value."""

    def excess(strength: float) -> float:
        return float(np.sqrt(limit_statistic(strength, signal, background, error))) - root

    high = (root * np.hypot(np.sqrt(background), error) + root**2) / signal
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, rtol=1e-10))


# --- working points -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """Simulated events above a cut on the score.

    Attributes
    ----------
    signal, background : ndarray
        Weights of the events, in expected events of the measurement; they are signed.
    relative : float
        Relative uncertainty of the background beside the statistical one of its simulation.
    """

    signal: Array
    background: Array
    relative: float = 0.0

    @property
    def sums(self) -> Array:
        """Yields of signal and background, and Σw² of the background, ``[3]``."""
        return np.array([self.signal.sum(), self.background.sum(), np.sum(self.background**2)])

    def error(self, sums: Array | None = None) -> float:
        """σ_b: √Σw² of the simulation (Barlow–Beeston-lite) and the relative uncertainty in quadrature."""
        _, background, squares = self.sums if sums is None else sums
        return float(np.hypot(np.sqrt(squares), self.relative * background))

    def estimate(self, measure: Callable[[float, float, float], float]) -> Estimate:
        """Measure of signal, background and σ_b, with the statistical error of the simulation.

        Linearised event by event: a background event of weight w changes b by w, and σ_b² by w².
        """
        sums, slopes = self.sums, np.zeros(3)
        value = measure(sums[0], sums[1], self.error(sums))
        for k in np.flatnonzero(sums):
            step = np.zeros(3)
            step[k] = 1e-4 * sums[k]
            ends = [measure(x[0], x[1], self.error(x)) for x in (sums + step, sums - step)]
            slopes[k] = (ends[0] - ends[1]) / (2 * step[k])
        background = slopes[1] * self.background + slopes[2] * self.background**2
        variance = np.sum((slopes[0] * self.signal) ** 2) + np.sum(background**2)
        return Estimate(np.asarray(value), np.sqrt(variance), effective(self.background))


@dataclass(frozen=True)
class WorkingPoint:
    """Expected result of a counting experiment above a cut on the score.

    Attributes
    ----------
    cut : float
        Events with at least this score are counted.
    signal, background : Estimate
        Expected events, with √Σw² of the simulation.
    background_error : Estimate
        σ_b of `discovery_significance`; its own error is not estimated.
    significance : Estimate
        Discovery significance Z.
    limit : Estimate
        Median upper limit on the signal strength at 95 % CL.
    bands : ndarray, shape [5]
        Limits for data -2, -1, 0, 1 and 2 standard deviations from the median.
    """

    cut: float
    signal: Estimate
    background: Estimate
    background_error: Estimate
    significance: Estimate
    limit: Estimate
    bands: Array

    @property
    def concerns(self) -> tuple[str, ...]:
        """Reasons to doubt the numbers."""
        expected, simulated = float(self.background.value), float(self.background.error)
        few, total = self.background.n_eff, float(self.background_error.value)
        texts = []
        if expected < ASYMPTOTIC:
            texts.append(
                f"{expected:.2g} expected background events: the asymptotic formulae hold from about "
                f"{ASYMPTOTIC:g}; use toys, or a looser cut"
            )
        if few < FEWEST:
            texts.append(
                f"only {few:.2g} effective background events are simulated above the cut; simulate more, or "
                "take a looser cut"
            )
        elif 2 * simulated**2 > total**2 > expected:
            texts.append(
                "the statistical error of the simulated background is the largest uncertainty of the "
                "measurement; simulate more background"
            )
        return tuple(texts)


def cut_scan(
    score: Array, signal: NDArray[np.bool_], weight: Array, cuts: Array, *, relative: float = 0.0
) -> dict[str, Array]:
    """Yields above each of several cuts ``[C]``: ``signal, background, error`` (σ_b), ``n_eff``.

    Parameters
    ----------
    score : ndarray, shape [E]
    signal : ndarray of bool, shape [E]
    weight : ndarray, shape [E]
        In expected events; signed.
    cuts : ndarray, shape [C]
    relative : float
        Relative uncertainty of the background.
    """
    need_numbers(score=score, weight=weight)
    order = np.argsort(-score, kind="stable")
    passed = np.searchsorted(-score[order], -cuts, side="right")

    def above(values: Array) -> Array:
        return np.asarray(np.append(0.0, np.cumsum(values[order]))[passed])

    s, b, squares = (
        above(np.where(of, w, 0.0)) for of, w in ((signal, weight), (~signal, weight), (~signal, weight**2))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        n_eff = np.where(squares > 0, b**2 / squares, 0.0)
    return {"signal": s, "background": b, "error": np.hypot(np.sqrt(squares), relative * b), "n_eff": n_eff}


def cuts_of(score: Array, signal: NDArray[np.bool_], points: int = 60) -> Array:
    """Rising cuts that keep 98 to 2 % of the signal events, ``[C]``; fewer where scores repeat."""
    return np.unique(np.quantile(score[signal], np.linspace(0.02, 0.98, points)))


def best_cut(
    score: Array,
    signal: NDArray[np.bool_],
    weight: Array,
    *,
    relative: float = 0.0,
    fewest: float = FEWEST,
) -> float:
    """Cut with the largest expected significance, among those with enough simulated background.

    The largest of many is too large by chance: quote `working_point` on other events.

    Parameters
    ----------
    score, signal, weight, relative
        As in `cut_scan`.
    fewest : float
        Effective background events that a cut leaves at least; more, if a smaller sample is quoted.

    Raises
    ------
    ValueError
        If no cut leaves enough background events, or there is no signal.
    """
    if not signal.any():
        raise ValueError("there is no signal event to place a cut with; take more events")
    cuts = cuts_of(score, signal)
    scan = cut_scan(score, signal, weight, cuts, relative=relative)
    significance = discovery_significance(scan["signal"], scan["background"], scan["error"])
    allowed = (scan["n_eff"] >= fewest) & (scan["background"] > 0) & (scan["signal"] > 0)
    if not allowed.any():
        raise ValueError(
            f"no cut keeps signal and {fewest:.3g} effective background events; simulate more background, or "
            "take samples whose weights do not cancel"
        )
    return float(cuts[np.argmax(np.where(allowed, significance, -np.inf))])


def working_point(
    score: Array, signal: NDArray[np.bool_], weight: Array, cut: float, *, relative: float = 0.0
) -> WorkingPoint:
    """Expected significance and upper limit above a cut.

    Parameters
    ----------
    score, signal, weight, relative
        As in `cut_scan`.
    cut : float
        For example that of `best_cut` on other events.

    Raises
    ------
    ValueError
        If the background above the cut is not positive, or no signal passes.
    """
    need_numbers(score=score, weight=weight)
    passed = score >= cut
    selected = Selection(weight[passed & signal], weight[passed & ~signal], relative)
    for what, weights in (("background", selected.background), ("signal", selected.signal)):
        if not weights.sum() > 0:
            reason = cancellation(effective(weights)) if len(weights) else "no simulated event passes"
            raise ValueError(
                f"the expected {what} above the cut at {cut:.4g} is {weights.sum():.3g} events, not above "
                f"0: {reason}; or take a lower cut"
            )
    signal_yield, background_yield = (
        Estimate(np.asarray(w.sum()), np.sqrt(np.sum(w**2)), effective(w))
        for w in (selected.signal, selected.background)
    )
    sums, error = selected.sums, selected.error()
    return WorkingPoint(
        cut,
        signal_yield,
        background_yield,
        Estimate(np.asarray(error), np.asarray(np.nan), effective(selected.background)),
        selected.estimate(lambda s, b, sigma: float(discovery_significance(s, b, sigma))),
        selected.estimate(lambda s, b, sigma: float(expected_limit(s, b, sigma, data=(0.0,))[0])),
        expected_limit(float(sums[0]), float(sums[1]), error),
    )


def scaled_to_all(weight: Array, label: NDArray[np.int64], rows: NDArray[np.bool_]) -> Array:
    """Weights of part of the events, scaled up class by class so that they stand for all events.

    The factor is the number of all events of the class over that of the part.

    Parameters
    ----------
    weight : ndarray, shape [E]
    label : ndarray of int64, shape [E]
    rows : ndarray of bool, shape [E]

    Returns
    -------
    ndarray, shape [rows.sum()]
    """
    every, part = (np.bincount(of, minlength=int(label.max(initial=0)) + 1) for of in (label, label[rows]))
    return np.asarray(weight[rows] * (every / np.maximum(part, 1))[label[rows]])
