"""Runs of several trainings and of all folds."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import uproot

from hepxai.attribution.spread import single_trainings
from hepxai.cards import CardError
from hepxai.core.files import read_json
from hepxai.core.workers import WorkerError, run_jobs
from hepxai.datasets import DatasetCard
from hepxai.events.splits import Split
from hepxai.metrics import auc
from hepxai.models.card import ModelCard
from hepxai.report import write_report
from hepxai.report.layer_attributions import maps
from hepxai.report.stability import Stability
from hepxai.report.view import RunView
from hepxai.run import EnsembleRun, Run
from hepxai.run.manifest import RunError

SMALL = ["training.epochs=2", *(f"convolutions.{i}.width=8" for i in range(3))]
SMALL += ["training.epoch_events=2000", "training.batch_size=256"]
PAIR = ("muon", "muon")


def start(folder: Path, trainings: int = 1, folds: int | None = None, *more: str) -> Run:
    split = [] if folds is None else [f"split.folds={folds}", "split.fold=all"]
    card = ModelCard.find("transformer_edgeconv", [*SMALL, f"training.trainings={trainings}", *more])
    return Run.start(folder, DatasetCard.find("charged_higgs", split), card)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings, explained; tests that change the folder copy it first."""
    run = start(tmp_path_factory.mktemp("ensemble") / "two", 2)
    run.train(progress=False, workers=1)
    run.explain(["attention", "node_ig"], maximum=80, settings={"node_ig": {"steps": 4}}, workers=1)
    run.friends()
    return run.folder


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = start(tmp_path_factory.mktemp("ensemble") / "folds", 2, 2)
    run.train(progress=False, workers=1)
    run.explain(["attention"], maximum=60, workers=1)
    return run.folder


def test_the_score_is_the_mean_logit(two: Path, tmp_path: Path) -> None:
    run = Run.open(two)
    assert isinstance(run, EnsembleRun)
    np.testing.assert_allclose(run.scores, run.scores_of_trainings.mean(axis=0))
    np.testing.assert_allclose(run.model.logits(run.events), run.scores, atol=1e-6)
    alone = start(tmp_path / "alone", 1, None, "training.seed=2")
    alone.train(progress=False)
    np.testing.assert_array_equal(alone.scores, run.scores_of_trainings[1])


def test_figures_of_merit_have_the_spread_of_the_trainings(two: Path) -> None:
    run, entry = Run.open(two), Run.open(two).metrics()["test"]["auc"]
    assert isinstance(run, EnsembleRun)
    rows = run.events.split == 2
    signal, weight = run.events.label[rows] == 1, run.events.weight[rows]
    singles = [float(auc(s[rows, 0], signal, weight).value) for s in run.scores_of_trainings]
    assert entry["training"] == pytest.approx(np.std(singles, ddof=1))
    assert entry["value"] == pytest.approx(float(auc(run.scores[rows, 0], signal, weight).value))


def test_maps_are_those_of_the_trainings(two: Path) -> None:
    run = Run.open(two)
    assert isinstance(run, EnsembleRun)
    for name, whole in run.explained().items():
        assert whole.axes[-1] == "training"
        for one, member in zip(single_trainings(whole), run.members.values(), strict=True):
            np.testing.assert_array_equal(one.values, member.explained()[name].values)


def test_means_have_the_spread_of_the_trainings(two: Path) -> None:
    attention = Run.open(two).explained()["attention"].mean("head").mean("layer").select(pair=PAIR)
    mean = attention.population()
    singles = [float(a.population().value) for a in single_trainings(attention)]
    assert float(mean.value) == pytest.approx(np.mean(singles))
    assert float(mean.spread["training"]) == pytest.approx(np.std(singles, ddof=1))
    assert "(training)" in mean.text


def test_attention_relative_to_uniform_is_so_with_all_trainings(two: Path) -> None:
    """The mean over all pairs of an event is 1 by construction."""
    (layer,) = (m for m in maps(RunView(Run.open(two)), "pair") if m.relative)
    assert float(layer.every.population().value) == pytest.approx(1.0)
    np.testing.assert_allclose(layer.every.mean("training").values, layer.plain.values, rtol=1e-5)


def test_trainings_that_explain_other_events_are_named(two: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(two, tmp_path / "copy"))
    Run.open(copy / "members" / "training2").explain(["attention"], maximum=40)
    with pytest.raises(RunError, match=r"training1 explains 80 events and .*training2 40 or others"):
        Run.open(copy).explained()
    (copy / "report.html").write_text("of 80 events")
    run = Run.open(copy)
    run.explain(["attention"], maximum=40, workers=1)
    assert not (copy / "report.html").exists()
    assert len(run.explained()["attention"].events) == 40


def test_a_missing_training_is_said(two: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(two, tmp_path / "copy"))
    shutil.rmtree(copy / "members" / "training2")
    with pytest.raises(RunError, match="training2 is missing, and the rest of the run relies on it"):
        Run.open(copy).explained()
    assert not (copy / "members" / "training2").exists()


def test_trees_that_do_not_depend_on_the_seed_warn(tmp_path: Path) -> None:
    card = ModelCard.find("boosted_trees", ["training.trees=3", "training.trainings=2"])
    run = Run.start(tmp_path / "trees", DatasetCard.find("charged_higgs"), card)
    with pytest.warns(UserWarning, match="does not depend on its seed"):
        run.train(progress=False, workers=1)


def test_events_of_a_fold_are_explained_as_test_events(folds: Path) -> None:
    with pytest.raises(RunError, match="trained most of the networks"):
        Run.open(folds).explain(["attention"], split="train", workers=1)


def test_friends_have_means_and_spreads(two: Path) -> None:
    run = Run.open(two)
    tree = uproot.open(sorted((two / "friends").glob("*.root"))[0])["hepxai"]
    rows = run.events.file == 0
    spread = tree["hepxai_score_training"].array(library="np")[run.events.entry[rows]]
    assert run.score_spread is not None
    np.testing.assert_allclose(spread, run.score_spread[rows, 0], rtol=1e-5)
    assert any("node_ig" in name and name.endswith("_training") for name in tree.keys())  # noqa: SIM118


def test_the_report_says_what_is_stable(two: Path, tmp_path: Path) -> None:
    numbers = read_json(write_report(Run.open(two), tmp_path).parent / "numbers.json")
    assert any("means are stable" in sentence for sentence in numbers["summary"]["Over trainings"])
    verdicts = {n["verdict"] for several in numbers["sections"]["stability"].values() for n in several}
    assert verdicts <= {"stable", "varies", "unresolved"}
    pairs = numbers["sections"]["attention"]["type_pairs"]
    assert all("training" in row for row in pairs)


def test_what_is_of_one_network_names_the_members(two: Path) -> None:
    with pytest.raises(RunError, match=r"2 networks, .* look at each alone, as .*members/training1"):
        Run.open(two).single()
    member = Run.open(two / "members" / "training1")
    assert member.single() is member


def test_a_run_resumes_with_the_members_that_are_done(two: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(two, tmp_path / "copy"))
    scores = Run.open(copy).scores
    names = ("metrics.json", "scores.safetensors", "history.json", "provenance.json")
    Run.open(copy).manifest.forget(*names)
    for name in names:
        (copy / name).unlink()
    shutil.rmtree(copy / "members" / "training2")
    before = (copy / "members" / "training1" / "model.safetensors").stat().st_mtime_ns
    run = start(copy, 2)
    run.train(progress=False, workers=1)
    np.testing.assert_array_equal(run.scores, scores)
    assert (copy / "members" / "training1" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_processes_give_the_same_numbers(two: Path, tmp_path: Path) -> None:
    run = start(tmp_path / "parallel", 2)
    run.train(progress=False, workers=2)
    np.testing.assert_array_equal(run.scores, Run.open(two).scores)


def test_every_event_is_scored_by_a_network_that_has_not_seen_it(folds: Path) -> None:
    run = Run.open(folds)
    assert isinstance(run, EnsembleRun)
    assert (run.events.split == 2).all()
    for fold in range(2):
        rows = run.fold_of_events == fold
        for training in range(2):
            member = Run.open(folds / "members" / f"fold{fold + 1}-training{training + 1}")
            np.testing.assert_array_equal(member.events.split == 2, rows)
            np.testing.assert_array_equal(run.scores_of_trainings[training][rows], member.scores[rows])
    assert {"test", "fold 1", "fold 2"} == run.metrics().keys()


def test_explanations_of_all_folds_are_one_map(folds: Path) -> None:
    attention = Run.open(folds).explained()["attention"]
    assert len(attention.events) == 60
    assert attention.axes[-1] == "training"
    key = attention.events.file * 10**9 + attention.events.entry
    assert (np.diff(key) > 0).all()


def test_the_report_of_folds_is_over_all_events(folds: Path, tmp_path: Path) -> None:
    page = write_report(Run.open(folds), tmp_path).read_text()
    assert "18,496 events in 2 folds" in page
    assert "fold 2" in page


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((1.0, 0.1, 0.1), "stable"),
        ((1.0, 0.1, 0.5), "varies"),
        ((1.0, 0.5, 0.1), "unresolved"),
        ((1.0, np.nan, 0.1), "unresolved"),
        ((1.0, 0.1, np.nan), "unresolved"),
        ((0.0, 0.0, 0.0), "unresolved"),
    ],
)
def test_verdicts(numbers: tuple[float, float, float], verdict: str) -> None:
    assert Stability("muon", *numbers, 0.0).verdict == verdict


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["split.fold=all"], "fold: all needs the number of folds, as in folds: 5"),
        (["split.folds=2", "split.fold=3"], "fold 3 of 2"),
    ],
)
def test_impossible_folds_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(CardError, match=message):
        DatasetCard.find("charged_higgs", overrides)


def test_the_remedy_of_fold_all() -> None:
    assert Split(folds=5, fold="all").fold == "all"


def die() -> None:
    os.kill(os.getpid(), 9)


def fail(text: str) -> None:
    raise ValueError(text)


def doubt(text: str) -> None:
    warnings.warn(text, stacklevel=1)


def test_warnings_of_workers_name_their_job(capfd: pytest.CaptureFixture[str]) -> None:
    run_jobs(doubt, {"training 1": ("a bad map",), "training 2": ("another",)}, 2)
    told = capfd.readouterr().err
    assert "training 1: warning: a bad map" in told
    assert "test_ensemble.py" not in told


def test_a_killed_worker_is_said() -> None:
    with pytest.raises(WorkerError, match="the same command resumes"):
        run_jobs(die, {"one": (), "two": ()}, 2, show=False)


def test_the_error_of_a_job_is_raised() -> None:
    with pytest.raises(ValueError, match="bad card"):
        run_jobs(fail, {"one": ("bad card",), "two": ("bad card",)}, 2, show=False)
