"""Measures over several trainings."""

from __future__ import annotations

import numpy as np
import pytest

from hepxai.core.estimate import Estimate
from hepxai.studies.comparison.trainings import by_chance, differences, exceeds, resolved


def numbers(values: list[float], error: float = 0.01) -> list[Estimate]:
    return [Estimate(np.asarray(v), np.asarray(error), 10.0) for v in values]


@pytest.mark.parametrize(
    ("values", "error", "counts"),
    [
        ([0.4, 0.5, 0.6], 0.01, True),
        ([0.4, 0.5, 0.6], 0.2, False),  # statistical error
        ([0.1, 0.5, 0.9], 0.01, False),  # spread
        ([0.5], 0.01, False),  # spread unknown
        ([-0.4, -0.5, -0.6], 0.01, True),
        ([-0.01, 0.5, 0.5], 0.001, False),  # sign
    ],
)
def test_a_difference_counts_where_it_exceeds_both_errors(
    values: list[float], error: float, counts: bool
) -> None:
    assert exceeds(numbers(values, error)) is counts


def test_common_changes_of_two_methods_cancel() -> None:
    ours, theirs = numbers([0.1, 0.5, 0.9]), numbers([0.0, 0.4, 0.81])
    assert exceeds(differences(ours, theirs))
    measure = {"ours": ours, "theirs": theirs, "as theirs": theirs}
    assert list(resolved(measure)) == [("ours", "theirs"), ("ours", "as theirs")]
    assert list(resolved(measure, larger=False)) == [("theirs", "ours"), ("as theirs", "ours")]


def test_few_trainings_exceed_their_spread_by_chance() -> None:
    draws = np.random.default_rng(0).normal(size=(40_000, 3))
    share = np.mean(np.abs(draws.mean(1)) > 3 * draws.std(1, ddof=1))
    assert by_chance(3) == pytest.approx(share, rel=0.1)
    assert by_chance(2) > by_chance(3) > by_chance(10)
