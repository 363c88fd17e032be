"""Hidden sensitivity: envelopes and shifts of rules for which both are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mass_rule import RESOLUTIONS, MassRule, PtRule, dimuon_events, exact_chi2

from hepxai.core.estimate import share
from hepxai.datasets.resolutions import declared, resolutions_of
from hepxai.events import Events
from hepxai.studies.hidden_sensitivity import hidden_sensitivity

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
    found = hidden_sensitivity(PtRule(threshold=270.0), events, n=n, resolutions=CONSTANT, recoil=False)
    for name, particles in (("muon", 2), ("jet", 2), ("all", 4)):
        reach = 4 * n * np.sqrt(particles)
        clear = np.abs(np.abs(far) - reach) > 0.02 * reach
        np.testing.assert_array_equal(found.envelope[name][clear], (np.abs(far) <= reach)[clear])
        up, down = found.shifts[name]
        shift = 4 * n * particles
        np.testing.assert_array_equal(up, (far < 0) & (far + shift >= 0))
        np.testing.assert_array_equal(down, (far >= 0) & (far - shift < 0))
        assert found[name].hidden.value == pytest.approx(0, abs=1e-12)
        expected = share(found.envelope[name], events.weight, "share")
        assert found[name].envelope.value == expected.value
        assert found[name].envelope.error == expected.error > 0


def test_a_difference_hides_from_shifts(events: Events) -> None:
    """pt1 - pt2 does not change when both are shifted, but when they move apart."""
    found = hidden_sensitivity(PtRule(difference=True), events, resolutions=CONSTANT, types=["muon"])
    far = np.abs(sums(events)[:, 0] - sums(events)[:, 1])
    clear = np.abs(far - 4 * np.sqrt(2)) > 0.1
    np.testing.assert_array_equal(found.envelope["muon"][clear], (far <= 4 * np.sqrt(2))[clear])
    assert not found.shifts["muon"].any()
    one = found["muon"]
    assert one.hidden.value == one.envelope.value > 3 * one.envelope.error
    assert one.either.value == 0
    assert one.either.error > 0


def test_the_mass_rule_against_the_exact_distance() -> None:
    events = dimuon_events(20, seed=6)
    p4 = events.p4.reshape(-1, 5, 4)
    sigma = resolutions_of(events, declared(events, RESOLUTIONS, events.schema.types)).reshape(-1, 5, 3)
    exact = np.array([exact_chi2(p[:2], s[:2]) for p, s in zip(p4, sigma, strict=True)])
    found = hidden_sensitivity(MassRule(), events, n=4.0, resolutions=RESOLUTIONS, types=["muon", "jet"])
    clear = np.abs(exact / 16 - 1) > 0.05
    np.testing.assert_array_equal(found.envelope["muon"][clear], (exact <= 16)[clear])
    np.testing.assert_array_equal(found.envelope["all"], found.envelope["muon"])  # jets do not matter
    assert not found.envelope["jet"].any()
    assert 0 < found.envelope["muon"].mean() < 1


def test_rows_and_table(events: Events) -> None:
    found = hidden_sensitivity(PtRule(threshold=270.0), events[:50], resolutions=CONSTANT, recoil=False)
    assert [r["particle"] for r in found.rows()] == ["muon", "jet", "all"]  # met does not move
    assert found.rows()[0]["envelope"]["value"] == found["muon"].envelope.value
    json.dumps(found.rows(), allow_nan=False)
    lines = str(found).splitlines()
    assert lines[0].split()[:4] == ["particle", "χ²", "≤", "1"]
    assert len(lines) == 4
    with pytest.raises(KeyError, match="no row 'tau'; there are muon, jet, all"):
        found["tau"]


def test_bad_input(events: Events) -> None:
    with pytest.raises(ValueError, match="n=0; a positive number of σ is needed"):
        hidden_sensitivity(MassRule(), events, n=0, resolutions=CONSTANT)
    with pytest.raises(ValueError, match="no resolutions for muon, jet, met; write on the data-set card"):
        hidden_sensitivity(MassRule(), events)
