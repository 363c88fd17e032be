"""Muon patterns: file, command, shipped sample."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import spectrometer_helpers as helpers
import uproot
from typer.testing import CliRunner

from hepxai.cards import list_cards
from hepxai.cli import app
from hepxai.simulate import read_provenance, simulate


def content(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def test_the_file(tmp_path: Path) -> None:
    folder = helpers.write_settings(tmp_path / "patterns")
    made = simulate(folder, tmp_path / "out", 170, samples=["muons"], progress=False)["muons"]
    events = content(made.path)
    assert set(events.fields) == {
        *("run", "luminosityBlock", "event", "nHit", "Hit_layer", "Hit_strip", "Hit_fromMuon"),
        *("nMuon", "Muon_pt", "Muon_eta", "Muon_charge"),
    }
    assert events["event"].tolist() == list(range(1, 171))
    assert events["luminosityBlock"].tolist() == [1 + i // 50 for i in range(170)]
    assert set(events["run"].tolist()) == {101}
    assert (events["nMuon"] == 1).tolist() == [True] * 170
    origin = read_provenance(made.path)
    assert origin["settings"]["samples"] == {"muons": {"run": 101, "fractions": [0.0, 1.0]}}
    assert (origin["requested"], origin["chunks"]) == (170, 4)


def test_the_command(tmp_path: Path) -> None:
    words = ["simulate", "muon_patterns", "-n", "30", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "out").glob("*.root")) == [
        "dimuons.root",
        "muons.root",
        "noise.root",
    ]


def test_the_shipped_sample_is_made_by_the_shipped_settings(tmp_path: Path) -> None:
    for name, events in (("muons", 4000), ("noise", 1000)):
        made = simulate(helpers.SHIPPED, tmp_path, events, samples=[name], progress=False)
        shipped, fresh = content(helpers.SHIPPED / f"{name}.root"), content(made[name].path)
        assert ak.array_equal(shipped, fresh)
        assert len(shipped) == events
    assert sum(p.stat().st_size for p in helpers.SHIPPED.glob("*.root")) < 600_000


def test_the_folder_is_a_card_or_none_yet() -> None:
    """Until the card is written the folder must not be listed as one."""
    has_card = (helpers.SHIPPED / "card.yaml").is_file()
    assert ("muon_patterns" in list_cards("datasets")) == has_card
    assert np.all([p.suffix != ".py" for p in helpers.SHIPPED.iterdir()])
