"""Distance correlation against the formula, against dcor, and against toys."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hepxai.studies.dependence.dependence import distance_correlation, if_independent
from hepxai.studies.dependence.distances import absolute_products, absolute_sums

Array = NDArray[np.float64]
Sample = tuple[Array, Array, Array]


def sample(
    n: int, seed: int, weights: str = "signed", *, ties: bool = False, strength: float = 1.0
) -> Sample:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = strength * x**2 + rng.normal(size=n)
    if ties:
        x, y = np.round(x), np.round(y)
    weight = {
        "one": np.ones(n),
        "positive": rng.exponential(1.0, n) + 0.1,
        "signed": rng.choice([1.0, -1.0], n, p=[0.85, 0.15]) * rng.uniform(0.5, 1.5, n),
    }[weights]
    return x, y, weight


def slow_square(x: Array, y: Array, weight: Array) -> float:
    """R² as DisCo writes it: expectations over pairs and triples of events, loop by loop."""
    p = weight / weight.sum()

    def covariance(x: Array, y: Array) -> float:
        pair_x = pair_y = both = triple = 0.0
        for i in range(len(p)):
            row_x = row_y = 0.0
            for j in range(len(p)):
                a, b = abs(x[i] - x[j]), abs(y[i] - y[j])
                both += p[i] * p[j] * a * b
                row_x += p[j] * a
                row_y += p[j] * b
            pair_x += p[i] * row_x
            pair_y += p[i] * row_y
            triple += p[i] * row_x * row_y
        return both + pair_x * pair_y - 2 * triple

    return covariance(x, y) / np.sqrt(covariance(x, x) * covariance(y, y))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weights", ["one", "positive", "signed"])
def test_equal_to_the_formula(weights: str, ties: bool) -> None:
    x, y, weight = sample(60, 1, weights, ties=ties)
    square = slow_square(x, y, weight)
    assert distance_correlation(x, y, weight).value ** 2 == pytest.approx(square, rel=1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 64, 101])
def test_sums_over_pairs(n: int, ties: bool) -> None:
    x, y, weight = sample(n, 2, ties=ties)
    a, b = (np.abs(v[:, None] - v) for v in (x, y))
    np.testing.assert_allclose(absolute_sums(x, weight), a @ weight, atol=1e-12)
    np.testing.assert_allclose(absolute_products(x, y, weight), (a * b) @ weight, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True])
def test_equal_to_dcor(ties: bool) -> None:
    dcor = pytest.importorskip("dcor", reason="needs dcor: pip install 'hepxai[test]'")
    x, y, _ = sample(300, 3, ties=ties)
    found = distance_correlation(x, y, np.ones(300))
    assert found.value == pytest.approx(dcor.distance_correlation(x, y, method="naive"), rel=1e-9)
    copies = np.random.default_rng(0).integers(0, 4, 300)  # a whole weight is so many events
    repeated = (np.repeat(v, copies) for v in (x, y))
    expected = dcor.distance_correlation(*repeated, method="naive")
    assert distance_correlation(x, y, copies.astype(float)).value == pytest.approx(expected, rel=1e-9)


# --- invariances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["positive", "signed"])
def test_invariances(weights: str) -> None:
    x, y, weight = sample(200, 4, weights)
    found = distance_correlation(x, y, weight)
    order = np.random.default_rng(0).permutation(200)
    extra = [np.append(v, more) for v, more in ((x, [1e3, -4.0]), (y, [7.0, 1e3]), (weight, [0.0, 0.0]))]
    for other in (
        distance_correlation(x[order], y[order], weight[order]),
        distance_correlation(y, x, weight),
        distance_correlation(3e5 * x - 1e6, 2 - 1e-4 * y, 1e-3 * weight),
        distance_correlation(*extra),
    ):
        np.testing.assert_allclose(
            [other.value, other.error, other.n_eff], [found.value, found.error, found.n_eff], rtol=1e-6
        )


def test_known_values() -> None:
    x, _, weight = sample(100, 5)
    for other in (x, -2 * x + 1):
        same = distance_correlation(x, other, weight)
        assert same.value == pytest.approx(1.0)
        assert same.error == pytest.approx(0.0, abs=1e-6)
    constant = distance_correlation(x, np.ones(100), weight)
    assert np.isnan(constant.value)
    assert np.isnan(constant.error)
    # Four corners of a square, all equally likely: exactly independent.
    square = distance_correlation(np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 0, 1]), np.ones(4))
    assert square.value == pytest.approx(0.0, abs=1e-7)


@pytest.mark.filterwarnings("ignore::hepxai.core.estimate.OutOfRangeWarning")
def test_square_is_never_negative() -> None:
    """Not with signed weights either: V² is the integral of a square."""
    for seed in range(100):
        x, y, _ = sample(40, seed, strength=0.0)
        weight = np.random.default_rng(seed).choice([1.0, -1.0], 40, p=[0.6, 0.4])
        if weight.sum() > 0:
            found = distance_correlation(x, y, weight)
            assert found.value > 0
            assert found.error > 0


# --- statistics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["one", "signed"])
def test_error_covers(weights: str) -> None:
    """The spread of many samples is the error that each claims."""
    found = [distance_correlation(*sample(400, seed, weights)) for seed in range(200)]
    values, errors = (np.array([float(getattr(f, k)) for f in found]) for k in ("value", "error"))
    assert np.mean(errors) == pytest.approx(values.std(ddof=1), rel=0.15)


@pytest.mark.parametrize("weights", ["one", "signed"])
def test_independent_samples_look_like_their_permutations(weights: str) -> None:
    data = [sample(200, seed, weights, strength=0.0) for seed in range(60)]
    seen = np.array([float(distance_correlation(*d).value) for d in data])
    nulls = [if_independent(*d, draws=40, seed=i) for i, d in enumerate(data)]
    expected = np.array([float(n.expectation.value) for n in nulls])
    spread = np.array([float(n.expectation.error) for n in nulls])
    assert abs((seen - expected).mean()) < 3.5 * seen.std() / np.sqrt(60)
    assert spread.mean() == pytest.approx(seen.std(), rel=0.3)
    p = np.array([n.p_value(s) for n, s in zip(nulls, seen, strict=True)])
    assert 0.35 < p.mean() < 0.65


def test_dependence_is_found_where_linear_correlation_is_blind() -> None:
    x, y, weight = sample(500, 6)
    found, null = distance_correlation(x, y, weight), if_independent(x, y, weight)
    assert abs(np.cov(x, y, aweights=np.abs(weight))[0, 1]) < 0.2
    assert found.value > null.expectation.value + 5 * null.expectation.error
    assert null.p_value(float(found.value)) == pytest.approx(1 / 51)


def test_permutations_are_seeded() -> None:
    data = sample(50, 7)
    one, two, other = (if_independent(*data, draws=5, seed=s).values for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


# --- bad input ---------------------------------------------------------------------------------------


def test_refuses() -> None:
    x, y, weight = sample(30, 8)
    with pytest.raises(ValueError, match=r"x \(30,\), y \(29,\), weight \(30,\)"):
        distance_correlation(x, y[1:], weight)
    with pytest.raises(ValueError, match="one number per event"):
        distance_correlation(x[:, None], y[:, None], weight[:, None])
    with pytest.raises(ValueError, match="2 of 30 values of y are not finite"):
        distance_correlation(x, np.where(np.arange(30) < 2, np.nan, y), weight)
    with pytest.raises(ValueError, match="weights of the 30 events sum to -30"):
        distance_correlation(x, y, -np.ones(30))
    with pytest.raises(ValueError, match="weights of the 0 events sum to 0"):
        distance_correlation(x[:0], y[:0], weight[:0])
