"""Expected significance and limit in the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hepxai.datasets.presentation import ExperimentLabel, Yields
from hepxai.metrics.significance import scaled_to_all, working_point
from hepxai.report import RunView
from hepxai.report.significance import significance_section, significance_sentences
from hepxai.report.write import sections as all_sections
from hepxai.report.write import write_page

Factory = Callable[..., RunView]


@pytest.fixture(scope="module")
def view(finished_view: Factory) -> RunView:
    return finished_view(
        6000, yields=Yields(unit="fb", background_error=0.1), luminosity=0.05, yield_scale=0.05, explained={}
    )


def test_numbers_of_the_section(view: RunView) -> None:
    """Of the test events, scaled to all events and the luminosity, above the cut of the validation."""
    section = significance_section(view)
    numbers: Any = section.numbers
    events, rows = view.events, view.events.split == 2
    weight = 0.05 * scaled_to_all(events.weight, events.label, rows)
    point = working_point(view.scores[rows], events.label[rows] == 1, weight, numbers["cut"], relative=0.1)
    assert numbers["significance"]["value"] == pytest.approx(float(point.significance.value))
    assert numbers["significance"]["error"] == pytest.approx(float(point.significance.error))
    assert numbers["limit"]["value"] == pytest.approx(numbers["limit_bands"]["0"])
    assert "cross sections in fb, and multiplied by 0.05 fb⁻¹" in section.text[0]
    assert "and 10 % of it" in section.text[0]
    assert "chosen on valid, numbers of test events" in section.tables[0].caption
    assert len(section.figures) == 1
    assert any("significance" in s for s in significance_sentences(view))
    assert [row[0] for row in section.tables[0].rows[5:]] == ["limit, expected ±1σ", "limit, expected ±2σ"]
    labels = section.figures[0].figure.axes[1].get_legend_handles_labels()[1]
    assert {"expected ±1σ", "expected ±2σ"} < set(labels)


@pytest.mark.parametrize("sources", [(), ("jes", "pileup")])
def test_omitted_uncertainties_are_named(finished_view: Factory, sources: tuple[str, ...]) -> None:
    view = finished_view(4000, yields=Yields(unit="events"), explained={})
    view.run.dataset.variation_sources = dict.fromkeys(sources, ("up", "down"))  # type: ignore[misc]
    named = " and the variations of the card (jes, pileup)" if sources else ""
    (sentence,) = significance_sentences(view)
    for text in (significance_section(view).text[0], sentence):
        assert f"ot included: uncertainties of the signal{named}." in text


def test_systematic_error_is_the_change_of_the_yields_at_the_nominal_cut(finished_view: Factory) -> None:
    """Weights grow by 10 % or shrink by 5 %: yields change by the larger, 10 %."""
    view = finished_view(6000, yields=Yields(unit="events"), explained={})
    nominal: Any = significance_section(view).numbers
    other = finished_view(6000, yields=Yields(unit="events"), explained={})
    runs = [
        SimpleNamespace(events=view.events.replace(weight=view.events.weight * f), scores=view.run.scores)
        for f in (1.1, 0.95)
    ]
    other.run.sources = lambda: {"lumi": runs}  # type: ignore[method-assign,assignment,return-value]
    section = significance_section(other)
    numbers: Any = section.numbers
    for name in ("signal", "background"):
        assert numbers[name]["value"] == nominal[name]["value"]
        assert numbers[name]["syst"] == pytest.approx(0.1 * nominal[name]["value"])
    assert numbers["cut"] == nominal["cut"]
    assert numbers["significance"]["syst"] > 0
    assert "if lumi changes" in section.text[0]
    assert section.tables[0].caption.endswith("± systematic.")


def test_only_where_the_card_says_what_weights_mean(finished_view: Factory, view: RunView) -> None:
    assert "significance" in [s.key for s in all_sections(view)]
    bare = finished_view(300, explained={})
    assert "significance" not in [s.key for s in all_sections(bare)]
    assert not list(significance_sentences(bare))


def test_all_folds_choose_and_quote_on_halves(
    finished_view: Factory, make_population: Callable[..., Any]
) -> None:
    events = make_population(4000, split=np.full(4000, 2))
    view = finished_view(events=events, yields=Yields(unit="events"), explained={}, metrics={})
    section = significance_section(view)
    assert "chosen on every second event, numbers of the other events" in section.tables[0].caption
    assert "Weights are taken as expected events" in section.text[0]


def test_spread_of_the_trainings(finished_view: Factory) -> None:
    view = finished_view(4000, yields=Yields(unit="events"), explained={})
    rng = np.random.default_rng(0)
    singles = view.run.scores[None] + rng.normal(0, 0.3, (3, len(view.events), 1))
    view.run.scores_of_trainings = singles  # type: ignore[attr-defined]
    view.run.card.training.trainings = 3
    section = significance_section(view)
    assert section.numbers["significance"]["training"] > 0  # type: ignore[call-overload]
    assert "± spread of the trainings" in section.tables[0].caption
    assert section.tables[0].rows[3][1].count("±") == 2


def test_a_background_that_cancels_is_a_warning(
    finished_view: Factory, make_population: Callable[..., Any]
) -> None:
    """The report of a long run is written all the same."""
    events = make_population(600)
    events = events.replace(weight=np.where(events.label == 0, -0.1, 1.0))
    view = finished_view(events=events, yields=Yields(unit="events"), explained={})
    section = significance_section(view)
    assert not section.tables
    assert "No working point: no cut keeps signal" in section.warnings[0]


def test_every_figure_of_the_page_has_the_label(view: RunView, tmp_path: Path) -> None:
    section = significance_section(view)
    label = ExperimentLabel(experiment="CMS", text="Simulation", com=13.6, lumi=138)
    page: dict[str, Any] = {
        "title": "t",
        "about": [],
        "summary": {},
        "reading": [],
        "cards": {},
        "footer": "",
    }
    write_page(tmp_path / "page.html", sections=[section], label=label, **page)
    texts = [t.get_text() for f in section.figures for ax in f.figure.axes for t in ax.texts]
    assert "CMS" in texts
    assert any("13.6 TeV" in t for t in texts)
    assert (tmp_path / "figures" / "significance.png").exists()
    json.dumps(section.numbers)
