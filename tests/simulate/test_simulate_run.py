"""Whole simulations of a few events: files, workers, interruption, existing output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import simulate_helpers as helpers
import uproot

from hepxai.simulate import (
    ConfigError,
    OutputExistsError,
    SimulationInterrupted,
    read_provenance,
    simulate,
)
from hepxai.simulate.chunk import store_chunk

pytest.importorskip("pythia8mc", reason="simulating events needs the extra simulate")
pytest.importorskip("fastjet", reason="simulating events needs the extra simulate")

TARGET = 12


def run(folder, out, events=TARGET, **options):
    options = {"samples": ["background"], "progress": False, **options}
    return simulate(folder, out, events, **options)


def events_of(path):
    with uproot.open(path) as file:
        return file["Events"].arrays()


def same(first: Path, second: Path) -> bool:
    a, b = events_of(first), events_of(second)
    return a.fields == b.fields and all(ak.array_equal(a[f], b[f]) for f in a.fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return helpers.quick_settings(tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """A simulation that nothing disturbed, by one process."""
    return run(folder, tmp_path_factory.mktemp("made"))["background"]


def test_file_holds_what_the_result_says(made):
    events = events_of(made.path)
    assert len(events) == made.selected >= TARGET
    assert made.generated % 40 == 0
    assert made.efficiency == made.selected / made.generated
    assert not made.reused
    assert not (made.path.parent / ".chunks").exists()


def test_branches_follow_nanoaod(made):
    with uproot.open(made.path) as file:
        types = {k: v.typename for k, v in file["Events"].items()}
    assert types["run"] == types["luminosityBlock"] == "uint32_t"
    assert types["event"] == "uint64_t"
    assert types["genWeight"] == types["MET_pt"] == "float"
    assert types["nMuon"] == types["nJet"] == "int32_t"
    assert types["Muon_pt"] == types["Jet_btag"] == "float[]"
    assert types["Jet_hadronFlavour"] == types["Electron_charge"] == "int32_t[]"
    assert types["Muon_fromResonance"] == types["Jet_fromHp"] == "bool[]"


def test_cutflow_matches_the_events(made):
    events = events_of(made.path)
    with uproot.open(made.path) as file:
        counted, weighted = file["cutflow"], file["cutflow_weighted"]
        assert counted.axis().labels() == list(made.cutflow)
        assert counted.values().tolist() == list(made.cutflow.values())
    assert counted.values()[0] == made.generated
    assert counted.values()[-1] == len(events)
    assert np.all(np.diff(counted.values()) <= 0)
    assert weighted.values()[-1] == pytest.approx(ak.sum(events.genWeight), rel=1e-6)
    assert weighted.variances()[-1] == pytest.approx(ak.sum(events.genWeight**2), rel=1e-6)


def test_identities_are_unique_and_traceable(made):
    events = events_of(made.path)
    assert len(np.unique(events.event)) == len(events)
    assert set(events.run.tolist()) == {2}
    np.testing.assert_array_equal(events.luminosityBlock, (events.event - 1) // 20 + 1)


def test_provenance_determines_the_run(made):
    provenance = read_provenance(made.path)
    assert provenance["versions"].keys() >= {"pythia8mc", "fastjet", "numpy"}
    assert provenance["settings"]["samples"]["background"]["commands"].startswith("! Background: a STAND-IN")
    assert provenance["requested"] == TARGET
    assert provenance["chunks"] * 20 == made.generated
    assert provenance["cutflow"] == made.cutflow
    json.dumps(provenance)


def test_workers_do_not_change_the_events(folder, made, tmp_path):
    result = run(folder, tmp_path, workers=2)["background"]
    assert same(result.path, made.path)
    assert read_provenance(result.path) == read_provenance(made.path)


def test_seed_changes_the_events(folder, made, tmp_path):
    result = run(folder, tmp_path, seed=1)["background"]
    assert not same(result.path, made.path)


def interrupt_after(monkeypatch, chunks):
    left = iter(range(chunks))

    def interrupted(task):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return store_chunk(task)

    monkeypatch.setattr("hepxai.simulate.run.store_chunk", interrupted)


def test_interrupted_run_goes_on_where_it_was(folder, made, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 1)
    with pytest.raises(SimulationInterrupted):
        run(folder, tmp_path)
    kept = list((tmp_path / ".chunks" / "background").glob("*.safetensors"))
    assert len(kept) == 1
    assert (tmp_path / ".chunks" / ".gitignore").read_text() == "*\n"
    before = kept[0].stat().st_mtime_ns
    interrupt_after(monkeypatch, 0)
    with pytest.raises(SimulationInterrupted):
        run(folder, tmp_path)
    assert kept[0].stat().st_mtime_ns == before
    monkeypatch.setattr("hepxai.simulate.run.store_chunk", store_chunk)
    assert same(run(folder, tmp_path)["background"].path, made.path)


def test_lost_and_damaged_chunks_are_made_again(folder, made, tmp_path):
    run(folder, tmp_path, keep_chunks=True)
    first, *_, last = sorted((tmp_path / ".chunks" / "background").glob("*.safetensors"))
    first.write_bytes(b"cut off")
    last.unlink()
    (tmp_path / "background.root").unlink()
    assert same(run(folder, tmp_path)["background"].path, made.path)


def test_chunks_of_other_settings_are_not_used(folder, made, tmp_path):
    content = helpers.settings()
    content["chunk_events"] = 20
    content["selection"] |= {"electrons": 1, "jets_min": 1, "bjets_min": 0}
    other = helpers.write_settings(tmp_path / "other", content)
    out = tmp_path / "out"
    run(other, out, keep_chunks=True)
    (out / "background.root").unlink()
    assert same(run(folder, out)["background"].path, made.path)


def test_kept_chunks_serve_a_larger_run(folder, tmp_path):
    small = run(folder, tmp_path, events=3, keep_chunks=True)["background"]
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / ".chunks" / "background").glob("*.safetensors")}
    large = run(folder, tmp_path, events=small.selected + 1, keep_chunks=True)["background"]
    assert large.selected > small.selected
    assert all(p.stat().st_mtime_ns == written for p, written in files.items())


def test_same_call_again_does_nothing(folder, tmp_path):
    first = run(folder, tmp_path)["background"]
    written = first.path.stat().st_mtime_ns
    again = run(folder, tmp_path)["background"]
    assert again.reused
    assert again.cutflow == first.cutflow
    assert first.path.stat().st_mtime_ns == written


def test_output_of_other_settings_is_refused(folder, tmp_path):
    run(folder, tmp_path)
    with pytest.raises(OutputExistsError, match=r"made with other settings: move or delete it"):
        run(folder, tmp_path, seed=9)
    with pytest.raises(OutputExistsError, match="holds more events"):
        run(folder, tmp_path, events=1)


def test_foreign_file_is_refused_before_anything_runs(folder, tmp_path):
    (tmp_path / "background.root").write_text("my thesis")
    with pytest.raises(OutputExistsError, match="is not a simulated sample"):
        simulate(folder, tmp_path, 1, progress=False)
    assert (tmp_path / "background.root").read_text() == "my thesis"
    assert not (tmp_path / ".chunks").exists()


def test_failed_write_leaves_no_file_and_keeps_the_chunks(folder, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    extend = uproot.WritableTree.extend
    monkeypatch.setattr(uproot.WritableTree, "extend", full)
    with pytest.raises(OSError, match=r"disk full, nothing was written: .*background\.root"):
        run(folder, tmp_path)
    monkeypatch.setattr(uproot.WritableTree, "extend", extend)
    assert {p.name for p in tmp_path.iterdir()} == {".chunks", ".lock"}
    assert run(folder, tmp_path)["background"].selected >= TARGET


def test_unknown_generator_setting_crosses_the_process_boundary(folder, tmp_path):
    broken = helpers.quick_settings(tmp_path / "broken")
    (broken / "background.cmnd").write_text("HiggsSM:gg2Htbar = on")
    with pytest.raises(ConfigError, match=r"background\.cmnd, line 1"):
        run(broken, tmp_path / "out", workers=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": 0}, "events must be at least 1, got 0"),
        ({"samples": ["sginal"]}, "no sample 'sginal' in the settings; there are signal, background"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_wrong_arguments(folder, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(folder, tmp_path, **options)


def test_progress_bar_counts_selected_events(folder, tmp_path, capsys):
    run(folder, tmp_path, events=1, progress=True)
    shown = capsys.readouterr().err
    assert re.search(r"background .* [0-9]+/1 .* selected, [0-9]+ events/s", shown), shown


SCRIPT = """
from hepxai.simulate import simulate
if __name__ == "__main__":
    simulate({folder!r}, {out!r}, {events}, workers=2, samples=["background"], progress=False)
"""


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_kill_9_and_resume(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(folder), out=str(tmp_path / "out"), events=60))
    process = subprocess.Popen([sys.executable, script])
    chunks = tmp_path / "out" / ".chunks" / "background"
    wait_for(lambda: len(list(chunks.glob("*.safetensors"))) >= 3, 120)
    workers_alive = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    wait_for(lambda: not any(map(alive, workers_alive)), 30)
    assert not (tmp_path / "out" / "background.root").exists()
    resumed = run(folder, tmp_path / "out", events=60)["background"]
    undisturbed = run(folder, tmp_path / "clean", events=60)["background"]
    assert same(resumed.path, undisturbed.path)
    assert read_provenance(resumed.path) == read_provenance(undisturbed.path)
