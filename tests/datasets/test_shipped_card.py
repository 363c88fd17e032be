"""The card that comes along, on the sample beside it."""

from __future__ import annotations

import numpy as np
import pytest

from hepxai.datasets import DatasetCard, read
from hepxai.datasets.resolutions import declared, resolutions_of
from hepxai.events import Events
from hepxai.simulate.kinds import find_settings, load_settings
from hepxai.simulate.response import relative_resolution


@pytest.fixture(scope="module")
def events() -> Events:
    return read(DatasetCard.find("charged_higgs")).events


def test_enough_events_of_both_classes(events: Events) -> None:
    assert events.schema.classes == ("background", "signal")
    assert (np.bincount(events.label) > 4000).all()
    np.testing.assert_allclose(np.bincount(events.split) / len(events), [0.6, 0.3, 0.1], atol=0.02)


def test_what_a_model_sees(events: Events) -> None:
    assert events.schema.features[:5] == ("energy", "px", "py", "pz", "charge")
    muons = events.is_type("muon")
    assert (np.abs(events.values_of("charge")[muons]) == 1).all()
    assert (events.values_of("charge")[events.is_type("jet")] == 0).all()
    assert (events.index[events.is_type("met")] == -1).all()


def test_the_muon_pair_peaks_where_it_should(events: Events) -> None:
    mass = events.observers["mass_mumu"]
    assert np.isfinite(mass).all()
    for label, expected in ((0, 91.19), (1, 90.0)):
        assert np.median(mass[events.label == label]) == pytest.approx(expected, abs=1)


def test_truth_marks_the_signal_only(events: Events) -> None:
    from_hp, muons = events.truth["fromHp"], events.is_type("muon")
    label = events.label[events.parent]
    assert not from_hp[label == 0].any()
    assert from_hp[(label == 1) & muons].mean() > 0.9
    assert events.truth["fromResonance"][muons].mean() > 0.9


def test_resolutions_are_those_of_the_simulated_detector(events: Events) -> None:
    detector = load_settings(find_settings("charged_higgs")).detector
    sigma = resolutions_of(events, declared(events, None, events.schema.types))
    pt, eta = events.p4[:, :2].T.astype(float)
    for name in ("electron", "muon", "jet"):
        rows, of_type = events.is_type(name), getattr(detector, name)
        relative = relative_resolution(pt[rows], eta[rows], of_type.resolution)
        np.testing.assert_allclose(sigma[rows, 0], relative * pt[rows], rtol=1e-5)
        np.testing.assert_array_equal(sigma[rows, 1:], detector.jet.angular_resolution * (name == "jet"))
        assert {r.type: r.max_eta for r in events.schema.resolutions}[name] == of_type.abs_eta_max


def test_three_classes() -> None:
    """The muons of tt̄ come from no resonance; the two others peak as their cards say."""
    events = read(DatasetCard.find("top_dimuon")).events
    assert events.schema.classes == ("ttbar", "ttz", "signal")
    np.testing.assert_array_equal(np.bincount(events.label), [608, 1628, 1892])
    from_resonance, mass = events.truth["fromResonance"], events.observers["mass_mumu"]
    assert not from_resonance[events.label[events.parent] == 0].any()
    assert np.median(mass[events.label == 0]) < 60
    for label, expected in ((1, 91.19), (2, 90.0)):
        assert np.median(mass[events.label == label]) == pytest.approx(expected, abs=1)


def test_variations_change_nothing_else(events: Events) -> None:
    """Without them the card is the same, and reads the same events bit by bit."""
    card, plain = (DatasetCard.find("charged_higgs", o) for o in ((), ["variations={}"]))
    assert card.model_dump(exclude={"variations"}) == plain.model_dump(exclude={"variations"})
    expected = read(plain).events
    assert events.schema == expected.schema
    assert events.fingerprint(values=True) == expected.fingerprint(values=True)
    np.testing.assert_array_equal(events.weight, expected.weight)
    for name, values in events.observers.items():
        np.testing.assert_array_equal(values, expected.observers[name])


@pytest.mark.parametrize(("side", "factor"), [("up", 1.03), ("down", 0.97)])
def test_jet_scale(events: Events, side: str, factor: float) -> None:
    """All jets move together, and what the jets gain the missing momentum loses."""
    varied = read(DatasetCard.find("charged_higgs").varied(f"jet_scale_{side}")).events
    np.testing.assert_array_equal(varied.offsets, events.offsets)
    jets, met = events.is_type("jet"), events.is_type("met")
    for name in ("pt", "mass", "energy", "px", "pz"):
        before, after = (e.values_of(name)[jets] for e in (events, varied))
        np.testing.assert_allclose(after, before * factor, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(varied.p4[~jets & ~met], events.p4[~jets & ~met])
    for name in ("px", "py"):
        sums = [np.bincount(e.parent, weights=e.values_of(name)) for e in (varied, events)]
        np.testing.assert_allclose(*sums, atol=2e-3)
    np.testing.assert_allclose(varied.observers["met"], varied.p4[met, 0], rtol=1e-6)
    np.testing.assert_allclose(varied.observers["ht"], events.observers["ht"] * factor, rtol=1e-5)
    np.testing.assert_array_equal(varied.observers["mass_mumu"], events.observers["mass_mumu"])


def test_btag_weight(events: Events) -> None:
    """Same events; the sum of weights stays within 1 %, those of single events do not."""
    card = DatasetCard.find("charged_higgs")
    for name in ("btag_up", "btag_down"):
        varied = read(card.varied(name)).events
        assert varied.fingerprint(values=True) == events.fingerprint(values=True)
        ratio = varied.weight / events.weight
        for label in (0, 1):
            rows = events.label == label
            assert varied.weight[rows].sum() / events.weight[rows].sum() == pytest.approx(1, abs=0.01)
            assert ratio[rows].std() > 0.02
