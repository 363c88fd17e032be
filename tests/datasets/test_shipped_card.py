"""The card that comes along, on the sample beside it."""

from __future__ import annotations

import numpy as np
import pytest

from hepxai.datasets import DatasetCard, read
from hepxai.events import Events


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
