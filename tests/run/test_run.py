"""The run folder: resumable, checked on opening, never mixing two studies."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from shipped_sample import first_entries
from typer.testing import CliRunner

import hepxai
import hepxai.explainers.graph.edge_ig
import hepxai.explainers.path
import hepxai.run.maps
from hepxai.cards import dump_card, load_card
from hepxai.cli import app
from hepxai.core.files import read_tensors, sha256, write_json, write_tensors
from hepxai.datasets import DatasetCard
from hepxai.explainers import CannotExplainError
from hepxai.explainers.methods import validated_settings
from hepxai.models.card import ModelCard
from hepxai.report import write_report
from hepxai.report.view import RunView, doubts_about
from hepxai.run import Run
from hepxai.run.manifest import NAME as MANIFEST
from hepxai.run.manifest import RunError
from hepxai.run.populations import PRODUCTS

EPOCHS = ["training.epochs=2", "convolutions.0.width=8", "convolutions.1.width=8", "convolutions.2.width=8"]


def cards(*overrides: str) -> tuple[DatasetCard, ModelCard]:
    data = DatasetCard.find(first_entries(1500))
    return data, ModelCard.find("transformer_edgeconv", [*EPOCHS, *overrides])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and explained run; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run = Run.start(folder, *cards())
    run.train()
    run.explain(["attention", "edge_ig"], maximum=150)
    run.friends()
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_rows_in_are_rows_out(finished: Path) -> None:
    run = Run.open(finished)
    assert run.scores.shape == (len(run.events), 1)
    explained = run.explained()
    assert set(explained) == {"attention", "edge_ig"}
    assert all(len(a.events) == 150 and (a.events.split == 2).all() for a in explained.values())
    friends = sorted((finished / "friends").glob("*.root"))
    assert len(friends) == 2
    for i, path in enumerate(friends):
        tree = uproot.open(path)["hepxai"]
        assert tree.num_entries == run.events.file_entries[i]
        own = run.events.file == i
        found = tree["hepxai_score"].array(library="np")[run.events.entry[own]]
        np.testing.assert_allclose(found, run.scores[own, 0], rtol=1e-6)


def test_opening_again_gives_the_same_events_and_scores(finished: Path) -> None:
    run = Run.open(finished)
    np.testing.assert_array_equal(run.model.logits(run.events), run.scores)


def test_done_steps_are_not_repeated(copied: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copied.rglob("*.safetensors")}
    run = Run.start(copied, *cards())
    run.train()
    run.explain(["attention", "edge_ig"], maximum=150)
    assert {p: p.stat().st_mtime_ns for p in copied.rglob("*.safetensors")} == before


def test_other_cards_are_refused(copied: Path) -> None:
    with pytest.raises(
        RunError,
        match=r"another model\.yaml \(there edge_dropout: 0\.2, here edge_dropout: 0\.4\); choose another",
    ):
        Run.start(copied, *cards("edge_dropout=0.4"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(RunError, match="exists and is no hepxai run"):
        Run.start(tmp_path, *cards())
    with pytest.raises(RunError, match="is no run folder"):
        Run.open(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_was_killed_before_its_manifest_goes_on(tmp_path: Path) -> None:
    dataset, model = cards()
    (tmp_path / "dataset.yaml").write_text(dump_card(dataset), encoding="utf-8")
    (tmp_path / "model.yaml.4711.part").write_text("kind: part")
    assert Run.start(tmp_path, dataset, model).manifest.exists()


def test_cards_of_something_else_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("name: mine")
    with pytest.raises(RunError, match="exists and is no hepxai run"):
        Run.start(tmp_path, *cards())


@pytest.mark.parametrize("name", ["model.safetensors", "dataset.yaml", "explanations/edge_ig.safetensors"])
def test_tampering_is_noticed(copied: Path, name: str) -> None:
    path = copied / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="was changed after the run wrote it"):
        Run.open(copied)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_manifest_is_named_with_both_remedies(copied: Path, content: bytes) -> None:
    good = (copied / MANIFEST).read_bytes()
    (copied / MANIFEST).write_bytes(content)
    pattern = r"manifest\.json is damaged \(.*\), so no file .*; put back a copy of it, or .*`(.*)`"
    for use in (Run.open, lambda folder: Run.start(folder, *cards())):
        with pytest.raises(RunError, match=pattern) as error:
            use(copied)
    program, verb, dataset, model, out, folder = str(error.value).split("`")[1].split()
    assert (program, verb, out) == ("hepxai", "run", "--out")
    assert not Run.start(folder, DatasetCard.find(dataset), ModelCard.find(model)).explained()
    (copied / MANIFEST).write_bytes(good)
    assert set(Run.open(copied).explained()) == {"attention", "edge_ig"}


@pytest.mark.parametrize("name", ["figures", "friends", "explanations", "shards"])
def test_a_foreign_folder_cannot_write_elsewhere(copied: Path, name: str) -> None:
    outside = copied.parent / "precious"
    outside.mkdir()
    shutil.rmtree(copied / name, ignore_errors=True)
    (copied / name).symlink_to(outside)
    result = CliRunner().invoke(app, ["report", str(copied)])
    assert result.exit_code == 2
    assert f"{name} is a link to {outside}, outside of" in " ".join(result.output.split())
    assert not list(outside.iterdir())
    moved = copied.with_name("link")  # a run folder that is a link itself is fine
    (copied / name).unlink()
    moved.symlink_to(copied)
    if name != "explanations":
        Run.open(moved)


def test_what_killed_processes_left_is_removed(copied: Path) -> None:
    left = [copied / name for name in ("model.safetensors.4711.part", "figures/roc.png.4711.part")]
    (copied / "figures").mkdir()
    for path in left:
        path.write_bytes(b"half")
    Run.open(copied).explain(["attention"], maximum=150)
    assert not [path for path in left if path.exists()]


@pytest.mark.parametrize("name", ["scores.safetensors", "model.safetensors", "metrics.json"])
def test_a_missing_file_is_noticed_with_the_way_to_start_afresh(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(RunError) as error:
        Run.open(copied)
    text, _, command = str(error.value).rstrip("`").partition("`")
    assert text == f"{copied / name} is missing, and the rest of the run relies on it; to start afresh: "
    program, verb, dataset, model, out, folder = command.split()
    assert (program, verb, out, folder) == ("hepxai", "run", "--out", f"{copied}-again")
    assert DatasetCard.find(dataset) == cards()[0]
    assert ModelCard.find(model) == cards()[1]


def test_a_missing_card_leaves_the_first_command(copied: Path) -> None:
    (copied / "model.yaml").unlink()
    with pytest.raises(
        RunError, match="start afresh with the command that made it and another folder, such as"
    ):
        Run.open(copied)


def test_a_missing_explanation_is_worked_out_again(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Run.open(copied).explained()["edge_ig"]
    path = copied / "explanations" / "edge_ig.safetensors"
    path.unlink()
    again = f"edge_ig.safetensors is missing; `hepxai explain {copied} --method edge_ig` works it out again"
    with pytest.warns(UserWarning, match=re.escape(again)):
        run = Run.open(copied)
    assert set(run.explained()) == {"attention"}
    assert len(run.friends()) == 2
    with pytest.warns(UserWarning, match="works it out again"):
        run = Run.start(copied, *cards())  # what the same `hepxai run` does
    found = run.explain(["attention", "edge_ig"], maximum=150)["edge_ig"]
    np.testing.assert_array_equal(found.values, before.values)
    assert found.settings == before.settings
    assert "attention: done already" in capsys.readouterr().err
    assert set(Run.open(copied).explained()) == {"attention", "edge_ig"}


def test_explanations_of_another_population_once_all_are_gone(copied: Path) -> None:
    shutil.rmtree(copied / "explanations")
    with pytest.warns(UserWarning, match="works it out again") as seen:
        run = Run.open(copied)
    assert len(seen) == 2
    assert run.explained() == {}
    assert len(run.explain(["attention"], maximum=20)["attention"].events) == 20


def test_explanations_need_their_population(copied: Path) -> None:
    (copied / "explanations" / "population.safetensors").unlink()
    with pytest.raises(RunError) as error:
        Run.open(copied)
    assert str(error.value).endswith(
        "population.safetensors is missing, and the explanations beside it rely on it; remove the folder "
        f"{copied}/explanations, and `hepxai explain {copied}` works them out again"
    )


def test_a_changed_explanation_can_be_removed(copied: Path) -> None:
    path = copied / "explanations" / "edge_ig.safetensors"
    path.write_bytes(b"")
    with pytest.raises(RunError) as error:
        Run.open(copied)
    assert str(error.value).endswith(
        "its results cannot be trusted: remove it, and "
        f"`hepxai explain {copied} --method edge_ig` works it out again"
    )


def test_foreign_weights_execute_nothing(copied: Path) -> None:
    """Even if the manifest is forged: what is not safetensors is not read."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {copied / 'exploded'}",)

    path = copied / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    manifest = json.loads((copied / MANIFEST).read_text())
    write_json(copied / MANIFEST, manifest | {"model.safetensors": sha256(path)})
    run = Run.open(copied)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        _ = run.model
    assert not (copied / "exploded").exists()


def test_changed_input_is_noticed(tmp_path: Path) -> None:
    source = first_entries(250).parent
    data = tmp_path / "data"
    data.mkdir()
    for name in ("card.yaml", "signal.root", "background.root"):
        shutil.copy(source / name, data / name)
    card = load_card(data / "card.yaml", DatasetCard)
    run = Run.start(tmp_path / "run", card, cards()[1])
    run.train()
    shutil.copy(data / "background.root", data / "signal.root")
    with pytest.raises(
        RunError, match=r"signal\.root:Events changed since this run was trained; start a new run"
    ):
        _ = Run.open(tmp_path / "run").events


def test_an_input_that_went_from_a_glob_is_noticed(tmp_path: Path) -> None:
    source = first_entries(250).parent
    for name in ("signal", "background"):
        shutil.copy(source / f"{name}.root", tmp_path / f"{name}.root")
    shutil.copy(source / "background.root", tmp_path / "background_2.root")
    text = (source / "card.yaml").read_text().replace("files: background.root", "files: background*.root")
    (tmp_path / "card.yaml").write_text(text.replace("weights:", "duplicates: allow\nweights:"))
    run = Run.start(tmp_path / "run", load_card(tmp_path / "card.yaml", DatasetCard), cards()[1])
    run.train()
    (tmp_path / "background_2.root").unlink()
    with pytest.raises(RunError, match=r"background_2\.root:Events is gone since this run was trained"):
        _ = Run.open(tmp_path / "run").events


def test_events_read_in_another_way_are_noticed(copied: Path) -> None:
    run = Run.open(copied)
    turned = run.reading.events[np.arange(len(run.events))[::-1]]
    object.__setattr__(run.reading, "events", turned)
    with pytest.raises(RunError, match="the file of the events is not that of the events scored"):
        _ = run.scores


def test_a_manifest_cannot_point_outside(copied: Path) -> None:
    (copied.parent / "secret").write_text("x")
    manifest = json.loads((copied / MANIFEST).read_text())
    write_json(copied / MANIFEST, manifest | {"../secret": sha256(copied.parent / "secret")})
    with pytest.raises(RunError, match="which is not inside the run folder"):
        Run.open(copied)


def test_one_process_at_a_time(copied: Path) -> None:
    run = Run.open(copied)
    with run.manifest.locked(), pytest.raises(RunError, match="another process works on"):
        run.explain(["edge_ig"], maximum=150)


def test_figures_without_a_number_come_back_as_nan(copied: Path) -> None:
    """JSON has no infinity: a rejection without any background left is null there."""
    metrics = {"test": {"rejection@0.3": {"value": np.inf, "error": np.inf}}}
    write_json(copied / "metrics.json", metrics)
    Run(copied, *cards()).manifest.record("metrics.json")
    assert np.isnan(Run.open(copied).metrics()["test"]["rejection@0.3"]["value"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "training"}, "no split 'training'; choose one of train, valid, test"),
        ({"maximum": 0}, "at least 1 is needed"),
        ({"settings": {"edge_ig": {"tolerance": "small"}}}, "tolerance='small'; should be a valid number"),
        ({"settings": {"edge_ig": {"steps": 2.5}}}, "steps=2.5; should be a valid integer"),
    ],
)
def test_mistakes_are_found_before_the_training(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validated_settings(None, arguments.pop("settings", {}), "graph", **arguments)


@pytest.mark.slow
def test_another_population_sets_the_first_aside(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Run.open(copied).explained()
    write_report(Run.open(copied))
    run = Run.open(copied)
    assert len(run.explain(["attention"], maximum=20)["attention"].events) == 20
    told = capsys.readouterr().err
    assert "explanations of 150 test events (attention, edge_ig) are set aside in" in told
    assert not [n for n in PRODUCTS if (copied / n).exists()], "nothing of the other events is left"
    run.friends()
    run = Run.open(copied)
    assert set(run.explained()) == {"attention"}
    friends = [uproot.open(f)["hepxai"] for f in (copied / "friends").glob("*.root")]
    assert sum(int(t["hepxai_attention_explained"].array().to_numpy().sum()) for t in friends) == 20
    assert not any("hepxai_edge_ig_explained" in t for t in friends)
    assert set(run.explain(["attention"], split="valid", maximum=10)["attention"].events.split) == {1}

    again = run.explain(["edge_ig"], maximum=150)
    assert set(again) == {"attention", "edge_ig"}
    assert "edge_ig: done already" in capsys.readouterr().err
    for name, attribution in again.items():
        np.testing.assert_array_equal(attribution.values, before[name].values)
    assert len(Run.open(copied).explain(["attention"], maximum=20)["attention"].events) == 20


def test_what_was_changed_while_set_aside_is_worked_out_again(copied: Path) -> None:
    before = Run.open(copied).explained()["edge_ig"]
    Run.open(copied).explain(["attention"], maximum=20)
    (aside,) = copied.glob("explanations-of-150-*")
    (aside / "edge_ig.safetensors").write_bytes(b"something else")
    again = Run.open(copied).explain(["attention", "edge_ig"], maximum=150)["edge_ig"]
    np.testing.assert_array_equal(again.values, before.values)


def test_a_method_that_fails_costs_nothing(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Explanations of other events are not set aside before there are new ones."""

    def fail(*_: Any, **__: Any) -> None:
        raise CannotExplainError("no")

    (copied / "report.html").write_text("page")
    with monkeypatch.context() as patch:
        patch.setattr("hepxai.run.maps.explain_in_shards", fail)
        with pytest.raises(CannotExplainError, match="no"):
            Run.open(copied).explain(["node_ig"], maximum=20, settings={"node_ig": {"steps": 2}})
    assert (copied / "report.html").exists()
    assert set(Run.open(copied).explained()) == {"attention", "edge_ig"}


def test_explanations_come_back_without_others(copied: Path) -> None:
    """Also if those that displaced them were removed."""
    Run.open(copied).explain(["attention"], maximum=20)
    shutil.rmtree(copied / "explanations")
    with pytest.warns(UserWarning, match="missing"):
        run = Run.open(copied)
    assert set(run.explain(["attention"], maximum=150)) == {"attention", "edge_ig"}


def test_the_population_of_before_is_the_default(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that the command by which a lost explanation is worked out again is as short as the hint says."""
    run = Run.open(copied)
    assert len(run.explain(["attention"])["attention"].events) == 150
    told = (
        f"150 of the {len(run.events.where('test'))} test events, as for the other explanations of this run"
    )
    assert told in capsys.readouterr().err


def test_steps_in_the_wrong_order_say_what_to_do(tmp_path: Path) -> None:
    run = Run.start(tmp_path / "run", *cards())
    with pytest.raises(RunError, match="run `hepxai train` first"):
        _ = run.model


def test_unknown_methods_and_settings_are_refused(copied: Path) -> None:
    run = Run.open(copied)
    with pytest.raises(
        KeyError, match="no method 'gnnexplainer'; these fit the model: attention, counterfactual, edge_ig, "
    ):
        run.explain(["gnnexplainer"], maximum=150)
    with pytest.raises(ValueError, match=r"node_ig\.step=3; no such setting"):
        run.explain(["node_ig"], maximum=150, settings={"node_ig": {"step": 3}})


def test_settings_are_checked_before_anything_is_done(copied: Path) -> None:
    run = Run.open(copied)
    with pytest.raises(ValueError, match="settings for 'node_ig', which is not among the methods edge_ig"):
        run.explain(["edge_ig"], maximum=150, settings={"node_ig": {"steps": 3}})
    done = run.explained()["edge_ig"].settings["steps"]
    with pytest.raises(RunError, match=f"edge_ig was done with steps={done} in this run, not 3") as error:
        run.explain(["edge_ig"], maximum=150, settings={"edge_ig": {"steps": 3}})
    assert f"or remove {copied}/explanations/edge_ig.safetensors to do it anew" in str(error.value)


def test_settings_that_are_kept_are_told(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.open(copied)
    done = run.explained()["edge_ig"].settings["steps"]
    run.explain(["edge_ig"], maximum=150)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("edge_ig: "))
    assert line.startswith(f"edge_ig: done already with steps={done}, ")
    assert line.endswith(", kept")


def test_a_failed_method_leaves_the_population_open(tmp_path: Path) -> None:
    run = Run.start(tmp_path / "run", *cards())
    run.train()
    with pytest.raises(KeyError, match="no layer 'conv'"):
        run.explain(["edge_ig"], maximum=20, settings={"edge_ig": {"layer": "conv"}})
    assert len(run.explain(["attention"], maximum=30)["attention"].events) == 30


@pytest.mark.slow
def test_default_methods_are_those_the_model_can_do(tmp_path: Path) -> None:
    data, _ = cards()
    card = ModelCard.find("graphconv_edgeconv", ["training.epochs=1"])
    run = Run.start(tmp_path / "run", data, card)
    run.train()
    with pytest.warns(UserWarning, match=r"attention is left out|surrogate agrees") as seen:
        found = run.explain(maximum=10)
    assert any("attention is left out: the model has no attention layer" in str(w.message) for w in seen)
    assert set(found) == {"edge_ig", "node_ig", "surrogate"}
    with pytest.raises(CannotExplainError, match="no attention layer"):
        run.explain(["attention"], maximum=10)


def test_a_run_needs_two_classes(tmp_path: Path) -> None:
    data, card = cards()
    alone = data.model_copy(update={"labels": {"signal": None}})
    with pytest.raises(RunError, match="learns classes, two or more; the events have signal: list"):
        Run.start(tmp_path / "run", alone, card)


def test_shards_give_the_result_of_one_piece(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Run.open(copied).explained()["edge_ig"]
    _forget(copied, "edge_ig")
    monkeypatch.setattr(hepxai.run.maps, "SHARD", 37)
    pieces = Run.open(copied).explain(["edge_ig"], maximum=150)["edge_ig"]
    np.testing.assert_allclose(pieces.values, whole.values, atol=1e-6)
    np.testing.assert_array_equal(pieces.pairs.src, whole.pairs.src)
    assert pieces.settings == whole.settings
    assert not list((copied / "shards").rglob("*.safetensors"))


def test_shards_of_other_settings_are_never_used(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(copied, "edge_ig")
    run = Run.open(copied)
    with monkeypatch.context() as killed:
        killed.setattr(hepxai.explainers.Prepared, "checked", _die)
        with pytest.raises(KeyboardInterrupt):
            run.explain(["edge_ig"], maximum=150, settings={"edge_ig": {"steps": 2}})
    assert list((copied / "shards").rglob("*.safetensors"))
    found = run.explain(
        ["edge_ig"], maximum=150, settings={"edge_ig": {"layer": "dynamic_edge_2", "steps": 4}}
    )
    direct = hepxai.explain(run.model, found["edge_ig"].events, "edge_ig", layer="dynamic_edge_2", steps=4)
    np.testing.assert_allclose(found["edge_ig"].values, direct.values, atol=1e-6)


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_changed_shard_is_explained_again(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Run.open(copied).explained()["attention"]
    _forget(copied, "attention")
    monkeypatch.setattr(hepxai.run.maps, "SHARD", 50)
    with monkeypatch.context() as killed:
        killed.setattr(hepxai.explainers.Prepared, "checked", _die)
        with pytest.raises(KeyboardInterrupt):
            Run.open(copied).explain(["attention"], maximum=150)
    shards = sorted((copied / "shards").rglob("*.safetensors"))
    assert len(shards) == 3
    tensors, metadata = read_tensors(shards[1])
    tensors["values"][7] = 123
    write_tensors(shards[1], tensors, metadata)
    with pytest.warns(
        UserWarning, match=rf"{shards[1].name} was changed after .*: its events are explained again"
    ):
        found = Run.open(copied).explain(["attention"], maximum=150)["attention"]
    np.testing.assert_allclose(found.values, before.values, atol=1e-6)
    assert found.checks["max_row_deviation"] < 1e-5


@pytest.mark.filterwarnings("ignore::hepxai.explainers.base.CheckWarning")
@pytest.mark.parametrize(
    ("method", "check", "value"),
    [
        ("attention", "max_row_deviation", 123.0),
        ("attention", "max_row_deviation", np.nan),
        ("edge_ig", "median_residual", 11.0),
    ],
)
def test_a_result_that_fails_a_hard_check_is_not_signed(
    copied: Path, monkeypatch: pytest.MonkeyPatch, method: str, check: str, value: float
) -> None:
    _forget(copied, method)
    monkeypatch.setattr(hepxai.explainers.EXPLAINERS[method], "checks", lambda *_: {check: value})
    with pytest.raises(ArithmeticError, match=rf"{method}: {check} is .*; nothing is stored"):
        Run.open(copied).explain([method], maximum=150)
    assert method not in Run.open(copied).explained()


def test_parts_are_explained_as_the_whole_is(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are chosen once for all events of the run; another choice would move values by per cent."""
    whole = Run.open(copied).explained()["edge_ig"]
    monkeypatch.setattr(hepxai.explainers.path, "STEPS", (2,))  # what a later choice would be
    monkeypatch.setattr(hepxai.run.maps, "SHARD", 10)
    for events in (10, 150):
        shutil.rmtree(copied / "explanations")
        with pytest.warns(UserWarning, match="works it out again"):
            run = Run.open(copied)
        part = run.explain(["edge_ig"], maximum=events)["edge_ig"]
        assert part.settings == whole.settings
        mine, theirs = (2 * a.events.entry + a.events.file for a in (part, whole))
        here, there = part[np.isin(mine, theirs)], whole[np.isin(theirs, mine)]
        assert len(here.events) >= 2  # the first and the last at least
        np.testing.assert_allclose(here.values, there.values, rtol=1e-4, atol=1e-6)
        write_json(copied / MANIFEST, {k: v for k, v in run.manifest.names().items() if "attention" not in k})


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(finished: Path, tmp_path: Path) -> None:
    run = Run.start(tmp_path / "again", *cards())
    run.train()
    run.explain(["attention", "edge_ig"], maximum=150)
    names = ["model.safetensors", "scores.safetensors", "metrics.json", "steps.json"]
    names += [f"explanations/{name}.safetensors" for name in ("attention", "edge_ig", "population")]
    for name in names:
        assert sha256(run.folder / name) == sha256(finished / name), name
    for one, two in zip(run.friends(), sorted((finished / "friends").glob("*.root")), strict=True):
        mine, theirs = (uproot.open(path)["hepxai"].arrays() for path in (one, two))
        assert ak.array_equal(mine, theirs)
    umask = os.umask(0)
    os.umask(umask)
    modes = {path: path.stat().st_mode & 0o777 for path in run.folder.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o666 & ~umask}, modes


@pytest.mark.slow
def test_killed_while_explaining_goes_on(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL after the first shards; the rest is done in another process, with the same numbers."""
    _forget(copied, "edge_ig")
    script = (
        "import sys, time, torch, hepxai.run as r; torch.set_num_threads(1); r.maps.SHARD = 10\n"
        "from hepxai.explainers import Prepared as E\n"
        "plain = E.attribute\n"
        "E.attribute = lambda *a: (time.sleep(float(sys.argv[2])), plain(*a))[1]\n"
        "r.Run.open(sys.argv[1]).explain(['edge_ig'], maximum=150)"
    )
    other = Path(shutil.copytree(copied, copied.with_name("uninterrupted")))
    subprocess.run([sys.executable, "-c", script, str(other), "0"], check=True, capture_output=True)
    process = subprocess.Popen([sys.executable, "-c", script, str(copied), "0.3"], stdout=subprocess.DEVNULL)
    shards = copied / "shards"
    until = time.monotonic() + 120
    while len(list(shards.rglob("*.safetensors"))) < 2 and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = {p: p.stat().st_mtime_ns for p in shards.rglob("*.safetensors")}
    assert 2 <= len(done) < 15
    subprocess.run([sys.executable, "-c", script, str(copied), "0"], check=True, capture_output=True)
    one, two = (Run.open(f).explained()["edge_ig"] for f in (copied, other))
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.residual, two.residual)
    assert one.checks == two.checks


def test_the_report_reads_the_results_of_the_run(finished: Path) -> None:
    run = Run.open(finished)
    view = RunView(run)
    assert view.focus == ("muon", "muon")
    assert view.observer == "mass_mumu"
    assert view.fidelity == {}
    assert view.metrics["test"]["auc"]["value"] == run.metrics()["test"]["auc"]["value"]
    assert run.provenance()["inputs"][0]["sha256"] == sha256(run.reading.files[0].path)


def _forget(folder: Path, method: str) -> None:
    name = f"explanations/{method}.safetensors"
    manifest = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, {k: v for k, v in manifest.items() if k != name})
    (folder / name).unlink()


@pytest.mark.parametrize(
    ("train", "test", "error", "words"),
    [
        (0.88, 0.78, 0.015, ["overtrained"]),
        (0.80, 0.78, 0.015, []),
        (0.53, 0.52, 0.04, ["does not separate"]),
        (0.9, 0.52, 0.04, ["overtrained", "does not separate"]),
        (0.9, 0.5, np.nan, ["does not separate"]),
    ],
)
def test_a_model_not_worth_explaining_is_doubted(
    train: float, test: float, error: float, words: list[str]
) -> None:
    metrics = {
        "train": {"auc": {"value": train, "error": 0.005}},
        "test": {"auc": {"value": test, "error": error}},
    }
    found = list(doubts_about(metrics))
    assert len(found) == len(words)
    assert all(w in f for w, f in zip(words, found, strict=True))
    assert not list(doubts_about({"train": metrics["train"]}))
