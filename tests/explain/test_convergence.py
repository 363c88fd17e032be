"""Several methods at once, compared in bins; and the scan of SmoothGrad."""

from __future__ import annotations

import numpy as np
import pytest
from image_helpers import image_events, image_model

from hepxai.explain import explain
from hepxai.explain.convergence import compare, converge
from hepxai.explain.smoothgrad_scan import scan_smoothgrad
from hepxai.metrics.pixels import hit_rank_agreement, truth_share

METHODS = {"image_ig": {"steps": 8}, "grey": {"method": "image_ig", "baseline": 0.5, "steps": 8}, "ram": {}}


def test_each_map_is_that_of_its_method() -> None:
    events, model = image_events(), image_model(7)
    maps = converge(model, events, "pt", METHODS)
    assert list(maps) == ["image_ig", "grey", "ram"]
    expected = explain(model, events, "image_ig", target="pt", baseline=0.5, steps=8)
    np.testing.assert_array_equal(maps["grey"].values, expected.values)


def test_bins_are_the_comparison_of_their_events() -> None:
    events, model = image_events(24), image_model(7)
    maps = converge(model, events, "pt", METHODS)
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


def test_one_event() -> None:
    events, model = image_events(2)[1:], image_model(7)
    found = compare(converge(model, events, "pt", METHODS), truth="fromMuon", k=5)
    assert np.isfinite(found.top.mean.value).all()
    assert found.bins == ()


def test_bad_input() -> None:
    events, model = image_events(), image_model(7)
    with pytest.raises(KeyError, match="no method 'grad'"):
        converge(model, events, "pt", {"grad": {}})
    maps = converge(model, events, "pt", {"ram": {}})
    with pytest.raises(ValueError, match="bins need both"):
        compare(maps, truth="fromMuon", k=5, edges=np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="no maps to compare"):
        compare({}, truth="fromMuon")


# --- SmoothGrad ------------------------------------------------------------------------------------------


def test_scan_of_smoothgrad() -> None:
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


def test_scans_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    events, model = image_events(8), image_model(7)
    with pytest.raises(ValueError, match="nothing to try: levels or samples are empty"):
        scan_smoothgrad(model, events, "pt", truth="fromMuon", levels=())
    noise = events[events.label == 0]
    with pytest.raises(ValueError, match="no event has a hit of 'fromMuon'"):
        scan_smoothgrad(model, noise, "pt", truth="fromMuon", levels=(0.1,), samples=(2,), progress=True)
    assert "1/1" in capsys.readouterr().err
