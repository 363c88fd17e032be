"""Sums of events: the formula of the mean and its error, and addition in any order."""

from __future__ import annotations

import json
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepxai.core.sums import RatioSums, added

FIELDS = ("events", "weight", "weight_squared", "size", "size_squared", "total", "mean", "error", "n_eff")


def drawn(seed: int, n: int = 40, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    size = rng.integers(0, 4, n)
    weight = rng.choice([1.0, 1.0, -1.0, 0.0], n) * rng.uniform(0.5, 1.5, n)
    return rng.normal(offset, 1, (n, 2)) * size[:, None], size, weight


def close(one: RatioSums, other: RatioSums) -> bool:
    return all(np.allclose(getattr(one, f), getattr(other, f), rtol=1e-9, equal_nan=True) for f in FIELDS)


def test_mean_and_error_are_those_of_the_formula() -> None:
    total, size, weight = drawn(1)
    used = (size != 0) & (weight != 0)
    t, n, w = total[used], size[used], weight[used]
    mean = sum(w[i] * t[i] for i in range(len(w))) / sum(w[i] * n[i] for i in range(len(w)))
    squares = sum((w[i] * (t[i] - mean * n[i])) ** 2 for i in range(len(w)))
    error = np.sqrt(squares * len(w) / (len(w) - 1)) / abs((w * n).sum())
    sums = RatioSums.of(total, size, weight)
    np.testing.assert_allclose(sums.mean, mean)
    np.testing.assert_allclose(sums.error, error)
    assert sums.n_eff == pytest.approx(w.sum() ** 2 / (w**2).sum())


@given(st.integers(0, 1000), st.lists(st.integers(0, 40), max_size=5), st.sampled_from([0.0, 1e6]))
def test_parts_add_up_in_any_grouping_and_order(seed: int, cuts: list[int], offset: float) -> None:
    total, size, weight = drawn(seed, offset=offset)
    edges = [0, *sorted(cuts), 40]
    parts = [RatioSums.of(total[a:b], size[a:b], weight[a:b]) for a, b in pairwise(edges)]
    whole = RatioSums.of(total, size, weight)
    assert close(reduce(lambda a, b: a + b, parts), whole)
    assert close(reduce(lambda a, b: b + a, parts), whole)
    assert close(reduce(lambda a, b: b + a, parts[::-1]), whole)


def test_no_event_has_no_mean() -> None:
    none = RatioSums.of(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    assert np.isnan(none.mean).all()
    assert np.isnan(none.error).all()
    assert none.n_eff == 0
    assert close(none + RatioSums.of(*drawn(3)), RatioSums.of(*drawn(3)))


def test_weights_that_cancel_have_no_mean_until_others_come() -> None:
    total, size = np.array([[1.0], [3.0]]), np.ones(2)
    cancelling = RatioSums.of(total, size, np.array([1.0, -1.0]))
    assert np.isnan(cancelling.mean).all()
    more = RatioSums.of(np.array([[2.0]]), np.ones(1), np.ones(1))
    every = RatioSums.of(np.array([[1.0], [3.0], [2.0]]), np.ones(3), np.array([1.0, -1.0, 1.0]))
    assert close(cancelling + more, every)


def test_sums_come_back_from_json_bit_for_bit() -> None:
    sums = RatioSums.of(*drawn(2))
    again = RatioSums.from_json(json.loads(json.dumps(sums.to_json())))
    assert all(np.array_equal(getattr(again, f), getattr(sums, f)) for f in FIELDS)


def test_mappings_add_by_key() -> None:
    assert added({"a": 1, "b": 2}, {"b": 3, "c": 4}) == {"a": 1, "b": 5, "c": 4}
