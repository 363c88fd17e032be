"""Dealing out anew within cells: who gets whose values, and what the cells know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from hepxai.events import Events
from hepxai.importance import shuffling
from hepxai.importance.permutation import permutation_importance
from hepxai.importance.shuffling import among_all, cells, permute_within_cells

ToyEvents = Callable[..., Events]


def test_all_permutations_of_a_cell_are_equally_likely() -> None:
    cell = np.array([5, 1, 5, 1, 5, 7])
    seen = {tuple(o) for o in permute_within_cells(cell, among_all(6, 400, seed=0))}
    assert len(seen) == 3 * 2 * 2 * 1  # 3! of cell 5, 2! of cell 1
    for order in seen:
        assert sorted(order) == list(range(6))
        assert (cell[list(order)] == cell).all()


def test_one_cell_is_no_condition() -> None:
    orders = among_all(50, 3, seed=2)
    for found, expected in zip(
        permute_within_cells(np.zeros(50, dtype=np.int64), orders), orders, strict=True
    ):
        assert np.array_equal(found, expected)


def correlated(n: int, seed: int) -> np.ndarray:
    """The second column is nearly the first one, the third is by itself."""
    x = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    x[:, 1] = -x[:, 0] + 0.05 * x[:, 1]
    return x


def spread_within(x: np.ndarray, cell: np.ndarray) -> float:
    """Spread of a column inside of the cells, as a share of its own."""
    means = np.bincount(cell, weights=x) / np.maximum(np.bincount(cell), 1)
    return float(np.std(x - means[cell]) / np.std(x))


def test_cells_are_fine_in_what_is_correlated_only() -> None:
    x = correlated(4000, 1)
    assert spread_within(x[:, 0], cells(x, np.array([0]))) < 0.1
    assert spread_within(x[:, 2], cells(x, np.array([2]))) > 0.9
    assert spread_within(x[:, 0], cells(x, np.array([0, 1]))) > 0.9


def test_cells_do_not_learn_noise() -> None:
    """Each half of the events is cut by what the other half says: inside of a cell nothing is more alike."""
    x = np.random.default_rng(0).normal(size=(20_000, 5)).astype(np.float32)
    cell = cells(x, np.array([0]))
    count = np.bincount(cell)[cell]
    expected = np.sqrt(np.mean(1 - 1 / count))  # of random cells of these sizes
    assert spread_within(x[:, 0], cell) == pytest.approx(expected, abs=0.01)


def test_missing_and_infinite_values() -> None:
    x = np.random.default_rng(2).normal(size=(2000, 3)).astype(np.float32)
    x[::7, 0], x[::11, 1], x[::13, 2] = np.nan, np.inf, -np.inf
    assert cells(x, np.array([0])).shape == (2000,)
    missing = np.isnan(x[:, 0])
    x[:, 2] = missing  # tells where values are missing
    cell = cells(x, np.array([0]))
    assert not set(cell[missing]) & set(cell[~missing])


def test_all_columns_of_the_table_have_no_condition() -> None:
    x = correlated(10, 1)
    assert (cells(x, np.arange(3)) == 0).all()
    assert cells(x[:1], np.array([0])).shape == (1,)
    assert cells(x[:0], np.array([0])).shape == (0,)


def test_the_fit_is_of_a_part_of_a_large_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    x = correlated(4000, 1)
    monkeypatch.setattr(shuffling, "FIT", 500)
    assert spread_within(x[:, 0], cells(x, np.array([0]))) < 0.2


# --- the importance ------------------------------------------------------------------------------------


class Both:
    """Uses the column and its copy, as ridge regression would."""

    view = "table"
    outputs = ("signal",)

    def logits(self, events: Events) -> np.ndarray:
        return self.score_table(events.globals)

    def score_table(self, x: np.ndarray) -> np.ndarray:
        return (0.75 * x[:, 0] - 0.75 * x[:, 1] - 0.8 * x[:, 2])[:, None]


def drawn(toy: ToyEvents, n: int, seed: int) -> Events:
    x, events = correlated(n, seed), toy(n, largest=0)
    schema = dataclasses.replace(events.schema, globals=("a", "copy", "b"), global_units=("",) * 3)
    label = np.random.default_rng(seed + 1).random(n) < 1 / (1 + np.exp(-Both().score_table(x)[:, 0]))
    return events.replace(schema=schema, globals=x, label=label.astype(np.int64), weight=np.ones(n))


def test_a_copy_tells_nothing_beyond_the_column(toy: ToyEvents) -> None:
    """Plain permutation calls both important, because it makes events in which the two differ."""
    events = drawn(toy, 10_000, 1)
    plain, given = (permutation_importance(Both(), events, conditional=c) for c in (False, True))
    assert not plain.conditional
    assert given.conditional
    assert (plain.mean[:2] > 0.06).all()
    assert (np.abs(given.mean[:2]) < 0.002).all()
    # A column that is independent of the others has the same importance.
    assert abs(given.mean[2] - plain.mean[2]) < 2 * np.hypot(given.spread[2], plain.spread[2])
    together = permutation_importance(Both(), events, groups={"both": ["a", "copy"]}, conditional=True)
    assert together.mean[0] > 0.15


def test_it_is_the_recipe(toy: ToyEvents) -> None:
    """Metric of the table, minus that of a copy with values dealt out inside of each cell, in loops."""
    events = drawn(toy, 300, 2)
    found = permutation_importance(Both(), events, metric="accuracy", conditional=True, repeats=2, seed=3)
    x = events.globals
    for column in range(3):
        cell = cells(x, np.array([column]))
        for r in range(2):
            order, permuted = np.random.default_rng([3, r]).permutation(300), x.copy()
            for c in np.unique(cell):
                (own,) = np.nonzero(cell == c)
                permuted[own, column] = x[[e for e in order if cell[e] == c], column]
            right = [((Both().score_table(t)[:, 0] > 0) == events.label).mean() for t in (x, permuted)]
            assert found.repeats[column, r] == pytest.approx(right[0] - right[1])
