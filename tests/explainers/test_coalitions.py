"""Sets of particles and orders of joining, one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from slow_reference import double
from slow_shapley import Toy, game, plus, rough

from hepxai.events import Events
from hepxai.explainers import coalitions
from hepxai.models.graph.cloud import Cloud
from hepxai.models.target import Target

ToyEvents = Callable[..., Events]


@pytest.mark.parametrize("n", [3, 4, 9, 10])
def test_permutations_are_balanced(toy: ToyEvents, n: int) -> None:
    events = toy(5, seed=1, smallest=n, largest=n)
    order = coalitions.permutations(events, 40, seed=3)
    assert order.shape == (5, 40, n, n)
    assert np.array_equal(np.sort(order, axis=-1), np.broadcast_to(np.arange(n), order.shape))
    assert np.array_equal(np.sort(order, axis=-2), np.broadcast_to(np.arange(n)[:, None], order.shape))
    next_to = np.sort(np.stack([order[..., :-1], order[..., 1:]], axis=-1), axis=-1)
    for rows in next_to.reshape(-1, n * (n - 1), 2)[:20]:
        pairs, times = np.unique(rows, axis=0, return_counts=True)
        assert len(pairs) == n * (n - 1) // 2
        assert (times == 2).all()


def test_permutations_are_uniform(toy: ToyEvents) -> None:
    """All 24 orders of four particles, equally often in every row of the square."""
    events = toy(1, smallest=4, largest=4)
    order = coalitions.permutations(events, 24_000, seed=0)[0]
    for row in range(4):
        _, times = np.unique(order[:, row], axis=0, return_counts=True)
        assert len(times) == 24
        chi2 = float(((times - 1000) ** 2 / 1000).sum())
        assert chi2 < 60  # 23 degrees of freedom: one in 10⁴


@pytest.mark.parametrize("n", [3, 6, 7])
def test_scores_along_permutations(toy: ToyEvents, n: int) -> None:
    """Looked up, worked out, and found in the neighbouring row: the same as one by one."""
    events = double(toy(2, seed=1, smallest=n, largest=n))
    one = coalitions.CoalitionScorer(Toy(rough), Cloud.of(events), Target((1.0,)), 0.25)
    order = coalitions.permutations(events, 3, seed=0)
    known = one.scores_by_size((0, 1, n - 1, n))
    start = one.joining(order, known)
    skipping = coalitions.skipping(start)
    games = [game(Toy(rough), events[[e]]) | {(): 0.25} for e in range(2)]
    for place in np.ndindex(2, 3, n):
        v = games[place[0]]
        row = tuple(order[place].tolist())
        assert start[place] == pytest.approx([v[plus(row[:k])] for k in range(n + 1)])
        assert skipping[place] == pytest.approx([v[plus(row[:k], row[k + 1])] for k in range(n - 1)])


@pytest.mark.parametrize(("n", "k"), [(0, 0), (5, 0), (5, 2), (6, 5), (6, 6), (40, 38), (70, 2)])
def test_sets_are_numbered(n: int, k: int) -> None:
    rows = coalitions.subsets(n, k)
    assert rows.shape == (math.comb(n, k), k)
    mixed = np.random.default_rng(0).permuted(rows, axis=1)
    assert np.array_equal(coalitions.rank(mixed, n), np.arange(len(rows)))
