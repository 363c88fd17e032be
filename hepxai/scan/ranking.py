"""Ranking of values by the results of several seeds, with probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hepxai.core.estimate import Estimate

Array = NDArray[np.float64]
DRAWS = 100_000


@dataclass(frozen=True)
class Ranking:
    """Comparison of several values by the results of their seeds.

    Attributes
    ----------
    order : tuple of int
        Rows from the best mean to the worst; rows with a NaN are left out.
    best : ndarray of float64, shape [V]
        Probability that a row is the best of all; NaN with too few seeds.
    beaten : ndarray of float64, shape [V]
        Probability that the row with the best mean is better than this one; NaN for itself.
    spread : float
        Standard deviation of a training around its value and its seed.
    degrees : int
        Degrees of freedom behind ``spread``; 0 with one seed or one value.
    """

    order: tuple[int, ...]
    best: Array
    beaten: Array
    spread: float
    degrees: int


def rank(results: Array, *, higher: bool) -> Ranking:
    """Rank values by the mean over seeds.

    A seed starts every value from the same weights and the same order of batches, so results of one
    seed are correlated. The model is x_vs = μ_v + a_s + ε_vs with normal ε: the effect a_s of a seed
    cancels in differences (randomised blocks; Fisher, The Design of
    Experiments). With V values and n seeds,

        s² = Σ_vs (x_vs - x̄_v - x̄_s + x̄)² / ν,   ν = (V - 1)(n - 1),

    and, with flat priors on μ, a and log s, the difference of two μ is Student-t distributed around the
    observed one, with width s √(2/n) and ν degrees of freedom [Gelman et al., Bayesian Data Analysis]. The
    probability of being the best of all is counted in draws from the same posterior.

    Parameters
    ----------
    results : ndarray, shape [V, n]
        One row per value, one column per seed.
    higher : bool
        True if more is better.
    """
    rows = np.flatnonzero(np.isfinite(results).all(axis=1) & (results.shape[1] > 0))
    signed = results[rows] * (1 if higher else -1)
    mean = signed.mean(axis=1)
    order = np.argsort(-mean, kind="stable")
    best, beaten = np.full(len(results), np.nan), np.full(len(results), np.nan)
    ranked = tuple(int(i) for i in rows[order])
    degrees = (len(rows) - 1) * (results.shape[1] - 1)
    if degrees < 1:
        return Ranking(ranked, best, beaten, np.nan, 0)
    rest = signed - mean[:, None] - signed.mean(axis=0) + signed.mean()
    spread = float(np.sqrt((rest**2).sum() / degrees))
    width = spread / np.sqrt(results.shape[1])
    best[rows] = _best(mean, width, degrees)
    beaten[rows] = _student(mean[order[0]] - mean, np.sqrt(2) * width, degrees)
    beaten[ranked[0]] = np.nan
    return Ranking(ranked, best, beaten, spread, degrees)


def _student(gain: Array, width: float, degrees: int) -> Array:
    """Probability of a positive difference; a half for equal values, also without any spread."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = np.where(gain == 0, 0.0, gain / width)
    return np.asarray(stats.t.cdf(pull, degrees))


def _best(mean: Array, width: float, degrees: int) -> Array:
    rng = np.random.default_rng(0)
    scale = width * np.sqrt(degrees / rng.chisquare(degrees, DRAWS))
    draws = mean + scale[:, None] * rng.standard_normal((DRAWS, len(mean)))
    top = draws == draws.max(axis=1, keepdims=True)  # ties, without any spread, share
    return np.asarray((top / top.sum(axis=1, keepdims=True)).mean(axis=0))


# --- the best of many against one value ------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Gain of the best value over a reference value fixed beforehand.

    Attributes
    ----------
    best : int
        Row of the best mean.
    gain, paired : Estimate
        Difference of the two means; its error as if the two values had unrelated seeds, and from the
        differences seed by seed.
    student : float
        Two-sided p-value of Student's t of ``paired``: the difference of two values without a choice.
    p_pool, p_blocks : float
        Share of toys whose best value is as far from the reference as here: results shuffled among all
        trials, or within each seed. The best of each toy is taken, so this allows for the choice.
    """

    best: int
    gain: Estimate
    paired: Estimate
    student: float
    p_pool: float
    p_blocks: float


def best_against(results: Array, reference: int, *, higher: bool = True) -> Comparison:
    """Compare the best of many values with one of them.

    Parameters
    ----------
    results : ndarray, shape [V, n]
        One row per value, one column per seed; n is at least 2.
    reference : int
        Row of the reference.
    higher : bool
        True if more is better.
    """
    signed, n = results * (1 if higher else -1), results.shape[1]
    best = int(signed.mean(axis=1).argmax())
    gains = results[best] - results[reference]
    value = np.asarray(gains.mean())
    spreads = (np.var(results[[best, reference]], axis=1, ddof=1).sum(), np.var(gains, ddof=1))
    gain, paired = (Estimate(value, np.asarray(np.sqrt(v / n)), float(n)) for v in spreads)
    student = float(stats.ttest_1samp(gains, 0).pvalue) if paired.error > 0 else 1.0 if value == 0 else 0.0
    pool = np.broadcast_to(signed.ravel(), (DRAWS, signed.size))
    blocks = np.broadcast_to(signed, (DRAWS, *signed.shape))
    rng = np.random.default_rng(0)
    p_pool, p_blocks = (
        _as_far(rng.permuted(toys, axis=1).reshape(DRAWS, *signed.shape), reference, abs(float(value)))
        for toys in (pool, blocks)
    )
    return Comparison(best, gain, paired, student, p_pool, p_blocks)


def _as_far(toys: Array, reference: int, gain: float) -> float:
    means = toys.mean(axis=2)
    far = means.max(axis=1) - means[:, reference] >= gain * (1 - 1e-9)
    return float((1 + np.count_nonzero(far)) / (1 + len(far)))


def variance_shares(results: Array) -> tuple[float, float]:
    """Shares of the sum of squares between all results ``[V, n]`` due to the value and to the seed.

    If neither matters they are (V - 1) / (Vn - 1) and (n - 1) / (Vn - 1) in the mean; the rest belongs
    to single trainings.
    """
    rest = results - results.mean()
    by_value, by_seed = (rest.shape[1 - a] * (rest.mean(axis=1 - a) ** 2).sum() for a in (0, 1))
    whole = float((rest**2).sum())
    return float(by_value) / whole, float(by_seed) / whole
