"""Means over events, seeds and lists: against numpy, and errors against the spread of toys."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate
from hepxai.events import Events
from hepxai.metrics.averages import (
    class_means,
    mean,
    mean_count,
    median,
    over_seeds,
    same_decision,
    two_way_mean,
)


def estimates(values: list[float], errors: list[float]) -> list[Estimate]:
    return [Estimate(np.asarray(v), np.asarray(e), 7.0) for v, e in zip(values, errors, strict=True)]


def test_mean_has_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    result = mean(values)
    assert float(result.value) == pytest.approx(values.mean())
    assert float(result.error) == pytest.approx(values.std(ddof=1) / np.sqrt(50))


def test_class_means_and_their_difference(toy: Callable[..., Events]) -> None:
    events = toy(30)
    means = class_means(Attribution(np.arange(30.0), ("event",), events, "ig", "signal"))
    assert list(means) == ["background", "signal", "difference"]
    for code, name in enumerate(events.schema.classes):
        rows = np.flatnonzero(events.label == code)
        assert float(means[name].value) == pytest.approx(np.average(rows, weights=events.weight[rows]))
    first, second, difference = means.values()
    assert float(difference.value) == pytest.approx(float(second.value - first.value))
    assert float(difference.error) == pytest.approx(float(np.hypot(first.error, second.error)))


def test_mean_count(toy: Callable[..., Events]) -> None:
    """The event of every particle gives the mean number of particles."""
    events = toy(30)
    expected = np.average(events.counts, weights=events.weight)
    assert float(mean_count(events.parent, events).value) == pytest.approx(expected)


def test_median_has_the_spread_of_toys() -> None:
    """Values that are not finite count as absent."""
    toys = np.random.default_rng(0).normal(size=(400, 101))
    toys[:, -1] = np.inf
    results = [median(toy) for toy in toys]
    assert float(results[0].value) == np.median(toys[0, :-1])
    assert np.mean([r.error for r in results]) == pytest.approx(np.std([r.value for r in results]), rel=0.1)


def test_trainings_on_the_same_events_do_not_reduce_the_statistical_error() -> None:
    result = over_seeds(estimates([1, 2, 3], [0.3, 0.4, 0.5]))
    assert float(result.value) == 2
    assert float(result.error) == pytest.approx(0.4)
    assert float(result.spread["training"]) == pytest.approx(1)
    assert result.n_eff == 7
    assert str(result) == "2.00 ± 0.40 ± 1.00 (training)"
    assert not over_seeds(estimates([1], [0.3])).spread  # unknown


def test_decisions_in_common() -> None:
    scores = list(np.array([[1, 1, -1, 2], [1, -1, -1, 2], [-1, -1, -1, 2]]))
    share = same_decision(scores, np.array([1, 1, 1, 3]))
    assert float(share.value) == pytest.approx((1 / 3 + 1 / 3 + 1 + 3) / 6)


@pytest.mark.parametrize("objects", [3, 20, 10_000])
def test_an_object_in_several_lists_counts_once(objects: int) -> None:
    """100 lists of 3 of so many objects: the error is the spread of toys."""
    rng = np.random.default_rng(1)
    toys = []
    for _ in range(400):
        event, other = rng.uniform(3, 20, 100), rng.uniform(3, 20, objects)
        rows = (
            np.argsort(rng.random((100, objects)))[:, :3] if objects < 100 else rng.choice(objects, (100, 3))
        )
        toys.append(two_way_mean(np.abs(other[rows] - event[:, None]), rows))
    value, error = (np.array([float(getattr(t, name)) for t in toys]) for name in ("value", "error"))
    assert error.mean() == pytest.approx(value.std(), rel=0.15)
