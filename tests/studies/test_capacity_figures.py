"""Figures of capacity and overfitting: what they show, and that nothing is clipped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from hepxai.core.estimate import Estimate
from hepxai.metrics.importance import Importance
from hepxai.studies.capacity.figures import accuracy_by_width, neurons_by_width
from hepxai.studies.capacity.numbers import Training, WidthPoint, WidthStudy
from hepxai.studies.overfitting.figures import LONGEST, distance_against_gap, importance_shift
from hepxai.studies.overfitting.numbers import ImportanceShift


def number(value: float, error: float = 0.003) -> Estimate:
    return Estimate(np.asarray(value), np.asarray(error), 1000.0)


def trained(width: int, active: int, seed: int, shift: float = 0.0) -> Training:
    valid = 0.9 - 0.1 / width + 0.002 * seed + shift
    accuracy = {"train": number(valid + 0.0003 * width), "valid": number(valid)}
    figures = {split: {"balanced_accuracy": one} for split, one in accuracy.items()}
    counts = (active + seed, max(active - 2, 1))
    return Training((width, width), seed, figures, counts, (max(active - 3, 1), 1), (1, 1))


def study(*, seeds: int = 3) -> WidthStudy:
    numbers = range(seeds)
    points = [
        WidthPoint(
            w,
            tuple(trained(w, a, s) for s in numbers),
            tuple(trained(a, a, s, -0.004) for s in numbers) if a < w else (),
        )
        for w, a in ((4, 4), (8, 7), (16, 11), (32, 18), (64, 25), (128, 30))
    ]
    return WidthStudy(tuple(points))


def shift(columns: int = 9) -> ImportanceShift:
    rng, true = np.random.default_rng(0), np.geomspace(0.2, 0.001, columns)
    names = tuple(f"jet{i}_btag" for i in range(columns))
    one, other = (
        Importance(
            names,
            {},
            "auc",
            "ttbar",
            s,
            (true * f)[:, None] + rng.normal(0, 0.002, (columns, 5)),
            0.02 * true,
        )
        for s, f in ((0.95, 1.2), (0.9, 1.0))
    )
    return ImportanceShift(one, other)


def scanned() -> tuple[list[Estimate], list[Estimate], list[str]]:
    gap = [number(g) for g in (0.002, 0.01, 0.03, 0.08)]
    return gap, [number(0.004 + 0.5 * float(g.value), 0.004) for g in gap], ["2", "4", "8", "16"]


def every_figure() -> Iterator[Axes]:
    yield accuracy_by_width(study())
    yield accuracy_by_width(study(seeds=1))
    yield neurons_by_width(study())
    yield importance_shift(shift(), title="depth = 8")
    yield importance_shift(shift(60))
    yield distance_against_gap(*scanned(), floor=0.005)


def test_nothing_is_clipped() -> None:
    for ax in every_figure():
        figure = ax.figure
        figure.draw_without_rendering()
        inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert inside.x0 > -2, ax.get_xlabel()
        assert inside.y0 > -2, ax.get_xlabel()
        assert inside.x1 < figure.bbox.x1 + 2, ax.get_xlabel()
        assert inside.y1 < figure.bbox.y1 + 2, ax.get_xlabel()


def texts(ax: Axes) -> str:
    return " ".join(t.get_text() for t in [*ax.texts, ax.title, *ax.get_legend().get_texts()])


def test_widths_before_and_after() -> None:
    found = study()
    ax = accuracy_by_width(found)
    assert [b.get_label() for b in ax.containers] == [
        "training",
        "training, shrunk",
        "validation",
        "validation, shrunk",
    ]
    drawn = np.asarray(ax.containers[2].lines[0].get_ydata(), dtype=float)
    np.testing.assert_allclose(drawn, [float(p.mean("valid").value) for p in found.points])
    assert len(ax.containers[3].lines[0].get_xdata()) == 5  # at width 4 nothing was shrunk
    assert "recommended" in texts(ax)
    ax = neurons_by_width(found)
    assert "active in layer 2" in texts(ax)
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), [5, 8, 12, 19, 26, 31])


def test_most_important_on_top_with_the_distance() -> None:
    ax = importance_shift(shift(60), title="depth = 8")
    assert len(ax.get_yticks()) == LONGEST
    assert ax.get_yticklabels()[0].get_text() == "jet0_btag"
    assert ax.yaxis_inverted()
    title = ax.get_title(loc="left")
    assert title.startswith("depth = 8: distance 0.")
    assert "χ² = " in title
    assert "train: AUC 0.95" in texts(ax)


def test_every_setting_has_its_name() -> None:
    ax = distance_against_gap(*scanned(), floor=0.005)
    assert [t.get_text() for t in ax.texts] == ["2", "4", "8", "16"]
    assert ax.get_ylim()[0] <= 0  # beyond chance, it may be negative
    assert "errors alone" in texts(ax)
