"""What goes wrong in a scan: before anything is written, or in one trial alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_classes import many_classes
from scan_helpers import SMALL

from hepxai.cards import CardError
from hepxai.core.estimate import Estimate
from hepxai.datasets.presentation import Focus
from hepxai.models.card import ModelCard
from hepxai.run import Run
from hepxai.scan import METRICS, Scan, ScanError, TrialContext, metric
from hepxai.scan.sampling import WARMUP

OVER = ["edge_dropout=0.1,0.3"]
Cards = Callable[..., tuple[Any, Any]]


@pytest.mark.parametrize(
    ("over", "settings", "message"),
    [
        (["edge_dropot=0.1"], {}, r"unknown key \(did you mean 'edge_dropout'\?\)"),
        (["edge_dropout=0.1,2"], {}, "override 'edge_dropout=2': edge_dropout: found 2"),
        (["edge_dropout=0.1..hello"], {}, r"found '0\.1\.\.hello'"),
        (["edge_dropout=0.1..2"], {"sampler": "tpe", "trials": 3}, "edge_dropout: found 2"),
        (["dataset.unitz=GeV"], {}, r"did you mean 'units'"),
        (["edge_dropout=0.1..0.3"], {}, "a grid needs values, not a range"),
        (OVER, {"objectives": ["valid_auk"]}, r"no objective 'valid_auk' \(did you mean 'valid_auc'\?\)"),
        (OVER, {"objectives": ["test_auc"]}, "test_auc cannot be an objective: choosing by the test events"),
        (OVER, {"objectives": ["valid_auc:up"]}, "write valid_auc:max or valid_auc:min"),
        (OVER, {"objectives": ["valid_auc", "valid_auc:min"]}, "objective valid_auc is given twice"),
        (OVER, {"sampler": "bayes"}, "no sampler 'bayes'; choose grid, random, tpe"),
        (OVER, {"sampler": "random"}, "needs --trials"),
        (OVER, {"sampler": "random", "trials": 3}, "3 trials, but there are only 2 points"),
        (OVER, {"trials": 5}, "a grid makes all of its 2 points; leave --trials out"),
        (OVER, {"seeds": 0}, "0 seeds; at least 1 is needed"),
        (OVER, {"explain": 0}, "0 events to explain"),
        (["convolutions.0.heads=1,3"], {}, "3 heads cannot share width 8"),
        ([], {}, "nothing to scan: give values, as in --over"),
        (["training.trainings=2"], {}, "leave training.trainings and split.fold: all out"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    over: list[str], settings: dict[str, Any], message: str, cards: Cards, tmp_path: Path
) -> None:
    with pytest.raises((ScanError, CardError), match=message):
        Scan.start(tmp_path / "x", *cards(), over, **settings)
    assert not (tmp_path / "x").exists()


def test_objectives_need_a_focus(cards: Cards, tmp_path: Path) -> None:
    dataset, card = cards()
    alone = dataset.model_copy(update={"focus": None})
    with pytest.raises(ScanError, match=r"objective pair_attention needs the pair in focus, focus: \{pair"):
        Scan.start(tmp_path / "x", alone, card, OVER, objectives=["pair_attention"])
    blind = dataset.model_copy(update={"focus": dataset.focus.model_copy(update={"observer": None})})
    with pytest.raises(ScanError, match="score_mass_correlation needs an observer in focus"):
        Scan.start(tmp_path / "x", blind, card, OVER, objectives=["score_mass_correlation"])
    assert not (tmp_path / "x").exists()


def test_without_a_focus_the_rest_is_measured(cards: Cards, tmp_path: Path) -> None:
    dataset, card = cards("training.epochs=1")
    alone = dataset.model_copy(update={"focus": None})
    (trial,) = Scan.start(tmp_path / "x", alone, card, ["edge_dropout=0.1"]).run(progress=False).trials
    assert set(trial.metrics) == {"valid_auc", "valid_accuracy", "test_auc", "test_accuracy", "train_gap"}
    assert trial.histograms == {}


def test_three_classes(tmp_path: Path) -> None:
    """What needs one score is refused at the start, and left out of the measurements; the rest works."""
    dataset = many_classes(tmp_path, positive=True).model_copy(
        update={"focus": Focus(pair=("muon", "jet"), observer="n_raw")}
    )
    card = ModelCard.find("dense", ["training.epochs=1", "widths=[4]"])
    with pytest.raises(
        ScanError, match=r"importance_distance is for two classes, .* has 3; these work: valid_auc,"
    ):
        Scan.start(tmp_path / "x", dataset, card, ["dropout=0,0.1"], objectives=["importance_distance"])
    assert not (tmp_path / "x").exists()
    scan = Scan.start(tmp_path / "x", dataset, card, ["dropout=0,0.1"], objectives=["valid_auc", "train_gap"])
    trials = scan.run(progress=False).trials
    for trial in trials:
        assert set(trial.metrics) == {"valid_auc", "valid_accuracy", "test_auc", "test_accuracy", "train_gap"}
        stored = Run.open(scan.trial_folder(trial)).metrics()["valid"]
        assert trial.metrics["valid_auc"].value == stored["mean_auc"]["value"]


def test_regressions_are_refused(tmp_path: Path) -> None:
    card = ModelCard.find("dense", ["training.loss=mae"])
    with pytest.raises(ScanError, match=r"learns numbers \(training.loss\): make a run of each"):
        Scan.start(tmp_path / "x", many_classes(tmp_path), card, ["dropout=0,0.1"])


GRAPH = ("convolutions=[{kind: graph, width: 8}, {kind: dynamic_edge, width: 8}]",)


def test_a_model_without_attention_is_found_out_before_the_training(cards: Cards, tmp_path: Path) -> None:
    scan = Scan.start(tmp_path / "x", *cards(*GRAPH), OVER, objectives=["pair_attention"])
    with pytest.raises(ScanError, match="objective pair_attention cannot be computed for this model"):
        scan.run(progress=False)
    assert not (scan.folder / "runs").exists()
    other = Scan.start(tmp_path / "y", *cards(*GRAPH), ["edge_dropout=0.1"])
    (trial,) = other.run(progress=False).trials
    assert "score_mass_correlation" in trial.metrics
    assert "pair_attention" not in trial.metrics


def test_folders_of_something_else_are_refused(cards: Cards, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(ScanError, match="exists and is no scan"):
        Scan.start(tmp_path, *cards(), OVER)
    with pytest.raises(ScanError, match="is a file; choose another folder"):
        Scan.start(tmp_path / "thesis.tex", *cards(), OVER)
    with pytest.raises(ScanError, match="is no scan; make one with `hepxai scan`"):
        Scan.open(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_cards_of_something_else_are_not_replaced(cards: Cards, tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("name: mine")
    with pytest.raises(ScanError, match="exists and is no scan"):
        Scan.start(tmp_path, *cards(), OVER)
    assert (tmp_path / "dataset.yaml").read_text() == "name: mine"


def test_a_start_that_was_killed_while_it_wrote_a_card_resumes(
    cards: Cards, sliced: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scan"
    script = f"""
import os, signal
from pathlib import Path
from hepxai.datasets import DatasetCard
from hepxai.models.card import ModelCard
from hepxai.scan import Scan
plain = Path.replace
def stop(self, target):
    if target == Path({str(folder / "model.yaml")!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, target)
Path.replace = stop
card = ModelCard.find("transformer_edgeconv", {SMALL!r})
Scan.start({str(folder)!r}, DatasetCard.find({str(sliced)!r}), card, {OVER!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(folder.glob("model.yaml.*.part"))
    (folder / "scan.json.4711.part").write_text("{")
    assert Scan.start(folder, *cards(), OVER).plan.trials == 2
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("content", [b"", b'{"seeds"', b"[]", b"{}", b"\xff"])
def test_damaged_settings_are_named_with_the_remedy(cards: Cards, tmp_path: Path, content: bytes) -> None:
    scan = Scan.start(tmp_path / "old", *cards(), OVER)
    (scan.folder / "runs").mkdir()
    good = (scan.folder / "scan.json").read_bytes()
    (scan.folder / "scan.json").write_bytes(content)
    with pytest.raises(
        ScanError, match=r"old/scan\.json is damaged \(.*\); put back a copy of it, or move .*runs"
    ):
        Scan.start(tmp_path / "old", *cards(), OVER)
    (tmp_path / "new").mkdir()
    (scan.folder / "runs").rename(tmp_path / "new" / "runs")
    assert Scan.start(tmp_path / "new", *cards(), OVER).plan == scan.plan
    (scan.folder / "scan.json").write_bytes(good)
    assert Scan.open(tmp_path / "old").plan == scan.plan


def test_links_out_of_a_scan_are_refused(cards: Cards, tmp_path: Path) -> None:
    scan = Scan.start(tmp_path / "scan", *cards(), OVER)
    (tmp_path / "outside").mkdir()
    (scan.folder / "figures").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=r"figures is a link to .*outside"):
        Scan.open(scan.folder)


@pytest.mark.parametrize(
    ("over", "settings", "message"),
    [
        (["edge_dropout=0.1,0.4"], {}, r"holds a scan with over .*0\.3.*, not .*0\.4"),
        (OVER, {"seeds": 3}, "holds a scan with seeds 2, not 3; choose another folder"),
        (OVER, {"objectives": ["valid_auc"]}, "holds a scan with objectives"),
        (OVER, {"explain": 9}, "holds a scan with explain 5000, not 9"),
    ],
)
def test_another_scan_in_the_folder_is_refused(
    over: list[str], settings: dict[str, Any], message: str, cards: Cards, tmp_path: Path
) -> None:
    known: dict[str, Any] = {"seeds": 2, "objectives": ["valid_auc", "pair_attention"]}
    folder = Scan.start(tmp_path / "x", *cards(), OVER, **known).folder
    with pytest.raises(ScanError, match=message):
        Scan.start(folder, *cards(), over, **known | settings)
    with pytest.raises(ScanError, match="holds a scan with another model card"):
        Scan.start(folder, *cards("alpha_dropout=0.1"), OVER, **known)
    assert Scan.start(folder, *cards(), OVER, **known).plan.seeds == 2


def test_a_diverged_training_fails_alone(cards: Cards, tmp_path: Path) -> None:
    """The rest of the scan goes on; the table says why."""
    over = ["training.learning_rate=0.001,1e30"]
    table = Scan.start(tmp_path / "x", *cards(), over).run(progress=False)
    assert [t.state for t in table.trials] == ["complete", "failed"]
    assert "lower training.learning_rate" in table.trials[1].why
    assert [p.label for p in table.candidates] == ["training.learning_rate=0.001"]
    assert table.complete


def test_values_that_do_not_go_together_fail_alone(cards: Cards, tmp_path: Path) -> None:
    over = ["convolutions.0.heads=1,4", "convolutions.0.width=4,6"]
    with pytest.raises(CardError, match="4 heads cannot share width 6"):
        Scan.start(tmp_path / "grid", *cards(), over)
    scan = Scan.start(tmp_path / "x", *cards("training.epochs=1"), over, sampler="random", trials=4)
    table = scan.run(progress=False)
    failed = [t.point for t in table.trials if t.state == "failed"]
    assert failed == [{"model.convolutions.0.heads": 4, "model.convolutions.0.width": 6}]


def test_data_set_entries_can_be_scanned(cards: Cards, tmp_path: Path) -> None:
    over = ["dataset.particles.jet.max=4,9", "dataset.tree=Events"]
    table = Scan.start(tmp_path / "x", *cards("training.epochs=1"), over).run(progress=False)
    assert [t.state for t in table.trials] == ["complete", "complete"]
    first, second = (t.metrics["valid_auc"].value for t in table.trials)
    assert first != second
    wrong = Scan.start(tmp_path / "y", *cards("training.epochs=1"), ["dataset.tree=Events,Other"])
    states = [(t.state, t.why) for t in wrong.run(progress=False).trials]
    assert states[0] == ("complete", "")
    assert states[1][0] == "failed"
    assert "Other" in states[1][1]


def test_a_data_set_that_cannot_be_read_stops_the_scan(cards: Cards, tmp_path: Path) -> None:
    scan = Scan.start(tmp_path / "x", *cards(dataset=("tree=Other",)), OVER)
    with pytest.raises(ValueError, match="Other"):
        scan.run(progress=False)


def test_pruned_trainings_are_no_candidates(invented: Callable[..., Scan]) -> None:
    """Five finished ones with an AUC that this training cannot reach."""
    over = {"edge_dropout": [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]}
    scan = invented(over, finished=5, prune=True, model=["training.epochs=9"])
    table = scan.run(progress=False)
    last = table.trials[-1]
    assert (last.state, len(last.auc)) == ("pruned", WARMUP)
    assert "below the median" in last.why
    assert len(table.candidates) == 5
    assert not (scan.trial_folder(last) / "metrics.json").exists()
    again = Run.open(scan.trial_folder(last))  # not lost: it can be trained to the end
    again.train(progress=False)
    assert len(again.history()) == 9


def test_a_metric_of_ones_own(cards: Cards, tmp_path: Path) -> None:
    @metric("events_kept", "number of events", "max")
    def _events(evidence: TrialContext) -> Estimate:
        return Estimate(np.asarray(float(len(evidence.run.events))), np.asarray(0.0), 1.0)

    try:
        with pytest.raises(ValueError, match="a metric named 'events_kept' exists"):
            metric("events_kept", "", "max")(_events)
        scan = Scan.start(
            tmp_path / "x", *cards("training.epochs=1"), ["edge_dropout=0.1"], objectives=["events_kept:min"]
        )
        (trial,) = scan.run(progress=False).trials
        found = float(trial.metrics["events_kept"].value)
        assert found == sum(trial.events[s] for s in ("train", "valid", "test"))
    finally:
        del METRICS["events_kept"]
    with pytest.raises(ScanError, match="no objective 'events_kept'"):
        Scan.open(scan.folder)
