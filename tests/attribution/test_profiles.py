"""Profiles of pairs in focus: bins of the user, of the nominal map, and on a logarithmic axis."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from toy_maps import make_map

from hepxai import plots
from hepxai.attribution import Attribution
from hepxai.attribution.means import pair_profile, profile_edges
from hepxai.attribution.trainings import stack_trainings
from hepxai.core.binning import checked_edges
from hepxai.events import Events

PAIR = ("muon", "jet")
MASS = "mass_mumu"
PEAK = (60, 80, 88, 89.5, 90.5, 92, 100, 120)


def resonance(toy: Callable[..., Events], events: int = 400, width: float = 0.7) -> Attribution:
    """Pairs whose values are 1 higher within two widths of 90 GeV, where a fifth of the events is."""
    rng = np.random.default_rng(1)
    sample = toy(events)
    mass = np.where(rng.random(events) < 0.2, rng.normal(90, width, events), rng.exponential(60, events) + 5)
    sample = sample.replace(observers={MASS: mass})
    flat = make_map(sample)
    inside = np.repeat(np.abs(mass - 90) < 2 * width, np.diff(flat.offsets))
    return flat.replace(values=0.1 * flat.values + inside)


def test_given_bins_against_a_loop(toy: Callable[..., Events]) -> None:
    attribution = resonance(toy)
    profile = pair_profile(attribution, PAIR, MASS, PEAK)
    chosen = attribution.select(pair=PAIR)
    mass = chosen.events.observers[MASS]
    for b, (low, high) in enumerate(itertools.pairwise(PEAK)):
        for label in (0, 1):
            slow = chosen.population((mass >= low) & (mass < high) & (chosen.events.label == label))
            assert profile.means.value[label, b] == pytest.approx(float(slow.value), nan_ok=True)
    assert profile.means.value[:, 3] == pytest.approx(1.0, abs=0.1)  # 89.5 to 90.5: the whole bin
    assert profile.means.value[:, 0] == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_default_bins_are_those_of_the_profile(toy: Callable[..., Events], scale: str) -> None:
    attribution = resonance(toy)
    edges = profile_edges(attribution, PAIR, MASS, scale=scale)  # type: ignore[arg-type]
    np.testing.assert_array_equal(checked_edges(edges, scale), edges)  # type: ignore[arg-type]
    used = np.diff(attribution.select(pair=PAIR).offsets) > 0
    counts = np.histogram(attribution.events.observers[MASS][used], edges)[0]
    assert counts.sum() == used.sum()
    assert (counts > 0).all()


def test_logarithmic_bins_resolve_small_values(toy: Callable[..., Events]) -> None:
    attribution = resonance(toy)
    values = np.random.default_rng(2).lognormal(3, 2, len(attribution.events))
    attribution = attribution.replace(events=attribution.events.replace(observers={MASS: values}))
    linear, log = (profile_edges(attribution, PAIR, MASS, scale=s) for s in ("linear", "log"))
    assert np.count_nonzero(log < 20) > np.count_nonzero(linear < 20)


def test_alternatives_are_measured_in_the_bins_of_the_nominal_map(toy: Callable[..., Events]) -> None:
    """The trainings share them, and so does a map whose observer is shifted."""
    attribution = resonance(toy)
    other = attribution.replace(values=attribution.values + 1)
    both = pair_profile(stack_trainings([attribution, other]), PAIR, MASS)
    nominal = pair_profile(attribution, PAIR, MASS)
    np.testing.assert_array_equal(both.edges, nominal.edges)
    filled = np.isfinite(nominal.means.value)
    np.testing.assert_allclose(both.means.spread["training"][filled], np.sqrt(0.5))
    shifted = attribution.replace(
        events=attribution.events.replace(observers={MASS: 1.03 * attribution.events.observers[MASS]})
    )
    varied = pair_profile(shifted, PAIR, MASS, profile_edges(attribution, PAIR, MASS))
    np.testing.assert_array_equal(varied.edges, nominal.edges)
    assert not np.allclose(varied.means.value, nominal.means.value, equal_nan=True)
    same = pair_profile(attribution, PAIR, MASS, nominal.edges)
    np.testing.assert_array_equal(same.means.value, nominal.means.value)


@pytest.mark.parametrize(
    ("edges", "scale", "message", "remedy"),
    [
        ([80.0], "linear", "found 1 bin edge; a bin needs two", [80, 100]),
        ([80, 100, 90], "linear", "edge 90 comes after 100; write the edges in rising order", [80, 90, 100]),
        ([80, 80, 90], "linear", "edge 80 comes after 80; .* each once", [80, 90]),
        ([80, np.inf], "linear", "not a finite number; events beyond .* left out", [80, 100]),
        ([80, np.nan], "linear", "not a finite number", [80, 100]),
        ([0, 100], "log", "edge 0 has no place on a logarithmic axis; begin above 0", [1, 100]),
        ([-5, 100], "log", "edge -5 has no place", [1, 100]),
        (
            [1e4, 2e4],
            "linear",
            "no value of mass_mumu .* is inside .*; choose edges that reach the",
            [0, 2e4],
        ),
    ],
)
def test_bad_edges(
    toy: Callable[..., Events], edges: list[float], scale: str, message: str, remedy: list[float]
) -> None:
    attribution = resonance(toy)
    with pytest.raises(ValueError, match=message):
        plots.focus_profile(attribution, PAIR, MASS, edges=edges, scale=scale)  # type: ignore[arg-type]
    plots.focus_profile(attribution, PAIR, MASS, edges=remedy, scale=scale)  # type: ignore[arg-type]


def test_values_that_a_logarithm_lacks(toy: Callable[..., Events]) -> None:
    attribution = resonance(toy)
    mass = attribution.events.observers[MASS]
    negative = attribution.replace(events=attribution.events.replace(observers={MASS: -mass}))
    with pytest.raises(ValueError, match=r"no value of mass_mumu is above 0 .*; take scale: linear"):
        profile_edges(negative, PAIR, MASS, scale="log")
    profile_edges(negative, PAIR, MASS, scale="linear")
    some = np.where(np.arange(len(mass)) % 2, mass, -mass)
    mixed = attribution.replace(events=attribution.events.replace(observers={MASS: some}))
    assert profile_edges(mixed, PAIR, MASS, scale="log")[0] > 0


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_figure_shows_the_resonance(toy: Callable[..., Events], scale: str) -> None:
    ax = plots.focus_profile(resonance(toy), PAIR, MASS, edges=PEAK, scale=scale)  # type: ignore[arg-type]
    assert ax.get_xscale() == scale
    assert ax.get_xlim() == pytest.approx((60, 120))
    points = np.asarray(ax.lines[0].get_xydata())
    at_peak = np.abs(points[:, 0] - 90) < 0.5
    assert at_peak.any()
    assert points[at_peak, 1].min() > 0.8 > 0.3 > np.abs(points[~at_peak & (points[:, 0] < 85), 1]).max()
