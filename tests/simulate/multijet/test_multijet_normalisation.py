"""Weights of slices: cross section over all hard processes of the slice."""

from __future__ import annotations

import math

import multijet_helpers as helpers
import numpy as np
import pytest

from hepxai.simulate import SimulationError
from hepxai.simulate.multijet.normalisation import normalise


def test_a_slice_weighs_its_cross_section_over_all_its_hard_processes():
    chunks = [helpers.chunk(100, 10, 50.0), helpers.chunk(20, 5, 4.0)] * 3
    first, second = normalise(["low", "high"], chunks)
    assert [first[k] for k in ("name", "generated", "selected")] == ["low", 300, 30]
    assert first["weight_pb"] == pytest.approx(50.0 / 300)
    assert second["weight_pb"] == pytest.approx(4.0 / 60)
    assert first["cross_section_error_pb"] == pytest.approx(1 / math.sqrt(3))


def test_longer_chunks_count_for_more():
    (only,) = normalise(["all"], [helpers.chunk(300, 1, 10.0, 8.0), helpers.chunk(100, 1, 14.0, 8.0)])
    assert only["cross_section_pb"] == pytest.approx(11.0)
    assert only["cross_section_error_pb"] == pytest.approx(math.hypot(300 * 8.0, 100 * 8.0) / 400)


def test_chunks_that_scatter_more_than_they_say_have_a_larger_error():
    values = [10.0, 14.0, 6.0, 12.0]
    (only,) = normalise(["all"], [helpers.chunk(100, 1, value, 0.1) for value in values])
    assert only["cross_section_error_pb"] == pytest.approx(np.std(values, ddof=1) / 2)


def test_other_chunks_of_the_same_processes_weigh_the_same():
    coarse = normalise(["all"], [helpers.chunk(600, 30, 7.0)])
    fine = normalise(["all"], [helpers.chunk(100, 5, 7.0)] * 6)
    assert coarse[0]["weight_pb"] == pytest.approx(fine[0]["weight_pb"])
    assert coarse[0]["generated"] == fine[0]["generated"]


def test_a_chunk_without_survivors_counts_its_processes_but_knows_no_cross_section():
    (only,) = normalise(["all"], [helpers.chunk(100, 3, 10.0), helpers.chunk(100, 0, np.nan, np.nan)])
    assert (only["generated"], only["cross_section_pb"]) == (200, 10.0)


def test_a_slice_without_survivors_is_refused():
    with pytest.raises(SimulationError, match=r"slice 'low': no event survived the veto.*raise its number"):
        normalise(["low"], [helpers.chunk(100, 0, np.nan, np.nan)])
