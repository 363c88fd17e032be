"""Reports of three classes and of regressions: every number against direct computation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from hepxai import plots
from hepxai.attribution import Attribution, Pairs
from hepxai.attribution.means import focus_means
from hepxai.core.estimate import as_json
from hepxai.core.jagged import parents, row_sum
from hepxai.events import Events
from hepxai.metrics import auc, classification_metrics, confusion_matrix
from hepxai.metrics.targets import target_metrics
from hepxai.plots.style import class_look
from hepxai.report import RunView, write_report
from hepxai.report.columns import column_sections
from hepxai.report.diagnostics import agreements
from hepxai.report.displays import chosen_events
from hepxai.report.layer_attributions import maps
from hepxai.report.outputs import explained_output
from hepxai.report.performance import roc_section
from hepxai.report.summary import summary
from hepxai.report.view import doubts_about

CLASSES = ("ttbar", "ttbar_Z", "signal")
COLUMNS = ("signal", "ttbar_Z", "ttbar")


def contrast(z: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(z[:, k] - np.delete(z, k, axis=1).mean(axis=1))


def pair_map(events: Events, output: np.ndarray, target: str) -> Attribution:
    """The pairs share out half of the output, and the rest is in the baseline."""
    pairs = Pairs.complete(events)
    values = np.random.default_rng(len(target)).normal(0, 0.02, len(pairs.src))
    values += (0.5 * output / np.maximum(np.diff(pairs.offsets), 1))[parents(pairs.offsets)]
    total = row_sum(values, pairs.offsets)
    return Attribution(
        values,
        ("pair",),
        events,
        "edge_ig",
        target,
        pairs=pairs,
        residual=0.01 * total,
        output_change=0.99 * total,
        settings={"layer": "edgeconv"},
    )


def column_map(events: Events, output: np.ndarray, target: str) -> Attribution:
    values, labels = np.asarray(output, dtype=np.float64)[:, None], {"feature": ("ht",)}
    unit = "GeV" if target in events.schema.targets else "logit"
    return Attribution(values, ("event", "feature"), events, "tree_shap", target, labels=labels, unit=unit)


def three(make_population: Callable[..., Events], n: int) -> tuple[Events, np.ndarray]:
    rng, events = np.random.default_rng(4), make_population(n)
    schema = dataclasses.replace(events.schema, classes=CLASSES)
    split, weight = rng.choice(3, n, p=[0.4, 0.1, 0.5]), rng.uniform(0.5, 1.5, n)
    events = events.replace(schema=schema, label=np.arange(n) % 3, split=split, weight=weight)
    return events, rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[events.label]


@pytest.fixture(scope="module")
def view(make_population: Callable[..., Events], bare_view: Callable[..., RunView]) -> RunView:
    events, z = three(make_population, 240)
    test, z_test = events.where("test"), z[events.split == 2]
    explained = {
        f"edge_ig_{c}": pair_map(test, contrast(z_test, k), f"{c}-rest") for k, c in enumerate(CLASSES)
    }
    metrics = {s: as_json(m) for s, m in classification_metrics(z, events).items()}
    history = [{"epoch": 0.0, "train_loss": 1.0, "valid_loss": 0.9}]
    return bare_view(events=events, scores=z, explained=explained, metrics=metrics, history=history)


@pytest.fixture(scope="module")
def page(view: RunView, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], set[str]]:
    path = write_report(view.run, tmp_path_factory.mktemp("classes"))
    figures = {p.stem for p in (path.parent / "figures").glob("*.png")}
    return path.read_text(), json.loads((path.parent / "numbers.json").read_text()), figures


def test_signal_has_figures_and_the_others_have_tables_and_numbers(view: RunView, page: Any) -> None:
    html, numbers, figures = page
    assert {"edge_ig_signal_pairs", "edge_ig_signal_displays", "scores", "roc", "confusion"} <= figures
    assert not {f for f in figures if f.startswith("edge_ig_ttbar")}
    assert "positive: towards signal, away from the other classes" in html
    assert html.count("Tables alone: figures are drawn for signal;") == 2
    assert html.index('id="edge_ig_signal"') < html.index('id="edge_ig_ttbar"')
    for c in CLASSES:
        attribution = view.explained[f"edge_ig_{c}"]
        rows = numbers["sections"][f"edge_ig_{c.lower()}"]["focus"]["means"]
        assert rows == focus_means(attribution, view.focus).rows()


def test_roc_confusion_and_pairs_are_those_of_the_logits(view: RunView, page: Any) -> None:
    numbers, events, z = page[1]["sections"]["roc"], view.events, view.run.scores
    rows = events.split == 2
    label, weight = events.label[rows], events.weight[rows]
    direct = confusion_matrix(z[rows], label, weight)
    for cell in numbers["confusion_test"]:
        i, j = CLASSES.index(cell["true"]), CLASSES.index(cell["assigned"])
        by_hand = np.average(z[rows][label == i].argmax(axis=1) == j, weights=weight[label == i])
        assert cell["value"] == pytest.approx(by_hand)
        assert cell["error"] == pytest.approx(direct.error[i, j])
    assert set(numbers["roc_test"]) == set(CLASSES)
    p = softmax(z[rows], axis=1)
    for k, c in enumerate(CLASSES):
        area = auc(np.log(p[:, k] / (1 - p[:, k])), label == k, weight)
        assert numbers["metrics"]["test"][f"auc_{c}_vs_rest"]["value"] == pytest.approx(float(area.value))
        curve = numbers["roc_test"][c]
        cut = np.sort((p[:, k])[label == k])[0]  # at full efficiency all of the class pass
        share = np.average(p[label != k, k] >= cut, weights=weight[label != k])
        assert curve["signal_efficiency"][-1] == 1
        assert curve["rejection"][-1] == pytest.approx(1 / share)
    (pairs,) = (t for t in roc_section(view).tables if t.caption.startswith("AUC of each two"))
    assert pairs.header == ("", "ttbar_Z", "ttbar")
    assert [row[0] for row in pairs.rows] == ["signal", "ttbar_Z"]
    assert pairs.rows[1][1] == ""
    assert float(pairs.rows[0][1][:4]) == pytest.approx(
        numbers["metrics"]["test"]["auc_signal_vs_ttbar_Z"]["value"], abs=0.011
    )


@pytest.mark.parametrize("c", CLASSES)
def test_baseline_and_attributions_add_up_to_the_contrast(view: RunView, page: Any, c: str) -> None:
    closure = page[1]["sections"][f"edge_ig_{c.lower()}"]["closure"]
    attribution, k = view.explained[f"edge_ig_{c}"], CLASSES.index(c)
    z = view.run.scores[view.events.split == 2]
    for code, name in enumerate(CLASSES):
        weight = np.where(attribution.events.label == code, attribution.events.weight, 0.0)
        own = closure[name]
        assert own["logit"]["value"] == pytest.approx(np.average(contrast(z, k), weights=weight))
        parts = [own[part]["value"] for part in ("baseline", "attributions", "residual", "logit")]
        assert parts[0] + parts[1] - parts[2] == pytest.approx(parts[3])
    others = [name for name in COLUMNS if name != c]
    assert list(closure) == [*COLUMNS, *(f"{c} − {name}" for name in others)]


def test_the_summary_names_the_hardest_pair(view: RunView) -> None:
    text = " ".join(s for finding in summary(view) for s in finding.sentences)
    row = view.metrics["test"]
    areas = {n: row[n]["value"] for n in row if n.startswith("auc_") and not n.endswith("_vs_rest")}
    one, other = min(areas, key=lambda n: float(areas[n] or 0)).removeprefix("auc_").split("_vs_")
    assert f"Hardest to tell apart: {one} and {other}, AUC" in text
    assert "Signal against ttbar_Z and ttbar on" in text
    assert "to the logit of signal − mean of the others" in text
    assert "of the other outputs at most" in text


def test_methods_agree_by_output(view: RunView, changed: Callable[..., RunView]) -> None:
    """Only attributions of one output are compared."""
    assert list(agreements(view)) == []
    both = dict(view.explained) | {
        "shapley_signal": view.explained["edge_ig_signal"].replace(method="shapley")
    }
    (row,) = agreements(changed(view, explained=both))
    assert {row["first"], row["second"]} == {"edge ig signal", "shapley signal"}
    assert row["value"] == pytest.approx(1)


def test_events_to_show_are_chosen_by_the_log_odds(view: RunView) -> None:
    z, label = view.run.scores, view.events.label
    chosen = chosen_events(view.events, z)
    assert set(chosen) == {(c, "typical") for c in CLASSES} | {("signal", "best"), ("signal", "worst")}
    p = softmax(z, axis=1)[:, 2]
    signal = (label == 2) & (view.events.counts > 1)
    assert p[chosen["signal", "best"]] == p[signal].max()
    assert p[chosen["signal", "worst"]] == p[signal].min()


def test_a_table_of_three_classes(view: RunView, changed: Callable[..., RunView]) -> None:
    test, z = view.events.where("test"), view.run.scores[view.events.split == 2]
    explained = {
        f"tree_shap_{c}": column_map(test, contrast(z, k), f"{c}-rest") for k, c in enumerate(CLASSES)
    }
    found = {s.key: s for s in column_sections(changed(view, explained=explained))}
    assert list(found) == ["tree_shap_signal", "tree_shap_ttbar", "tree_shap_ttbar_Z"]
    assert [len(s.figures) for s in found.values()] == [2, 0, 0]
    assert found["tree_shap_ttbar"].text[0].startswith("Positive: towards ttbar, away from the other classes")
    for k, c in enumerate(CLASSES):
        (entry,) = found[f"tree_shap_{c}"].numbers["features"]
        for code, name in enumerate(CLASSES):
            weight = np.where(test.label == code, test.weight, 0.0)
            assert entry[f"mean {name}"] == pytest.approx(np.average(contrast(z, k), weights=weight))


def test_scores_need_a_logit_for_each_class(view: RunView, changed: Callable[..., RunView]) -> None:
    with pytest.raises(ValueError, match=r"need one logit each, \[event, 3\]"):
        changed(view, scores=view.run.scores[:, :2])
    broken = view.run.scores.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="1 of 240 scores of signal are NaN"):
        changed(view, scores=broken)


def test_doubts_name_the_class() -> None:
    good, bad = {"value": 0.9, "error": 0.01}, {"value": 0.51, "error": 0.02}
    train = {"auc_a_vs_rest": good, "auc_b_vs_rest": good, "auc_a_vs_b": good}
    texts = list(doubts_about({"train": train, "test": train | {"auc_b_vs_rest": bad}}))
    assert len(texts) == 2
    assert "AUC of b against the rest" in texts[0]
    assert "does not separate b from the rest" in texts[1]


# --- outputs in words ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "target", "sign", "kind"),
    [
        (CLASSES, "signal-rest", "Positive: towards signal, away from the other classes;", "contrast"),
        (CLASSES, "signal-ttbar", "Positive: towards signal, away from ttbar;", "contrast"),
        (("b", "s"), "s-b", "Positive: towards s, away from b;", "contrast"),
        (("b", "s"), "s", "Positive values push the logit of s up, negative ones down, towards b.", "logit"),
        (
            CLASSES,
            "pt",
            "Positive values raise the predicted pt, negative ones lower it; they are in",
            "prediction",
        ),
    ],
)
def test_signs(view: RunView, classes: tuple[str, ...], target: str, sign: str, kind: str) -> None:
    schema = dataclasses.replace(view.events.schema, classes=classes, targets=("pt",), target_units=("GeV",))
    output = explained_output(schema, target)
    assert output.sign.startswith(sign)
    assert output.kind == kind


# --- regressions -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression(make_population: Callable[..., Events], bare_view: Callable[..., RunView]) -> RunView:
    rng, events = np.random.default_rng(1), make_population(160)
    names = ("pt", "mass", "eta")
    schema = dataclasses.replace(
        events.schema, classes=("events",), targets=names, target_units=("GeV", "GeV", "")
    )
    true = rng.normal(50, 20, (160, 3)).astype(np.float32)
    events = events.replace(
        schema=schema, label=np.zeros(160, dtype=np.int64), targets=true, split=np.arange(160) % 3
    )
    predicted = true + rng.normal(0, 5, true.shape)
    test, found = events.where("test"), predicted[events.split == 2]
    explained = {
        f"edge_ig_{t}": pair_map(test, found[:, k], t).replace(unit="GeV" if k < 2 else "")
        for k, t in enumerate(names)
    }
    explained |= {f"tree_shap_{t}": column_map(test, found[:, k], t) for k, t in enumerate(names)}
    metrics = {s: as_json(m) for s, m in target_metrics(predicted, events).items()}
    predictions = dict(zip(names, predicted.T, strict=True))
    return bare_view(
        events=events, scores=predicted, predictions=predictions, explained=explained, metrics=metrics
    )


def test_a_regression_of_graphs_and_tables(
    regression: RunView, changed: Callable[..., RunView], tmp_path: Path
) -> None:
    few = {k: a for k, a in regression.explained.items() if not k.endswith("mass")}
    view = changed(regression, explained=few)
    page = write_report(view.run, tmp_path)
    html, numbers = page.read_text(), json.loads((tmp_path / "numbers.json").read_text())["sections"]
    figures = {p.stem for p in (tmp_path / "figures").glob("*.png")}
    assert {"edge_ig_pt_displays", "residuals_pt", "tree_shap_pt_ranking"} <= figures
    assert not {f for f in figures if f.startswith(("edge_ig_eta", "tree_shap_eta"))}  # the third target
    assert "= predicted pt [GeV]" in html
    assert "Positive values raise the predicted pt, negative ones lower it; they are in GeV." in html
    assert "logit" not in html.replace("logits", "")
    test, rows = view.events.where("test"), view.events.split == 2
    closure = numbers["edge_ig_pt"]["closure"]["events"]
    mean = np.average(view.predictions["pt"][rows], weights=test.weight)
    assert closure["logit"]["value"] == pytest.approx(mean)
    shown = {d["role"]: d for d in numbers["edge_ig_pt"]["displays"]}
    error = abs(view.predictions["pt"][rows] - test.targets[:, 0])
    assert shown["worst"]["row"] == np.where(test.counts > 1, error, -1).argmax()
    assert shown["best"]["score"] == pytest.approx(view.predictions["pt"][rows][shown["best"]["row"]])
    assert numbers["tree_shap_pt"]["features"][0]["mean events"] == pytest.approx(mean)


# --- figures ---------------------------------------------------------------------------------


def test_the_last_class_is_red_and_ten_classes_differ() -> None:
    for number in (2, 3, 10):
        looks = [class_look(c, number) for c in range(number)]
        assert looks[-1]["color"] == class_look(1, 2)["color"]
        assert len({k["color"] for k in looks}) == len({k["marker"] for k in looks}) == number


@pytest.mark.parametrize("number", [3, 10])
def test_nothing_is_clipped_for_many_classes(make_population: Any, number: int) -> None:
    events = make_population(300)
    names = tuple(f"long name {i}" for i in range(number))
    schema = dataclasses.replace(events.schema, classes=names)
    events = events.replace(schema=schema, label=np.arange(300) % number, split=np.arange(300) // number % 3)
    z = np.random.default_rng(0).normal(size=(300, number)) + np.eye(number)[events.label]
    confusion = confusion_matrix(z, events.label, abs(events.weight))
    figures = [plots.roc_curve(events, z).figure, plots.class_confusion(confusion, names).figure]
    if number == 3:
        figures.insert(0, plots.score_figure(events, z, p_values=dict.fromkeys(names, 0.25)))
    for figure in figures:
        figure.draw_without_rendering()
        inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert inside.x0 > -2
        assert inside.y0 > -2
        assert inside.x1 < figure.bbox.x1 + 2
        assert inside.y1 < figure.bbox.y1 + 2
        for legend in (ax.get_legend() for ax in figure.axes if ax.get_legend() is not None):
            assert legend.get_window_extent().y0 >= legend.axes.bbox.y1 - 1
    matrix = figures[-1].axes[0]
    np.testing.assert_allclose(matrix.images[0].get_array(), np.asarray(confusion.value)[::-1, ::-1])
    assert [t.get_text() for t in matrix.get_yticklabels()] == list(reversed(names))


def test_maps_of_signal_come_first(view: RunView) -> None:
    assert [layer.method for layer in maps(view)] == ["edge_ig_signal", "edge_ig_ttbar", "edge_ig_ttbar_Z"]
    assert [layer.compact for layer in maps(view)] == [False, True, True]
