"""Figures of hits and of a predicted momentum: what they show, that nothing is clipped."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from hepxai.datasets import DatasetCard, read
from hepxai.events import Events
from hepxai.metrics.hits import bending, hits_per_row, occupancy
from hepxai.metrics.momentum import turn_on
from hepxai.plots.images import bending_map, cluster_size_shares, hit_display, hit_occupancy, hits_in_rows
from hepxai.plots.momentum import momentum_residuals, turn_on_curve


@pytest.fixture(scope="module")
def events() -> Events:
    return read(DatasetCard.find("muon_patterns"), limit=300).events


def boxes(ax: Axes) -> int:
    return sum(isinstance(p, Rectangle) for p in ax.patches)


def every_figure(events: Events) -> list[Axes]:
    true = events.targets[:, 0].astype(np.float64)
    predicted = np.nan_to_num(true, nan=3.0) + np.random.default_rng(0).normal(0, 1.5, len(true))
    curve = turn_on(predicted, true, events.weight, edges=np.linspace(0, 20, 11))
    sources = {"muon": events.truth["fromMuon"], "noise": ~events.truth["fromMuon"]}
    return [
        hit_occupancy(events),
        hits_in_rows(events, sources),
        cluster_size_shares(events, sources),
        bending_map(events, where=events.truth["fromMuon"]),
        bending_map(events, "eta"),
        hit_display(events, 3, truth="fromMuon"),
        hit_display(events, 3, truth="fromMuon", noise=False, zoom=20),
        turn_on_curve({"one": curve, "two": curve}),
        momentum_residuals({"one": predicted, "two": predicted + 1}, true, events.weight),
    ]


def test_nothing_is_clipped(events: Events) -> None:
    for ax in every_figure(events):
        figure = ax.figure
        figure.draw_without_rendering()
        inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert inside.x0 > -2, ax.get_xlabel()
        assert inside.y0 > -2, ax.get_xlabel()
        assert inside.x1 < figure.bbox.x1 + 2, ax.get_xlabel()
        assert inside.y1 < figure.bbox.y1 + 2, ax.get_xlabel()


def test_occupancy_shows_percent_of_events(events: Events) -> None:
    drawn = hit_occupancy(events).collections[0].get_array()
    np.testing.assert_allclose(drawn, 100 * occupancy(events)[0])


def test_rows_show_the_means(events: Events) -> None:
    points = hits_in_rows(events).containers[0][0].get_ydata()
    np.testing.assert_allclose(points, hits_per_row(events).value)


def test_a_display_has_a_box_for_every_lit_pixel(events: Events) -> None:
    own, muon = events[[3]], events[[3]].truth["fromMuon"]
    assert boxes(hit_display(events, 3)) == own.image().sum()
    assert boxes(hit_display(events, 3, truth="fromMuon", noise=False)) == muon.sum() > 0
    left, right = hit_display(events, 3, truth="fromMuon", zoom=5).get_xlim()
    strips = own.values_of("strip")[muon]
    assert (left, right) == (strips.min() - 5, strips.max() + 6)


def test_an_event_without_hits_and_without_a_muon(events: Events) -> None:
    noise = int(np.flatnonzero(events.label == 0)[0])
    ax = hit_display(events, noise, truth="fromMuon", zoom=5)
    assert "no pt, no eta" in ax.get_title(loc="right")
    assert boxes(hit_display(events, noise, truth="fromMuon", noise=False)) == 0
    for ax in (hit_occupancy(events[:0].replace()), bending_map(events[events.label == 0])):
        ax.figure.draw_without_rendering()


def test_the_map_of_the_bending_has_every_event_and_the_line(events: Events) -> None:
    muon = events.truth["fromMuon"]
    ax = bending_map(events, where=muon)
    used = np.isfinite(bending(events, (0, 1, 2), (7, 8), muon)) & np.isfinite(events.targets[:, 0])
    assert np.ma.filled(ax.collections[0].get_array(), 0).sum() == used.sum() > 50
    assert np.nanmax(ax.lines[0].get_ydata()) <= ax.get_ylim()[1]


def test_no_model_hides_another_in_a_turn_on() -> None:
    rng = np.random.default_rng(2)
    true = rng.uniform(0, 20, 500)
    curve = turn_on(true + rng.normal(0, 1, 500), true, np.ones(500), edges=np.array([0.0, 5, 12, 20]))
    places = [c[0].get_xdata() for c in turn_on_curve(dict.fromkeys("abc", curve)).containers]
    assert np.array_equal(places[1], [2.5, 8.5, 16])
    assert (places[0] < places[1]).all()
    assert (places[1] < places[2]).all()
    (alone,) = turn_on_curve({"a": curve}).containers
    (whole,) = (line for line in alone[2] if np.ptp(line.get_segments()[0][:, 0]) > 0)
    np.testing.assert_allclose([s[:, 0] for s in whole.get_segments()], [[0, 5], [5, 12], [12, 20]])


@pytest.mark.parametrize(("n", "bins"), [(30, 20), (5000, 34), (100_000, 60)])
def test_few_events_get_few_bins(n: int, bins: int) -> None:
    off = np.random.default_rng(1).normal(0, 1, n)
    ax = momentum_residuals({"one": off}, np.zeros(n), np.ones(n))
    values, edges, _ = ax.patches[0].get_data()
    assert len(values) == bins
    assert (values * np.diff(edges)).sum() == pytest.approx(1)  # what is beyond, too
    assert "outermost bins: all beyond" in ax.get_xlabel()


def test_bad_input(events: Events) -> None:
    with pytest.raises(ValueError, match="noise=False needs truth=, one of fromMuon"):
        hit_display(events, 0, noise=False)
    with pytest.raises(KeyError, match="no target 'phi'; these events have pt, eta"):
        bending_map(events, "phi")
