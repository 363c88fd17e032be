"""Importances in training and validation: their distance, its errors, and what noise makes of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import kstest

from hepxai.core.estimate import Estimate
from hepxai.metrics.importance import Importance
from hepxai.studies.overfitting.numbers import ImportanceShift, gap


def importance(mean: np.ndarray, error: float = 0.01, names: str = "abcdef") -> Importance:
    repeats = np.stack([mean - 0.001, mean + 0.001], axis=1)
    known = tuple(names[: len(mean)])
    return Importance(known, {}, "auc", "signal", 0.9, repeats, np.full(len(mean), error))


TRUE = np.array([0.3, 0.2, 0.1, 0.05, 0.01, 0.0])


def test_by_hand() -> None:
    found = ImportanceShift(
        importance(np.add(TRUE, [0.03, -0.04, 0, 0, 0, 0]), 0.003), importance(TRUE, 0.004)
    )
    np.testing.assert_allclose(found.difference, [0.03, -0.04, 0, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(found.error, 0.005)
    assert float(found.distance.value) == pytest.approx(0.05)
    assert float(found.distance.error) == pytest.approx(0.005)  # √(.03² + .04²) · .005 / .05
    assert found.floor == pytest.approx(0.005 * np.sqrt(6))
    chi2, degrees, p = found.compatible()
    assert (chi2, degrees) == (pytest.approx(100), 6)
    assert p < 1e-15
    assert float(found.rank_distance().value) == pytest.approx(0)


def test_without_overfitting_it_is_what_errors_make() -> None:
    rng, distances, p_values = np.random.default_rng(0), [], []
    significances, by_chance = [], []
    for _ in range(400):
        one, other = (importance(TRUE + rng.normal(0, 0.01, 6)) for _ in range(2))
        found = ImportanceShift(one, other)
        distances.append(float(found.distance.value))
        p_values.append(found.compatible()[2])
        significances.append(found.significance)
        by_chance.append(found.null.p_value(distances[-1]))
    assert np.sqrt(np.mean(np.square(distances))) == pytest.approx(found.floor, rel=0.05)
    assert np.mean(distances) == pytest.approx(float(found.null.expectation.value), rel=0.05)
    assert (np.mean(significances), np.std(significances)) == pytest.approx((0, 1), abs=0.15)
    assert np.mean(np.array(by_chance) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert "by chance" in str(found)
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_the_error_of_a_large_distance_has_coverage() -> None:
    rng, pulls = np.random.default_rng(1), []
    shift = np.array([0.1, 0.05, 0, 0, 0, -0.05])
    for _ in range(400):
        one = importance(TRUE + shift + rng.normal(0, 0.005, 6), 0.005)
        found = ImportanceShift(one, importance(TRUE + rng.normal(0, 0.005, 6), 0.005)).distance
        pulls.append((float(found.value) - np.linalg.norm(shift)) / float(found.error))
    assert np.std(pulls) == pytest.approx(1, abs=0.12)
    assert abs(np.mean(pulls)) < 0.35  # the distance of noise is never below 0


def test_columns_that_share_their_events() -> None:
    """Two columns that rise and fall together are one degree of freedom: D is the length of one number."""
    covariance = 1e-4 * np.array([[1.0, 1.0], [1.0, 1.0]])
    one, other = (
        dataclasses.replace(importance(np.array(m)), covariance=covariance)
        for m in ([0.3, 0.2], [0.28, 0.18])
    )
    found = ImportanceShift(one, other)
    assert found.compatible()[:2] == (pytest.approx(2.0), 1)  # .02² / (2 · .01²)
    assert float(found.null.expectation.value) == pytest.approx(np.sqrt(4e-4 * 2 / np.pi), rel=0.05)
    assert float(found.distance.error) == pytest.approx(np.sqrt(4e-4))


def test_columns_that_are_never_used_do_not_count() -> None:
    one, other = importance(TRUE + 0.02), importance(TRUE)
    silent = [dataclasses.replace(i, error=np.array([0.01] * 3 + [0.0] * 3)) for i in (one, other)]
    assert ImportanceShift(*silent).compatible()[1] == 3
    nothing = dataclasses.replace(importance(np.zeros(6)), error=np.zeros(6))
    assert ImportanceShift(nothing, nothing).compatible() == (0.0, 0, 1.0)
    assert float(ImportanceShift(nothing, nothing).distance.value) == 0
    assert np.isnan(ImportanceShift(nothing, nothing).rank_distance().value)


def test_rankings() -> None:
    turned = ImportanceShift(importance(TRUE), importance(TRUE[::-1].copy()))
    assert float(turned.rank_distance().value) == pytest.approx(2)
    sure, unsure = (ImportanceShift(importance(TRUE, e), importance(TRUE, e)) for e in (1e-6, 0.1))
    assert float(sure.rank_distance().error) < 1e-9
    assert float(unsure.rank_distance().error) > 0.1
    assert unsure.rank_distance() == unsure.rank_distance()


def test_gap() -> None:
    train, valid = (
        Estimate(np.asarray(v), np.asarray(e), n) for v, e, n in ((0.95, 0.003, 900.0), (0.9, 0.004, 300.0))
    )
    found = gap(train, valid)
    assert (float(found.value), float(found.error), found.n_eff) == (
        pytest.approx(0.05),
        pytest.approx(0.005),
        300.0,
    )


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="importances of different names cannot be compared"):
        ImportanceShift(importance(TRUE), importance(TRUE, names="ABCDEF"))
    with pytest.raises(ValueError, match="of different metric cannot be compared: auc and loss"):
        ImportanceShift(importance(TRUE), dataclasses.replace(importance(TRUE), metric="loss"))
    with pytest.raises(ValueError, match="different conditional"):
        ImportanceShift(importance(TRUE), dataclasses.replace(importance(TRUE), conditional=True))
