"""Weighted means and their errors: formula, bootstrap, invariances."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepxai.core.estimate import Estimate, effective, ratio_mean


def population(n: int, seed: int, *, negative: float = 0.2):
    """Totals over a random number of entries, correlated with that number, and signed weights."""
    rng = np.random.default_rng(seed)
    size = rng.integers(0, 6, n)
    total = np.array([rng.normal(1.0 + 0.3 * k, 1.0, k).sum() for k in size])
    weight = rng.choice([1.0, -0.7], n, p=[1 - negative, negative]) * rng.uniform(0.5, 2.0, n)
    return total, size, weight


def numbers(estimate: Estimate, *entry: int) -> tuple[float, float, float]:
    return float(estimate.value[entry]), float(estimate.error[entry]), estimate.n_eff


def slow(total, size, weight):
    """The definition, event by event."""
    used = [(t, n, w) for t, n, w in zip(total, size, weight, strict=True) if n and w]
    norm = sum(w * n for _, n, w in used)
    mean = sum(w * t for t, _, w in used) / norm
    variance = sum((w * (t - mean * n)) ** 2 for t, n, w in used) / norm**2
    return mean, np.sqrt(variance * len(used) / (len(used) - 1))


@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_equals_its_definition(negative):
    sample = population(300, 1, negative=negative)
    estimate = ratio_mean(*sample)
    assert (float(estimate.value), float(estimate.error)) == pytest.approx(slow(*sample))


@pytest.mark.parametrize("negative", [0.0, 0.15])
def test_error_agrees_with_the_bootstrap_over_events(negative):
    total, size, weight = population(2000, 2, negative=negative)
    rng = np.random.default_rng(3)
    picks = rng.integers(0, len(total), (800, len(total)))
    means = [float(ratio_mean(total[p], size[p], weight[p]).value) for p in picks]
    estimate = ratio_mean(total, size, weight)
    assert float(estimate.error) == pytest.approx(np.std(means), rel=0.1)  # the bootstrap itself: 2.5 %
    assert float(estimate.value) == pytest.approx(np.mean(means), abs=float(estimate.error))


def test_error_covers_the_truth_as_often_as_it_should():
    pulls = []
    for seed in range(300):
        total, size, weight = population(150, seed, negative=0.1)
        estimate = ratio_mean(total, size, weight)
        # E[t] = E[n (1 + 0.3 n)] over E[n], n uniform on 0..5, weights independent of both
        pulls.append((estimate.value - (2.5 + 0.3 * 55 / 6) / 2.5) / estimate.error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.12)
    assert abs(np.mean(pulls)) < 0.2


@given(st.integers(0, 10_000), st.integers(1, 20))
@settings(max_examples=40)
def test_events_without_weight_or_entries_change_nothing(seed, extra):
    total, size, weight = population(40, seed)
    rng = np.random.default_rng(seed)
    padded = ratio_mean(
        np.r_[total, rng.normal(size=extra), np.zeros(extra)],
        np.r_[size, np.ones(extra, int), np.zeros(extra, int)],
        np.r_[weight, np.zeros(extra), rng.normal(size=extra)],
    )
    plain = ratio_mean(total, size, weight)
    assert numbers(padded) == pytest.approx(numbers(plain))


@given(st.integers(0, 10_000), st.floats(0.01, 100).map(lambda x: -x) | st.floats(0.01, 100))
@settings(max_examples=40)
def test_the_scale_and_overall_sign_of_the_weights_do_not_matter(seed, scale):
    total, size, weight = population(60, seed)
    plain, scaled = ratio_mean(total, size, weight), ratio_mean(total, size, scale * weight)
    assert numbers(scaled) == pytest.approx(numbers(plain))


def test_an_event_split_into_opposite_weights_cancels_in_the_mean():
    total, size, weight = population(100, 5, negative=0)
    both = ratio_mean(np.r_[total, 99.0, 99.0], np.r_[size, 3, 3], np.r_[weight, 0.8, -0.8])
    assert float(both.value) == pytest.approx(float(ratio_mean(total, size, weight).value))
    assert both.error > ratio_mean(total, size, weight).error  # but it costs precision


def test_every_regular_entry_is_a_mean_of_its_own():
    rng = np.random.default_rng(6)
    total, size, weight = rng.normal(size=(50, 2, 3)), rng.integers(0, 4, 50), rng.normal(1, 0.5, 50)
    estimate = ratio_mean(total, size, weight)
    assert estimate.value.shape == estimate.error.shape == (2, 3)
    assert numbers(estimate, 1, 2) == pytest.approx(numbers(ratio_mean(total[:, 1, 2], size, weight)))


@pytest.mark.parametrize(
    ("total", "size", "weight"),
    [
        ([], [], []),
        ([1.0, 2.0], [0, 0], [1.0, 1.0]),
        ([1.0, 2.0], [1, 1], [0.0, 0.0]),
        ([1.0, 2.0], [1, 1], [1.0, -1.0]),
    ],
    ids=["nothing", "no entries", "no weight", "weights cancel"],
)
def test_without_information_the_mean_is_unknown(total, size, weight):
    estimate = ratio_mean(np.array(total), np.array(size), np.array(weight))
    assert np.isnan(estimate.value)
    assert np.isnan(estimate.error)
    assert estimate.n_eff == 0


def test_one_event_has_a_mean_and_no_error():
    estimate = ratio_mean(np.array([6.0]), np.array([3]), np.array([0.5]))
    assert estimate.value == 2
    assert np.isnan(estimate.error)


def test_effective_number_of_events():
    ones = np.ones(4)
    assert ratio_mean(ones, ones, np.array([1.0, 1.0, 1.0, 1.0])).n_eff == 4
    assert ratio_mean(ones, ones, np.array([1.0, 1.0, 1.0, -1.0])).n_eff == 1


def test_reads_like_a_measurement():
    assert str(Estimate(np.array(1.23456), np.array(0.0345678), 10.0)) == "1.235 ± 0.035"
    assert f"{Estimate(np.array(1.23456), np.array(0.0345678), 10.0):.2f}" == "1.23 ± 0.03"
    assert str(Estimate(np.array([1.0, 2.0]), np.array([0.1, 0.2]), 10.0)) == "[1. 2.] ± [0.1 0.2]"


def test_of_values_and_weights_of_both_signs():
    values, weight = np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, -1.0])
    mean = Estimate.of(values, weight)
    assert mean.value == pytest.approx((2 + 2 - 4) / 2)
    assert mean.n_eff == pytest.approx(2**2 / 6) == effective(weight)
    assert effective(np.zeros(3)) == effective(np.zeros(0)) == 0
    assert effective(np.array([1.0, -1.0])) == 0


def test_json_and_back():
    plain = Estimate(np.asarray(0.5), np.asarray(0.1), 20.0)
    bounded = plain.bounded("share")
    for estimate in (plain, bounded):
        again = Estimate.from_json(json.loads(json.dumps(estimate.to_json())))
        assert again.text == str(estimate) == estimate.text
        assert again.to_json() == estimate.to_json()
    assert plain.to_json() == {"value": 0.5, "error": 0.1, "n_eff": 20.0}
    assert np.isnan(Estimate.from_json({"value": None, "error": None, "n_eff": 0.0}).value)


def test_repr_is_readable():
    assert repr(Estimate(np.asarray(0.5), np.asarray(0.1), 20.0)) == "<Estimate: 0.50 ± 0.10, n_eff 20>"
