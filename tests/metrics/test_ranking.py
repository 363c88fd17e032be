"""Places inside events against numpy and scipy, event by event."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from hepxai.core.jagged import IntArray, offsets_from_counts
from hepxai.metrics.ranking import Places, rank_correlation

Rows = tuple[NDArray[np.float64], IntArray]


def rows(seed: int, *, ties: bool) -> Rows:
    rng = np.random.default_rng(seed)
    offsets = offsets_from_counts(rng.integers(0, 8, 50))
    values = rng.normal(size=offsets[-1])
    return (np.round(values) if ties else values), offsets


@pytest.mark.parametrize("ties", [False, True])
def test_places_equal_counting(ties: bool) -> None:
    values, offsets = rows(0, ties=ties)
    flags = np.random.default_rng(1).random(len(values)) < 0.4
    places = Places.of(values, offsets)
    at_least = places.at_least(flags)
    for a, b in itertools.pairwise(offsets):
        own = values[a:b]
        np.testing.assert_array_equal(places.above[a:b], [(own > v).sum() for v in own])
        np.testing.assert_array_equal(places.ties[a:b], [(own == v).sum() for v in own])
        np.testing.assert_array_equal(places.rank[a:b], rankdata(own))
        np.testing.assert_array_equal(at_least[a:b], [flags[a:b][own >= v].sum() for v in own])


@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_top_is_the_mean_over_lots(k: int) -> None:
    """Ties broken at random many times, on average."""
    values, offsets = rows(2, ties=True)
    found, drawn, rng = (
        Places.of(values, offsets).among_top(k),
        np.zeros(len(values)),
        np.random.default_rng(0),
    )
    for a, b in itertools.pairwise(offsets):
        for _ in range(300):
            order = np.lexsort((rng.random(b - a), -values[a:b]))
            drawn[a + order[:k]] += 1 / 300
        assert found[a:b].sum() == pytest.approx(min(k, b - a))
    np.testing.assert_allclose(found, drawn, atol=0.15)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_equals_scipy(ties: bool) -> None:
    (x, offsets), (y, _) = rows(3, ties=ties), rows(3, ties=ties)
    y = y + np.random.default_rng(4).normal(size=len(y))
    y = np.round(y) if ties else y
    found = rank_correlation(x, y, offsets)
    for e, (a, b) in enumerate(itertools.pairwise(offsets)):
        one, two = x[a:b], y[a:b]
        if b - a < 2 or np.ptp(one) == 0 or np.ptp(two) == 0:
            assert np.isnan(found[e])
        else:
            assert found[e] == pytest.approx(spearmanr(one, two).statistic, abs=1e-12)


def test_nothing_to_rank() -> None:
    nothing, none = np.zeros(0), np.zeros(1, dtype=np.int64)
    assert len(Places.of(nothing, none).rank) == 0
    assert len(rank_correlation(nothing, nothing, none)) == 0
