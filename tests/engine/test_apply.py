"""A run applied to files: equal to the run itself, whatever the partitions, workers, engine and accidents."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from command_line import typed
from dying_jobs import die, die_once
from shipped_sample import first_entries

from hepxai.attribution.means import pair_means, pair_profile
from hepxai.datasets import DatasetCard, read_entries
from hepxai.engine import Applied, apply_run, engines
from hepxai.engine.application import Application
from hepxai.engine.partition import SUMS
from hepxai.export.friends import write_friends
from hepxai.models.card import ModelCard
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.run import EnsembleRun, Run
from hepxai.run.manifest import RunError

SMALL = [f"convolutions.{i}.width=4" for i in range(3)] + ["training.epochs=1", "training.trainings=2"]
CLASSES = ("signal", "background")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two trainings with two explanations."""
    folder = tmp_path_factory.mktemp("apply") / "run"
    data = DatasetCard.find(first_entries(600))
    run = Run.start(folder, data, ModelCard.find("transformer_edgeconv", SMALL))
    run.train(workers=1)
    run.explain(["attention", "edge_ig"], maximum=40, workers=1)
    return folder


@pytest.fixture
def run(folder: Path) -> Run:
    return Run.open(folder)


@pytest.fixture(scope="module")
def applied(folder: Path) -> Applied:
    """The run applied to its own files in partitions of 250 entries."""
    run = Run.open(folder)
    return apply_run(run, run.dataset, folder.parent / "applied", entries=250)


def sums(folder: Path) -> dict[str, str]:
    """Stored sums of every partition."""
    return {p.parent.name: p.read_text() for p in sorted(folder.rglob(SUMS))}


def columns(path: Path) -> dict[str, list[Any]]:
    with uproot.open(path) as file:
        arrays = file["hepxai"].arrays(library="ak")
        return {name: arrays[name].tolist() for name in arrays.fields}


def same_friends(one: Path, other: Path) -> None:
    assert [p.name for p in sorted(one.glob("*.root"))] == [p.name for p in sorted(other.glob("*.root"))]
    for path in one.glob("*.root"):
        assert columns(path) == columns(other / path.name)


# --- equal to the run ------------------------------------------------------------------------------


def test_friends_are_those_of_the_whole_population(run: Run, applied: Applied, tmp_path: Path) -> None:
    assert not applied.failed
    maps = [m.replace(method=n) for n, m in run.explain_events(run.events, ["attention", "edge_ig"]).items()]
    scores, spread = run.score_events(run.events)
    np.testing.assert_allclose(scores, run.scores, atol=1e-5)
    write_friends(tmp_path / "friends", run.events, maps, scores=scores, score_spread=spread)
    for path in sorted((tmp_path / "friends").glob("*.root")):
        one, other = columns(path), columns(applied.folder / "friends" / path.name)
        assert one.keys() == other.keys()
        for name, values in one.items():
            left, right = (np.concatenate([np.ravel(row) for row in v]) for v in (values, other[name]))
            np.testing.assert_allclose(right, left, rtol=1e-3, atol=2e-5, err_msg=name)
    for name in ("friends.C", "friends.json"):
        assert (applied.folder / "friends" / name).is_file()


def test_numbers_are_those_of_the_whole_population(run: Run, applied: Applied) -> None:
    assert applied.population.events == len(run.events)
    frame = Application(applied.folder).frame
    assert frame.focus is not None
    assert frame.observer is not None
    for name, one in run.explain_events(run.events, ["attention", "edge_ig"]).items():
        means = applied.population.maps[name].means()
        profile = pair_profile(one, frame.focus, frame.observer, frame.edges).means
        for kind, whole in {"pairs": pair_means(one), "profile": profile}.items():
            for field in ("value", "error", "events", "entries"):
                parts = getattr(means[kind], field)
                np.testing.assert_allclose(parts, getattr(whole, field), rtol=1e-4, atol=1e-6)
            spreads = (m.spread["training"] for m in (means[kind], whole))
            np.testing.assert_allclose(*spreads, rtol=1e-3, atol=1e-6)


def test_numbers_are_in_a_file(applied: Applied, run: Run) -> None:
    content = json.loads((applied.folder / "population.json").read_text())
    assert content["failed"] == {}
    assert content["events"] == len(run.events)
    assert {row["sample"] for row in content["cutflow"]} == set(CLASSES)
    histogram = content["scores"]["signal"]
    total = {
        name: run.events.weight[run.events.label == i].sum()
        for i, name in enumerate(run.events.schema.classes)
    }
    np.testing.assert_allclose(np.sum(histogram["weight"], axis=1), list(total.values()))
    row = content["maps"]["edge_ig"]["pairs"][0]
    assert {"value", "error", "training", "events", "entries"} <= row.keys()
    low, high = content["maps"]["edge_ig"]["checks"]["median_residual"]
    assert 0 <= low <= high < 0.05


# --- independent of partitions, order, workers, engine ---------------------------------------------


def same_results(one: Path, other: Path) -> None:
    assert sums(one) == sums(other)
    same_friends(one / "friends", other / "friends")
    assert (one / "population.json").read_text() == (other / "population.json").read_text()


def test_two_processes_give_the_same_bits(run: Run, applied: Applied, tmp_path: Path) -> None:
    other = apply_run(run, run.dataset, tmp_path / "out", entries=250, workers=2)
    same_results(other.folder, applied.folder)


def test_a_dask_scheduler_gives_the_same_bits(run: Run, applied: Applied, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs dask")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "processes": False}
    with distributed.LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        other = apply_run(run, run.dataset, tmp_path / "out", entries=250, engine="dask", scheduler=address)
    same_results(other.folder, applied.folder)


@pytest.mark.slow
def test_dask_processes_give_the_same_bits(run: Run, applied: Applied, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs dask")
    other = apply_run(run, run.dataset, tmp_path / "out", entries=250, workers=2, engine="dask")
    same_results(other.folder, applied.folder)


def test_the_order_of_the_partitions_does_not_matter(
    run: Run, applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engines.on_processes

    def backward(function: Any, jobs: Any, workers: int) -> Any:
        return forward(function, dict(reversed(jobs.items())), workers)

    monkeypatch.setattr(engines, "on_processes", backward)
    other = apply_run(run, run.dataset, tmp_path / "out", entries=250)
    same_results(other.folder, applied.folder)


def test_scores_only(run: Run, tmp_path: Path) -> None:
    result = apply_run(run, run.dataset, tmp_path / "out", explanations=())
    assert not result.population.maps
    assert "hepxai_score" in columns(next((tmp_path / "out" / "friends").glob("*.root")))


def test_unlabelled_files(run: Run, tmp_path: Path) -> None:
    """By default the files are data: one class, weight 1, no truth."""
    folder = Path(run.dataset.folder)
    result = apply_run(run, [str(folder / "signal.root")], tmp_path / "out", explanations=["attention"])
    tree = columns(tmp_path / "out" / "friends" / "000_signal.root")
    assert set(np.array(tree["hepxai_weight"])[np.array(tree["hepxai_selected"])]) == {1.0}
    assert result.population.scores["signal"].weight.shape[0] == 1
    assert "hepxai_probability" in tree


# --- accidents -------------------------------------------------------------------------------------


@pytest.fixture
def copies(run: Run, tmp_path: Path) -> Callable[..., list[str]]:
    """Copies of the signal file, some of them changed by a function."""

    def make(**changes: Callable[[Path], object]) -> list[str]:
        source, paths = Path(run.dataset.folder) / "signal.root", []
        for name in ("one", "two", "three"):
            path = tmp_path / f"{name}.root"
            shutil.copy(source, path)
            changes.get(name, lambda _: None)(path)
            paths.append(str(path))
        return paths

    return make


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("accident", [truncate, Path.unlink])
def test_a_file_that_cannot_be_read_is_named_and_all_others_are_done(
    run: Run, copies: Callable[..., list[str]], tmp_path: Path, accident: Callable[[Path], object]
) -> None:
    files = copies(two=accident)
    result = apply_run(run, files, tmp_path / "out", explanations=["attention"])
    (problem,) = result.failed.values()
    assert str(tmp_path / "two.root") in problem
    friends = sorted(p.name for p in (tmp_path / "out" / "friends").glob("*.root"))
    assert friends == ["000_one.root", "002_three.root"]
    listed = json.loads((tmp_path / "out" / "friends" / "friends.json").read_text())
    assert listed["friends"]["hepxai"]["files"] == friends
    assert [Path(*s["files"]).name for s in listed["samples"].values()] == ["one.root", "three.root"]
    shutil.copy(tmp_path / "one.root", tmp_path / "two.root")
    before = sums(tmp_path / "out")
    again = apply_run(run, files, tmp_path / "out", explanations=["attention"])
    assert not again.failed
    assert before.items() <= sums(tmp_path / "out").items()
    assert again.population.events == 3 * result.population.events / 2
    accident(tmp_path / "three.root")
    last = apply_run(run, files, tmp_path / "out", explanations=["attention"])  # nothing is left to do
    assert (last.failed, last.population.events) == ({}, again.population.events)


def empty(path: Path) -> None:
    with uproot.recreate(path) as file:
        file.mktree("Events", {"event": np.dtype("int64")})


def test_an_empty_file_has_an_empty_friend(
    run: Run, copies: Callable[..., list[str]], tmp_path: Path
) -> None:
    result = apply_run(run, copies(three=empty), tmp_path / "out", explanations=["attention"])
    assert not result.failed
    with uproot.open(tmp_path / "out" / "friends" / "002_three.root") as file:
        assert file["hepxai"].num_entries == 0


@pytest.mark.parametrize("start", [0, 200])
def test_a_partition_without_selected_events(
    run: Run, applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    """Its entries have no event in the friend tree, whose branches are those of all others."""

    def none_at_start(card: DatasetCard, first: int, stop: int) -> Any:
        events, log = read_entries(card, first, stop)
        return (events[:0] if first == start else events), log

    monkeypatch.setattr("hepxai.engine.partition.read_entries", none_at_start)
    result = apply_run(run, run.dataset, tmp_path / "out", entries=200)
    assert not result.failed
    assert result.population.events == len(run.events) - 400
    for name in ("000_signal.root", "001_background.root"):
        tree, whole = columns(tmp_path / "out" / "friends" / name), columns(applied.folder / "friends" / name)
        assert tree.keys() == whole.keys()
        assert not any(tree["hepxai_selected"][start : start + 200])
        assert tree["hepxai_run"][400:] == whole["hepxai_run"][400:]


def test_a_folder_that_was_removed_starts_afresh(run: Run, tmp_path: Path) -> None:
    """In one process, which has loaded the application that was there before."""
    out = tmp_path / "out"
    apply_run(run, run.dataset, out, explanations=())
    shutil.rmtree(out)
    result = apply_run(run, run.dataset, out, explanations=["attention"])
    assert list(result.population.maps) == ["attention"]
    assert "nhepxai_attention" in columns(out / "friends" / "000_signal.root")


def test_an_input_that_was_written_again_is_refused(
    run: Run, copies: Callable[..., list[str]], tmp_path: Path
) -> None:
    files = copies()
    apply_run(run, files, tmp_path / "out", explanations=())
    with uproot.open(files[0]) as old:
        numbers = old["Events"]["event"].array(library="np")
    with uproot.recreate(files[0]) as new:
        new.mktree("Events", {"event": numbers.dtype})
        new["Events"].extend({"event": numbers})
    with pytest.raises(RunError, match="was begun with another files; choose another --out"):
        apply_run(run, files, tmp_path / "out", explanations=())


def test_a_part_that_was_changed_is_done_anew(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    from hepxai.engine import apply as module

    out = tmp_path / "out"
    monkeypatch.setattr(module._Work, "_friends", lambda *_: {})
    apply_run(run, run.dataset, out, explanations=["attention"])
    monkeypatch.undo()
    part = next(out.rglob("attention.safetensors"))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="its files were changed or removed; it is done anew"):
        result = apply_run(run, run.dataset, out, explanations=["attention"])
    assert not result.failed
    assert result.population.events == len(run.events)


def test_what_does_not_go_together_is_refused(run: Run, applied: Applied, tmp_path: Path) -> None:
    selected = run.dataset.model_copy(update={"selection": {"none": "event < 0"}})
    with pytest.raises(RunError, match=r"selection: of the card .* is not that of the run"):
        apply_run(run, selected, tmp_path / "d")
    with pytest.raises(RunError, match="was begun with another entries; choose another --out"):
        apply_run(run, run.dataset, applied.folder, entries=100)
    with pytest.raises(RunError, match=r"no explanation 'shapley', only .*`hepxai explain .* -m shapley`"):
        apply_run(run, run.dataset, tmp_path / "a", explanations=["shapley"])
    focus = run.dataset.focus.model_copy(update={"observer": "other"})
    with pytest.raises(RunError, match="have no observer 'other'; take one of its card"):
        apply_run(run, run.dataset.model_copy(update={"focus": focus}), tmp_path / "e")
    python = PythonCard(model="Mine", view="graph", outputs=("signal",))
    with pytest.raises(RunError, match="a model of your own Python"):
        apply_run(dataclasses.replace(run, card=python), run.dataset, tmp_path / "f")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else; choose a new or empty folder"):
        apply_run(run, run.dataset, tmp_path / "b")
    with pytest.raises(ValueError, match="no engine 'spark'; choose one of processes, dask"):
        apply_run(run, run.dataset, tmp_path / "c", engine="spark")
    with pytest.raises(ValueError, match="add engine='dask'"):
        apply_run(run, run.dataset, tmp_path / "c", scheduler="tcp://host:8786")
    folds = run.dataset.model_copy(
        update={"split": run.dataset.split.model_copy(update={"folds": 2, "fold": "all"})}
    )
    several = dataclasses.replace(run, dataset=folds)
    assert isinstance(several, EnsembleRun)
    with pytest.raises(RunError, match="apply the run of one fold, as in members/fold1"):
        apply_run(several, run.dataset, tmp_path / "c")


# --- processes that die ----------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    jobs = {name: (str(tmp_path), name) for name in "abc"}
    assert dict(engines.on_processes(die_once, jobs, 2)) == dict.fromkeys("abc")


def test_a_job_that_kills_every_worker_fails_alone(tmp_path: Path) -> None:
    outcomes = dict(engines.on_processes(die, {name: (str(tmp_path), name) for name in "abcdef"}, 2))
    assert outcomes["b"] is not None
    assert [n for n, problem in outcomes.items() if problem is None] == [n for n in outcomes if n != "b"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", np.random.default_rng(5).uniform(4, 20, 5))
def test_kill_and_resume(folder: Path, applied: Applied, tmp_path: Path, moment: float) -> None:
    """Killed at any moment, the same command gives the same bits, and repeats nothing."""
    out, card = tmp_path / "out", Run.open(folder).dataset
    command = [sys.executable, "-m", "hepxai", "apply", str(folder), "--out", str(out), "--entries", "250"]
    command += ["--card", str(Path(card.folder) / "card.yaml"), "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    times = {p: p.stat().st_mtime_ns for p in out.rglob(SUMS)}
    assert subprocess.run(command, check=False).returncode == 0
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())
    assert sums(out) == sums(applied.folder)
    same_friends(applied.folder / "friends", out / "friends")


def test_command(folder: Path, tmp_path: Path) -> None:
    signal_file = str(first_entries(600).with_name("signal.root"))
    out = tmp_path / "out"
    options = ["--out", str(out), "--sample", "signal", "-m", "attention"]
    result = typed("apply", str(folder), signal_file, *options)
    assert result.exit_code == 0, result.output
    assert "600 events" in result.output or "events; friend trees and numbers in" in result.output
    copy = tmp_path / "broken.root"
    shutil.copy(signal_file, copy)
    truncate(copy)
    broken = typed(
        "apply", str(folder), signal_file, str(copy), "--out", str(tmp_path / "b"), "--scores-only"
    )
    assert broken.exit_code == 1
    assert "broken.root" in broken.output
    assert "1 failed, all others are done" in broken.output
    neither = typed("apply", str(folder), "--out", str(tmp_path / "c"))
    assert neither.exit_code == 2
    assert "ROOT files, or --card" in neither.output
