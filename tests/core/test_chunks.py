"""Cutting a population into chunks and putting the results back are inverse to each other."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hepxai.core.chunks import BUDGET, chunk_rows, evenly_spread, in_order, jagged_in_order
from hepxai.core.jagged import offsets_from_counts, parents, take_rows

COUNTS = st.lists(st.integers(0, 12), max_size=40).map(lambda c: np.array(c, dtype=np.int64))
BUDGETS = st.one_of(st.integers(1, 400), st.just(BUDGET))


@given(COUNTS, BUDGETS)
def test_every_event_is_in_one_chunk(counts: np.ndarray, budget: int) -> None:
    chunks = chunk_rows(counts, budget)
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *chunks])
    assert sorted(rows) == list(range(len(counts)))
    assert all(len(c) for c in chunks)


@given(COUNTS, BUDGETS)
def test_chunks_stay_within_the_budget(counts: np.ndarray, budget: int) -> None:
    """One event more than the budget at most: an event cannot be cut."""
    for rows in chunk_rows(counts, budget):
        cost = np.maximum(counts[rows], 4) ** 2
        assert cost.sum() - cost.max() <= budget


@given(COUNTS, BUDGETS)
def test_events_of_a_chunk_are_of_similar_size(counts: np.ndarray, budget: int) -> None:
    sizes = [counts[rows] for rows in chunk_rows(counts, budget)]
    assert all((np.diff(own) >= 0).all() for own in sizes)
    assert all(a.max() <= b.min() for a, b in itertools.pairwise(sizes))


@given(COUNTS, BUDGETS, st.integers(1, 3))
def test_in_order_is_the_inverse(counts: np.ndarray, budget: int, outputs: int) -> None:
    values = np.random.default_rng(0).normal(size=(len(counts), outputs))
    chunks = chunk_rows(counts, budget)
    back = in_order([values[rows] for rows in chunks], chunks, (0, outputs))
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, values)


@given(COUNTS, BUDGETS)
def test_jagged_in_order_is_the_inverse(counts: np.ndarray, budget: int) -> None:
    offsets = offsets_from_counts(counts)
    values = np.stack([np.arange(offsets[-1]), parents(offsets)], axis=1).astype(np.float32)
    chunks = chunk_rows(counts, budget)
    parts = [values[take_rows(offsets, rows)[0]] for rows in chunks]
    back = jagged_in_order(parts, chunks, offsets)
    assert len(back) == offsets[-1]
    np.testing.assert_array_equal(back.reshape(-1, 2), values)
    if chunks:
        assert back.dtype == np.float32


def test_one_event_larger_than_the_budget() -> None:
    chunks = chunk_rows(np.array([3, 1000, 2]), budget=100)
    assert [rows.tolist() for rows in chunks] == [[2, 0], [1]]


def test_evenly_spread_entries():
    assert evenly_spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spread(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spread(10, 1).tolist() == [0]
    assert evenly_spread(0, 4).tolist() == []
    for size, maximum in ((1000, 7), (999, 998), (12_345, 256)):
        rows = evenly_spread(size, maximum)
        assert len(np.unique(rows)) == maximum
        assert (rows[0], rows[-1]) == (0, size - 1)
