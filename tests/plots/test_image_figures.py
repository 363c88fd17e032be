"""Figures of maps over pixels: what is drawn where, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate
from hepxai.events import Events
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.metrics.pixels import LitPixels
from hepxai.plots.images import attribution_image, window
from hepxai.plots.style import INK
from hepxai.studies.comparison.figures import convergence_figure, truth_shares
from hepxai.studies.comparison.numbers import compare
from hepxai.studies.smoothgrad_scan.figures import smoothgrad_shares, smoothgrad_stability
from hepxai.studies.smoothgrad_scan.numbers import SmoothPoint, SmoothScan

ToyEvents = Callable[..., Events]
LAYOUT = ImageLayout(
    ImageAxis("eta", tuple(np.linspace(-2, 2, 7).tolist())),
    ImageAxis("phi", tuple(np.linspace(-3.2, 3.2, 101).tolist())),
    ("muon", "jet"),
)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    drawn = toy(40, largest=20, smallest=10)
    schema = dataclasses.replace(drawn.schema, image=LAYOUT, targets=("pt",), target_units=("GeV",))
    targets = np.linspace(1, 20, 40, dtype=np.float32)[:, None]
    targets[5] = np.nan
    return drawn.replace(schema=schema, targets=targets)


def a_map(events: Events, seed: int = 0, method: str = "image_ig") -> Attribution:
    values = np.random.default_rng(seed).normal(size=(len(events), 6, 100))
    titles = {"image_ig": "image IG", "ram": "RAM"}
    return Attribution(
        values, ("event", "row", "column"), events, method, "pt", short_title=titles.get(method, "")
    )


def test_hits_are_framed(events: Events) -> None:
    ax = attribution_image(a_map(events), 3, truth="fromA", zoom=None)
    lit = LitPixels.lit(events[[3]], "fromA")
    frames = {p.get_xy(): p.get_edgecolor() for p in ax.patches if isinstance(p, Rectangle)}
    assert set(frames) == {(c, r) for r, c in zip(*np.divmod(lit.place, 100), strict=True)}
    black = tuple(int(INK[i : i + 2], 16) / 255 for i in (1, 3, 5))
    assert sum(np.allclose(edge[:3], black) for edge in frames.values()) == lit.true.sum()
    assert ax.get_xlim() == (0, 100)
    assert ax.get_title(loc="left") == "image IG of pt"
    assert ax.figure.axes[-1].get_ylabel() == "GeV"


def test_the_scale_is_symmetric(events: Events) -> None:
    found = a_map(events)
    (mesh, *_) = attribution_image(found, 0).collections
    assert mesh.norm.vmax == -mesh.norm.vmin == np.abs(found.values[0]).max()
    (mesh, *_) = attribution_image(found.replace(values=np.abs(found.values)), 0).collections
    assert mesh.norm.vmin == 0


def test_the_window_shows_the_hits(events: Events) -> None:
    lit = LitPixels.lit(events[[3]], "fromA")
    low, high = window(lit, 100, 4)
    shown = (lit.place[lit.true] if lit.true.any() else lit.place) % 100
    assert low <= shown.min()
    assert high > shown.max()
    assert window(lit, 100, None) == (0, 100)
    alone = LitPixels.lit(events[[3]].replace(p4=events[[3]].p4 * np.nan), "fromA")
    assert len(alone.place) == 0
    assert window(alone, 100, 4) == (0, 100)


def test_no_hits_can_be_drawn(events: Events) -> None:
    dark = events[[3]].replace(p4=events[[3]].p4 * np.nan)
    ax = attribution_image(a_map(dark).replace(values=np.zeros((1, 6, 100))), 0, truth="fromA")
    assert not ax.patches


def test_methods_side_by_side(events: Events) -> None:
    maps = {"image_ig": a_map(events), "ram": a_map(events, 1, "ram")}
    figure = convergence_figure(maps, 4, truth="fromA", predicted={"ram": 3.21})
    shown = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    true = f"true {float(events.targets[4, 0]):.3g} GeV"
    assert shown == [f"image IG, pt, {true}", f"RAM, pt, predicted 3.21 GeV, {true}"]
    limits = {ax.get_xlim() for ax in figure.axes[:3]}
    assert len(limits) == 1
    without = convergence_figure(maps, 5, truth="fromA")
    assert "no true value" in without.axes[1].get_title(loc="left")
    with pytest.raises(ValueError, match="no maps to draw"):
        convergence_figure({}, 0)


def test_shares_in_bins(events: Events) -> None:
    maps = {"image_ig": a_map(events), "ram": a_map(events, 1, "ram")}
    edges = np.array([0.0, 10.0, 20.0])
    found = compare(maps, truth="fromA", quantity=events.targets[:, 0], edges=edges)
    for what in ("among_hits", "of_all"):
        ax = truth_shares(found, quantity="pT [GeV]", what=what)
        drawn = [c.lines[0].get_ydata() for c in ax.containers]
        for method, y in zip(found.methods, drawn, strict=True):
            expected = [getattr(part.shares[method], what).value for part in found.bins]
            np.testing.assert_allclose(y, expected)
    with pytest.raises(ValueError, match="no bins: compare with quantity and edges"):
        truth_shares(compare(maps, truth="fromA"))


def test_scan_of_smoothgrad() -> None:
    def number(value: float) -> Estimate:
        return Estimate(np.array(value), np.array(0.01), 10.0)

    points = [
        SmoothPoint(level, n, number(level + n / 100), number(0.2), number(0.1), number(1 - 1 / n))
        for level in (0.01, 0.02)
        for n in (5, 10)
    ]
    scan = SmoothScan(tuple(points), points[1], 0.9)
    for draw, what in ((smoothgrad_shares, "share"), (smoothgrad_stability, "stability")):
        ax = draw(scan)
        y = np.concatenate([c.lines[0].get_ydata() for c in ax.containers])
        np.testing.assert_allclose(y, [float(getattr(p, what).value) for p in points])
        assert [t.get_text() for t in ax.get_xticklabels()] == ["5", "10"]
