"""Runs of every kind of model: trained, explained, written as friends, opened again."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import hepxai
from hepxai.cards import CardError
from hepxai.datasets import DatasetCard, Reading, read
from hepxai.explainers import CannotExplainError
from hepxai.models import BoostedTreesModel, DenseModel, LstmModel, ModelCard
from hepxai.report import write_report
from hepxai.report.view import RunView, best_epoch
from hepxai.run import Run
from hepxai.run.manifest import RunError

OVERRIDES = {
    "dense": ["training.epochs=2", "widths=[6, 4]"],
    "boosted_trees": ["training.trees=20", "leaves=4"],
    "lstm": ["training.epochs=1", "width=6", "dense=[4]"],
}
MODELS = {"dense": DenseModel, "boosted_trees": BoostedTreesModel, "lstm": LstmModel}
METHODS = {"dense": {"feature_ig", "conductance"}, "boosted_trees": {"tree_shap"}, "lstm": {"node_ig"}}


@pytest.fixture(scope="module")
def dataset() -> DatasetCard:
    return DatasetCard.find("charged_higgs")


@pytest.fixture(scope="module")
def reading(dataset: DatasetCard) -> Reading:
    return read(dataset)


@pytest.fixture(scope="module", params=OVERRIDES)
def finished(
    request: pytest.FixtureRequest,
    dataset: DatasetCard,
    reading: Reading,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Run]:
    """A run of each kind, with the methods that are done by default."""
    kind = request.param
    if kind == "boosted_trees":
        pytest.importorskip("shap")
    folder = tmp_path_factory.mktemp("runs") / kind
    run = Run.start(folder, dataset, ModelCard.find(kind, OVERRIDES[kind])).on(reading)
    run.dry_run(None, {})
    run.train(progress=False)
    run.explain(maximum=60)
    run.friends()
    return kind, run


def test_methods_by_default(finished: tuple[str, Run]) -> None:
    """Those that the model is able to, without a word on the others."""
    kind, run = finished
    found = run.explained()
    assert set(found) == METHODS[kind]
    assert all(len(a.events) == 60 for a in found.values())


def test_opened_again(finished: tuple[str, Run], reading: Reading) -> None:
    kind, run = finished
    again = Run.open(run.folder).on(reading)
    assert type(again.model) is MODELS[kind]
    np.testing.assert_array_equal(again.model.logits(again.events), run.scores)
    assert again.card == run.card


def test_figures_of_merit_and_history(finished: tuple[str, Run]) -> None:
    kind, run = finished
    assert 0.5 < run.metrics()["test"]["auc"]["value"] < 0.9
    kept = best_epoch(run.history(), run.card.training.monitor)
    if kind == "boosted_trees":
        assert run.model.estimator.n_iter_ == kept
    assert set(RunView(run).explained) == METHODS[kind]


def test_friends(finished: tuple[str, Run]) -> None:
    kind, run = finished
    tree = uproot.open(sorted((run.folder / "friends").glob("*.root"))[0])["hepxai"]
    rows = tree["hepxai_selected"].array(library="np")
    score = tree["hepxai_score"].array(library="np")[rows]
    own = run.events.file == 0
    np.testing.assert_allclose(score, run.scores[own, 0][np.argsort(run.events.entry[own])], rtol=1e-5)
    expected = {
        "dense": {"hepxai_feature_ig_ht", "hepxai_conductance_dense_1_value"},
        "boosted_trees": {"hepxai_tree_shap_ht"},
        "lstm": {"hepxai_particle_node_ig_energy"},
    }
    assert expected[kind] <= set(tree.keys())


def test_done_steps_are_not_repeated(
    finished: tuple[str, Run], dataset: DatasetCard, reading: Reading
) -> None:
    kind, run = finished
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*.safetensors")}
    again = Run.start(run.folder, dataset, ModelCard.find(kind, OVERRIDES[kind])).on(reading)
    again.train(progress=False)
    again.explain(maximum=60)
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*.safetensors")} == before


def test_methods_of_other_models(finished: tuple[str, Run]) -> None:
    kind, run = finished
    with pytest.raises(CannotExplainError, match=f"{MODELS[kind].__name__} has no edge_layers"):
        run.explain(["edge_ig"])


# --- before the training -----------------------------------------------------------------------------


def test_what_a_model_cannot_do_is_found_before_the_training(
    dataset: DatasetCard, reading: Reading, tmp_path: Path
) -> None:
    run = Run.start(tmp_path / "dense", dataset, ModelCard.find("dense")).on(reading)
    with pytest.raises(CannotExplainError, match="DenseModel has no edge_layers, edge_path; these"):
        run.dry_run(["edge_ig"], {})
    graph = Run.start(tmp_path / "graph", dataset, ModelCard.find("graphconv_edgeconv")).on(reading)
    with pytest.raises(KeyError, match="no layer 'WRONG'; edges can be weighted in graph_1, dynamic_edge_2"):
        graph.dry_run(None, {"edge_ig": {"layer": "WRONG"}})
    graph.dry_run(None, {"edge_ig": {"layer": "dynamic_edge_2"}, "surrogate": {"layer": "graph_1"}})


SMALL = [f"convolutions.{i}.width=8" for i in range(3)] + ["training.epochs=2"]


def finish(run: Run) -> str:
    """Train, explain and report as the command does; the page."""
    run.train(progress=False)
    run.explain(["attention", "edge_ig", "node_ig"], maximum=10)
    run.friends()
    return write_report(run).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_graph_network_on_the_shipped_jets(tmp_path: Path) -> None:
    """Every particle is a jet, and the focus of the card is the pair of jets."""
    card = ModelCard.find("transformer_edgeconv", SMALL)
    page = finish(Run.start(tmp_path / "run", DatasetCard.find("ttbar_qcd"), card))
    assert "All pairs are jet–jet pairs: there are no others to compare them with." in page
    assert "jet 3–4" in page


CONSTITUENTS = """
name: top_tagging
tree: Events
units: GeV
samples:
  - {name: top, files: top.root, class: top}
  - {name: qcd, files: qcd.root, class: qcd}
labels: [qcd, top]
particles:
  constituent: {branches: "C_{}"}
features: [energy, px, py, pz]
split: {train: 6, valid: 2, test: 2, seed: 0}
"""


@pytest.mark.slow
def test_constituents_of_jets(tmp_path: Path) -> None:
    """One particle type, no focus, up to 40 particles an event."""
    rng = np.random.default_rng(0)
    for name, width in (("top", 0.4), ("qcd", 0.1)):
        counts = rng.integers(25, 41, 60)
        size = int(counts.sum())
        columns = {"pt": rng.exponential(10, size) + 1, "mass": np.zeros(size)}
        columns |= {"eta": rng.normal(0, width, size), "phi": rng.normal(0, width, size)}
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            jagged = ak.zip({k: ak.unflatten(v.astype(np.float32), counts) for k, v in columns.items()})
            file.mktree("Events", {"C": jagged.type.content, "event": "int64"}).extend(
                {"C": jagged, "event": np.arange(60)}
            )
    (tmp_path / "card.yaml").write_text(CONSTITUENTS)
    dataset = DatasetCard.find(str(tmp_path / "card.yaml"))
    run = Run.start(tmp_path / "run", dataset, ModelCard.find("transformer_edgeconv", SMALL))
    page = finish(run)
    assert "constituent 17–32" in page
    assert len(page) < 8_000_000
    with uproot.open(min((tmp_path / "run" / "friends").glob("*.root"))) as friend:
        assert friend["hepxai"].num_entries == 60


def test_a_regression_needs_targets(dataset: DatasetCard, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"\(training\.loss\), the events have no targets: declare"):
        Run.start(tmp_path / "run", dataset, ModelCard.find("dense", ["training.loss=mae"]))


def test_a_run_of_an_older_card_goes_on(dataset: DatasetCard, tmp_path: Path) -> None:
    """A card written before a key was there has the key's default."""
    card = ModelCard.find("dense")
    run = Run.start(tmp_path / "run", dataset, card)
    path = run.folder / "model.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  loss: cross_entropy\n", ""), encoding="utf-8")
    run.manifest.record("model.yaml")
    assert Run.start(tmp_path / "run", dataset, card).card == card
    other = ModelCard.find("dense", ["training.seed=2"])
    assert Run.start(tmp_path / "run", dataset, other).card == other  # nothing was done with the first
    with pytest.raises(RunError, match=r"another model\.yaml \(there seed: 2, here seed: 1\)"):
        run.train()
    (run.folder / "history.json").write_text("[]")
    with pytest.raises(
        RunError, match=r"another model\.yaml \(there seed: 2, here seed: 1\); choose another"
    ):
        Run.start(tmp_path / "run", dataset, card)


def test_columns_of_another_data_set(
    finished: tuple[str, Run], dataset: DatasetCard, reading: Reading, tmp_path: Path
) -> None:
    """A column that a sample lacks is named by the reader; one that the model lacks by the model."""
    kind, run = finished
    with pytest.raises((CardError, ValueError), match="nothing"):
        read(DatasetCard.find("charged_higgs", ["globals.ht.expression=sum(jet.nothing)"]))
    if kind != "lstm":
        own = {"ht": dataset.globals["met"], **{k: v for k, v in dataset.globals.items() if k != "ht"}}
        other = dataset.model_copy(update={"globals": dict(reversed(own.items()))})
        with pytest.raises(ValueError, match="trained on the globals ht, met"):
            run.model.logits(hepxai.read(other).events)
