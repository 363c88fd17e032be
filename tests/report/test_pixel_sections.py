"""Sections on regressions and on maps over pixels: which events, which words, which numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from image_events import make_images
from matplotlib.figure import Figure

from hepxai.attribution import Attribution
from hepxai.core.estimate import as_json
from hepxai.events import Events
from hepxai.metrics.pixels import truth_share
from hepxai.metrics.targets import target_metrics
from hepxai.report import RunView
from hepxai.report.pixels import _figure, pixel_agreements, pixel_maps, pixel_sections, shown_events
from hepxai.report.section import number
from hepxai.report.summary import summary
from hepxai.report.targets import target_merit, targets_section
from hepxai.report.verdicts import agreement_verdicts
from hepxai.report.write import sections

HISTORY = [{"epoch": 1.0, "train_loss": 1.0, "valid_loss": 0.9, "valid_mae_pt": 2.0}]


def make_map(events: Events, method: str, target: str, seed: int = 0) -> Attribution:
    values = np.random.default_rng(seed).normal(size=(len(events), 6, 40)).astype(np.float32)
    output_change = values.sum((1, 2), dtype=np.float64)
    return Attribution(
        values,
        ("event", "row", "column"),
        events,
        method,
        target,
        short_title="image IG" if method == "image_ig" else "",
        residual=0 * output_change,
        output_change=output_change,
    )


@pytest.fixture(scope="module")
def finished_view(bare_view: Callable[..., RunView]) -> Callable[..., RunView]:
    def make(events: Events, **changes: Any) -> RunView:
        rng, test = np.random.default_rng(3), events.where("test")
        predicted = np.nan_to_num(events.targets, nan=2.0) + rng.normal(size=events.targets.shape)
        doubtful = make_map(test, "image_ig", "pt", 2).replace(concerns=("the median residual is 9 %",))
        usual: dict[str, Any] = {
            "history": HISTORY,
            "metrics": {s: as_json(m) for s, m in target_metrics(predicted, events).items()},
            "events": events,
            "scores": predicted[:, 0],
            "predictions": {"pt": predicted[:, 0], "eta": predicted[:, 1]},
            "explained": {
                "image_ig_eta": make_map(test, "image_ig", "eta", 1),
                "image_ig_pt": doubtful,
                "soft_tree": make_map(test, "soft_tree", "pt", 3),
            },
            "focus": ("hit", "hit"),
        }
        return bare_view(**usual | changes)

    return make


@pytest.fixture(scope="module")
def events() -> Events:
    """Some images with hits have no true value, and some have no hit."""
    events = make_images(90)
    known = (np.arange(90) % 7 > 0)[:, None]
    return events.replace(targets=np.where(known, events.targets, np.float32(np.nan)))


@pytest.fixture(scope="module")
def view(events: Events, finished_view: Callable[..., RunView]) -> RunView:
    return finished_view(events)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepxai.report.pixels.convergence_figure", lambda *_, **__: Figure())


def test_maps_stand_in_the_order_of_the_targets(view: RunView) -> None:
    found = pixel_maps(view)
    assert {target: list(maps) for target, maps in found.items()} == {
        "pt": ["image_ig", "soft_tree"],
        "eta": ["image_ig"],
    }
    assert list(found) == ["pt", "eta"]


@pytest.mark.usefixtures("undrawn")
def test_a_section_for_each_target(view: RunView) -> None:
    found = {s.key: s for s in pixel_sections(view)}
    assert list(found) == ["looked", "pixels_pt", "pixels_eta"]
    for row in found["looked"].numbers:
        key = "soft_tree" if row["method"] == "soft_tree" else f"image_ig_{row['target']}"
        by_hand = truth_share(view.explained[key], "fromMuon")
        assert row["among_hits"]["value"] == float(by_hand.among_hits.value)
        assert row["chance"]["error"] == float(by_hand.chance.error)
        assert row["left_out"] == by_hand.left_out
    assert found["pixels_pt"].warnings
    assert not found["pixels_eta"].warnings
    names = [f.name for f in found["pixels_pt"].figures]
    assert names == ["pixels_pt_typical", "pixels_pt_best", "pixels_pt_worst", "pixels_pt_no_true_value"]
    assert "hits with fromMuon" in found["pixels_pt"].figures[0].caption


def test_one_event_is_drawn(view: RunView) -> None:
    drawn = _figure(view, "eta", pixel_maps(view)["eta"], "worst", 4)
    assert len(drawn.figure.axes) == 3  # hits, map, colours
    entry = view.events.where("test").entry[4]
    assert f"Worst event of the test sample, entry {entry} of hits.root:Events" in drawn.caption


def test_events_that_are_shown(view: RunView) -> None:
    """By hand, event by event; images without a hit are left out."""
    test = view.events.where("test")
    off, alone = {}, {}
    for row in range(len(test)):
        said = float(view.predicted("pt", test[[row]])[0])
        if test.counts[row] > 0:
            true = float(test.targets[row, 0])
            (off if true == true else alone)[row] = abs(said - true) if true == true else said
    median = np.median(list(off.values()))
    expected = {
        "typical": min(off, key=lambda r: abs(off[r] - median)),
        "best": min(off, key=lambda r: off[r]),
        "worst": max(off, key=lambda r: off[r]),
        "no true value": max(alone, key=lambda r: alone[r]),
    }
    assert shown_events(view, "pt", test) == expected


def test_agreement_over_lit_pixels(view: RunView) -> None:
    (found,) = pixel_agreements(view)
    assert (found["first"], found["second"]) == ("image IG of pt", "soft tree")
    assert abs(found["value"]) < 5 * found["error"]


@pytest.mark.usefixtures("undrawn")
def test_without_truth_and_without_maps(events: Events, finished_view: Callable[..., RunView]) -> None:
    blind = events.replace(truth={})
    first = next(pixel_sections(finished_view(blind)))
    assert "no truth" in first.text[0]
    nothing = finished_view(events, explained={})
    assert not list(pixel_sections(nothing))
    assert "hepxai explain" in {s.key: s for s in sections(nothing)}["looked"].text[0]


@pytest.mark.usefixtures("undrawn")
def test_a_classifier_of_images_keeps_its_scores(
    events: Events, finished_view: Callable[..., RunView]
) -> None:
    """Its maps are there as well, of the typical and the worst event of each class."""
    schema = dataclasses.replace(events.schema, classes=("noise", "muon"))
    two = events.replace(schema=schema, label=(np.arange(90) // 3) % 2)
    explained = {"image_ig": make_map(two.where("test"), "image_ig", "muon")}
    view = finished_view(two, predictions={}, metrics={}, explained=explained)
    found = {s.key: s for s in sections(view)}
    assert "targets" not in found
    assert {"scores", "roc", "looked", "pixels_muon"} <= found.keys()
    assert [f.name for f in found["pixels_muon"].figures] == [
        "pixels_muon_typical_noise",
        "pixels_muon_worst_noise",
        "pixels_muon_typical_muon",
        "pixels_muon_worst_muon",
    ]


# --- figures of merit --------------------------------------------------------------------------------


def test_predictions_against_the_truth(view: RunView) -> None:
    found = targets_section(view)
    assert [f.name for f in found.figures] == ["residuals_pt", "residuals_eta", "turn_on_pt"]
    rows = {row[0]: row[1:] for row in found.tables[0].rows}
    assert "mean |error| of eta" in rows
    assert all("±" in cell for cell in rows["mean |error| of pt [GeV]"])
    for split, code in (("train", 0), ("test", 2)):
        own = (view.events.split == code) & np.isfinite(view.events.targets[:, 1])
        filled = found.histograms[f"targets/eta_{split}"]
        assert filled.sum(flow=True).value == pytest.approx(view.events.weight[own].sum())


def test_without_test_events(events: Events, finished_view: Callable[..., RunView]) -> None:
    train = events.replace(split=np.zeros(90, dtype=np.int64))
    found = targets_section(finished_view(train, explained={}))
    assert not found.figures
    assert found.text == ("There are no test events.",)


def test_targets_that_nobody_knows(events: Events, finished_view: Callable[..., RunView]) -> None:
    lost = events.replace(targets=np.full((90, 2), np.nan, dtype=np.float32))
    found = targets_section(finished_view(lost, explained={}))
    assert not found.figures


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mae_pt", "mean |error| of pt [GeV]"),
        ("bias_eta", "mean error of eta"),
        ("gain_pt", "mean |error| of pt, less than that of a constant by [GeV]"),
        ("mae_pt@7-13", "mean |error| of pt, true 7–13 GeV [GeV]"),
        ("leak_pt@15", "share found above, truly below: pt of 15 GeV"),
    ],
)
def test_figures_in_words(events: Events, name: str, words: str) -> None:
    assert target_merit(name, events.schema) == words


def test_intervals_in_words() -> None:
    assert number({"value": 0.5, "error": 0.1}) == "0.50 ± 0.10"
    assert number({"value": 0.0, "error": 0.01, "low": 0.0, "high": 0.02}) == "0.000 +0.020 −0.000"
    assert number({"value": None, "error": 0.5, "low": 0.0, "high": 1.0}) == "–"


def test_summary(view: RunView) -> None:
    found = {p.about: " ".join(p.sentences) for p in summary(view)}
    assert "To find pt and eta on 30 train, 30 valid, 30 test events" in found["Trained"]
    assert "of the train ones have a true value" in found["Trained"]
    assert "mean |error| of pt" in found["How well"]
    assert "than with a constant" in found["How well"]
    assert "Image IG of eta: of what lies on hits" in found["Pixels"]
    assert "image IG eta" in found["To doubt"]
    assert "logit" not in " ".join(found.values())


def test_of_many_agreements_the_lowest_are_named(
    events: Events, finished_view: Callable[..., RunView]
) -> None:
    test = events.where("test")
    maps = {f"map_{i}": make_map(test, f"map_{i}", "pt", i) for i in range(5)}
    view = finished_view(events, explained=maps)
    rows = list(pixel_agreements(view))
    (verdict,) = agreement_verdicts(rows)
    assert not verdict.good
    assert verdict.number == min(r["value"] for r in rows)
    assert verdict.sentence.endswith("and 4 more of 10")
    assert f"{verdict.number:.2f}".replace("-", "−") in verdict.sentence


def test_predictions_that_are_not_finite(events: Events, finished_view: Callable[..., RunView]) -> None:
    with pytest.raises(ValueError, match="1 of 90 predictions of eta are NaN or infinite"):
        finished_view(events, predictions={"eta": np.where(np.arange(90) == 4, np.nan, 0.0)})


def checked(attribution: Attribution, value: float) -> Attribution:
    return attribution.replace(checks={"faithfulness": value, "faithfulness_error": 0.1})


@pytest.mark.usefixtures("undrawn")
def test_many_maps_make_one_table_of_the_methods(
    events: Events, finished_view: Callable[..., RunView]
) -> None:
    """Mean, lowest and highest of each, the highest mean first; one sentence; the maps fold away."""
    test = events.where("test")
    maps = {
        f"map_{i}_{t}": checked(make_map(test, f"map_{i}", t, 2 * i + j), 0.1 * i + 0.3 * j)
        for i in range(4)
        for j, t in enumerate(("pt", "eta"))
    }
    view = finished_view(events, explained=maps)
    found = {s.key: s for s in pixel_sections(view)}
    for section in (found["looked"], found["faithfulness"]):
        short, full = section.tables
        assert not short.folded
        assert len(short.rows) == 4
        assert full.folded
        assert len(full.rows) == 8
    rows = {row[0]: row for row in found["faithfulness"].tables[0].rows}
    assert list(rows) == ["map 3", "map 2", "map 1", "map 0"]
    assert rows["map 1"] == ["map 1", "pt", "eta", "0.25 ± 0.10", "0.10 ± 0.10", "0.40 ± 0.10", "1 of 2"]
    means = {
        f"map {i}": np.mean(
            [truth_share(maps[f"map_{i}_{t}"], "fromMuon").among_hits.value for t in ("pt", "eta")]
        )
        for i in range(4)
    }
    assert [row[0] for row in found["looked"].tables[0].rows] == sorted(means, key=lambda m: -means[m])
    (pixels,) = (finding for finding in summary(view) if finding.about == "Pixels")
    (sentence,) = pixels.sentences
    assert "of 8 maps put a larger share on the hits with fromMuon than a map that treats" in sentence
