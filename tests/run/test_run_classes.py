"""Runs of three and four classes and regressions, of every kind of model: trained, explained, reopened."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import uproot
from many_classes import many_classes
from scipy.special import softmax
from typer.testing import CliRunner

from hepxai.cards import CardError
from hepxai.cli import app
from hepxai.datasets import DatasetCard, read
from hepxai.metrics import classification_metrics
from hepxai.models import ModelCard
from hepxai.report import write_report
from hepxai.run import Run
from hepxai.run.manifest import RunError

GNN = [
    "training.epochs=2",
    "convolutions=[{kind: transformer, width: 4}, {kind: dynamic_edge, width: 4}]",
    "dense=[4]",
]
OVERRIDES = {
    "transformer_edgeconv": GNN,
    "lstm": ["training.epochs=1", "width=4", "dense=[4]"],
    "dense": ["training.epochs=2", "widths=[6]"],
    "boosted_trees": ["training.trees=10", "leaves=4"],
}
METHODS = {"transformer_edgeconv": ["attention", "node_ig"], "dense": ["feature_ig"], "lstm": ["node_ig"]}
METHODS["boosted_trees"] = ["tree_shap"]
QUICK = {"node_ig": {"steps": 4}}
STEPS = {"node_ig": QUICK, "feature_ig": {"feature_ig": {"steps": 8}}}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def train(folder: Path, dataset: DatasetCard, kind: str, *overrides: str) -> Run:
    run = Run.start(folder / "run", dataset, ModelCard.find(kind, [*OVERRIDES[kind], *overrides]))
    run.dry_run(METHODS[kind], {})
    run.train(progress=False)
    return run


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A graph network of three classes, trained with signed weights."""
    folder = tmp_path_factory.mktemp("three")
    run = train(folder, many_classes(folder), "transformer_edgeconv")
    run.explain(["attention", "node_ig"], maximum=15, settings=QUICK)
    return run


@pytest.mark.parametrize(("kind", "classes"), [("lstm", 3), ("dense", 4), ("boosted_trees", 3)])
def test_every_kind(tmp_path: Path, kind: str, classes: int) -> None:
    run = train(tmp_path, many_classes(tmp_path, classes), kind)
    names = run.events.schema.classes
    assert run.model.outputs == names
    assert run.scores.shape == (len(run.events), classes)
    assert {f"auc_{n}_vs_rest" for n in names} < run.metrics()["train"].keys()
    assert np.isfinite(run.history()[-1]["valid_auc"])
    (method,) = METHODS[kind]
    attributions = run.explain([method], maximum=10, settings=STEPS.get(method))
    assert {n: a.target for n, a in attributions.items()} == {f"{method}_{n}": f"{n}-rest" for n in names}
    total = sum(a.values for a in attributions.values())
    scale = max(np.abs(a.values).max() for a in attributions.values())
    np.testing.assert_allclose(total, 0, atol=1e-4 * scale)  # the contrasts of all classes add up to 0


def test_metrics_and_opening_again(graph: Run) -> None:
    again = Run.open(graph.folder).on(graph.reading)
    np.testing.assert_array_equal(again.model.logits(again.events), graph.scores)
    figures = classification_metrics(graph.scores, graph.events)["test"]
    stored = again.metrics()["test"]
    assert {k: v["value"] for k, v in stored.items()} == {k: float(v.value) for k, v in figures.items()}
    assert again.explained().keys() == {"attention", "node_ig_none", "node_ig_few", "node_ig_many"}


def test_friends(graph: Run) -> None:
    paths, p = graph.friends(), softmax(graph.scores, axis=1)
    for number, path in enumerate(paths):
        tree, rows = uproot.open(path)["hepxai"], graph.events.file == number
        for k, name in enumerate(graph.events.schema.classes):
            for branch, expected in (("score", graph.scores[:, k]), ("probability", p[:, k])):
                column = tree[f"hepxai_{branch}_{name}"].array(library="np")[graph.events.entry[rows]]
                np.testing.assert_allclose(column, expected[rows], rtol=1e-5)
        assert {"hepxai_attention_explained", "hepxai_node_ig_few_explained"} < set(tree.keys())


def test_targets_by_name(graph: Run) -> None:
    attributions = graph.explain(["node_ig"], maximum=15, settings=QUICK, targets=["many-few", "none-rest"])
    assert attributions["node_ig_many_vs_few"].target == "many-few"
    many, few = (attributions[f"node_ig_{name}"] for name in ("many", "few"))
    difference = (many.values - few.values) * 2 / 3  # of the two contrasts with the rest
    np.testing.assert_allclose(attributions["node_ig_many_vs_few"].values, difference, atol=1e-5)
    done = CliRunner().invoke(
        app,
        [
            "explain",
            str(graph.folder),
            "-m",
            "node_ig",
            "-w",
            "node_ig.steps=4",
            "-t",
            "few-none",
            "-n",
            "15",
        ],
        env={"COLUMNS": "300"},
    )
    assert done.exit_code == 0, done.output
    assert "node_ig_few_vs_none: 15 events" in done.output
    with pytest.raises(
        KeyError, match="'jets' is not an output of the model; choose one of none, few, many, or"
    ):
        graph.explain(["node_ig"], targets=["jets"])
    with pytest.raises(TypeError, match=r"a list is needed, \['many-few'\]"):
        graph.explain(["node_ig"], targets="many-few")
    with pytest.warns(UserWarning, match="target='many' is explained as 'many-rest'"):
        graph.explain(["node_ig"], maximum=15, settings=QUICK, targets=["many"])


def test_a_removed_explanation_of_a_class(graph: Run, tmp_path: Path) -> None:
    """The warning names the method, whose command works it out again."""
    folder = tmp_path / "run"
    shutil.copytree(graph.folder, folder)
    (folder / "explanations" / "node_ig_few.safetensors").unlink()
    with pytest.warns(UserWarning, match="node_ig_few.* is missing; .* --method node_ig` works it out again"):
        again = Run.open(folder).on(graph.reading)
    assert "node_ig_few" in again.explain(["node_ig"], settings=QUICK)


@pytest.mark.slow
def test_the_shipped_sample(tmp_path: Path) -> None:
    """Signal, tt̄ with a Z-like scalar, and tt̄: separated, and tt̄ most easily."""
    card = ModelCard.find("transformer_edgeconv", ["training.epochs=8", "training.batch_size=64"])
    run = Run.start(tmp_path / "run", DatasetCard.find("top_dimuon"), card)
    run.train(progress=False)
    run.explain(["attention", "edge_ig"], maximum=60, targets=["signal-rest", "signal-ttbar"])
    figures = run.metrics()["test"]
    assert figures["mean_auc"]["value"] > 0.7
    assert figures["auc_ttbar_vs_rest"]["value"] > figures["auc_signal_vs_ttz"]["value"] > 0.6
    assert run.explained().keys() == {"attention", "edge_ig_signal", "edge_ig_signal_vs_ttbar"}
    write_report(run)
    numbers = json.loads((run.folder / "numbers.json").read_text())["sections"]
    assert "confusion_test" in numbers["roc"]
    assert {"edge_ig_signal", "edge_ig_signal_vs_ttbar"} < numbers.keys()
    assert len(run.friends()) == 3


def test_a_stored_explanation_of_another_target(graph: Run) -> None:
    file, rows = graph.populations.stored()["node_ig_none"], graph.populations.rows()
    assert rows is not None
    with pytest.raises(RunError, match=r"node_ig_none.safetensors explains none-rest, not many-rest; remove"):
        graph._map_maker.make("node_ig_none", "node_ig", "many-rest", rows, {})
    assert file.is_file()


def test_a_class_missing_in_one_split(tmp_path: Path) -> None:
    dataset = many_classes(tmp_path)
    reading = read(dataset)
    events = reading.events
    lacking = events[(events.split != 2) | (events.label != 0)]
    card = ModelCard.find("dense", OVERRIDES["dense"])
    run = Run.start(tmp_path / "run", dataset, card).on(dataclasses.replace(reading, events=lacking))
    with pytest.warns(UserWarning, match="the test split has no events of none"):
        run.train(progress=False)
    assert "auc_none_vs_rest" not in run.metrics()["test"]
    assert "balanced_accuracy" in run.metrics()["valid"]
    lacking = events[(events.split != 0) | (events.label != 0)]
    run = Run.start(tmp_path / "other", dataset, card).on(dataclasses.replace(reading, events=lacking))
    with pytest.raises(ValueError, match="class 'none' has no events in the train split"):
        run.train(progress=False)


def test_signed_weights(tmp_path: Path) -> None:
    dataset = many_classes(tmp_path)
    kept = train(tmp_path / "a", dataset, "dense").scores
    assert not np.array_equal(
        train(tmp_path, dataset, "dense", "training.negative_weights=drop").scores, kept
    )
    with pytest.raises(ValueError, match="events have negative weights and the model card says"):
        train(tmp_path / "error", dataset, "dense", "training.negative_weights=error")


@pytest.mark.parametrize("kind", OVERRIDES)
def test_regression(tmp_path: Path, kind: str) -> None:
    run = train(tmp_path, many_classes(tmp_path), kind, "training.loss=mse")
    assert run.model.outputs == ("ht_jets",)
    error = np.abs(run.scores[:, 0] - run.events.targets[:, 0])
    test = run.events.split == 2
    mae = np.average(error[test], weights=run.events.weight[test])
    assert run.metrics()["test"]["mae_ht_jets"]["value"] == pytest.approx(mae, rel=1e-5)
    assert "valid_mae_ht_jets" in run.history()[0]
    method = METHODS[kind][-1]
    settings = STEPS.get(method)
    attribution = run.explain([method], maximum=10, settings=settings)[method]
    assert (attribution.target, attribution.unit) == ("ht_jets", "GeV")
    (path, _), again = run.friends(), Run.open(run.folder).on(run.reading)
    assert "hepxai_predicted_ht_jets" in uproot.open(path)["hepxai"]
    np.testing.assert_array_equal(again.model.logits(again.events), run.scores)


@pytest.mark.parametrize("algorithm", ["gradient_boosting", "random_forest"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_other_trees(tmp_path: Path, algorithm: str, loss: str) -> None:
    overrides = [
        f"algorithm={algorithm}",
        f"training.loss={loss}",
        "training.learning_rate=null",
        "training.early_stopping=null",
    ]
    run = train(tmp_path, many_classes(tmp_path, positive=True), "boosted_trees", *overrides)
    again = Run.open(run.folder).on(run.reading)
    np.testing.assert_array_equal(again.model.logits(again.events), run.scores)
    if loss == "cross_entropy":
        p = run.model.estimator.predict_proba(run.events.globals)
        np.testing.assert_allclose(softmax(run.scores, axis=1), p, atol=1e-5)


def test_what_is_refused_before_the_training(tmp_path: Path) -> None:
    dataset = many_classes(tmp_path)
    card = ModelCard.find("dense")
    rest = dataset.model_copy(update={"labels": {"rest": "a", "b": "c", "d": "e"}})
    with pytest.raises(RunError, match="a class is named 'rest', which means all others"):
        Run.start(tmp_path / "run", rest, card)
    trees = ModelCard.find("boosted_trees", ["training.loss=mse"])
    both = dataset.model_copy(update={"targets": dict.fromkeys(("ht", "met"), dataset.targets["ht_jets"])})
    with pytest.raises(
        RunError, match="boosted trees learn one target, the data-set card has ht, met; leave"
    ):
        Run.start(tmp_path / "run", both, trees)
    with pytest.raises(CardError, match="random forests are very slow with mae; take mse"):
        ModelCard.find(
            "boosted_trees",
            [
                "algorithm=random_forest",
                "training.learning_rate=null",
                "training.early_stopping=null",
                "training.loss=mae",
            ],
        )
    signed = train(
        tmp_path / "signed", dataset, "boosted_trees", "training.loss=mae", "training.negative_weights=abs"
    )
    assert signed.metrics()
    with pytest.raises(ValueError, match="trees with loss mae take medians"):
        train(tmp_path / "mae", dataset, "boosted_trees", "training.loss=mae")
