"""Errors of the numbers of a report, against sums by hand over the runs under each variation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from quick_settings import RESOLUTION
from shipped_sample import first_entries

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import is_directed, relative_to_uniform
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.metrics import auc
from hepxai.metrics.agreement import rank_agreement
from hepxai.metrics.classification import rejection
from hepxai.metrics.columns import column_agreement
from hepxai.metrics.counterfactuals import mean_changes
from hepxai.metrics.pixels import hit_rank_agreement
from hepxai.models.card import ModelCard
from hepxai.report import RunView
from hepxai.report.columns import column_agreements
from hepxai.report.counterfactuals import counterfactual_sections
from hepxai.report.diagnostics import agreements
from hepxai.report.layer_attributions import maps
from hepxai.report.pairs import pair_section
from hepxai.report.performance import roc_section
from hepxai.report.pixels import pixel_agreements
from hepxai.report.targets import targets_section
from hepxai.run import Run
from hepxai.run.ensemble import EnsembleRun

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("undrawn")]
SMALL = ["training.epochs=2", "training.batch_size=256"]
GRAPH = [*SMALL, *(f"convolutions.{i}.width=8" for i in range(3)), "dense=[8]", "convolutions.0.heads=2"]
SCALE = {side: {"expressions": {"jet.pt": f"pt * {f}", "jet.mass": f"mass * {f}"}}
         for side, f in (("up", 1.1), ("down", 0.9))}  # fmt: skip
VARIATIONS: dict[str, Any] = {"scale": SCALE, "btag": {"weight": "1.2 ** count(jet.btag > 0.5)"}}


def done(folder: Path, card: DatasetCard, model: str, overrides: list[str], **explained: Any) -> Run:
    """Run that is trained, explained with few steps and varied."""
    card = DatasetCard.model_validate(card.model_dump() | {"variations": VARIATIONS})
    run = Run.start(folder, card, ModelCard.find(model, overrides))
    run.train(progress=False, workers=1)
    run.explain([*explained], maximum=40, settings={k: v for k, v in explained.items() if v}, workers=1)
    run.vary(workers=1)
    return Run.open(run.folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One training of a graph network on three classes."""
    folder, card = tmp_path_factory.mktemp("varied") / "run", DatasetCard.find("top_dimuon")
    return done(folder, card, "transformer_edgeconv", GRAPH, attention={}, edge_ig={"steps": 4})


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A dense network that finds the sum of the jet momenta in the table."""
    card = DatasetCard.find(str(first_entries(800)), ["targets={jets: sum(jet.pt)}"])
    overrides = [*SMALL, "training.loss=mae", "training.monitor=loss", "training.class_balance=false"]
    folder, gradient_shap = tmp_path_factory.mktemp("varied") / "run", {"size": 5, "samples": 5}
    return done(folder, card, "dense", overrides, feature_ig={"steps": 4}, gradient_shap=gradient_shap)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> EnsembleRun:
    """Two folds of two trainings each."""
    card = DatasetCard.find(str(first_entries(800)), ["split.folds=2", "split.fold=all"])
    folder = tmp_path_factory.mktemp("varied") / "run"
    resolutions = dict.fromkeys(("muon", "electron", "jet", "met"), RESOLUTION)
    settings = {"steps": 2, "resolutions": resolutions}
    overrides = [*GRAPH, "training.trainings=2"]
    run = done(folder, card, "transformer_edgeconv", overrides, counterfactual=settings)
    assert isinstance(run, EnsembleRun)
    return run


def by_hand(run: Run, measure: Callable[[Run], Any]) -> np.ndarray:
    """Larger change of up and down, and the change of the weights, in quadrature."""
    nominal, varied = measure(run), {name: measure(one) for name, one in run.variations.items()}
    assert varied.keys() == {"scale_up", "scale_down", "btag"}
    scale = np.maximum(*(np.abs(varied[f"scale_{side}"] - nominal) for side in ("up", "down")))
    total = np.hypot(scale, np.abs(varied["btag"] - nominal))
    assert np.nanmax(total) > 0
    return np.asarray(total)


def test_roc_band(run: Run) -> None:
    curve = roc_section(RunView(run)).numbers["roc_test"]["signal"]  # type: ignore[call-overload]

    def measure(one: Run) -> np.ndarray:
        test, (a, b, c) = one.events.split == 2, one.scores.T
        odds, signal = (c - np.logaddexp(a, b))[test], one.events.label[test] == 2
        weight = one.events.weight[test]
        return np.array([rejection(odds, signal, weight, e).value for e in curve["signal_efficiency"]])

    np.testing.assert_allclose(curve["rejection_syst"], by_hand(run, measure), rtol=1e-9)


def test_confusion(run: Run) -> None:
    rows = roc_section(RunView(run)).numbers["confusion_test"]  # type: ignore[call-overload]
    names = run.events.schema.classes

    def measure(one: Run) -> np.ndarray:
        test, assigned = one.events.split == 2, one.scores.argmax(1)
        return np.array([
            one.events.weight[test & (one.events.label == t) & (assigned == a)].sum()
            / one.events.weight[test & (one.events.label == t)].sum()
            for t in range(3) for a in range(3)
        ])  # fmt: skip

    assert [(r["true"], r["assigned"]) for r in rows] == [(t, a) for t in names for a in names]
    np.testing.assert_allclose([r["syst"] for r in rows], by_hand(run, measure), rtol=1e-9)


def test_heads(run: Run) -> None:
    view = RunView(run)
    layer = next(m for m in maps(view, "pair") if m.method == "attention")
    rows = pair_section(view, layer).numbers["heads"]  # type: ignore[call-overload]
    of_signal = [r for r in rows if (r["class"], r["pairs"]) == ("signal", "muon–muon pairs")]
    assert len(of_signal) == len(layer.heads()) > 1

    def measure(one: Run) -> np.ndarray:
        relative = relative_to_uniform(one.maps()["attention"])
        pairs, events = relative.pairs, relative.events
        assert pairs is not None
        muon, event = events.is_type("muon"), events.parent[pairs.src]
        w = events.weight[event] * (muon[pairs.src] & muon[pairs.dst]) * (events.label[event] == 2)
        return np.asarray(w @ relative.values[:, 0] / w.sum())

    np.testing.assert_allclose([r["syst"] for r in of_signal], by_hand(run, measure), rtol=1e-5)


def agreement_by_hand(run: Run, first: str, second: str, measure: Callable[..., Any]) -> float:
    def value(one: Run) -> np.ndarray:
        return np.asarray(measure(one.maps()[first], one.maps()[second]).mean.value)

    return float(by_hand(run, value))


def test_agreement_of_pair_maps(run: Run) -> None:
    keys = [k for k in run.maps() if k.startswith("edge_ig")]
    row = next(r for r in agreements(RunView(run)) if {"attention"} & {r["first"], r["second"]})
    expected = [
        agreement_by_hand(run, "attention", k, lambda a, b: rank_agreement(
            a, b, unordered=not (is_directed(a) and is_directed(b)))) for k in keys
    ]  # fmt: skip
    assert any(row["syst"] == pytest.approx(e, rel=1e-6) for e in expected)


# --- regression, columns and pixels ------------------------------------------------------------------


def test_figures_of_merit_of_a_regression(regression: Run) -> None:
    metrics = regression.metrics()["test"]

    def measure(one: Run) -> np.ndarray:
        test = one.events.split == 2
        error = np.abs(one.scores[test, 0] - one.events.targets[test, 0])
        return np.asarray(np.average(error, weights=one.events.weight[test]))

    assert metrics["mae_jets"]["value"] == pytest.approx(float(measure(regression)))
    assert metrics["mae_jets"]["syst"] == pytest.approx(float(by_hand(regression, measure)))
    (table,) = targets_section(RunView(regression)).tables
    assert "systematic" in table.caption
    assert all(cell.endswith("(syst)") for row in table.rows for cell in row[1:] if "±" in cell)


def test_agreement_of_columns(regression: Run) -> None:
    (row,) = column_agreements(RunView(regression))
    expected = agreement_by_hand(regression, "feature_ig", "gradient_shap", column_agreement)
    assert row["syst"] == pytest.approx(expected)


LAYOUT = ImageLayout(
    ImageAxis("eta", (-1.5, -0.5, 0.5, 1.5)), ImageAxis("phi", (-2.0, -1.0, 0.0, 1.0, 2.0)), ("muon", "jet")
)


def test_agreement_of_pixels(toy: Callable[..., Events]) -> None:
    """Trainings and a variation of the weights."""
    events = toy(60, seed=2, largest=14)
    events = events.replace(schema=dataclasses.replace(events.schema, image=LAYOUT))
    other = events.replace(weight=events.weight * np.where(events.label == 1, 2.0, 1.0))
    rng = np.random.default_rng(1)

    def pixel_map(method: str) -> Attribution:
        values = rng.normal(size=(len(events), 3, 4, 2))
        whole = Attribution(values, ("event", "row", "column", "training"), events, method, "signal",
                            labels={"training": ("1", "2")})  # fmt: skip
        return whole.replace(varied={"weights": (whole.replace(events=other),)})

    every = {m: pixel_map(m) for m in ("saliency", "lrp")}
    means = {m: a.mean("training") for m, a in every.items()}
    view: Any = SimpleNamespace(every=every, explained=means, predictions={}, compact=lambda _: False)
    (row,) = pixel_agreements(view)
    nominal = hit_rank_agreement(*means.values()).mean
    varied = hit_rank_agreement(*(a.replace(events=other) for a in means.values())).mean
    singles = [hit_rank_agreement(*(a.select(training=t) for a in every.values())).mean for t in ("1", "2")]
    assert row["value"] == pytest.approx(float(nominal.value))
    assert row["syst"] == pytest.approx(abs(float(varied.value - nominal.value))) != 0
    assert row["training"] == pytest.approx(np.std([float(s.value) for s in singles], ddof=1))


# --- folds and trainings -----------------------------------------------------------------------------


@pytest.mark.slow
def test_folds_of_trainings(folds: EnsembleRun) -> None:
    """Each event by the two networks of its fold, under each variation."""

    def aucs(one: Run) -> np.ndarray:
        assert isinstance(one, EnsembleRun)
        members = list(one.members.values())
        is_test, of = members[0].events.split == 2, [m.scores[:, 0] for m in members]  # fold by fold
        by_training = [np.where(is_test, of[t], of[2 + t]) for t in (0, 1)]
        scores = [np.mean(by_training, axis=0), *by_training]
        return np.array([float(auc(s, one.events.label == 1, one.events.weight).value) for s in scores])

    entry, values = folds.metrics()["test"]["auc"], aucs(folds)
    assert entry["value"] == pytest.approx(values[0])
    assert entry["training"] == pytest.approx(np.std(values[1:], ddof=1))
    assert entry["syst"] == pytest.approx(by_hand(folds, aucs)[0])


@pytest.mark.slow
def test_counterfactuals_of_folds_and_trainings(folds: EnsembleRun) -> None:
    """Means over the trainings of the numbers of each, not numbers of the mean map."""
    view = RunView(folds)
    changes, hidden = counterfactual_sections(view)

    def singles(one: Run) -> list[Attribution]:
        whole = one.maps()["counterfactual"]
        return [whole.select(training=t) for t in ("1", "2")]

    def mean(one: Run) -> np.ndarray:
        return np.mean([mean_changes(a).value for a in singles(one)], axis=0)

    rows = changes.numbers["changes"]  # type: ignore[call-overload]
    np.testing.assert_allclose([r["value"] for r in rows], mean(folds).ravel())
    np.testing.assert_allclose([r["syst"] for r in rows], by_hand(folds, mean).ravel(), atol=1e-9)
    each = [mean_changes(a).value.ravel() for a in singles(folds)]
    np.testing.assert_allclose([r["training"] for r in rows], np.std(each, axis=0, ddof=1), atol=1e-12)
    shares = changes.numbers["shares"]  # type: ignore[call-overload]
    for name, ever in shares["at all"].items():
        assert shares["not"][name]["value"] == pytest.approx(1 - ever["value"])
    of = hidden.numbers["jet"]  # type: ignore[call-overload]
    assert set(of) == {"envelope", "scale_up", "scale_down", "btag", "either", "hidden"}
    assert of["btag"]["value"] == 0
    assert of["envelope"]["value"] > 0
    assert "training" in of["envelope"]
    files = {f: f.stat().st_mtime_ns for f in folds.folder.glob("hidden_sensitivity-*")}
    assert len(files) == 2
    _, again = counterfactual_sections(RunView(folds))
    assert again.numbers == hidden.numbers
    assert files == {f: f.stat().st_mtime_ns for f in folds.folder.glob("hidden_sensitivity-*")}
