"""Figure of data and simulation on the axes that differ most."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepxai.core.estimate import Array
from hepxai.core.formatting import general
from hepxai.metrics.two_sample import EventTable
from hepxai.plots.histograms import fitting_bins, normalised, robust_edges, signed_histogram
from hepxai.plots.style import BLUE, INK, canvas, style, wrapped
from hepxai.studies.data_comparison.numbers import DataComparison

DISCRETE = 12
"""Distinct values of an axis that get a bin each."""


def differing_axes(comparison: DataComparison, level: str = "explanation", *, number: int = 3) -> Figure:
    """Data as points over the simulation as a band, normalised, with their ratio below.

    Parameters
    ----------
    comparison : DataComparison
    level : {"explanation", "inputs"}
    number : int
        Axes to draw, the most different one first.
    """
    part = getattr(comparison, level)
    rows = part.rows()[:number]
    with style():
        figure, frames = canvas(
            2, max(len(rows), 1), (5.2 * max(len(rows), 1), 6.0), sharex="col", height_ratios=(2.4, 1)
        )
        for k, row in enumerate(rows):
            _draw(frames[0, k], frames[1, k], part.data, part.simulation, row["axis"])
            p = f"p = {general(row['p_local'], 2)} local, {general(row['p_global'], 2)} global"
            frames[0, k].set_title(p, fontsize="small", loc="left")
        frames[0, 0].set_ylabel("events, normalised")
        frames[1, 0].set_ylabel("data / sim.")
        frames[0, 0].legend()
    return figure


def _draw(top: Axes, bottom: Axes, data: EventTable, simulation: EventTable, name: str) -> None:
    column = data.names.index(name)
    edges = _edges(data.values[:, column], simulation.values[:, column])
    shapes = [
        normalised(signed_histogram(t.values[:, column], t.weight, edges))[:2] for t in (data, simulation)
    ]
    middle, expected = (edges[1:] + edges[:-1]) / 2, np.where(shapes[1][0] != 0, shapes[1][0], np.nan)
    (value, error), (height, band) = shapes
    top.errorbar(middle, value, error, fmt="o", ms=4, color=INK, label="data")
    bottom.errorbar(middle, value / expected, error / abs(expected), fmt="o", ms=4, color=INK)
    _band(top, height, band, edges, label="simulation")
    _band(bottom, height / expected, band / abs(expected), edges)
    bottom.axhline(1, color=INK, lw=1, ls=":")
    bottom.set(ylim=(0.4, 1.6), xlabel=wrapped(name, 38))
    top.set_ylim(bottom=0)
    top.margins(x=0)


def _band(ax: Axes, value: Array, error: Array, edges: Array, label: str | None = None) -> None:
    ax.stairs(value, edges, baseline=None, color=BLUE, lw=1.8, label=label)
    ax.stairs(value + error, edges, baseline=value - error, fill=True, color=BLUE, alpha=0.3, lw=0)


def _edges(first: Array, second: Array) -> Array:
    """Bins that the smaller sample fills; one for each value of a discrete axis."""
    finite = [v[np.isfinite(v)] for v in (first, second)]
    values = np.unique(np.concatenate(finite))
    if 1 < len(values) <= DISCRETE:
        middle = (values[1:] + values[:-1]) / 2
        return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])
    return robust_edges(np.concatenate(finite), fitting_bins(map(len, finite), most=24))
