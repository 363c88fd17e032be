"""Sculpting: the shape of a mass distribution after a cut on a score, with signed weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from hepxai.core.binning import bin_of
from hepxai.core.estimate import Array, Estimate, share

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Shape:
    """Normalised distribution in bins.

    Attributes
    ----------
    fraction : ndarray, shape [B]
        Weighted fraction of the events in each bin; adds up to one. NaN where the weights sum to zero.
    covariance : ndarray, shape [B, B]
        Of the fractions. Its rank is below B: they add up to one.
    edges : ndarray, shape [B+1]
    n_eff : float
        Effective number of events inside the edges.
    """

    fraction: Array
    covariance: Array
    edges: Array
    n_eff: float

    def density(self) -> Estimate:
        """Fraction per unit of the observer, ``[B]``."""
        width = np.diff(self.edges)
        error = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        return Estimate(self.fraction / width, error / width, self.n_eff)


def shape(observer: Array, weight: Array, edges: Array) -> Shape:
    """Distribution of an observer, normalised to the events inside the edges.

    With f_b = Σ_{e in b} w_e / W, the covariance is Σ_e w_e² (δ_b(e) - f_b)(δ_c(e) - f_c) / W²: fractions
    of a finite sample, for signed weights too.
    """
    weights, squares = _sums(observer, weight, edges)
    total, bins = float(weights.sum()), len(weights)
    if total == 0:
        return Shape(np.full(bins, np.nan), np.full((bins, bins), np.nan), edges, 0.0)
    f = weights / total
    mixed = np.outer(f, squares)
    covariance = np.diag(squares) - mixed - mixed.T + np.outer(f, f) * squares.sum()
    return Shape(f, covariance / total**2, edges, float(total**2 / squares.sum()))


@dataclass(frozen=True)
class Sculpting:
    """Background shape above and below a cut on the score.

    Attributes
    ----------
    threshold : float
        Events with a score of at least this pass.
    efficiency : Estimate
        Weighted fraction that passes.
    passing, failing : Shape
        Two samples without a common event.
    relative_efficiency : Estimate
        ``[B]``, of the bins; see the function of this name.
    chi2, ndf, p_value : float
        Of the difference of the two shapes; chi2 / ndf is about 1 where the cut leaves the shape alone.
    divergence : Estimate
        Jensen–Shannon divergence of the two, in bits: 0 for equal shapes, 1 for shapes that do not overlap.
    chance_divergence : float
        Its expectation for equal shapes, from the size of the samples alone.
    outside : int
        Events beyond the edges or without the observer: they count in the efficiency, in no shape.
    """

    threshold: float
    efficiency: Estimate
    passing: Shape
    failing: Shape
    relative_efficiency: Estimate
    chi2: float
    ndf: int
    p_value: float
    divergence: Estimate
    chance_divergence: float
    outside: int


def sculpting(score: Array, observer: Array, weight: Array, threshold: float, edges: Array) -> Sculpting:
    """Compare the distribution of an observer for events that pass a cut with those that fail it.

    The passing sample is a part of the whole one, so that the two are no independent samples; passing and
    failing are. The literature gives 1/JSD at a signal efficiency of 50 % as the measure of decorrelation
    [ATL-PHYS-PUB-2018-014; Kasieczka & Shih, arXiv:2001.05310].

    Parameters
    ----------
    score, observer, weight : ndarray, shape [E]
        Of the background, say. Weights are signed.
    threshold : float
        See `threshold_at`.
    edges : ndarray, shape [B+1]
        Events outside are in no shape; choose edges so that every bin has tens of events.

    Raises
    ------
    ValueError
        If a score is not finite.
    """
    if bad := int(np.count_nonzero(~np.isfinite(score))):
        raise ValueError(f"{bad} of {len(score)} scores are not finite: they neither pass nor fail")
    passed = score >= threshold
    one, two = (shape(observer[mask], weight[mask], edges) for mask in (passed, ~passed))
    chi2, ndf = shape_chi2(one, two)
    return Sculpting(
        threshold=threshold,
        efficiency=share(passed, weight, "efficiency of the cut"),
        passing=one,
        failing=two,
        relative_efficiency=relative_efficiency(passed, observer, weight, edges),
        chi2=chi2,
        ndf=ndf,
        p_value=float(chi2_distribution.sf(chi2, ndf)) if ndf > 0 else np.nan,
        divergence=divergence(one, two),
        chance_divergence=chance_divergence(one, two),
        outside=int(np.count_nonzero(bin_of(observer, edges) < 0)),
    )


def relative_efficiency(passed: Flags, observer: Array, weight: Array, edges: Array) -> Estimate:
    """Efficiency of a cut in each bin over that in all bins: the shape after the cut over that before.

    Errors are linearised in the weights of the events, which accounts for the overlap of the two
    samples. NaN in bins without events.

    Parameters
    ----------
    passed : ndarray of bool, shape [E]
    observer, weight : ndarray, shape [E]
    edges : ndarray, shape [B+1]
    """
    (p, p2), (f, f2) = (_sums(observer[mask], weight[mask], edges) for mask in (passed, ~passed))
    a, total, total_passing = np.where(p + f != 0, p + f, np.nan), float((p + f).sum()), float(p.sum())
    if total == 0 or total_passing == 0:
        return Estimate(np.full(len(a), np.nan), np.full(len(a), np.nan), 0.0)
    ratio = (p / a) / (total_passing / total)
    # Derivatives of the ratio by the weight of an event: passing or failing, in the bin or in another.
    in_bin = (total / (total_passing * a), -ratio / a)
    elsewhere = (ratio * (1 / total - 1 / total_passing), ratio / total)
    terms = (
        (p2, in_bin[0] + in_bin[1] + elsewhere[0], elsewhere[0]),
        (f2, in_bin[1] + elsewhere[1], elsewhere[1]),
    )
    variance = sum(w2 * here**2 + (w2.sum() - w2) * there**2 for w2, here, there in terms)
    return Estimate(ratio, np.sqrt(variance), total**2 / float((p2 + f2).sum()))


def threshold_at(score: Array, weight: Array, efficiency: float) -> float:
    """Highest cut, ``score >= cut``, that keeps at least this weighted fraction of the events.

    Of the background's scores for a background efficiency, of the signal's for a signal efficiency.

    Raises
    ------
    ValueError
        If the efficiency is not in (0, 1], or the weights have no positive sum.
    """
    if not 0 < efficiency <= 1:
        raise ValueError(f"efficiency={efficiency}; it must be above 0 and at most 1")
    total = float(weight.sum())
    if not total > 0:
        raise ValueError(f"the weights of the {len(weight)} events sum to {total:g}")
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    efficiencies = np.cumsum(weight[order])[last] / total
    reached = efficiencies >= efficiency - 1e-12  # rounding: the last of them is 1
    return float(score[order][last][np.argmax(reached)])


def shape_chi2(one: Shape, two: Shape) -> tuple[float, int]:
    """χ² of the difference of two independent shapes with its covariance, and the degrees of freedom.

    Bins that are empty in both say nothing; as the fractions add up to one, one degree less is left.
    """
    covariance = one.covariance + two.covariance
    used = np.diag(covariance) > 0
    if used.sum() < 2 or not np.isfinite(covariance).all():
        return np.nan, 0
    difference = (one.fraction - two.fraction)[used][1:]  # the first follows from the others
    inside = covariance[np.ix_(used, used)][1:, 1:]
    return float(difference @ np.linalg.pinv(inside, hermitian=True) @ difference), int(used.sum()) - 1


def divergence(one: Shape, two: Shape) -> Estimate:
    """Jensen–Shannon divergence of two independent shapes in bits, error linearised.

    JSD = ½ Σ_b (p log₂ p/m + q log₂ q/m), m = (p + q)/2 [Lin, IEEE Trans. Inf. Theory 37 (1991) 145].
    The error vanishes for equal shapes: compare with `chance_divergence`. NaN where signed weights leave a
    bin negative: take wider bins.
    """
    n_eff = min(one.n_eff, two.n_eff)
    p, q = one.fraction, two.fraction
    if not ((p >= 0).all() and (q >= 0).all()):
        return Estimate(np.asarray(np.nan), np.asarray(np.nan), n_eff)
    slopes = [np.log2(np.where(f > 0, 2 * f, 1.0) / np.where(f > 0, p + q, 1.0)) for f in (p, q)]
    value = 0.5 * (p @ slopes[0] + q @ slopes[1])
    variance = sum(0.25 * s @ f.covariance @ s for s, f in zip(slopes, (one, two), strict=True))
    return Estimate(np.asarray(value), np.asarray(np.sqrt(max(float(variance), 0.0))), n_eff)


def chance_divergence(one: Shape, two: Shape) -> float:
    """Expected Jensen–Shannon divergence of two samples of one shape: Σ_b (σ_p² + σ_q²) / (8 m ln 2)."""
    variance, middle = np.diag(one.covariance + two.covariance), 0.5 * (one.fraction + two.fraction)
    used = ~(middle <= 0)  # NaN stays
    return float(np.sum(variance[used] / middle[used]) / (8 * np.log(2)))


def _sums(observer: Array, weight: Array, edges: Array) -> tuple[Array, Array]:
    """Σw and Σw² of each bin."""
    position, bins = bin_of(observer, edges), len(edges) - 1
    inside = position >= 0
    one, two = (np.bincount(position[inside], weight[inside] ** n, minlength=bins) for n in (1, 2))
    return one.astype(np.float64), two.astype(np.float64)
