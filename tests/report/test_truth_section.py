"""Section on the truth of the card: its numbers, what is missing in it, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hepxai import metrics, plots
from hepxai.attribution.trainings import stack_trainings
from hepxai.core.estimate import Estimate
from hepxai.report import RunView
from hepxai.report.truth import truth_section
from hepxai.report.write import sections


@pytest.fixture(scope="module")
def view(finished_view: Callable[..., RunView]) -> RunView:
    explained = finished_view(400).explained
    return finished_view(400, explained={k: explained[k] for k in ("attention", "node_ig")})


def test_numbers_are_those_of_the_metrics(view: RunView) -> None:
    section = truth_section(view)
    rows: Any = section.numbers
    assert [r["method"] for r in rows] == ["attention", "node IG"]
    assert len(section.tables) == len(section.figures) == 1
    for r, key in zip(rows, ("attention", "node_ig"), strict=True):
        attribution = view.explained[key]
        whole = metrics.find_truth(attribution, "fromA")
        within = metrics.truth_within_types(attribution, "fromA")
        assert r["events"] == whole.events
        by_type, gain = (f(attribution, "fromA") for f in (metrics.truth_by_type, metrics.truth_beyond_types))
        measured = {"auroc": whole.auroc, "by_type": by_type, "gain": gain, "within_types": within}
        for name, estimate in measured.items():
            assert r[name]["value"] == pytest.approx(float(estimate.value), nan_ok=True)
            assert r[name]["error"] == pytest.approx(float(estimate.error), nan_ok=True)
        null = metrics.null_within_types(attribution, "fromA", draws=r["draws"])
        assert r["null"]["value"] == pytest.approx(float(null.expectation.value), nan_ok=True)
        assert r["p_value"] == pytest.approx(null.p_value(float(within.value)), nan_ok=True)


def test_truth_of_no_event(view: RunView, changed: Callable[..., RunView]) -> None:
    events = view.events.replace(truth={"fromA": np.zeros(view.events.n_particles, dtype=bool)})
    bare = {k: a.replace(events=events[events.split == 2]) for k, a in view.explained.items()}
    section = truth_section(changed(view, events=events, explained=bare))
    assert [*section.tables, *section.figures, *section.numbers] == []
    assert "no map can be compared" in section.text[0]


def test_all_of_a_type_are_true(view: RunView, changed: Callable[..., RunView]) -> None:
    """Nothing to compare within equal types is a dash, with the reason."""
    events = view.events.replace(truth={"isMuon": view.events.is_type("muon")})
    part = events[events.split == 2]
    bare = {"node_ig": view.explained["node_ig"].replace(events=part)}
    (table,) = truth_section(changed(view, events=events, explained=bare)).tables
    assert table.rows[0][3:6] == ["–", "–", "–"]
    assert "no event has a true entry and another one" in table.caption


@pytest.mark.parametrize("missing", ["truth", "maps"])
def test_no_section_without_truth_or_maps(
    view: RunView, changed: Callable[..., RunView], missing: str
) -> None:
    nothing: dict[str, Any] = {"history": [], "metrics": {}, "explained": {}}
    nothing |= {"events": view.events.replace(truth={})} if missing == "truth" else {}
    assert "truth" not in [part.key for part in sections(changed(view, **nothing))]


def test_figure_has_both_errors_and_chance(view: RunView) -> None:
    one = view.explained["node_ig"]
    other = one.replace(values=-one.values + 0.1)
    auroc = {"node IG": metrics.find_truth(stack_trainings([one, other]), "fromA").auroc}
    unknown = {"node IG": Estimate(np.asarray(np.nan), np.asarray(np.nan), 0.0)}
    ax = plots.truth_baselines(auroc, {"node IG": metrics.truth_by_type(one, "fromA")}, unknown)
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["chance", "all entries", "types alone", "equal types"]
    bars: list[Any] = list(ax.collections[:2])
    widths = [np.ptp(bar.get_segments()[0][:, 0]) for bar in bars]
    spread = float(auroc["node IG"].spread["training"])
    assert widths[1] == pytest.approx(2 * float(auroc["node IG"].error))
    assert widths[0] == pytest.approx(2 * np.hypot(float(auroc["node IG"].error), spread))


def test_samples_are_drawn_with_unit_area() -> None:
    rng = np.random.default_rng(0)
    sample = rng.integers(-1, 2, 900)
    ax = plots.sample_scores(rng.normal(sample), np.ones(900), sample, ("dy", "tt"), label="logit")
    assert ax.get_legend_handles_labels()[1] == ["dy", "tt"]
    patches: list[Any] = list(ax.patches)
    lines = [p.get_data() for p in patches if not p.get_fill() and p.get_hatch() is None]
    assert len(lines) == 2
    for line in lines:
        assert np.sum(line.values * np.diff(line.edges)) == pytest.approx(1)
