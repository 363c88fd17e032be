"""Index arithmetic against plain Python loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepxai.core.jagged import (
    all_pairs,
    distinct,
    interleave,
    local_index,
    offsets_from_counts,
    parents,
    repetition,
    row_sum,
    take_rows,
)

counts = st.lists(st.integers(0, 6), max_size=12).map(np.array).map(lambda c: c.astype(np.int64))


@given(counts)
def test_offsets_parents_and_local_index_describe_the_same_rows(c):
    offsets = offsets_from_counts(c)
    rows = [(row, position) for row, n in enumerate(c) for position in range(n)]
    assert offsets.tolist() == [sum(c[:i]) for i in range(len(c) + 1)]
    assert list(zip(parents(offsets), local_index(offsets), strict=True)) == rows


@given(counts)
def test_repetition_counts_equal_keys_before(c):
    assert repetition(c).tolist() == [c[:i].tolist().count(key) for i, key in enumerate(c.tolist())]


@given(counts)
def test_all_pairs_are_ordered_by_row_destination_source(c):
    offsets = offsets_from_counts(c)
    expected = [
        (int(start) + s, int(start) + d)
        for start, n in zip(offsets, c, strict=False)
        for d in range(n)
        for s in range(n)
        if s != d
    ]
    src, dst, pair_offsets = all_pairs(offsets)
    assert list(zip(src.tolist(), dst.tolist(), strict=True)) == expected
    assert np.diff(pair_offsets).tolist() == [n * (n - 1) for n in c]


@given(counts, st.data())
def test_take_rows_repeats_reorders_and_counts_from_the_end(c, data):
    offsets = offsets_from_counts(c)
    which = data.draw(st.lists(st.integers(-len(c), len(c) - 1), max_size=8)) if len(c) else []
    flat, taken = take_rows(offsets, np.array(which, dtype=np.int64))
    rows = [list(range(a, b)) for a, b in pairwise(offsets.tolist())]
    assert flat.tolist() == [i for w in which for i in rows[w]]
    assert np.diff(taken).tolist() == [len(rows[w]) for w in which]


@given(counts, st.sampled_from([(), (2,), (2, 3)]))
def test_row_sum_of_empty_rows_is_zero(c, regular):
    offsets = offsets_from_counts(c)
    values = np.random.default_rng(0).normal(size=(int(offsets[-1]), *regular)).astype(np.float32)
    slow = [sum((v.astype(float) for v in values[a:b]), np.zeros(regular)) for a, b in pairwise(offsets)]
    assert row_sum(values, offsets) == pytest.approx(np.reshape(slow, (len(c), *regular)), abs=1e-6)


def test_row_sum_adds_single_precision_in_double():
    values = np.full(2_000_000, 0.1, dtype=np.float32)
    expected = len(values) * float(values[0])
    assert row_sum(values, np.array([0, len(values)]))[0] == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(-5, 20)))
def test_distinct_values_rise(values):
    assert distinct(np.array(values, dtype=np.int64)).tolist() == sorted(set(values))


def test_interleaved_rows_come_part_by_part() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, (3, 9))
    content = [
        [[f"{part}.{row}.{i}" for i in range(n)] for row, n in enumerate(c)] for part, c in enumerate(counts)
    ]
    order, part, offsets = interleave([offsets_from_counts(c) for c in counts])
    flat = np.array([v for rows in content for row in rows for v in row])
    expected = [[v for rows in content for v in rows[row]] for row in range(9)]  # a plain loop
    assert flat[order].tolist() == [v for row in expected for v in row]
    assert part.tolist() == [int(v.partition(".")[0]) for row in expected for v in row]
    assert np.diff(offsets).tolist() == [len(row) for row in expected]
