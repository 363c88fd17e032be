"""Several methods at once, compared in bins; and the scan of SmoothGrad."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_helpers import image_events, image_model

from hepxai.core import resume as keeping
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.metrics.pixels import hit_rank_agreement, truth_share
from hepxai.studies.comparison.numbers import compare, compare_methods
from hepxai.studies.smoothgrad_scan import numbers as module
from hepxai.studies.smoothgrad_scan.numbers import SmoothScan, scan_smoothgrad

METHODS = {"image_ig": {"steps": 8}, "grey": {"method": "image_ig", "baseline": 0.5, "steps": 8}, "ram": {}}


def test_each_map_is_that_of_its_method() -> None:
    events, model = image_events(), image_model(7)
    maps = compare_methods(model, events, "pt", METHODS)
    assert list(maps) == ["image_ig", "grey", "ram"]
    expected = explain(model, events, "image_ig", target="pt", baseline=0.5, steps=8)
    np.testing.assert_array_equal(maps["grey"].values, expected.values)


def test_bins_are_the_comparison_of_their_events() -> None:
    events, model = image_events(24), image_model(7)
    maps = compare_methods(model, events, "pt", METHODS)
    pt, edges = events.observers["muon_pt"], np.array([0.0, 8.0, 15.0])
    found = compare(maps, truth="fromMuon", k=5, quantity=pt, edges=edges)
    assert found.outside == np.count_nonzero(~(pt <= 15))
    for b, part in enumerate(found.bins):
        own = (pt >= edges[b]) & ((pt < edges[b + 1]) | ((b == 1) & (pt == 15)))
        share = truth_share(maps["ram"][own], "fromMuon").among_hits
        assert part.shares["ram"].among_hits.value == pytest.approx(share.value)
        rank = hit_rank_agreement(maps["image_ig"][own], maps["ram"][own]).mean
        assert part.rank.mean.value[0, 2] == pytest.approx(rank.value)
    rows = list(found.rows())
    assert len(rows) == 3 * (3 * 3 + 2 * 3)
    assert {"method", "other", "what", "value", "error", "from", "to", "left_out"} == rows[0].keys()
    assert {r["what"] for r in rows} >= {"rank_correlation", "top_5_overlap", "share_among_hits"}


def test_one_line_says_what_was_compared() -> None:
    events, model = image_events(24), image_model(7)
    maps = compare_methods(model, events, "pt", {"saliency": {}, "ram": {}})
    assert (
        repr(compare(maps, truth="fromMuon")) == "<MethodComparison: saliency, ram; rank correlation, top 10>"
    )
    pt, edges = events.observers["muon_pt"], np.array([0.0, 8.0, 15.0])
    found = compare(maps, truth="fromMuon", k=5, quantity=pt, edges=edges)
    size = f"in 2 bins, {found.outside} events outside"
    assert repr(found) == f"<MethodComparison: saliency, ram; rank correlation, top 5, {size}>"
    scan = scan_smoothgrad(model, events, "pt", truth="fromMuon", levels=[0.05], samples=[2])
    share, stability = scan.choice.share, scan.choice.stability
    figures = f"share {share:.3g}, stability {stability:.3g}"
    assert repr(scan.choice) == f"<SmoothPoint: level 0.05, 2 samples, {figures}>"
    assert repr(scan).startswith(f"<SmoothScan: 1 points, chosen {scan.choice!r}")


def test_one_event() -> None:
    events, model = image_events(2)[1:], image_model(7)
    found = compare(compare_methods(model, events, "pt", METHODS), truth="fromMuon", k=5)
    assert np.isfinite(found.top.mean.value).all()
    assert found.bins == ()


def test_bad_input() -> None:
    events, model = image_events(), image_model(7)
    with pytest.raises(KeyError, match="no method 'grad'"):
        compare_methods(model, events, "pt", {"grad": {}})
    maps = compare_methods(model, events, "pt", {"ram": {}})
    with pytest.raises(ValueError, match="bins need both"):
        compare(maps, truth="fromMuon", k=5, edges=np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="no maps to compare"):
        compare({}, truth="fromMuon")


# --- SmoothGrad ------------------------------------------------------------------------------------------


def test_scan_of_smoothgrad(tmp_path: Path) -> None:
    events, model = image_events(16), image_model(7)
    grid = {"levels": (0.05, 0.4), "samples": (3, 12)}
    scan = scan_smoothgrad(model, events, "pt", truth="fromMuon", stable=0.5, **grid)
    assert [(p.level, p.samples) for p in scan.points] == [(0.05, 3), (0.05, 12), (0.4, 3), (0.4, 12)]
    for few, many in (scan.points[:2], scan.points[2:]):
        assert many.stability.value > few.stability.value
    again = explain(model, events, "smoothgrad", target="pt", level=0.4, samples=3)
    assert scan.points[2].share.value == truth_share(again, "fromMuon").among_hits.value
    steady = [p for p in scan.points if p.stability.value >= 0.5]
    best = max(steady, key=lambda p: p.share.value)
    assert scan.choice in steady
    assert scan.choice.share.value >= best.share.value - best.share.error
    strict = scan_smoothgrad(model, events, "pt", truth="fromMuon", stable=1.1, **grid)
    assert strict.choice.stability.value == max(p.stability.value for p in strict.points)
    assert scan.steady
    assert not strict.steady
    assert repr(strict).endswith(", less stable than 1.1>")
    for one in (scan, strict):
        one.save(tmp_path / "scan.json")
        assert repr(SmoothScan.load(tmp_path / "scan.json")) == repr(one)


def test_scans_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    events, model = image_events(8), image_model(7)
    with pytest.raises(ValueError, match="nothing to try: levels or samples are empty"):
        scan_smoothgrad(model, events, "pt", truth="fromMuon", levels=())
    noise = events[events.label == 0]
    with pytest.raises(ValueError, match="no event has a hit of 'fromMuon'"):
        scan_smoothgrad(model, noise, "pt", truth="fromMuon", levels=(0.1,), samples=(2,), progress=True)
    assert "1/1" in capsys.readouterr().err


def numbers(scan: SmoothScan) -> list[bytes]:
    """All of a scan; NaN is not equal to itself, its bytes are."""
    measures = [[getattr(p, m) for m in module.MEASURES] for p in (*scan.points, scan.choice)]
    return [np.array([(e.value, e.error, e.n_eff) for e in point]).tobytes() for point in measures]


def interrupted(monkeypatch: pytest.MonkeyPatch, scan: Callable[..., SmoothScan], path: Path) -> None:
    """Stop a scan in its third point."""
    count = itertools.count()

    def breaks(*arguments: Any, **settings: Any) -> Any:
        if next(count) == 4:  # two maps a point
            raise KeyboardInterrupt
        return explain(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "SECONDS", 0.0)
        patch.setattr(module, "explain", breaks)
        with pytest.raises(KeyboardInterrupt):
            scan(unfinished=path)
    assert path.exists()


@pytest.mark.parametrize(
    "settings", [{}, {"base": "image_ig", "steps": 4, "noise": "salt", "baseline": np.zeros((5, 16))}]
)
def test_an_interrupted_scan_is_an_uninterrupted_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    events, path = image_events(8), tmp_path / "state.safetensors"

    def scan(**own: Any) -> SmoothScan:
        grid = {"levels": (0.05, 0.2), "samples": (2, 4)}
        return scan_smoothgrad(image_model(7), events, "pt", truth="fromMuon", **grid, **settings, **own)

    whole = scan()
    interrupted(monkeypatch, scan, path)
    asked = []
    monkeypatch.setattr(module, "explain", lambda *a, **s: asked.append(s["level"]) or explain(*a, **s))
    again = scan(unfinished=path)
    assert asked == [0.2] * 4
    assert again.choice in again.points
    assert numbers(again) == numbers(whole)
    assert [(p.level, p.samples) for p in again.points] == [(p.level, p.samples) for p in whole.points]
    assert not path.exists()


def other_truth(events: Events) -> Events:
    return events.replace(truth={"fromMuon": ~events.truth["fromMuon"]})


@pytest.mark.parametrize(
    "change",
    [
        {"model": image_model(7, seed=1)},
        {"events": image_events(8, seed=1)},
        {"events": other_truth(image_events(8))},
        {"events": image_events(8).replace(weight=np.full(8, 2.0))},
        {"target": "eta"},
        {"levels": (0.05, 0.3)},
        {"samples": (2, 5)},
        {"seed": 1},
        {"noise": "salt"},
        {"base": "image_ig", "baseline": 0.5},
    ],
    ids=lambda c: ", ".join(c),
)
def test_a_state_of_another_scan_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "state.safetensors"
    usual = {"model": image_model(7), "events": image_events(8), "target": "pt", "truth": "fromMuon"}
    usual |= {"levels": (0.05, 0.2), "samples": (2, 4)}
    interrupted(monkeypatch, lambda **own: scan_smoothgrad(**usual, **own), path)
    with pytest.raises(ValueError, match="is the state of something else"):
        scan_smoothgrad(**usual | change, unfinished=path)
    assert path.exists()


def test_a_state_needs_a_model_that_can_be_told_from_others(tmp_path: Path) -> None:
    class Bare:
        view, outputs = "image", ("pt", "eta")
        logits, score_image, forward_image = (
            getattr(image_model(7), name) for name in ("logits", "score_image", "forward_image")
        )

    events, grid = image_events(8), {"levels": (0.1,), "samples": (2,)}
    assert scan_smoothgrad(Bare(), events, "pt", truth="fromMuon", **grid).points
    with pytest.raises(CannotExplainError, match="Bare has no `module` with its parameters"):
        scan_smoothgrad(Bare(), events, "pt", truth="fromMuon", **grid, unfinished=tmp_path / "state")
