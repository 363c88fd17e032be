"""Whole simulations of a few events: files, workers, interruption, existing output, recipes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import simulate_helpers as helpers
import spectrometer_helpers
import uproot

from hepxai.cards import CardError
from hepxai.simulate import (
    MissingExtraError,
    OutputExistsError,
    SimulationError,
    SimulationInterrupted,
    load_settings,
    read_provenance,
    recipe,
    simulate,
)
from hepxai.simulate import run as runner
from hepxai.simulate.chunk import store_chunk
from hepxai.simulate.kinds import simulation_of
from hepxai.simulate.workers import alone_in

pytest.importorskip("pythia8mc", reason="simulating events needs the extra simulate")
pytest.importorskip("fastjet", reason="simulating events needs the extra simulate")

WRITE = {"higgs": helpers.quick_settings, "muons": spectrometer_helpers.write_settings}
SAMPLE = {"higgs": "background", "muons": "muons"}
TARGET = {"higgs": 12, "muons": 170}


class Case:
    """Quick settings of one simulation, and a run of one of its samples that nothing disturbed."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.sample, self.target = SAMPLE[kind], TARGET[kind]
        self.folder = WRITE[kind](folder / "settings")
        self.made = self.run(folder / "made", keep_chunks=True)

    def run(self, out, events=None, **options):
        options = {"samples": [self.sample], "progress": False, **options}
        return simulate(self.folder, out, events or self.target, **options)[self.sample]

    def chunks(self, out: Path) -> list[Path]:
        return sorted((out / ".chunks" / self.sample).glob("*.safetensors"))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return cache(lambda kind: Case(kind, tmp_path_factory.mktemp(kind)))


@pytest.fixture(params=WRITE)
def case(request, cases):
    return cases(request.param)


@pytest.fixture
def higgs(cases):
    return cases("higgs")


@pytest.fixture
def muons(cases):
    return cases("muons")


def events_of(path):
    with uproot.open(path) as file:
        return file["Events"].arrays()


def same(first: Path, second: Path) -> bool:
    a, b = events_of(first), events_of(second)
    return a.fields == b.fields and all(ak.array_equal(a[f], b[f]) for f in a.fields)


def written(paths) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in paths}


# --- the file -------------------------------------------------------------------------------------


def test_file_holds_what_the_result_says(case):
    events, made = events_of(case.made.path), case.made
    assert len(events) == made.selected >= case.target
    assert made.efficiency == made.selected / made.generated
    assert not made.reused
    assert len(np.unique(events.event)) == len(events)
    assert made.cutflow["generated"] == made.generated
    with uproot.open(made.path) as file:
        counted, weighted = file["cutflow"], file["cutflow_weighted"]
        assert counted.axis().labels() == list(made.cutflow)
        assert counted.values().tolist() == list(made.cutflow.values())
    assert counted.values()[-1] == len(events)
    assert np.all(np.diff(counted.values()) <= 0)
    weight = events.genWeight if "genWeight" in events.fields else ak.ones_like(events.event)
    assert weighted.values()[-1] == pytest.approx(ak.sum(weight), rel=1e-5)
    assert weighted.variances()[-1] == pytest.approx(ak.sum(weight**2), rel=1e-4)


def test_provenance_determines_the_run(case):
    provenance = read_provenance(case.made.path)
    settings = load_settings(case.folder)
    assert provenance["settings"] == settings.settings_of(case.sample)
    assert provenance["versions"].keys() >= {"numpy"}
    assert provenance["requested"] == case.target
    assert provenance["chunks"] == len(case.chunks(case.made.path.parent))
    assert provenance["generator_failures"] == 0
    json.dumps(provenance)


def test_branches_follow_nanoaod(higgs):
    with uproot.open(higgs.made.path) as file:
        types = {k: v.typename for k, v in file["Events"].items()}
    assert types["run"] == types["luminosityBlock"] == "uint32_t"
    assert types["event"] == "uint64_t"
    assert types["genWeight"] == types["MET_pt"] == "float"
    assert types["nMuon"] == types["nJet"] == "int32_t"
    assert types["Muon_pt"] == types["Jet_btag"] == "float[]"
    assert types["Jet_hadronFlavour"] == types["Electron_charge"] == "int32_t[]"
    assert types["Muon_fromResonance"] == types["Jet_fromHp"] == "bool[]"


def test_identities_are_traceable(higgs):
    events = events_of(higgs.made.path)
    assert set(events.run.tolist()) == {2}
    np.testing.assert_array_equal(events.luminosityBlock, (events.event - 1) // 20 + 1)
    assert higgs.made.generated % 40 == 0  # two channels of 20 events
    assert read_provenance(higgs.made.path)["chunks"] * 20 == higgs.made.generated


# --- workers, interruption, chunks ----------------------------------------------------------------


def test_workers_do_not_change_the_events_but_the_seed_does(case, tmp_path):
    result = case.run(tmp_path / "two", workers=2)
    assert same(result.path, case.made.path)
    assert read_provenance(result.path) == read_provenance(case.made.path)
    assert not (tmp_path / "two" / ".chunks").exists()
    assert not same(case.run(tmp_path / "other", seed=1).path, case.made.path)


def interrupt_after(monkeypatch, chunks):
    left = iter(range(chunks))

    def interrupted(task):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return store_chunk(task)

    monkeypatch.setattr(runner, "store_chunk", interrupted)


def test_interrupted_run_resumes(case, tmp_path, monkeypatch):
    for chunks in (1, 0):
        interrupt_after(monkeypatch, chunks)
        with pytest.raises(SimulationInterrupted, match="the same command resumes"):
            case.run(tmp_path)
        (stored,) = written(case.chunks(tmp_path)).items()
    assert (tmp_path / ".chunks" / ".gitignore").read_text() == "*\n"
    monkeypatch.setattr(runner, "store_chunk", store_chunk)
    assert same(case.run(tmp_path, keep_chunks=True).path, case.made.path)
    assert stored in written(case.chunks(tmp_path)).items()


def test_lost_and_damaged_chunks_are_made_again(case, tmp_path):
    out = shutil.copytree(case.made.path.parent, tmp_path / "out")
    first, *_, last = case.chunks(out)
    first.write_bytes(b"cut off")
    last.unlink()
    (out / case.made.path.name).unlink()
    assert same(case.run(out).path, case.made.path)


def test_chunks_of_other_settings_are_not_used(higgs, tmp_path):
    out = tmp_path / "out"
    content = helpers.content()
    content["chunk_events"] = 20
    content["selection"] |= {"electrons": 1, "jets_min": 1, "bjets_min": 0}
    other = helpers.write_settings(tmp_path / "other", content)
    simulate(other, out, higgs.target, samples=[higgs.sample], progress=False, keep_chunks=True)
    (out / "background.root").unlink()
    assert same(higgs.run(out).path, higgs.made.path)


def test_kept_chunks_serve_a_larger_run(case, tmp_path):
    out = shutil.copytree(case.made.path.parent, tmp_path / "out")
    before = written(case.chunks(out))
    larger = case.run(out, case.made.selected + 1, keep_chunks=True)
    assert larger.selected > case.made.selected
    assert before.items() <= written(case.chunks(out)).items()
    assert case.run(out, case.made.selected + 1).reused


def test_fewer_muon_patterns_are_the_first_of_more(muons, tmp_path):
    more = events_of(muons.run(tmp_path, 260).path)
    assert ak.array_equal(events_of(muons.made.path), more[:170])
    assert (muons.made.generated, muons.made.selected) == (170, 170)


def test_known_number_of_chunks_is_not_exceeded(muons, tmp_path):
    muons.run(tmp_path, 50, workers=4, keep_chunks=True)
    assert len(muons.chunks(tmp_path)) == 1


# --- output that is there -------------------------------------------------------------------------


def test_same_call_again_does_nothing(case):
    before = written([case.made.path])
    again = case.run(case.made.path.parent)
    assert again.reused
    assert again.cutflow == case.made.cutflow
    assert written(before) == before


def test_other_output_is_refused_before_anything_runs(case, tmp_path):
    out = case.made.path.parent
    with pytest.raises(OutputExistsError, match=r"made with other settings: move or delete it"):
        case.run(out, seed=9)
    with pytest.raises(OutputExistsError, match="holds more events"):
        case.run(out, events=1)
    (tmp_path / case.made.path.name).write_text("my thesis")
    with pytest.raises(OutputExistsError, match="is not a simulated sample"):
        case.run(tmp_path, samples=None)
    assert (tmp_path / case.made.path.name).read_text() == "my thesis"
    assert not (tmp_path / ".chunks").exists()


def test_failed_write_leaves_no_file_and_keeps_the_chunks(muons, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    extend = uproot.WritableTree.extend
    monkeypatch.setattr(uproot.WritableTree, "extend", full)
    with pytest.raises(OSError, match=r"disk full, nothing was written: .*muons\.root"):
        muons.run(tmp_path)
    monkeypatch.setattr(uproot.WritableTree, "extend", extend)
    assert {p.name for p in tmp_path.iterdir()} == {".chunks", ".lock"}
    assert same(muons.run(tmp_path).path, muons.made.path)


def test_two_at_once_in_one_folder(muons, tmp_path):
    message = r"another process works on .*; wait for it, or"
    with alone_in(tmp_path), pytest.raises(SimulationError, match=message):
        muons.run(tmp_path)
    made = muons.run(tmp_path)
    with alone_in(tmp_path):  # finished samples are only read
        assert muons.run(tmp_path).path == made.path


def test_links_out_of_the_folder_are_refused(muons, tmp_path):
    for name in ("outside", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "out" / ".chunks").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=r"\.chunks is a link to .*outside"):
        muons.run(tmp_path / "out")


# --- errors and progress --------------------------------------------------------------------------


def test_unknown_generator_setting_crosses_the_process_boundary(tmp_path):
    broken = helpers.quick_settings(tmp_path / "broken")
    (broken / "background.cmnd").write_text("HiggsSM:gg2Htbar = on")
    with pytest.raises(CardError, match=r"background\.cmnd, line 1"):
        simulate(broken, tmp_path / "out", 1, workers=2, samples=["background"], progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": -1}, "events must be at least 1, got -1"),
        ({"samples": ["muon"]}, "no sample 'muon' in the settings; there are muons, noise, dimuons"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_wrong_arguments(muons, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        muons.run(tmp_path, **options)


def test_progress_bar_counts_selected_events(higgs, tmp_path, capsys):
    higgs.run(tmp_path, events=1, progress=True)
    shown = capsys.readouterr().err
    assert re.search(r"background .* [0-9]+/1 .* (selected, [0-9]+ events/s|writing)", shown), shown


# --- recipes --------------------------------------------------------------------------------------


def test_each_part_changes_the_recipe(higgs, monkeypatch):
    simulation = simulation_of(load_settings(higgs.folder), "signal")
    original = recipe.recipe_of(simulation)
    assert recipe.recipe_of(simulation) == original
    keys = {original["recipe"]}
    keys.add(recipe.recipe_of(simulation_of(load_settings(higgs.folder, seed=1), "signal"))["recipe"])
    with monkeypatch.context() as patch:
        patch.setattr(recipe.importlib.metadata, "version", lambda name: "8.0")
        keys.add(recipe.recipe_of(simulation)["recipe"])
    monkeypatch.setattr(recipe, "sha256", lambda path: "other")
    keys.add(recipe.recipe_of(simulation)["recipe"])
    assert len(keys) == 4


def test_missing_extra_is_said_at_once(higgs, monkeypatch):
    def missing(name):
        raise MissingExtraError(f"simulating events needs {name}")

    monkeypatch.setattr(recipe, "import_generator", missing)
    with pytest.raises(MissingExtraError, match="pythia8mc"):
        recipe.recipe_of(simulation_of(load_settings(higgs.folder), "signal"))


# --- killed processes -----------------------------------------------------------------------------


def test_killed_while_writing_resumes_and_leaves_nothing(muons, tmp_path):
    out = tmp_path / "out"
    script = f"""
import os, signal
from pathlib import Path
from hepxai.simulate import simulate
plain = Path.replace
def stop(self, target):
    if target.suffix == ".root":
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, target)
Path.replace = stop
simulate({str(muons.folder)!r}, {str(out)!r}, 170, samples=["muons"], progress=False)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [p.suffix for p in out.glob("muons*")] == [".part"]
    (out / ".chunks" / "muons" / "000009-other.safetensors.4711.part").write_text("half")
    muons.run(out)
    assert {p.name for p in out.rglob("*")} == {".lock", "muons.root"}


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
def test_kill_9_and_resume(higgs, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(higgs.folder), out=str(tmp_path / "out"), events=60))
    process = subprocess.Popen([sys.executable, script])
    wait_for(lambda: len(higgs.chunks(tmp_path / "out")) >= 3, 120)
    workers_alive = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    wait_for(lambda: not any(map(alive, workers_alive)), 30)
    assert not (tmp_path / "out" / "background.root").exists()
    resumed = higgs.run(tmp_path / "out", events=60)
    undisturbed = higgs.run(tmp_path / "clean", events=60)
    assert same(resumed.path, undisturbed.path)
    assert read_provenance(resumed.path) == read_provenance(undisturbed.path)
