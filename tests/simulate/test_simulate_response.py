"""Response functions against slow references and large random samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import simulate_helpers as helpers

from hepxai.simulate.response import efficiency, relative_resolution, smearing, tag_efficiency, tag_score
from hepxai.simulate.settings import Efficiency, Resolution

N = 200_000


def test_efficiency_is_the_formula():
    curve = Efficiency(plateau=0.9, half_point=10, width=5)
    pt = np.array([1.0, 10.0, 12.0, 200.0])
    slow = [0.9 * 0.5 * (1 + math.erf((p - 10) / 5)) for p in pt]
    np.testing.assert_allclose(efficiency(pt, curve), slow)
    assert efficiency(pt, curve)[1] == pytest.approx(0.45)


def test_resolution_is_the_formula_in_the_right_bin():
    bins = [
        Resolution(abs_eta_max=1.0, constant=0.01, stochastic=0.1),
        Resolution(abs_eta_max=2.0, noise=2, linear=1e-4),
    ]
    eta = np.array([0.5, -0.999, 1.5, -3.0])
    first = math.sqrt(0.01**2 + 0.1**2 / 50)
    second = math.sqrt((2 / 50) ** 2 + (1e-4 * 50) ** 2)
    np.testing.assert_allclose(
        relative_resolution(np.full(4, 50.0), eta, bins), [first, first, second, second]
    )


@pytest.mark.parametrize("width", [0.01, 0.15, 0.5])
def test_smearing_has_mean_one_and_the_given_width(width):
    factor = smearing(np.random.default_rng(0), np.full(N, width))
    assert factor.mean() == pytest.approx(1, abs=5 * width / math.sqrt(N))
    assert factor.std() == pytest.approx(width, rel=0.02)
    assert factor.min() > 0


def test_no_resolution_means_no_change():
    assert np.array_equal(smearing(np.random.default_rng(0), np.zeros(5)), np.ones(5))


@pytest.mark.parametrize(("flavour", "low", "high"), [(5, 0.74, 0.80), (4, 0.15, 0.20), (0, 0.007, 0.013)])
def test_tag_rates_at_the_working_point(flavour, low, high):
    btag = helpers.shipped_settings().detector.btag
    shape = {5: btag.b, 4: btag.c, 0: btag.light}[flavour]
    pt = np.full(N, 70.0)
    score = tag_score(np.random.default_rng(1), pt, np.full(N, flavour), btag)
    rate = np.mean(score > btag.threshold)
    expected = shape.plateau * math.tanh(70 / shape.turn_on) * (1 + shape.slope * 70)
    assert rate == pytest.approx(expected, abs=5 * math.sqrt(expected / N))
    assert low < rate < high
    assert score.min() > 0
    assert score.max() < 1


def test_tag_scores_are_ordered_by_flavour():
    btag = helpers.shipped_settings().detector.btag
    rng = np.random.default_rng(2)
    medians = [np.median(tag_score(rng, np.full(N, 60.0), np.full(N, f), btag)) for f in (0, 4, 5)]
    assert medians == sorted(medians)
    assert medians[0] < 0.1
    assert medians[2] > 0.8


def test_tag_efficiency_stays_a_probability():
    btag = helpers.shipped_settings().detector.btag
    for shape in (btag.b, btag.c, btag.light):
        value = tag_efficiency(np.array([0.0, 20.0, 1e4, 1e6]), shape)
        assert np.all((value > 0) & (value < 1))
