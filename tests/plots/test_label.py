"""Label of the experiment: on every figure, nothing clipped, no overlap, frames of the same size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from toy_maps import make_map, particle_map

from hepxai import plots
from hepxai.datasets.presentation import ExperimentLabel
from hepxai.events import Events
from hepxai.plots.label import STRIP
from hepxai.plots.style import canvas, style

CMS = ExperimentLabel(experiment="CMS", text="Simulation Preliminary", com=13.6, lumi=138)


def figures(events: Events) -> Iterator[Figure]:
    """With a legend above the frame, a colour bar, a legend or title of the figure, and a narrow one."""
    pair, row = make_map(events), int(np.flatnonzero(events.counts > 2)[0])
    for ax in (
        plots.focus_profile(pair, ("muon", "jet"), "mass_mumu"),
        plots.pair_types(pair, "signal"),
        plots.event_display(pair, row),
        plots.particle_types(particle_map(events)),
        plots.roc_curve(events, np.random.default_rng(0).normal(events.label)),
    ):
        figure = ax.get_figure(root=True)
        assert figure is not None
        yield figure
    with style():
        several, axes = canvas(2, 2, (6, 5))
        several.suptitle("title of the figure")
        axes[0, 0].plot([1, 2], label="line")
        yield several
        legend, axes = canvas(1, 2, (7, 3))
        axes[0, 1].plot([1, 2], label="line")
        axes[0, 1].set_title("title\nof several\nlines")
        legend.legend(loc="outside upper center")
        yield legend
        narrow, axes = canvas(1, 1, (2.5, 2.5))
        axes[0, 0].plot([1, 2])
        yield narrow
        yield Figure((4, 3))
        bare = Figure((4, 3))  # without a layout engine
        bare.subplots()
        yield bare


def label_texts(figure: Figure) -> list[Text]:
    return [text for text in figure.axes[-1].texts if text.get_text()]


def test_nothing_is_clipped_or_overlaps(toy: Callable[..., Events]) -> None:
    for figure in figures(toy(300)):
        before = [ax.get_window_extent() for ax in figure.axes] if figure.get_layout_engine() is None else []
        size = figure.get_size_inches().copy()
        plots.experiment_label(figure, CMS)
        figure.draw_without_rendering()
        assert figure.get_size_inches() - size == pytest.approx([0, STRIP])
        texts = label_texts(figure)
        assert [t.get_text() for t in texts if "TeV" not in t.get_text()] == ["CMS", "Simulation Preliminary"]
        boxes = sorted((t.get_window_extent() for t in texts), key=lambda box: box.x0)
        for box in boxes:
            assert box.x0 >= -1
            assert box.x1 <= figure.bbox.x1 + 1
            assert box.y1 <= figure.bbox.y1 + 1
        for left, right in itertools.pairwise(boxes):
            assert left.x1 <= right.x0 + 1
        foot = min(box.y0 for box in boxes)
        for artist in [*figure.axes[:-1], *figure.findobj(Legend), *figure.texts]:
            assert artist.get_window_extent().y1 <= foot + 1, artist
        for legend in figure.legends:
            under = [ax.get_tightbbox() for ax in figure.axes[:-1]]
            assert all(b is None or b.y1 <= legend.get_window_extent().y0 + 1 for b in under)
        for ax, extent in zip(figure.axes, before, strict=False):
            assert ax.get_window_extent().height == pytest.approx(extent.height, rel=1e-3)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (ExperimentLabel(experiment="ATLAS"), ["ATLAS"]),
        (ExperimentLabel(text="Work in progress"), ["Work in progress"]),
        (ExperimentLabel(experiment="CMS", com=13), ["CMS", " (13 TeV)"]),
        (ExperimentLabel(experiment="CMS", lumi=0.5), ["0.5 $\\mathrm{fb^{-1}}$", "CMS"]),
        (ExperimentLabel(experiment="a_$b"), ["a_\\$b"]),
        (ExperimentLabel(), []),
        (None, []),
    ],
)
def test_parts_of_the_label(label: ExperimentLabel | None, expected: list[str]) -> None:
    with style():
        figure, axes = canvas()
    plots.experiment_label(axes[0, 0], label)
    texts = [t.get_text() for ax in figure.axes[1:] for t in ax.texts if t.get_text()]
    assert [t.replace("$\\ $", "") for t in texts if "TeV" not in t] == [
        e for e in expected if "TeV" not in e
    ]
    assert any("TeV" in t for t in texts) == any("TeV" in e for e in expected)
    assert (len(figure.axes) == 1) == (not expected)
