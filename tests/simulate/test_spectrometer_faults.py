"""Showers, hot and dead strips of the muon spectrometer, settings of one sample, and the shipped classes."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import simulate_helpers
import uproot

from hepxai.core.fingerprint import fingerprint
from hepxai.core.jagged import offsets_from_counts, parents
from hepxai.datasets import DatasetCard, read
from hepxai.simulate import load_settings, read_provenance
from hepxai.simulate.spectrometer.digitisation import shower_strips
from hepxai.simulate.spectrometer.settings import SpectrometerSettings
from hepxai.simulate.spectrometer.simulation import Spectrometer

SHIPPED = simulate_helpers.DATASETS / "muon_classes"
SETTINGS = load_settings(SHIPPED)
EVENTS = 300


def made(sample):
    settings = SETTINGS.model_copy(update={"chunk_events": EVENTS})
    return Spectrometer(settings, sample).make(0).columns


def hits(columns):
    event = parents(offsets_from_counts(columns["Hit.counts"]))
    return event, columns["Hit.layer"].astype(int), columns["Hit.strip"].astype(int)


def inside_the_fault(columns):
    """Mask of the hits in the rectangle that the file names, one in every event."""
    event, layer, strip = hits(columns)
    at = {k: columns[f"Fault.{k}"].astype(int)[event] for k in ("layer", "strip", "layers", "strips")}
    return (
        (layer >= at["layer"])
        & (layer < at["layer"] + at["layers"])
        & (strip >= at["strip"])
        & (strip < at["strip"] + at["strips"])
    )


@pytest.mark.parametrize(
    ("sample", "pt", "charges"),
    [("low_minus", (5, 9), {-1}), ("high_plus", (12, 20), {1}), ("two_muons", (5, 20), {-1, 1})],
)
def test_a_sample_has_its_own_muons(sample, pt, charges):
    columns = made(sample)
    low, high = pt
    assert columns["Muon.pt"].min() >= low
    assert columns["Muon.pt"].max() <= high
    assert columns["Muon.pt"].max() - columns["Muon.pt"].min() > 0.9 * (high - low)
    assert set(columns["Muon.charge"].tolist()) == charges


def test_a_sample_has_its_own_background():
    busy, usual = made("busy"), made("noise")
    ratio = busy["Hit.counts"].mean() / usual["Hit.counts"].mean()
    assert 4 < ratio < 6  # 45 clusters against 9, and some muons


@pytest.mark.parametrize(
    ("sample", "size", "share"), [("noisy_layer", (1, 384), 0.08), ("hot_strips", (1, 16), 0.8)]
)
def test_hot_strips_fire_inside_their_rectangle(sample, size, share):
    columns = made(sample)
    assert columns["Fault.counts"].tolist() == [1] * EVENTS
    inside, fault = inside_the_fault(columns), columns["Hit.fromFault"]
    assert inside[fault].all()
    tries = EVENTS * size[0] * size[1]
    assert fault.sum() / tries == pytest.approx(share, abs=4.5 * np.sqrt(share * (1 - share) / tries))
    assert set(columns["Fault.layer"].tolist()) == set(range(9))
    assert not columns["Hit.fromShower"].any()


@pytest.mark.parametrize(("sample", "size"), [("dead_layer", (1, 384)), ("dead_sector", (9, 96))])
def test_dead_strips_never_fire(sample, size):
    columns = made(sample)
    assert not inside_the_fault(columns).any()
    assert not columns["Hit.fromFault"].any()
    assert set(zip(columns["Fault.layers"].tolist(), columns["Fault.strips"].tolist(), strict=True)) == {size}


def test_showers_surround_the_muon():
    columns = made("shower")
    event, layer, strip = hits(columns)
    shower, muon = columns["Hit.fromShower"], columns["Hit.fromMuon"]
    assert 3 * 9 * 0.7 < shower.sum() / EVENTS < 3 * 9  # several hits in one strip are one
    for e in range(0, EVENTS, 10):
        layers = np.unique(layer[shower & (event == e)])
        assert len(layers) <= 3
        for k in layers:
            centre = strip[muon & (event == e) & (layer == k)]
            around = strip[shower & (event == e) & (layer == k)]
            assert not len(centre) or abs(np.median(around) - centre.mean()) < 15


def test_showers_begin_in_crossed_layers():
    settings, rng = SETTINGS, np.random.default_rng(0)
    reached = np.zeros((500, 9), dtype=bool)
    reached[:250, 2:6] = True  # the second half crosses nothing
    z = np.sinh(0.5) * np.array(settings.layers.radii) * np.ones((500, 1))
    shower = settings.samples["shower"].shower
    strips = shower_strips(np.arange(500), z, reached, shower, settings.layers, rng)
    assert set(strips.event.tolist()) == set(range(250))
    assert set(strips.layer.tolist()) == {2, 3, 4, 5}
    assert len(strips.event) / 250 == pytest.approx(27, rel=0.05)
    assert np.std(strips.strip) == pytest.approx(6, rel=0.05)
    assert np.mean(strips.strip) + 0.5 == pytest.approx(0.5 / 1.05 * 384, abs=0.5)


def test_masks_tell_where_a_hit_comes_from():
    columns = made("noise")
    assert not any(columns[f"Hit.{k}"].any() for k in ("fromMuon", "fromShower", "fromFault"))
    assert not columns["Fault.counts"].any()


def test_settings_without_faults_are_as_before():
    content = simulate_helpers.content(simulate_helpers.DATASETS / "muon_patterns")
    settings = SpectrometerSettings.model_validate(content)
    assert set(Spectrometer(settings, "muons").layout.collections) == {"Hit", "Muon"}
    assert settings.settings_of("muons")["samples"] == {"muons": {"run": 101, "fractions": [0.0, 1.0]}}
    stored = read_provenance(simulate_helpers.DATASETS / "muon_patterns" / "muons.root")
    assert stored["parts"]["settings"] == fingerprint(settings.settings_of("muons"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"shower": {"hits": 1.0, "layers": 1, "width": 1.0}},
            "this sample has none; give fractions",
        ),
        ({"dead": {"layers": 10, "strips": 1}}, "samples.noise: a patch of 10 x 1 strips, there are 9 x 384"),
        ({"hot": {"layers": 1, "strips": 385, "occupancy": 1.0}}, "a patch of 1 x 385 strips"),
        (
            {"dead": {"layers": 1, "strips": 1}, "hot": {"layers": 1, "strips": 1, "occupancy": 1.0}},
            "hot strips or dead ones, not both",
        ),
        ({"hot": {"layers": 1, "strips": 1, "occupancy": 0.0}}, "greater than 0"),
        ({"muon": {"pt": [9.0, 5.0]}}, "the values must rise"),
    ],
)
def test_faults_that_make_no_sense(changes, message):
    content = simulate_helpers.content(SHIPPED)
    content["samples"]["noise"] |= changes
    with pytest.raises(ValueError, match=message):
        SpectrometerSettings.model_validate(content)


def test_the_shipped_classes():
    for name in SETTINGS.samples:
        stored = read_provenance(SHIPPED / f"{name}.root")
        assert stored["parts"]["settings"] == fingerprint(SETTINGS.settings_of(name))
    events = read(DatasetCard.find("muon_classes")).events
    assert np.bincount(events.label).tolist() == [400] * 12
    assert events.image_layout().shape == (1, 9, 384)
    of_class = np.array(events.schema.classes)[events.label[events.parent]]
    assert set(of_class[events.truth["fromShower"]]) == {"shower"}
    assert set(of_class[events.truth["fromFault"]]) == {"noisy_layer", "hot_strips"}
    assert np.isfinite(events.observers["fault_layer"]).reshape(12, 400).all(1).sum() == 4


def test_the_first_events_are_made_again():
    with uproot.open(SHIPPED / "shower.root") as file:
        shipped = file["Events"].arrays(["Hit_strip", "Hit_fromShower", "Muon_pt"])
    simulation = Spectrometer(SETTINGS, "shower")
    fresh = simulation.first_events(simulation.make(0), 400).columns
    assert ak.flatten(shipped["Hit_strip"]).to_list() == fresh["Hit.strip"].tolist()
    assert ak.flatten(shipped["Hit_fromShower"]).to_list() == fresh["Hit.fromShower"].tolist()
