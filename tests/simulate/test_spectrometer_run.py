"""Whole simulations of muon patterns: files, workers, interruption, existing output, bad settings."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import spectrometer_helpers as helpers
import uproot
import yaml
from typer.testing import CliRunner

import hepxai.simulate.spectrometer.run as spectrometer_run
from hepxai.cards import CardError, list_cards
from hepxai.cli import app
from hepxai.simulate import (
    ConfigError,
    OutputExistsError,
    SimulationError,
    SimulationInterrupted,
    read_provenance,
)
from hepxai.simulate.settings import find_settings, generator_of
from hepxai.simulate.spectrometer import load_spectrometer, simulate_patterns
from hepxai.simulate.workers import alone_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return helpers.write_settings(tmp_path / "patterns")


def run(folder, out, events=170, **options):
    return simulate_patterns(folder, out, events, **{"samples": ["muons"], "progress": False, **options})


def content(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def test_the_file(folder: Path, tmp_path: Path) -> None:
    made = run(folder, tmp_path / "out")["muons"]
    assert (made.generated, made.selected, made.reused) == (170, 170, False)
    events = content(made.path)
    assert set(events.fields) == {
        *("run", "luminosityBlock", "event", "nHit", "Hit_layer", "Hit_strip", "Hit_fromMuon"),
        *("nMuon", "Muon_pt", "Muon_eta", "Muon_charge"),
    }
    assert events["event"].tolist() == list(range(1, 171))
    assert events["luminosityBlock"].tolist() == [1 + i // 50 for i in range(170)]
    assert set(events["run"].tolist()) == {101}
    assert (events["nMuon"] == 1).tolist() == [True] * 170
    assert not (tmp_path / "out" / ".chunks").exists()
    origin = read_provenance(made.path)
    assert origin["settings"]["samples"] == {"muons": {"run": 101, "fractions": [0.0, 1.0]}}
    assert (origin["requested"], origin["chunks"]) == (170, 4)


def test_the_number_of_workers_and_of_events_does_not_matter(folder: Path, tmp_path: Path) -> None:
    one = content(run(folder, tmp_path / "one")["muons"].path)
    two = content(run(folder, tmp_path / "two", workers=2)["muons"].path)
    more = content(run(folder, tmp_path / "more", events=260)["muons"].path)
    assert ak.array_equal(one, two)
    assert ak.array_equal(one, more[:170])


def test_another_seed_is_another_sample(folder: Path, tmp_path: Path) -> None:
    one = content(run(folder, tmp_path / "one")["muons"].path)
    other = content(run(folder, tmp_path / "other", seed=5)["muons"].path)
    assert not ak.array_equal(one["Muon_pt"], other["Muon_pt"])


def test_stopped_and_gone_on_is_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content(run(folder, tmp_path / "whole")["muons"].path)
    real, made = spectrometer_run.store_chunk, []

    def stops(task):
        made.append(task.index)
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(task)

    monkeypatch.setattr(spectrometer_run, "store_chunk", stops)
    with pytest.raises(SimulationInterrupted, match="the same command goes on"):
        run(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "muons.root").exists()
    again = run(folder, tmp_path / "out")["muons"]
    assert made == [0, 1, 2, 2, 3]
    assert ak.array_equal(content(again.path), whole)


def test_killed_while_writing_resumes_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"""
import os, signal
from pathlib import Path
from hepxai.simulate.spectrometer import simulate_patterns
plain = Path.replace
def stop(self, target):
    if target.suffix == ".root":
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, target)
Path.replace = stop
simulate_patterns({str(folder)!r}, {str(out)!r}, 170, samples=["muons"], progress=False)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [p.suffix for p in out.glob("muons*")] == [".part"]
    (out / ".chunks" / "muons" / "000009-other.safetensors.4711.part").write_text("half")
    run(folder, out)
    assert {p.name for p in out.rglob("*")} == {".lock", "muons.root"}


def test_two_at_once_in_one_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        alone_in(out),
        pytest.raises(SimulationError, match=r"another process works on .*out; wait for it, or"),
    ):
        run(folder, out)
    made = run(folder, out)["muons"]
    with alone_in(out):  # what is there already is only looked at
        assert run(folder, out)["muons"].path == made.path


def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("outside", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "out" / ".chunks").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=r"\.chunks is a link to .*outside"):
        run(folder, tmp_path / "out")


def test_a_damaged_chunk_is_removed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = spectrometer_run.store_chunk

    def spoils(task):
        task.path.write_bytes(b"nonsense")
        return task.index

    monkeypatch.setattr(spectrometer_run, "store_chunk", spoils)
    with pytest.raises(SimulationError, match="chunk 0 was damaged on disk and is removed"):
        run(folder, tmp_path / "out", events=50)
    monkeypatch.setattr(spectrometer_run, "store_chunk", real)
    assert run(folder, tmp_path / "out", events=50)["muons"].selected == 50


def test_a_failed_chunk_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(task):
        raise ArithmeticError("no luck")

    monkeypatch.setattr(spectrometer_run, "store_chunk", fails)
    with pytest.raises(
        SimulationError, match=r"sample 'muons', chunk 0 failed: ArithmeticError: no luck\. Fin"
    ):
        run(folder, tmp_path / "out")


def test_what_is_there(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(folder, out)["muons"]
    before = first.path.read_bytes()
    assert run(folder, out)["muons"].reused
    assert first.path.read_bytes() == before
    with pytest.raises(OutputExistsError, match="other settings"):
        run(folder, out, seed=7)
    with pytest.raises(OutputExistsError, match="holds more events"):
        run(folder, out, events=20)
    assert not run(folder, out, events=300)["muons"].reused
    (out / "muons.root").write_text("mine")
    with pytest.raises(OutputExistsError, match="not a simulated sample"):
        run(folder, out)


BAD = {
    "unknown key": (("layers", "radius"), 3.0, "layers.radius: Extra inputs"),
    "not one": (("samples", "muons", "fractions"), [0.5, 0.4], "add up to 1, these give 0.9"),
    "three muons": (("samples", "muons", "fractions"), [0, 0, 0, 1.0], "at most 3"),
    "falling": (("layers", "radii"), [5.0, 4.6], "layers.radii: Value error, the values must rise"),
    "weights": (("background", "layer_weights"), [1.0], "9 weights wanted"),
    "inside": (("calorimeter", "outer_radius"), 4.6, "must lie outside the calorimeter, r > 4.6 m"),
    "runs": (("samples", "noise", "run"), 101, "two samples share a run number"),
    "efficiency": (
        ("layers", "efficiency"),
        1.2,
        "layers.efficiency: Input should be less than or equal to 1",
    ),
    "swapped": (("toroid", "outer_radius"), 4.0, "inner_radius must be below outer_radius"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_named(case: str, tmp_path: Path) -> None:
    place, value, message = BAD[case]
    content = helpers.settings()
    here = content
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = value
    (tmp_path / "simulate.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as error:
        load_spectrometer(tmp_path)
    assert message in str(error.value)
    assert str(tmp_path / "simulate.yaml") in str(error.value)


def test_bad_questions(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        run(folder, tmp_path, events=0)
    with pytest.raises(ValueError, match="no sample 'muon' in the settings; there are muons, noise, dimuons"):
        run(folder, tmp_path, samples=["muon"])


def test_settings_are_found_and_told_apart(tmp_path: Path) -> None:
    assert find_settings("muon_patterns") == helpers.SHIPPED / "simulate.yaml"
    assert generator_of(find_settings("muon_patterns")) is simulate_patterns
    assert generator_of(find_settings("charged_higgs")).__module__ == "hepxai.simulate.run"
    assert (
        find_settings(str(helpers.write_settings(tmp_path / "mine"))) == tmp_path / "mine" / "simulate.yaml"
    )
    with pytest.raises(CardError, match="no card 'muon_pattern'"):
        find_settings("muon_pattern")
    (tmp_path / "simulate.yaml").write_text("kind: calorimeter")
    with pytest.raises(ConfigError, match="kind: found 'calorimeter'"):
        generator_of(tmp_path / "simulate.yaml")


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
        made = simulate_patterns(helpers.SHIPPED, tmp_path, events, samples=[name], progress=False)
        shipped, fresh = content(helpers.SHIPPED / f"{name}.root"), content(made[name].path)
        assert ak.array_equal(shipped, fresh)
        assert len(shipped) == events
    assert sum(p.stat().st_size for p in helpers.SHIPPED.glob("*.root")) < 600_000


def test_the_folder_is_a_card_or_none_yet() -> None:
    """Until the card is written the folder must not be listed as one."""
    has_card = (helpers.SHIPPED / "card.yaml").is_file()
    assert ("muon_patterns" in list_cards("datasets")) == has_card
    assert np.all([p.suffix != ".py" for p in helpers.SHIPPED.iterdir()])
