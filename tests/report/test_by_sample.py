"""Numbers by sample: those of the events of the sample, only in classes of more than one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hepxai.attribution.means import pair_means, type_means
from hepxai.events import Events
from hepxai.report import RunView
from hepxai.report.by_sample import by_sample, by_sample_section, samples_as_classes, samples_of_classes
from hepxai.report.write import sections

FILES = {"files": ("dy.root:E", "tt.root:E", "tt2.root:E", "sig.root:E"), "file_entries": (4000,) * 4}
NAMES = {"samples": ("dy", "tt", "tt", "sig")}


@pytest.fixture(scope="module")
def events(make_population: Callable[..., Events]) -> Events:
    """Background of two samples, one of them in two files."""
    plain = make_population(1500)
    file = np.where(plain.label == 1, 3, np.arange(1500) % 3)
    return plain.replace(file=file, **FILES, **NAMES)


@pytest.fixture(scope="module")
def view(events: Events, finished_view: Callable[..., RunView]) -> RunView:
    return finished_view(1500, events=events)


def numbers_of(view: RunView) -> dict[str, Any]:
    return dict(by_sample_section(view).numbers)


def rows_of(events: Events, sample: str) -> np.ndarray:
    return np.isin(events.file, [i for i, s in enumerate(events.samples) if s == sample])


def test_classes_of_several_samples(events: Events) -> None:
    assert samples_of_classes(events) == {"background": ("dy", "tt")}
    names, number = by_sample(events)
    assert names == ("dy (background)", "tt (background)")
    for i, sample in enumerate(("dy", "tt")):
        np.testing.assert_array_equal(number == i, rows_of(events, sample))
    assert (number[events.label == 1] == -1).all()


def test_a_sample_in_two_classes(events: Events) -> None:
    mixed = events.replace(file=np.arange(1500) % 2)
    assert samples_of_classes(mixed) == {"background": ("dy", "tt"), "signal": ("dy", "tt")}
    assert len(by_sample(mixed)[0]) == 4


def test_scores_and_efficiencies(view: RunView) -> None:
    test = view.events.split == 2
    numbers = {r["sample"]: r for r in numbers_of(view)["scores"]}
    assert list(numbers) == ["dy (background)", "tt (background)"]
    score, weight = view.scores[test], view.events.weight[test]
    signal = view.events.label[test] == 1
    order = np.argsort(-score[signal])
    passed = np.cumsum(weight[signal][order]) / weight[signal].sum()
    cut = score[signal][order][np.argmax(passed >= 0.5)]
    for sample in ("dy", "tt"):
        rows, found = rows_of(view.events, sample)[test], numbers[f"{sample} (background)"]
        assert found["events"] == rows.sum()
        assert found["score"]["value"] == pytest.approx(np.average(score[rows], weights=weight[rows]))
        expected = np.average(score[rows] >= cut, weights=weight[rows])
        assert found["efficiency@0.5"]["value"] == pytest.approx(expected)


def test_means_are_those_of_the_events_of_the_sample(view: RunView) -> None:
    numbers = numbers_of(view)
    for key, measure in (("edge_ig", pair_means), ("node_ig", type_means)):
        attribution = view.explained[key]
        attribution = attribution.sum("feature") if "feature" in attribution.axes else attribution
        for sample in ("dy", "tt"):
            alone = measure(attribution[rows_of(attribution.events, sample)])
            expected = {
                tuple(r[a] for a in alone.axes[1:]): r for r in alone.rows() if r["class"] == "background"
            }
            rows = [r for r in numbers[key] if r["sample"] == f"{sample} (background)"]
            assert len(rows) == len(expected)
            for r in rows:
                want = expected[tuple(r[a] for a in alone.axes[1:])]
                for name in ("value", "error", "events"):
                    assert r[name] == pytest.approx(want[name], nan_ok=True)


def test_samples_take_the_place_of_classes(view: RunView) -> None:
    part = samples_as_classes(view.explained["node_ig"])
    assert part.events.schema.classes == ("dy (background)", "tt (background)")
    assert len(part.events) == int((view.explained["node_ig"].events.label == 0).sum())


@pytest.mark.parametrize("rare", ["dy", "tt"])
def test_variations_have_the_samples_of_the_nominal_events(view: RunView, rare: str) -> None:
    """A sample of one event that leaves under a variation: the others keep their names and errors."""
    one = view.explained["node_ig"].sum("feature")
    rows = rows_of(one.events, rare)
    one = one[~rows | (np.cumsum(rows) == 1)]
    other = one[~rows_of(one.events, rare)]
    shifted = other.replace(values=other.values + 0.3)
    means = type_means(samples_as_classes(one.replace(varied={"scale": (shifted,)})))
    empty = ("dy", "tt").index(rare)
    assert means.labels[0] == ("dy (background)", "tt (background)")
    assert np.isnan(means.spread["syst"][empty]).all()
    np.testing.assert_allclose(means.spread["syst"][1 - empty], 0.3)


def test_columns_have_a_systematic_error(view: RunView, changed: Callable[..., RunView]) -> None:
    one = view.explained["node_ig"]
    columns = one.sum("particle")
    shifted = columns.replace(values=columns.values + 0.3)
    whole = columns.replace(varied={"scale": (shifted,)})
    other = changed(view, explained={"node_ig": whole})
    for row in numbers_of(other)["node_ig"]:
        assert row["syst"] == pytest.approx(0.3)
    captions = [t.caption for t in by_sample_section(other).tables]
    assert "± systematic" in captions[1]


def test_scores_have_the_spread_of_trainings_and_the_larger_shift_at_the_nominal_cuts(
    view: RunView, changed: Callable[..., RunView]
) -> None:
    """Alternatives shift all scores by 0.3 and -0.2, three trainings by -0.1, 0 and 0.1."""
    other = changed(view)
    scores = other.run.scores
    runs = [SimpleNamespace(events=view.events, scores=scores + shift) for shift in (0.3, -0.2)]
    other.run.sources = lambda: {"jes": runs}  # type: ignore[method-assign,assignment,return-value]
    other.run.scores_of_trainings = np.stack([scores + s for s in (-0.1, 0.0, 0.1)])  # type: ignore[attr-defined]
    other.run.card.training.trainings = 3
    section, nominal = by_sample_section(other), by_sample_section(view)
    numbers: Any = section.numbers
    before: Any = nominal.numbers
    for row, alone in zip(numbers["scores"], before["scores"], strict=True):
        assert row["score"]["syst"] == pytest.approx(0.3)
        assert row["score"]["training"] == pytest.approx(0.1)
        assert row["score"]["value"] == alone["score"]["value"]
        points = [k for k in row if k.startswith("efficiency@")]
        assert points
        assert all(row[k]["syst"] >= 0 for k in points)
    assert "± spread of 3 trainings ± systematic" in section.tables[0].caption
    assert nominal.tables[0].caption.endswith("Errors are statistical.")


def test_section_stands_only_where_a_class_has_several(
    view: RunView, changed: Callable[..., RunView]
) -> None:
    def keys(**columns: Any) -> list[str]:
        other = changed(view, events=view.events.replace(**columns), explained={}, history=[], metrics={})
        return [part.key for part in sections(other)]

    assert "by_sample" in keys()
    assert "by_sample" not in keys(samples=())
    assert "by_sample" not in keys(samples=("bkg", "bkg", "bkg", "sig"))


def test_explained_events_of_one_sample(view: RunView, changed: Callable[..., RunView]) -> None:
    """A sample without explained events leaves the scores alone."""
    one = view.explained["node_ig"]
    part = one[~rows_of(one.events, "dy")]
    section = by_sample_section(changed(view, explained={"node_ig": part}))
    assert list(section.numbers) == ["scores"]
    assert len(section.figures) == 1
