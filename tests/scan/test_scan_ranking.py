"""How sure one can be: exact cases, an independent library, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import hepxai.scan.ranking
from hepxai.scan.ranking import best_against, rank, variance_shares


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


# --- the best of many against one value --------------------------------------------------------------


def test_best_against_a_reference() -> None:
    """Worked out by hand: means 1, 3 and 2; seeds are 0, 3 and 6 higher than the first."""
    results = np.array([[0.0, 1, 2], [2, 3, 4], [1, 2, 3]]) + np.array([0.0, 3, 6])
    found = best_against(results, 0)
    assert (found.best, found.gain.value, found.paired.value) == (1, 2, 2)
    assert found.gain.error == pytest.approx(np.sqrt(2 * 16 / 3))  # variance 16 in each row, 3 seeds
    assert (found.paired.error, found.student) == (0, 0)
    # the reference is the lowest of a seed in 1/3 of the orders, with the same row the highest in 1/6
    assert found.p_blocks == pytest.approx(1 / 3 / 6**2, rel=0.12)
    assert found.p_pool > 0.3
    assert best_against(-results, 0, higher=False).p_blocks == found.p_blocks
    by_value, by_seed = variance_shares(results)
    assert (by_value, by_seed) == pytest.approx((6 / 102, 96 / 102))


def test_the_best_of_many_has_no_small_p_value_by_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hepxai.scan.ranking, "DRAWS", 400)
    rng = np.random.default_rng(5)
    results = rng.normal(size=(200, 8, 3)) + 3 * rng.normal(size=(200, 1, 3))
    found = [best_against(r, 0) for r in results]
    unchosen = np.mean([f.gain.value / np.sqrt(2 / 3) > stats.norm.isf(0.1) for f in found])
    for p in (np.array([f.p_blocks for f in found]), np.array([f.p_pool for f in found])):
        assert np.mean(p < 0.1) < 0.1 + 3 * np.sqrt(0.09 / 200)
    assert unchosen > 0.3  # the same level without allowing for the choice
