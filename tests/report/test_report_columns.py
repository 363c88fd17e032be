"""Sections on models of the table: rankings of columns, neurons from both ends, agreement."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.report import RunView, write_report
from hepxai.report.attributions import attribution_sections
from hepxai.report.browser import browser_section
from hepxai.report.columns import column_agreements, column_sections, leading
from hepxai.report.inputs import training_section
from hepxai.report.summary import summary

TITLES = {"feature_ig": "feature IG", "tree_shap": "TreeSHAP"}


def make_map(view: RunView, method: str, axis: str, size: int, seed: int) -> Attribution:
    """Column 0 matters for signal; the others are small."""
    events = next(iter(view.explained.values())).events
    values = 0.01 * np.random.default_rng(seed).normal(size=(len(events), size))
    values[:, 0] += 0.5 * events.label
    names = (
        events.schema.globals if axis == "feature" else [f"dense_{1 + i // 20}:{i % 20}" for i in range(size)]
    )
    labels = {axis: tuple(names)}
    output_change = values.sum(1)
    return Attribution(
        values.astype(np.float32),
        ("event", axis),
        events,
        method,
        "signal",
        labels=labels,
        short_title=TITLES.get(method, ""),
        residual=0 * output_change,
        output_change=output_change,
    )


@pytest.fixture
def view(finished_view: Callable[..., RunView]) -> RunView:
    return finished_view()


@pytest.fixture
def tabular(view: RunView, finished_view: Callable[..., RunView]) -> RunView:
    explained = {
        "feature_ig": make_map(view, "feature_ig", "feature", 1, 0),
        "tree_shap": make_map(view, "tree_shap", "feature", 1, 1),
        "conductance": make_map(view, "conductance", "neuron", 40, 2),
    }
    return finished_view(explained=explained)


def test_a_section_for_each_method(tabular: RunView) -> None:
    found = {s.key: s for s in column_sections(tabular)}
    assert list(found) == ["feature_ig", "tree_shap", "conductance"]
    columns = found["feature_ig"].numbers["features"]
    by_hand = tabular.explained["feature_ig"].replace(values=np.abs(tabular.explained["feature_ig"].values))
    assert columns[0]["name"] == "ht"
    assert columns[0]["value"] == pytest.approx(float(by_hand.population().value[0]))
    signal = tabular.explained["feature_ig"]
    expected = signal.population(where=signal.events.label == 1)
    assert columns[0]["mean signal"] == pytest.approx(float(expected.value[0]))
    assert len(found["conductance"].numbers["neurons"]) == 40
    assert len(found["conductance"].tables[0].rows) == 30  # the first and the last 15
    assert found["conductance"].tables[0].rows[0][0] == "dense_1:0"
    assert [f.name for f in found["conductance"].figures] == ["conductance_neurons"]


def test_nothing_of_tables_in_a_report_on_particles(view: RunView) -> None:
    assert not list(column_sections(view))
    assert not list(column_agreements(view))
    assert "Columns" not in {p.about for p in summary(view)}


def test_nothing_of_particles_in_a_report_on_tables(tabular: RunView) -> None:
    assert [s.key for s in attribution_sections(tabular)] == [
        "looked",
        "feature_ig",
        "tree_shap",
        "conductance",
    ]


def test_the_summary_names_the_first_columns(tabular: RunView) -> None:
    told = list(leading(tabular))
    assert told[0].startswith("Feature IG, mean |attribution| to signal [logit]: ht ")
    assert {"Columns"} <= {p.about for p in summary(tabular)}


def test_agreement_of_the_same_events(tabular: RunView) -> None:
    pairs = [(n["first"], n["second"]) for n in column_agreements(tabular)]
    assert pairs == [("feature IG", "TreeSHAP")]


def make_trees(best: int) -> list[dict[str, float]]:
    return [
        {"trees": 10.0 * i, "train_loss": 0.6 / i, "valid_loss": 0.5 if i == best else 0.6, "seconds": 1.0}
        for i in (1, 2, 3)
    ]


def test_a_training_counted_by_trees(finished_view: Callable[..., RunView]) -> None:
    section = training_section(finished_view(history=make_trees(best=2)))
    assert "what was kept, 20 trees" in section.figures[0].caption
    assert "dropout" not in section.figures[0].caption
    assert section.figures[0].figure.axes[0].get_xlabel() == "trees"
    told = " ".join(s for p in summary(finished_view(history=make_trees(best=3))) for s in p.sentences)
    assert (
        "30 trees were kept, the best of 3 numbers that were tried on the valid split; it is the last one"
        in told
    )


@pytest.mark.slow
def test_the_whole_page(tabular: RunView, tmp_path: Path) -> None:
    write_report(tabular.run, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "dense_1:0" in page
    numbers: dict[str, Any] = json.loads((tmp_path / "numbers.json").read_text())
    assert {"feature_ig", "tree_shap", "conductance"} <= numbers["sections"].keys()


def test_the_event_browser_has_columns_with_their_values(tabular: RunView) -> None:
    section = browser_section(tabular)
    assert section is not None
    assert section.browser is not None
    (attribution, *_) = (a for a in tabular.explained.values() if a.axes == ("event", "feature"))
    drawn = next(m for m in section.browser["maps"] if m["over"] == "column")
    table, names = attribution.events.table()
    entries = {f"{r}:{b}:{e}": i for i, (r, b, e) in enumerate(identities(attribution.events))}
    for event, values in zip(section.browser["events"], drawn["values"], strict=True):
        row = entries[event["id"]]
        order = np.argsort(-abs(attribution.values[row]), kind="stable")
        assert [v[0] for v in values] == [names[i] for i in order]
        assert [v[1] for v in values] == pytest.approx(table[row, order], rel=0.01)
        assert [v[2] for v in values] == pytest.approx(attribution.values[row, order], rel=0.01)


def identities(events: Events) -> Iterator[tuple[int, ...]]:
    return zip(events.run.tolist(), events.luminosity_block.tolist(), events.event.tolist(), strict=True)
