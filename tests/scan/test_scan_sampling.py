"""Decisions are functions of what is known, and those that the papers describe."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hepxai.scan import Plan, ScanError
from hepxai.scan.sampling import (
    STARTUP,
    WARMUP,
    below_median,
    importances,
    next_point,
    pareto_front,
)
from hepxai.scan.space import Point, Space

OVER = ["a=0.0..1.0", "b=1e-4..1e-1:log", "c=1..4", "d=x,y"]


def plan(over: list[str] | None = None, sampler: str = "tpe", seed: int = 0, trials: int | None = 30) -> Plan:
    return Plan.make(
        Space.parse(over or OVER),
        seeds=1,
        sampler=sampler,
        trials=trials,
        objectives=["valid_auc"],
        explain=10,
        prune=False,
        sampler_seed=seed,
    )


def value_of(point: Point) -> float:
    return -((float(point["model.a"]) - 0.7) ** 2)  # type: ignore[arg-type]


def drawn(settings: Plan, number: int) -> list[tuple[Point, list[float]]]:
    known: list[tuple[Point, list[float]]] = []
    for i in range(number):
        point = next_point(settings, i, known)
        known.append((point, [value_of(point)]))
    return known


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_same_seed_draws_the_same_points(sampler: str) -> None:
    first, again, other = (drawn(plan(sampler=sampler, seed=s), 14) for s in (0, 0, 1))
    assert first == again
    assert [p for p, _ in first] != [p for p, _ in other]


def test_random_points_do_not_hang_on_results() -> None:
    settings = plan(sampler="random")
    known = drawn(settings, 6)
    blind = [(point, None) for point, _ in known]
    assert next_point(settings, 6, known) == next_point(settings, 6, blind)


def test_the_estimator_learns() -> None:
    """Later points lie closer to the optimum than the first, random, ones."""
    found = [[float(p["model.a"]) for p, _ in drawn(plan(seed=s), 30)] for s in range(3)]  # type: ignore[arg-type]
    away = abs(np.array(found) - 0.7)
    assert away[:, 15:].mean() < 0.7 * away[:, :10].mean()


def test_points_lie_inside_and_are_never_drawn_twice() -> None:
    settings = plan(["c=1..4", "d=x,y"], sampler="tpe", trials=8)
    known: list[tuple[Point, list[float]]] = []
    for i in range(8):
        point = next_point(settings, i, known)
        known.append((point, [1.0 if point["model.d"] == "x" else 0.0]))
    assert {tuple(p.values()) for p, _ in known} == set(itertools.product(range(1, 5), "xy"))
    with pytest.raises(ScanError, match="the space is used up; --trials 8 is enough"):
        next_point(settings, 8, known)


def test_a_grid_is_taken_in_order() -> None:
    settings = plan(["a=1,2", "d=x,y"], sampler="grid", trials=None)
    points = [next_point(settings, i, []) for i in range(settings.points)]
    assert [tuple(p.values()) for p in points] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


# --- pruning -------------------------------------------------------------------------------------


def test_pruning_is_against_the_median_of_the_finished() -> None:
    """Golovin et al., KDD 2017: stop if the best so far is worse than the median at this step."""
    rng = np.random.default_rng(0)
    epoch = WARMUP + 2
    for _ in range(50):
        finished = [dict(enumerate(rng.random(10), start=1)) for _ in range(STARTUP + 2)]
        own = dict(enumerate(rng.random(epoch), start=1))
        expected = max(own.values()) < np.median([f[epoch] for f in finished])
        assert below_median(own, finished) == expected


def test_pruning_waits_for_trials_and_epochs() -> None:
    good = [dict.fromkeys(range(1, 20), 0.9)] * STARTUP
    assert below_median(dict.fromkeys(range(1, WARMUP + 3), 0.1), good)
    assert not below_median(dict.fromkeys(range(1, WARMUP + 3), 0.1), good[1:])
    assert not below_median({1: 0.1, 2: 0.1}, good)
    assert not below_median({}, good)


# --- fronts and importance -----------------------------------------------------------------------


def slow_front(values: np.ndarray, signs: np.ndarray) -> list[int]:
    gain = values * signs
    return [
        i
        for i, v in enumerate(gain)
        if not any(np.all(w >= v) and np.any(w > v) for j, w in enumerate(gain) if j != i)
    ]


def test_the_front_is_what_nothing_beats() -> None:
    values = np.random.default_rng(0).random((25, 3))
    found = pareto_front(values.tolist(), ["max", "min", "max"])
    assert found == slow_front(values, np.array([1, -1, 1]))
    assert pareto_front([[0.1], [0.3], [0.2]], ["max"]) == [1]
    assert pareto_front([[0.1, 0.2], [np.nan, 0.9]], ["max", "max"]) == [0]
    assert pareto_front([[np.nan]], ["max"]) == []


def test_importance_finds_what_matters() -> None:
    space = Space.parse(["a=0,1,2,3", "b=0,1,2,3"])
    points = [p for p in space.grid() for _ in range(3)]
    seeds = [1, 2, 3] * 16
    noise = np.random.default_rng(0).normal(0, 0.1, len(points))
    values = [2.0 * float(p["model.a"]) + float(p["model.b"]) + n for p, n in zip(points, noise, strict=True)]  # type: ignore[arg-type]
    found = importances(points, seeds, values, {a.key: a.ordered() for a in space.axes})
    # Exactly: the variances of 2a and b are as 4 to 1.
    assert float(found["model.a"].value) == pytest.approx(0.8, abs=0.05)
    assert float(found["model.b"].value) == pytest.approx(0.2, abs=0.05)
    assert float(found["seed"].value) < 0.02
    assert all(float(e.error) > 0 for e in found.values())


def test_importance_needs_something_to_explain() -> None:
    space = Space.parse(["a=0,1"])
    points = list(space.grid()) * 3
    distributions = space.distributions()
    assert importances(points, [1] * 6, [0.0, 1.0] * 3, distributions) == {}  # one entry, one seed
    assert importances(points, [1, 1, 2, 2, 3, 3], [1.0] * 6, distributions) == {}
    assert importances(points[:2], [1, 2], [0.0, 1.0], distributions) == {}
