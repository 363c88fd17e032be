"""Figures of a scan: what is drawn is what was given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

from hepxai.core.estimate import Estimate
from hepxai.plots.scan import Ridge, Values, importance_bars, parallel, pareto, ridges, scan_curve

NUMBERS = Values("edge_dropout", [0.3, 0.1, 0.2])
RESULTS = [np.array([0.7, 0.72]), np.array([0.6, 0.64]), np.array([0.8, np.nan])]


def estimate(value: float, error: float = 0.1) -> Estimate:
    return Estimate(np.asarray(value), np.asarray(error), 3.0)


def drawn(ax: Axes) -> Axes:
    ax.figure.canvas.draw()
    return ax


def texts(ax: Axes) -> list[str]:
    return [t.get_text() for t in ax.get_legend().get_texts()]


def test_every_seed_and_the_mean() -> None:
    ax = drawn(scan_curve(NUMBERS, RESULTS, "validation AUC", chosen=2))
    assert texts(ax) == ["seed 1", "seed 2", "best mean", "mean ± standard error"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.7, 0.6, 0.8])
    (bars,) = ax.containers
    x, y = bars.lines[0].get_data()
    np.testing.assert_allclose(x, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(y, [0.62, 0.8, 0.71])
    low = bars.lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose(np.ptp(low) / 2, np.std([0.6, 0.64], ddof=1) / np.sqrt(2))


def test_one_seed_has_no_error_bar() -> None:
    ax = drawn(scan_curve(NUMBERS, [np.array([v]) for v in (0.1, 0.2, 0.3)], "x"))
    assert texts(ax) == ["seed 1"]
    assert not ax.containers


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        (Values("dense", ["[64]", "[8]", "[64]"]), ["[64]", "[8]"]),
        (Values("balance", [True, False, True]), ["True", "False"]),
        (Values("note", ["$x$", "a_b", None]), [r"\$x\$", "a_b", "None"]),
    ],
)
def test_what_is_no_number_stands_in_its_order(values: Values, ticks: list[str]) -> None:
    ax = drawn(scan_curve(values, RESULTS, "y", joined=False))
    assert [t.get_text() for t in ax.get_xticklabels()] == ticks


def test_logarithmic_axis() -> None:
    ax = drawn(scan_curve(Values("rate", [1e-4, 1e-2, 1e-3], log=True), RESULTS, "y"))
    assert ax.get_xscale() == "log"


def ridge(name: str, peak: float, mean: Estimate | None = None) -> Ridge:
    edges = np.linspace(0, 1, 21)
    centre = (edges[1:] + edges[:-1]) / 2
    density = np.exp(-((centre - peak) ** 2) / 0.01)
    return Ridge(name, np.stack([density, 1.1 * density]), density[None] * 0.5, mean)


def test_ridges_stand_below_each_other() -> None:
    rows = [ridge("0.1", 0.2, estimate(0.2, 0.01)), ridge("0.2", 0.3), ridge("0.3", 0.5)]
    ax = drawn(
        ridges(rows, np.linspace(0, 1, 21), ("muon–muon pairs", "others"), "attention", reference=0.14)
    )
    feet = ax.get_yticks()
    assert list(np.diff(feet) < 0) == [True, True]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0.1", "0.2", "0.3"]
    assert texts(ax) == ["muon–muon pairs", "others"]
    assert [t.get_text() for t in ax.texts] == ["0.200 ± 0.010"]
    assert ax.get_xlim()[1] < 1.0  # empty bins are left out


def test_empty_histograms_draw() -> None:
    empty = Ridge("0", np.full((1, 20), np.nan), np.zeros((1, 20)), estimate(np.nan, np.nan))
    with np.errstate(invalid="ignore"):
        drawn(ridges([empty], np.linspace(0, 1, 21), ("a", "b"), "x"))


def test_the_front_is_set_apart() -> None:
    first, second = [estimate(v) for v in (0.1, 0.2, 0.3)], [estimate(v) for v in (3.0, 1.0, 2.0)]
    ax = drawn(pareto(first, second, ("AUC", "attention"), ["a", "b", "c"], [0, 2]))
    assert texts(ax) == ["beaten", "Pareto front"]
    line = next(found for found in ax.lines if found.get_linestyle() == "--")
    np.testing.assert_allclose(line.get_xdata(), [0.1, 0.3])
    alone = drawn(pareto(first, second, ("AUC", "attention"), ["a", "b", "c"], [0, 2], joined=False))
    assert not [found for found in alone.lines if found.get_linestyle() == "--"]


def test_a_front_of_one_seed_has_no_bars() -> None:
    points = [estimate(v, np.nan) for v in (0.1, 0.2)]
    drawn(pareto(points, points, ("a", "b"), ["1", "2"], [1]))


def test_parallel_lines_go_through_their_values() -> None:
    columns = [NUMBERS, Values("rate", [1e-4, 1e-2, 1e-3], log=True), Values("same", [5, 5, 5])]
    ax = drawn(parallel(columns, np.array([0.7, np.nan, 0.8]), "validation AUC"))
    lines = [found.get_ydata() for found in ax.lines if len(found.get_xdata()) == 3]
    assert len(lines) == 2  # the point without a result is left out
    np.testing.assert_allclose(lines[0], [1.0, 0.0, 0.5])
    np.testing.assert_allclose(lines[1], [0.5, 0.5, 0.5])


def test_importance_has_the_largest_on_top() -> None:
    found = {"a": estimate(0.2, 0.05), "seed": estimate(0.01, 0.02), "b": estimate(0.7, 0.1)}
    ax = drawn(importance_bars(found, "validation AUC"))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["seed", "a", "b"]
    assert [p.get_width() for p in ax.patches] == [0.01, 0.2, 0.7]


def test_axes_that_are_given_are_used() -> None:
    _, ax = plt.subplots()
    assert scan_curve(NUMBERS, RESULTS, "y", legend=False, ax=ax) is ax
    assert ax.get_legend() is None
