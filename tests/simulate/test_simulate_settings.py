"""Settings of the simulations: what is accepted, and what the errors say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import simulate_helpers as helpers

from hepxai.cards import CardError
from hepxai.core.fingerprint import fingerprint
from hepxai.simulate import find_settings, load_settings
from hepxai.simulate.kinds import KINDS, simulation_of

SAMPLES = {
    "charged_higgs": ["signal", "background"],
    "ttbar_qcd": ["signal", "background"],
    "muon_patterns": ["muons", "noise", "dimuons"],
    "jet_images": ["quark", "gluon", "b", "w", "top"],
}


def shipped(name: str):
    return load_settings(helpers.DATASETS / name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("charged_higgs", "pythia"),
        ("ttbar_qcd", "multijet"),
        ("muon_patterns", "spectrometer"),
        ("jet_images", "jet_images"),
    ],
)
def test_shipped_settings_are_found_and_told_apart(name, kind):
    file = find_settings(name)
    assert file == helpers.DATASETS / name / "simulate.yaml"
    settings = load_settings(file, seed=7)
    assert (settings.seed, list(settings.samples)) == (7, SAMPLES[name])
    assert type(simulation_of(settings, SAMPLES[name][0])) is KINDS[kind]
    assert load_settings(file) == shipped(name)


def test_generator_settings_are_read_along():
    assert "gg2ttbar" in shipped("charged_higgs").samples["signal"].commands
    assert "HardQCD:all" in shipped("ttbar_qcd").samples["background"].commands


def test_shipped_slices_are_exclusive_and_leave_no_gap():
    limits = [
        {line.split("=")[0].strip(): float(line.split("=")[1]) for line in part.settings}
        for part in shipped("ttbar_qcd").samples["background"].slices
    ]
    for low, high in pairwise(limits):
        assert low["PhaseSpace:pTHatMax"] == high["PhaseSpace:pTHatMin"]
    assert "PhaseSpace:pTHatMax" not in limits[-1]


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("charged_higgs", "detector.muon.efficiency.plateau", 1.5, "found 1.5; should be less than or equal"),
        ("charged_higgs", "detector.jet.pt_min", -3.0, "greater than 0"),
        ("charged_higgs", "detector.jet.pt_min", float("nan"), "finite number"),
        ("charged_higgs", "detector.electron.isolation.cones", 0.3, r"unknown key (did you mean 'cone'?)"),
        ("charged_higgs", "selection.muons", 1, "greater than or equal to 2"),
        ("charged_higgs", "chunk_events", 0, "greater than or equal to 1"),
        ("charged_higgs", "samples.signal.channels", [], "at least 1 item"),
        ("charged_higgs", "seed", -1, "greater than or equal to 0"),
        ("charged_higgs", "seed", "x" * 500, "found 'xxx"),
        ("charged_higgs", "detector.muon.resolution", [{"abs_eta_max": 1.0}], "end below abs_eta_max = 2.4"),
        ("charged_higgs", "detector.jet.resolution", [{"abs_eta_max": 1.0}], "end below abs_eta_max"),
        (
            "charged_higgs",
            "detector.muon.resolution",
            [{"abs_eta_max": 2.5}, {"abs_eta_max": 1.0}],
            "abs_eta_max must rise from bin to bin",
        ),
        ("charged_higgs", "samples.background.run", 1, "two samples share a run number"),
        ("charged_higgs", "samples.signal.cmnd", "x.cmnd", "no generator settings at "),
        ("ttbar_qcd", "chunk_events", 500, "unknown key"),
        ("ttbar_qcd", "samples.signal.slices", [], "at least 1 item"),
        ("ttbar_qcd", "samples.signal.slices.0.events", 0, "greater than or equal to 1"),
        ("ttbar_qcd", "veto.jets_pt", [20, 30], "must not rise from one to the next"),
        ("ttbar_qcd", "veto.scale", 0, "found 0; should be greater than 0"),
        ("ttbar_qcd", "detector.quark_gluon.pt_d", "much", "valid number"),
        ("ttbar_qcd", "detector.tracks.resolution", [{"abs_eta_max": 1.0}], "end below abs_eta_max = 2.5"),
        ("ttbar_qcd", "selection.jets_min", -1, "greater than or equal to 0"),
        ("jet_images", "towers.number", 1, "greater than or equal to 2"),
        ("jet_images", "samples.w.origin.quark", 2, "unknown key (did you mean 'quarks'?)"),
        ("jet_images", "jet.pt", [600.0, 450.0], "the values must rise"),
        ("muon_patterns", "layers.radius", 3.0, "unknown key"),
        ("muon_patterns", "samples.muons.fractions", [0.5, 0.4], "add up to 1, these give 0.9"),
        ("muon_patterns", "samples.muons.fractions", [0, 0, 0, 0, 0, 1.0], "at most 5"),
        ("muon_patterns", "layers.radii", [5.0, 4.6], "the values must rise"),
        ("muon_patterns", "background.layer_weights", [1.0], "9 weights wanted"),
        ("muon_patterns", "calorimeter.outer_radius", 4.6, "must lie outside the calorimeter, r > 4.6 m"),
        ("muon_patterns", "layers.efficiency", 1.2, "should be less than or equal to 1"),
        ("muon_patterns", "toroid.outer_radius", 4.0, "inner_radius must be below outer_radius"),
        ("muon_patterns", "kind", "calorimeter", "found 'calorimeter'; multijet, jet_images, spectrometer"),
    ],
)
def test_bad_value_is_named_with_file_and_line(tmp_path, name, key, value, message):
    content: Any = helpers.content(helpers.DATASETS / name)
    inside = content
    *path, last = (int(k) if k.isdigit() else k for k in key.split("."))
    for step in path:
        inside = inside[step]
    inside[last] = value
    file = helpers.write_settings(tmp_path, content, helpers.DATASETS / name) / "simulate.yaml"
    with pytest.raises(CardError) as error:
        load_settings(tmp_path)
    text = str(error.value)
    assert message in text
    line = int(text.removeprefix(f"{file}:").partition(":")[0])
    relation = message.startswith(("end below", "two", "9", "must lie", "inner"))  # of several entries
    assert relation or file.read_text().splitlines()[line - 1].strip(" -").startswith(f"{last}:")
    assert relation or key in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "a card is a mapping"),
        (None, "no such file"),
        ("kind: []", "kind"),
    ],
)
def test_not_a_settings_file(tmp_path, text, message):
    if text is not None:
        (tmp_path / "simulate.yaml").write_text(text)
    with pytest.raises(CardError, match=message):
        load_settings(tmp_path)


def test_settings_of_a_data_set_without_a_card(tmp_path: Path):
    mine = helpers.write_settings(tmp_path / "mine", helpers.content())
    assert find_settings(str(mine)) == mine / "simulate.yaml"
    with pytest.raises(CardError, match="no card 'muon_pattern'"):
        find_settings("muon_pattern")


@pytest.mark.parametrize("name", SAMPLES)
def test_settings_of_a_sample_ignore_the_others(name):
    settings = shipped(name)
    first, second, *_ = SAMPLES[name]
    other = settings.samples[second].model_copy(update={"run": 77})
    changed = settings.model_copy(update={"samples": {**settings.samples, second: other}})
    assert fingerprint(settings.settings_of(first)) == fingerprint(changed.settings_of(first))
    assert fingerprint(settings.settings_of(second)) != fingerprint(changed.settings_of(second))
