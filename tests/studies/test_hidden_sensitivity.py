"""Hidden sensitivity: envelopes and shifts of rules for which both are by_resolution."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mass_rule import RESOLUTIONS, MassRule, PtRule, dimuon_events, exact_chi2

from hepxai.core.estimate import share
from hepxai.datasets.resolutions import declared, resolutions_of
from hepxai.events import Events
from hepxai.studies.hidden_sensitivity import hidden_sensitivity
from hepxai.studies.hidden_sensitivity.shifts import momentum_changes

pytestmark = pytest.mark.filterwarnings("ignore:the score depends on the order")
CONSTANT = {t: {"pt": 4, "eta": 0, "phi": 0} for t in ("muon", "jet")} | {
    "met": {"pt": 0, "eta": 0, "phi": 0}
}


@pytest.fixture(scope="module")
def events() -> Events:
    return dimuon_events(300, seed=4)


def sums(events: Events) -> np.ndarray:
    return events.p4[:, 0].astype(float).reshape(-1, 5)


@pytest.mark.parametrize("n", [1.0, 2.0])
def test_a_sum_of_pt(events: Events, n: float) -> None:
    """Two particles of a type: a shift moves the sum by 2 n σ, the envelope by √2 n σ; four: 4 and 2."""
    far = sums(events).sum(1) - 270
    result = hidden_sensitivity(PtRule(threshold=270.0), events, n=n, resolutions=CONSTANT, recoil=False)
    for name, particles in (("muon", 2), ("jet", 2), ("all", 4)):
        reach = 4 * n * np.sqrt(particles)
        clear = np.abs(np.abs(far) - reach) > 0.02 * reach
        np.testing.assert_array_equal(result.envelope[name][clear], (np.abs(far) <= reach)[clear])
        up, down = result.shifts[name].values()
        shift = 4 * n * particles
        np.testing.assert_array_equal(up, (far < 0) & (far + shift >= 0))
        np.testing.assert_array_equal(down, (far >= 0) & (far - shift < 0))
        assert result[name].hidden.value == pytest.approx(0, abs=1e-12)
        expected = share(result.envelope[name], events.weight, "share")
        assert result[name].envelope.value == expected.value
        assert result[name].envelope.error == expected.error > 0


def test_a_difference_hides_from_shifts(events: Events) -> None:
    """pt1 - pt2 does not change when both are shifted, but when they move apart."""
    result = hidden_sensitivity(PtRule(difference=True), events, resolutions=CONSTANT, types=["muon"])
    far = np.abs(sums(events)[:, 0] - sums(events)[:, 1])
    clear = np.abs(far - 4 * np.sqrt(2)) > 0.1
    np.testing.assert_array_equal(result.envelope["muon"][clear], (far <= 4 * np.sqrt(2))[clear])
    assert not any(f.any() for f in result.shifts["muon"].values())
    one = result["muon"]
    assert one.hidden.value == one.envelope.value > 3 * one.envelope.error
    assert one.either.value == 0
    assert one.either.error > 0


def test_the_mass_rule_against_the_exact_distance() -> None:
    events = dimuon_events(20, seed=6)
    p4 = events.p4.reshape(-1, 5, 4)
    sigma = resolutions_of(events, declared(events, RESOLUTIONS, events.schema.types)).reshape(-1, 5, 3)
    exact = np.array([exact_chi2(p[:2], s[:2]) for p, s in zip(p4, sigma, strict=True)])
    result = hidden_sensitivity(MassRule(), events, n=4.0, resolutions=RESOLUTIONS, types=["muon", "jet"])
    clear = np.abs(exact / 16 - 1) > 0.05
    np.testing.assert_array_equal(result.envelope["muon"][clear], (exact <= 16)[clear])
    np.testing.assert_array_equal(result.envelope["all"], result.envelope["muon"])  # jets do not matter
    assert not result.envelope["jet"].any()
    assert 0 < result.envelope["muon"].mean() < 1


def scaled(events: Events, factor: float, *, recoil: bool = False) -> Events:
    """Events with another pt of jets, which missing momentum balances or not."""
    p4 = events.p4.astype(float)
    jets, met = events.is_type("jet"), events.is_type("met")
    change = np.where(jets, (factor - 1) * p4[:, 0], 0.0)
    x, y = (np.add.reduceat(change * f(p4[:, 2]), events.offsets[:-1]) for f in (np.cos, np.sin))
    p4[:, 0] += change
    if recoil:
        px, py = p4[met, 0] * np.cos(p4[met, 2]) - x, p4[met, 0] * np.sin(p4[met, 2]) - y
        p4[met, 0], p4[met, 2] = np.hypot(px, py), np.arctan2(py, px)
    return events.replace(p4=p4.astype(np.float32))


FIXED = {t: {"pt": 0, "eta": 0, "phi": 0} for t in ("muon", "jet", "met")}
SOURCES = {"scale": {"scale_up": 1.05, "scale_down": 0.97}, "weight": {"weight": 1.0}}


def test_variations_of_the_card(events: Events) -> None:
    """σ of a jet is its larger shift; in the envelope each jet moves by itself."""
    varied = {s: {n: scaled(events, f)[::-1] for n, f in several.items()} for s, several in SOURCES.items()}
    varied["scale"]["scale_up"] = varied["scale"]["scale_up"][50:]  # 50 events leave the selection
    rule = PtRule(threshold=270.0)
    result = hidden_sensitivity(rule, events, varied=varied, resolutions=FIXED, recoil=False)
    assert [e.particle for e in result.entries] == ["jet", "all"]
    far, jets = sums(events).sum(1) - 270, sums(events)[:, 2:4]
    size = 0.05 * np.where(np.arange(300) < 250, 1, 0)  # of events that leave only the other shift is known
    reach = np.sqrt(np.sum((np.maximum(size, 0.03)[:, None] * jets) ** 2, axis=1))
    clear = np.abs(np.abs(far) - reach) > 0.05 * reach
    for name in ("jet", "all"):
        shifts = result.shifts[name]
        np.testing.assert_array_equal(result.envelope[name][clear], (np.abs(far) <= reach)[clear])
        up = (far < 0) & (far + size * jets.sum(1) >= 0)
        np.testing.assert_array_equal(shifts["scale_up"], up)
        np.testing.assert_array_equal(shifts["scale_down"], (far >= 0) & (far - 0.03 * jets.sum(1) < 0))
        assert up.any()
        assert not shifts["weight"].any()
        either = share(shifts["scale_up"] | shifts["scale_down"], events.weight, "share")
        assert (result[name].either.value, result[name].either.error) == (either.value, either.error)


def test_shifts_that_differ_hide(events: Events) -> None:
    """The difference of two jets changes little with their scale, and more when they move apart."""
    rule = PtRule(difference=True)
    muons = {"muon": {"pt": "0.05 * pt", "eta": 0, "phi": 0}}
    by_resolution = hidden_sensitivity(rule, events, resolutions=FIXED | muons, types=["muon"])
    p4 = events.p4.copy()
    p4[events.is_type("muon"), 0] *= 1.05
    varied = {"scale": {"up": events.replace(p4=p4)}}
    result = hidden_sensitivity(rule, events, varied=varied, resolutions=FIXED, types=["muon"], recoil=False)
    np.testing.assert_array_equal(result.envelope["muon"], by_resolution.envelope["muon"])
    assert result["muon"].hidden.value == by_resolution["muon"].envelope.value > 0


def test_missing_momentum_that_balances_has_no_shift_of_its_own(events: Events) -> None:
    varied, met = scaled(events, 1.1, recoil=True), events.is_type("met")
    np.testing.assert_allclose(momentum_changes(events, varied, recoil=True)[met], 0, atol=1e-4)
    alone = momentum_changes(events, varied, recoil=False)
    assert (np.abs(alone[met, 0]) > 0.1).mean() > 0.9
    pt = events.p4[:, 0] * np.where(met, 1.2, 1)
    varied = events.replace(p4=np.column_stack([pt, events.p4[:, 1:]]).astype(np.float32))
    changes = momentum_changes(events, varied, recoil=True)
    np.testing.assert_allclose(changes[met, 0], 0.2 * events.p4[met, 0], rtol=1e-4)
    np.testing.assert_allclose(changes[:, 1:], 0, atol=1e-6)
    twice = events.replace(index=np.zeros_like(events.index))
    with pytest.raises(ValueError, match="give each its position in the file as index"):
        momentum_changes(twice, twice, recoil=True)


def test_rows_and_table(events: Events) -> None:
    result = hidden_sensitivity(PtRule(threshold=270.0), events[:50], resolutions=CONSTANT, recoil=False)
    assert [r["particle"] for r in result.rows()] == ["muon", "jet", "all"]  # met does not move
    assert result.rows()[0]["envelope"]["value"] == result["muon"].envelope.value
    json.dumps(result.rows(), allow_nan=False)
    lines = str(result).splitlines()
    assert lines[0].split()[:4] == ["particle", "χ²", "≤", "1"]
    assert len(lines) == 4
    with pytest.raises(KeyError, match="no row 'tau'; there are muon, jet, all"):
        result["tau"]


def test_bad_input(events: Events) -> None:
    with pytest.raises(ValueError, match="n=0; a positive number of σ is needed"):
        hidden_sensitivity(MassRule(), events, n=0, resolutions=CONSTANT)
    with pytest.raises(ValueError, match="no resolutions for muon, jet, met; write on the data-set card"):
        hidden_sensitivity(MassRule(), events)
    with pytest.raises(ValueError, match="moving is set here for each row; give types="):
        hidden_sensitivity(MassRule(), events, resolutions=CONSTANT, moving=["muon"])
