"""Figures of merit of a momentum: against loops, exact binomial tails, and counted coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from hepxai.core.estimate import OutOfRangeWarning, clopper_pearson
from hepxai.metrics.momentum import efficiency, momentum_merit, turn_on, upper_limit


def sample(n: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = np.where(rng.random(n) < 0.2, np.nan, rng.uniform(0.3, 20, n))
    predicted = np.where(np.isnan(true), rng.exponential(4, n), true + rng.normal(0, 1.5, n))
    return predicted, true, rng.choice([1.0, 0.5, -0.2], n, p=[0.6, 0.3, 0.1])


def test_figures_are_those_of_a_loop() -> None:
    predicted, true, weight = sample()
    found = momentum_merit(predicted, true, weight)
    sums = dict.fromkeys(("mae", "spread", "bias", "efficiency", "leak", "fakes"), 0.0)
    norms = sums.copy()
    for p, t, w in zip(predicted, true, weight, strict=True):
        values = {}
        if np.isnan(t):
            values["fakes"] = p >= 15
        else:
            values["mae"] = abs(p - t)
            values["efficiency" if t >= 15 else "leak"] = p >= 15
            if 7 <= t < 13:
                values |= {"spread": abs(p - t), "bias": p - t}
        for name, value in values.items():
            sums[name] += w * value
            norms[name] += w
    for name, total in sums.items():
        assert float(getattr(found, name).value) == pytest.approx(total / norms[name], rel=1e-12), name


def test_the_interval_is_clopper_and_pearsons() -> None:
    """At its ends, as few or as many passing events are exactly as improbable as the tail allows."""
    n, level = 23, 0.9
    for k in range(n + 1):
        low, high = clopper_pearson(np.array(k / n), np.array(float(n)), level=level)
        if k > 0:
            assert binom.sf(k - 1, n, low) == pytest.approx(0.05, rel=1e-6)
        if k < n:
            assert binom.cdf(k, n, high) == pytest.approx(0.05, rel=1e-6)
    assert clopper_pearson(np.array(0.0), np.array(5.0))[0] == 0
    assert clopper_pearson(np.array(1.0), np.array(5.0))[1] == 1


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_cover(share: float, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    n, draws = 200, 1500
    weight = rng.uniform(0.5, 1.5, n * draws) if weighted else np.ones(n * draws)
    group = np.repeat(np.arange(draws), n)
    found = efficiency(rng.random(n * draws) < share, weight, group, draws)
    covered = ((found.low <= share) & (share <= found.high)).mean()
    assert covered > 0.67  # at least the level; more for few events
    assert covered < 0.85


def test_signed_weights_stay_signed() -> None:
    found = efficiency(np.array([True, False, True]), np.array([1.0, 1.0, -0.5]))
    assert found.value == pytest.approx(0.5 / 1.5)
    assert found.n_eff == pytest.approx(1.5**2 / 2.25)
    with pytest.warns(OutOfRangeWarning, match="efficiency is 1.33 .*leave only 0.53 effective events"):
        outside = efficiency(np.array([True, False]), np.array([2.0, -0.5]))
    assert outside.value > 1
    assert 0 <= outside.low <= outside.high == 1


def test_an_event_of_no_weight_changes_nothing() -> None:
    predicted, true, weight = sample(300)
    more = [np.append(x, v) for x, v in ((predicted, 99.0), (true, 9.0), (weight, 0.0))]
    assert momentum_merit(*more).rows() == momentum_merit(predicted, true, weight).rows()


def test_the_turn_on_is_that_of_a_loop() -> None:
    predicted, true, weight = sample()
    edges = np.array([0.0, 5, 10, 14, 15, 16, 20])
    found = turn_on(predicted, true, weight, edges=edges)
    for b in range(6):
        own = (true >= edges[b]) & ((true < edges[b + 1]) | ((b == 5) & (true == edges[b + 1])))
        slow = weight[own & (predicted >= 15)].sum() / weight[own].sum()
        assert found.efficiency.value[b] == pytest.approx(slow, rel=1e-12)
    assert found.threshold == 15
    assert found.efficiency.value[0] < 0.05 < 0.85 < found.efficiency.value[-1]
    assert (found.efficiency.low <= found.efficiency.value).all()


def test_nothing_to_count() -> None:
    predicted, true, weight = np.array([16.0, 2.0]), np.array([17.0, 1.0]), np.ones(2)
    found = momentum_merit(predicted, true, weight)
    assert np.isnan(found.fakes.value)
    assert (found.fakes.low, found.fakes.high) == (0, 1)
    assert found.rows()["fakes"] == "unknown"
    assert np.isnan(found.spread.value)
    empty = turn_on(predicted, true, weight, edges=np.array([0.0, 5, 10])).efficiency
    assert np.isnan(empty.value[1])
    assert (empty.low[1], empty.high[1]) == (0, 1)


def test_text_has_the_errors() -> None:
    rows = momentum_merit(*sample()).rows()
    assert "±" in rows["mae"]
    assert rows["efficiency"] == "0.845 +0.021 -0.023"


def test_bad_input() -> None:
    predicted, true, weight = sample(10)
    with pytest.raises(ValueError, match="10 predictions, 9 true values, 10 weights"):
        momentum_merit(predicted, true[1:], weight)
    predicted[3] = np.nan
    with pytest.raises(ValueError, match="1 predictions are not finite"):
        momentum_merit(predicted, true, weight)


def test_upper_limit_if_nothing_passes() -> None:
    share = efficiency(np.zeros(7565, dtype=bool), np.ones(7565))
    assert upper_limit(share) == pytest.approx(1 - 0.05 ** (1 / 7565), rel=1e-9)
