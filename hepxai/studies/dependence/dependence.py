"""Distance correlation of two event quantities, with signed weights, in O(n log n)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.core.estimate import Array, Estimate, effective, ratio_mean
from hepxai.metrics.null import NullDistribution, random_signs
from hepxai.studies.dependence.distances import absolute_products, absolute_sums


def distance_correlation(x: Array, y: Array, weight: Array) -> Estimate:
    """Weighted distance correlation R of two numbers per event.

    With p = w / Σw, a_ij = |x_i - x_j|, b_ij = |y_i - y_j| and row means a_i = Σ_j p_j a_ij,

        V²(x, y) = Σ p_i p_j a_ij b_ij + (Σ p_i a_i)(Σ p_i b_i) - 2 Σ p_i a_i b_i,
        R² = V²(x, y) / √(V²(x, x) V²(y, y)),

    which is 0 only for independent x and y [Székely, Rizzo & Bakirov, Ann. Stat. 35 (2007) 2769; with
    weights: DisCo, Kasieczka & Shih, arXiv:2001.05310, whose loss is R²]. V² is an integral of
    |φ_xy - φ_x φ_y|² over characteristic functions, so that it is not negative for signed weights either.

    R is biased upwards: for independent samples R² is about c / n_eff, with c = 2.5 for
    uniform and 3.2 for normal x and y. Compare with `if_independent` before calling a small value dependence.

    Parameters
    ----------
    x, y, weight : ndarray, shape [E]
        Finite; weights signed.

    Returns
    -------
    Estimate
        The error is the infinitesimal jackknife, Σ p_i² times the squared influence of each event on R²,
        events being independent. It holds away from independence, where the first order vanishes: there
        use the spread of `if_independent`. NaN if x or y is constant.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or the weights have no positive sum.

    Notes
    -----
    Sums over pairs are those over events of lower rank in x and y [Huo & Székely, Technometrics 58 (2016)
    435], here with weights and one merge per level for all events: 20,000 events take 0.2 s, memory grows
    with n.
    """
    x, y, weight = _checked(x, y, weight)
    p = weight / weight.sum()
    n_eff = effective(weight)
    joint, own_x, own_y = _covariance(x, y, p), _covariance(x, x, p), _covariance(y, y, p)
    if not (own_x.value > 0 and own_y.value > 0):
        return Estimate(np.asarray(np.nan), np.asarray(np.nan), n_eff)
    norm = np.sqrt(own_x.value * own_y.value)
    square = joint.value / norm
    relative = own_x.influence / own_x.value + own_y.influence / own_y.value
    influence = joint.influence / norm - 0.5 * square * relative
    error = float(ratio_mean(influence, np.ones(len(p)), weight).error)
    # Half the way from √(R² - σ) to √(R² + σ): σ / 2R away from zero, and finite at zero.
    low, high = (np.copysign(np.sqrt(abs(s)), s) for s in (square - error, square + error))
    correlation = Estimate(np.asarray(_root(square)), np.asarray(0.5 * (high - low)), n_eff)
    return correlation.within("distance correlation", 0, 1)


def if_independent(x: Array, y: Array, weight: Array, *, draws: int = 50, seed: int = 0) -> NullDistribution:
    """Distance correlations of the same columns and weights without any dependence of x and y.

    V² is Σ p_i p_j A_ij B_ij, with A and B the doubly centred a and b; the null distribution is that of
    Σ s_i s_j p_i p_j A_ij B_ij for random signs s (see `hepxai.metrics.null.random_signs`). It holds for
    signed weights and for weights that depend on x, on y or on both. Of toys without dependence, 3 to 7 %
    have p < .05 from about 30 effective events on; up to 12 % at 16.
    """
    x, y, weight = _checked(x, y, weight)
    p = weight / weight.sum()
    norm = np.sqrt(np.array([_covariance(v, v, p).value for v in (x, y)]).prod())
    a, b = absolute_sums(x, p), absolute_sums(y, p)
    a, b = a - 0.5 * (p @ a), b - 0.5 * (p @ b)  # A_ij = a_ij - a_i - a_j

    def correlation(signs: Array) -> float:
        q = signs * p
        crossed = [q @ (v * absolute_sums(u, q)) for u, v in ((x, b), (y, a))]
        products = 2 * ((q @ (a * b)) * q.sum() + (q @ a) * (q @ b))
        return _root(float(q @ absolute_products(x, y, q) - 2 * sum(crossed) + products) / norm)

    if not norm > 0:
        return NullDistribution(np.full(draws, np.nan))
    return random_signs(correlation, len(p), draws=draws, seed=seed)


@dataclass(frozen=True)
class _Covariance:
    """V² and the influence of every event on it (first order in its weight)."""

    value: float
    influence: Array


def _covariance(x: Array, y: Array, p: Array) -> _Covariance:
    a, b = absolute_sums(x, p), absolute_sums(y, p)
    c = absolute_products(x, y, p)
    s1, mean_a, mean_b, s3 = (float(p @ v) for v in (c, a, b, a * b))
    third = a * b + absolute_sums(x, p * b) + absolute_sums(y, p * a)
    first, second = 2 * (c - s1), 2 * (mean_b * (a - mean_a) + mean_a * (b - mean_b))
    return _Covariance(s1 + mean_a * mean_b - 2 * s3, first + second - 2 * (third - 3 * s3))


def _root(square: float) -> float:
    return float(np.sqrt(max(square, 0.0)))  # rounding can leave it below zero


def _checked(x: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Events of weight zero left out; x and y centred and scaled, which R does not see but rounding does."""
    columns = {n: np.asarray(v, dtype=np.float64) for n, v in (("x", x), ("y", y), ("weight", weight))}
    if len({v.shape for v in columns.values()}) > 1 or columns["x"].ndim != 1:
        shapes = ", ".join(f"{n} {v.shape}" for n, v in columns.items())
        raise ValueError(f"one number per event is needed of each; the shapes are {shapes}")
    for name, values in columns.items():
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise ValueError(f"{bad} of {len(values)} values of {name} are not finite; leave them out")
    used = columns["weight"] != 0
    if not columns["weight"].sum() > 0:
        raise ValueError(f"the weights of the {len(used)} events sum to {columns['weight'].sum():g}")
    x, y, weight = (v[used] for v in columns.values())
    return _scaled(x), _scaled(y), weight


def _scaled(values: Array) -> Array:
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread if spread > 0 else 1.0))
