"""Shapes before and after cuts: fractions, errors, chi2, divergence, and what chance gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, kstest

from hepxai.studies.dependence.sculpting import (
    chance_divergence,
    divergence,
    relative_efficiency,
    sculpting,
    shape,
    shape_chi2,
    threshold_at,
)

Array = NDArray[np.float64]
EDGES = np.linspace(-1.5, 1.5, 7)


def sample(n: int, seed: int, *, signed: bool = True, strength: float = 0.0) -> tuple[Array, Array, Array]:
    """Score, mass and weight; the score grows with the mass."""
    rng = np.random.default_rng(seed)
    mass = rng.normal(size=n)
    weight = rng.choice([1.0, -1.0], n, p=[0.9, 0.1]) * rng.uniform(0.5, 1.5, n) if signed else np.ones(n)
    return strength * mass + rng.normal(size=n), mass, weight


@pytest.mark.parametrize("signed", [False, True])
def test_shape_equals_numpy(signed: bool) -> None:
    _, mass, weight = sample(500, 0, signed=signed)
    found = shape(mass, weight, EDGES)
    expected, _ = np.histogram(mass, EDGES, weights=weight, density=True)
    np.testing.assert_allclose(found.density().value, expected)
    assert found.fraction.sum() == pytest.approx(1.0)
    inside = (mass >= EDGES[0]) & (mass <= EDGES[-1])
    own, w = np.digitize(mass[inside], EDGES) - 1, weight[inside]
    pull = w[:, None] * ((own[:, None] == np.arange(6)) - found.fraction)
    np.testing.assert_allclose(found.covariance, pull.T @ pull / w.sum() ** 2, atol=1e-15)
    if not signed:  # a multinomial
        f, n = found.fraction, inside.sum()
        np.testing.assert_allclose(found.covariance, (np.diag(f) - np.outer(f, f)) / n, atol=1e-15)
        assert found.n_eff == n


@pytest.mark.parametrize("efficiency", [0.05, 0.5, 1.0])
def test_threshold(efficiency: float) -> None:
    score, _, weight = sample(300, 1)
    score = np.round(score, 1)
    cut = threshold_at(score, weight, efficiency)
    kept = [weight[score >= c].sum() / weight.sum() for c in np.unique(score)]
    enough = [c for c, k in zip(np.unique(score), kept, strict=True) if k >= efficiency - 1e-12]
    assert cut == max(enough)


def test_threshold_refuses() -> None:
    for efficiency in (0.0, 1.2):
        with pytest.raises(ValueError, match=f"efficiency={efficiency}; it must be above 0"):
            threshold_at(np.zeros(3), np.ones(3), efficiency)
    with pytest.raises(ValueError, match="weights of the 3 events sum to -3"):
        threshold_at(np.zeros(3), -np.ones(3), 0.5)
    with pytest.raises(ValueError, match="2 of 3 scores are not finite"):
        sculpting(np.array([0.0, np.nan, np.inf]), np.zeros(3), np.ones(3), 0.0, EDGES)


def test_parts_of_a_cut() -> None:
    score, mass, weight = sample(500, 2)
    found = sculpting(score, mass, weight, 0.3, EDGES)
    passed = score >= 0.3
    assert found.efficiency.value == pytest.approx(weight[passed].sum() / weight.sum())
    np.testing.assert_array_equal(found.passing.fraction, shape(mass[passed], weight[passed], EDGES).fraction)
    np.testing.assert_array_equal(
        found.failing.fraction, shape(mass[~passed], weight[~passed], EDGES).fraction
    )
    assert found.outside == np.count_nonzero(np.abs(mass) > 1.5)
    ratio = shape(mass[passed], weight[passed], EDGES).fraction / shape(mass, weight, EDGES).fraction
    np.testing.assert_allclose(found.relative_efficiency.value, ratio)


def test_divergence_equals_scipy() -> None:
    score, mass, weight = sample(800, 3, signed=False, strength=0.5)
    found = sculpting(score, mass, weight, 0.3, EDGES)
    p, q = found.passing.fraction, found.failing.fraction
    assert found.divergence.value == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    apart = [shape(np.full(9, m), np.ones(9), EDGES) for m in (-1.0, 1.0)]
    assert divergence(*apart).value == 1.0
    assert divergence(apart[0], apart[0]).value == 0.0
    negative = shape(np.array([-1.0, -0.2, 1.0]), np.array([1.0, -0.5, 1.0]), EDGES)
    assert np.isnan(divergence(negative, apart[0]).value)


# --- statistics --------------------------------------------------------------------------------------


def many(number: int, n: int, **kind: object) -> list[object]:
    return [sculpting(*sample(n, seed, **kind), 0.5, EDGES) for seed in range(number)]  # type: ignore[arg-type]


@pytest.mark.parametrize("signed", [False, True])
def test_equal_shapes(signed: bool) -> None:
    """A score without the mass in it: χ² as tabulated, the divergence as expected by chance."""
    found = many(300, 900, signed=signed)
    assert {f.ndf for f in found} == {5}
    assert kstest([f.p_value for f in found], "uniform").pvalue > 1e-3
    seen = np.array([f.divergence.value for f in found])
    expected = np.mean([f.chance_divergence for f in found])
    assert expected == pytest.approx(seen.mean(), rel=0.12)


@pytest.mark.parametrize("signed", [False, True])
def test_errors_cover(signed: bool) -> None:
    found = many(300, 900, signed=signed, strength=0.7)
    estimates = {
        "divergence": [f.divergence for f in found],
        "efficiency": [f.efficiency for f in found],
        "density": [f.passing.density() for f in found],
        "ratio": [f.relative_efficiency for f in found],
    }
    for name, each in estimates.items():
        values, errors = (np.array([getattr(e, k) for e in each]) for k in ("value", "error"))
        np.testing.assert_allclose(errors.mean(axis=0), values.std(axis=0, ddof=1), rtol=0.15, err_msg=name)
    assert np.median([f.chi2 for f in found]) > 50


def test_chi2_is_the_test_of_homogeneity() -> None:
    """Unweighted, large samples: Pearson's χ² of the table of counts."""
    score, mass, weight = sample(20000, 4, signed=False, strength=0.02)
    found = sculpting(score, mass, weight, 0.5, EDGES)
    table = [np.histogram(mass[m], EDGES)[0] for m in (score >= 0.5, score < 0.5)]
    pearson = chi2_contingency(table)
    assert found.ndf == pearson.dof
    assert found.chi2 == pytest.approx(pearson.statistic, rel=0.03)


# --- symmetries and edges ----------------------------------------------------------------------------


def numbers(found: object) -> Array:
    flat = dataclasses.asdict(found)  # type: ignore[call-overload]
    del flat["outside"]

    def each(value: object) -> list[float]:
        if isinstance(value, dict):
            return [x for v in value.values() for x in each(v)]
        return list(np.ravel(value))

    return np.array(each(flat), dtype=np.float64)


def test_symmetries() -> None:
    score, mass, weight = sample(400, 5, strength=0.5)
    expected = numbers(sculpting(score, mass, weight, 0.2, EDGES))
    order = np.random.default_rng(0).permutation(400)
    np.testing.assert_allclose(
        numbers(sculpting(score[order], mass[order], weight[order], 0.2, EDGES)), expected, atol=1e-14
    )
    padded = [np.append(v, np.zeros(30)) for v in (score, mass, weight)]
    found = sculpting(*padded, 0.2, EDGES)
    np.testing.assert_allclose(numbers(found), expected, atol=1e-14)
    scaled = sculpting(score, mass, 1e3 * weight, 0.2, EDGES)
    np.testing.assert_allclose(numbers(scaled), expected, atol=1e-12)


def test_empty_bins_and_empty_samples() -> None:
    score, mass, weight = sample(400, 6, signed=False)
    inside = np.abs(mass) < 0.5
    data = score[inside], mass[inside], weight[inside]
    found = sculpting(*data, 0.0, EDGES)
    narrow = sculpting(*data, 0.0, EDGES[2:5])
    assert (found.ndf, found.chi2) == (narrow.ndf, pytest.approx(narrow.chi2))
    assert found.divergence.value == pytest.approx(float(narrow.divergence.value))
    assert np.isnan(found.relative_efficiency.value[0])
    nobody = sculpting(score, mass, weight, 99.0, EDGES)
    assert nobody.efficiency.value == 0
    assert nobody.ndf == 0
    assert np.isnan([nobody.chi2, nobody.p_value, nobody.divergence.value, nobody.chance_divergence]).all()
    assert np.isnan(nobody.relative_efficiency.value).all()
    one = shape(mass, weight, EDGES[[0, -1]])
    assert shape_chi2(one, one)[1] == 0
    assert chance_divergence(one, one) == 0
    assert relative_efficiency(score > 0, mass, weight, EDGES[[0, -1]]).value == pytest.approx(1.0)
