"""How sure one can be: exact cases, an independent library, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import hepxai.scan.ranking
from hepxai.scan.ranking import rank


def slow_spread(results: np.ndarray) -> float:
    """Residual of the two-way table, cell by cell."""
    total, values, seeds = 0.0, *results.shape
    for v in range(values):
        for s in range(seeds):
            fitted = results[v].mean() + results[:, s].mean() - results.mean()
            total += (results[v, s] - fitted) ** 2
    return float(np.sqrt(total / ((values - 1) * (seeds - 1))))


def test_spread_is_that_of_the_randomised_blocks() -> None:
    results = np.random.default_rng(0).normal(size=(5, 3))
    found = rank(results, higher=True)
    assert found.spread == pytest.approx(slow_spread(results))
    assert found.degrees == 8


@pytest.mark.parametrize("higher", [True, False])
def test_two_values_are_the_paired_t_test(higher: bool) -> None:
    results = np.random.default_rng(1).normal(size=(2, 6)) + np.array([[0.3], [0.0]])
    found = rank(results, higher=higher)
    first, second = found.order
    sided = "greater" if higher else "less"
    p = stats.ttest_rel(results[first], results[second], alternative=sided).pvalue
    assert found.beaten[second] == pytest.approx(1 - p)
    assert found.best[first] == pytest.approx(1 - p, abs=5e-3)
    assert np.isnan(found.beaten[first])


def test_what_seeds_have_in_common_does_not_matter() -> None:
    results = np.random.default_rng(2).normal(size=(4, 3))
    moved = results + np.array([10.0, -7.0, 0.5])
    one, other = (rank(r, higher=True) for r in (results, moved))
    assert one.order == other.order
    np.testing.assert_allclose(one.beaten, other.beaten)
    np.testing.assert_allclose(one.best, other.best, atol=1e-9)


def test_probabilities_of_being_best_add_up() -> None:
    found = rank(np.random.default_rng(3).normal(size=(6, 3)), higher=False)
    assert found.best.sum() == pytest.approx(1.0)
    assert np.argmax(found.best) == found.order[0]


def test_probabilities_hold_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two equal values, one fixed in advance is called better with 90 % in a tenth of all scans."""
    monkeypatch.setattr(hepxai.scan.ranking, "DRAWS", 10)  # not looked at here
    rng = np.random.default_rng(4)
    said = []
    for _ in range(400):
        results = rng.normal(size=(4, 3)) + rng.normal(scale=3.0, size=3)  # seeds matter more than values
        found = rank(results, higher=True)
        gain = (results[0] - results[1]).mean()
        said.append(stats.t.cdf(gain / (found.spread * np.sqrt(2 / 3)), found.degrees))
    assert np.mean(np.array(said) > 0.9) == pytest.approx(0.1, abs=0.045)
    assert stats.kstest(said, "uniform").pvalue > 0.01


def test_one_seed_or_one_value_says_nothing() -> None:
    for results in (np.array([[0.7], [0.8]]), np.array([[0.7, 0.8]])):
        found = rank(results, higher=True)
        assert found.degrees == 0
        assert np.isnan(found.best).all()
        assert np.isnan(found.spread)
    assert rank(np.array([[0.7], [0.8]]), higher=True).order == (1, 0)
    assert rank(np.empty((0, 3)), higher=True).order == ()


def test_values_without_a_result_are_left_out() -> None:
    results = np.array([[0.7, 0.71], [np.nan, 0.9], [0.8, 0.82]])
    found = rank(results, higher=True)
    assert found.order == (2, 0)
    assert np.isnan(found.best[1])
    assert found.degrees == 1


def test_equal_results_share() -> None:
    found = rank(np.ones((2, 3)), higher=True)
    np.testing.assert_allclose(found.best, 0.5)
    assert found.beaten[1] == 0.5
