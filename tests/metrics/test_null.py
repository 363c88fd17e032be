"""Null distributions: how often there is something where there is nothing, for weights of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hepxai.metrics.null import NullDistribution, random_signs
from hepxai.metrics.profile import _explained
from hepxai.studies.dependence.dependence import distance_correlation, if_independent

Array = NDArray[np.float64]
KINDS = ("unit", "exp(3u)", "exp(-5u)", "two classes", "both", "signed", "signed by y")


def independent(n: int, kind: str, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """x and y that do not depend on each other in the weighted population; weights depend on y, or both."""
    x, y, wide = rng.normal(size=n), rng.uniform(size=n), rng.random(n) < 0.5
    if kind in ("two classes", "both"):
        y = rng.normal(size=n) * np.where(wide, 10, 1)
        x = x * np.where(wide, 10, 1) if kind == "both" else x
    weight = {
        "unit": np.ones(n),
        "exp(3u)": np.exp(3 * y),
        "exp(-5u)": np.exp(-5 * y),
        "two classes": np.where(wide, 0.02, 1.0),
        "both": np.where(wide, 0.0002, 1.0),
        "signed": np.where(rng.random(n) < 0.2, -1, 1) * rng.uniform(0.5, 1.5, n),
        "signed by y": np.where(rng.random(n) < 0.3 * y, -1, 1) * rng.uniform(0.5, 1.5, n),
    }[kind]
    return x, y, weight


def of_distance_correlation(x: Array, y: Array, weight: Array, seed: int) -> float:
    null = if_independent(x, y, weight, draws=19, seed=seed)
    return null.p_value(float(distance_correlation(x, y, weight).value))


def of_correlation_ratio(x: Array, y: Array, weight: Array, seed: int) -> float:
    """As `explained_by`: values y in five bins of x."""
    position = np.searchsorted(np.quantile(x, [0.2, 0.4, 0.6, 0.8]), x)
    mean = float(weight @ y / weight.sum())

    def share(signs: Array) -> float:
        return float(_explained(mean + signs * (y - mean), position, weight, 5).value)

    null: NullDistribution = random_signs(share, len(x), draws=39, seed=seed)
    return null.p_value(share(np.ones(len(x))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p_value", [of_distance_correlation, of_correlation_ratio])
def test_size(p_value, kind: str) -> None:
    """Distance correlation: .03 to .07 of 400 toys; correlation ratio .05 to .06, for exp(-5u) .09.

    A permutation of y gave up to .14, or .00.
    """
    rng, n = np.random.default_rng(1), 120 if p_value is of_distance_correlation else 400
    found = [p_value(*independent(n, kind, rng), seed) for seed in range(240)]
    assert 0.01 < np.mean(np.array(found) <= 0.05) < (0.13 if kind == "exp(-5u)" else 0.1)
    assert np.median(found) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dependence_is_seen(kind: str) -> None:
    x, y, weight = independent(150, kind, np.random.default_rng(2))
    found = distance_correlation(x, y + 2 * np.abs(x) * y.std(), weight)
    null = if_independent(x, y + 2 * np.abs(x) * y.std(), weight, draws=99)
    assert null.p_value(float(found.value)) <= 0.02


def test_a_wide_class_of_small_weight() -> None:
    """A permutation gave the narrow class the values of the wide one: .52 expected where .14 was seen."""
    x, y, weight = independent(2000, "two classes", np.random.default_rng(0))
    found, null = distance_correlation(x, y, weight), if_independent(x, y, weight)
    assert found.value < null.expectation.value + 3 * null.expectation.error
    assert null.expectation.value < 0.2


def test_signs_by_hand() -> None:
    """The sum over pairs of the definition, for one draw of signs."""
    x, y, weight = independent(40, "signed", np.random.default_rng(3))
    p = weight / weight.sum()

    def centred(v: Array) -> Array:
        a = np.abs(v[:, None] - v)
        return a - (a @ p)[:, None] - a @ p + p @ a @ p

    signs = np.random.default_rng(7).choice([-1.0, 1.0], 40)
    a, b, q = centred(x), centred(y), signs * p
    norm = np.sqrt((p @ a**2 @ p) * (p @ b**2 @ p))
    expected = np.sqrt(max(q @ (a * b) @ q, 0) / norm)
    assert if_independent(x, y, weight, draws=1, seed=7).values[0] == pytest.approx(expected)
