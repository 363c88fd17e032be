"""Attribution to a column against the value of that column."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import quantity
from hepxai.core.binning import bin_of, equal_bins, resolving_bins
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Array
from hepxai.core.formatting import common_power, scaled
from hepxai.metrics.columns import Ranking
from hepxai.metrics.profile import profile
from hepxai.plots.bars import name_rows
from hepxai.plots.histograms import fitting_bins, normalised, robust_edges, signed_histogram
from hepxai.plots.profiles import score_profile
from hepxai.plots.style import (
    INK,
    add_footnote,
    axes_or_new,
    canvas,
    class_look,
    escape_label,
    legend_above,
    short,
    style,
    styled,
    wrapped,
)

POINTS = 2000
"""Points that are drawn for a column or a class: more cover each other, and make large files."""
SLICES = 120
"""Slices of the axis in which the points of a swarm are stacked."""


def value_colours() -> Colormap:
    """From low to high values of a column; dark enough for points on white paper."""
    scale = mpl.colormaps["viridis"]
    return LinearSegmentedColormap.from_list("values", [scale(0.9 * i / 32) for i in range(33)])


@styled
def beeswarm(
    attribution: Attribution, *, top: int = 12, points: int = POINTS, ax: Axes | None = None
) -> Axes:
    """Attribution of every event to each column, stacked to a swarm, coloured by the value of the column.

    Points have no weights: every event counts equally.

    Parameters
    ----------
    attribution : Attribution
        With the axes ("event", "feature").
    top : int
        Columns that are shown, by their weighted mean |attribution|.
    points : int
        Events drawn, evenly spread over those given.
    """
    ranking = Ranking.of(attribution)
    table, columns = attribution.events.table()
    rows = evenly_spread(len(table), points)
    order = ranking.order()[:top]
    ax = axes_or_new(ax, (7.8, 1.8 + 0.5 * len(order)))
    values = attribution.values[rows].astype(np.float64)
    edges = np.linspace(values[:, order].min(initial=0.0), values[:, order].max(initial=1e-12), SLICES + 1)
    scale, norm = value_colours(), Normalize(0, 1)
    for y, column in zip(range(len(order) - 1, -1, -1), order, strict=True):
        level = _level(table[rows, columns.index(ranking.names[column])])
        height = y + 0.4 * _stacked(values[:, column], edges)
        ax.scatter(
            values[:, column], height, c=level, cmap=scale, norm=norm, s=7, lw=0, alpha=0.8, rasterized=True
        )
    name_rows(ax, [ranking.names[i] for i in order])
    ax.set(xlabel=wrapped(quantity(attribution)))
    bar = ax.figure.colorbar(ScalarMappable(norm, scale), ax=ax, aspect=40, pad=0.02, ticks=[0, 1])
    bar.ax.set_yticklabels(["low", "high"])
    bar.ax.tick_params(which="both", length=0)
    bar.ax.minorticks_off()
    bar.set_label("value of the column\n(5 % to 95 % quantile)", loc="center", fontsize="small")
    add_footnote(ax, attribution.caveat)
    return ax


def _level(values: NDArray[np.floating]) -> Array:
    """Values from 0 to 1 between their 5 % and 95 % quantiles; 0.5 if all are equal, or it is not finite."""
    finite = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    if np.isnan(finite).all():
        return np.full(len(values), 0.5)
    low, high = np.nanquantile(finite, [0.05, 0.95])
    low, high = (low, high) if high > low else (np.nanmin(finite), np.nanmax(finite))
    if not high > low:
        return np.full(len(values), 0.5)
    return np.nan_to_num(np.clip((finite - low) / (high - low), 0, 1), nan=0.5)


def _stacked(x: Array, edges: Array) -> Array:
    """Heights from -1 to 1: points of a slice alternate between the two sides of the line."""
    place = bin_of(x, edges)
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place[order], minlength=len(edges) - 1)
    rank = np.empty(len(x))
    rank[order] = np.arange(len(x)) - np.repeat(np.cumsum(counts) - counts, counts)
    side = np.where(rank % 2 == 0, 1.0, -1.0) * np.ceil(rank / 2)
    return np.asarray(side / max(0.5 * counts.max(initial=1), 8.0))


@styled
def value_scatter(
    attribution: Attribution,
    feature: str,
    *,
    bins: int | None = None,
    points: int = POINTS,
    ax: Axes | None = None,
) -> Axes:
    """Attribution to a column against the value of the column, class by class.

    Small points are events, evenly spread over those of the class and without their weights; markers with
    errors are weighted means in bins.

    Parameters
    ----------
    attribution : Attribution
        With the axes ("event", "feature").
    feature : str
    bins : int, optional
        Bins of the means, of about equal numbers of events; by default they resolve the narrowest class.
    points : int
        Events drawn of each class.
    """
    column, events, value = (
        attribution.select(feature=feature),
        attribution.events,
        _column(attribution, feature),
    )
    ax = axes_or_new(ax)
    finite = np.isfinite(value)
    score, whole = column.values.astype(np.float64), _whole(value[finite])
    classes = events.schema.classes
    by_class = [value[finite & (events.label == c)] for c in range(len(classes))]
    narrow = resolving_bins(by_class) if bins is None else equal_bins(value[finite], bins)
    edges = narrow if whole is None else whole
    power = common_power(float(np.abs(score).max(initial=0.0)))
    score = score * 10.0**-power
    profiles = {}
    for c, name in enumerate(classes):
        rows = np.flatnonzero((events.label == c) & finite)
        if len(rows):
            few = rows[evenly_spread(len(rows), points)]
            colour = class_look(c, len(classes))["color"]
            x = value[few] if whole is None else value[few] + _beside(len(few))
            ax.scatter(x, score[few], s=5, lw=0, alpha=0.25, color=colour, rasterized=True, zorder=1)
            profiles[name] = profile(score[rows], value[rows], events.weight[rows], edges)
    ylabel = scaled(quantity(column), power)
    xlabel = _column_label(attribution, feature)
    score_profile(profiles, xlabel=xlabel, ylabel=ylabel, classes=classes, ax=ax)
    ends = robust_edges(value, 1) if whole is None else whole
    ax.set_xlim(ends[0], ends[-1])
    add_footnote(ax, attribution.caveat)
    return ax


@styled
def value_distribution(
    attribution: Attribution, feature: str, *, bins: int | None = None, ax: Axes | None = None
) -> Axes:
    """Values of a column, class by class, each of unit area, with signed weights.

    Parameters
    ----------
    attribution : Attribution
        Of the events to draw.
    feature : str
    bins : int, optional
        As many as the smallest class fills, by default.
    """
    events, value = attribution.events, _column(attribution, feature)
    ax = axes_or_new(ax)
    masks = [(c, (events.label == c) & np.isfinite(value)) for c in range(len(events.schema.classes))]
    groups = [(c, mask) for c, mask in masks if mask.any()]
    whole = _whole(value[np.isfinite(value)])
    number = bins or fitting_bins(int(m.sum()) for _, m in groups)
    edges = robust_edges(value, number) if whole is None else whole
    for c, mask in groups:
        density, error, _ = normalised(signed_histogram(value[mask], events.weight[mask], edges))
        colour = class_look(c, len(events.schema.classes))["color"]
        ax.stairs(density, edges, color=colour, lw=1.8, label=short(events.schema.classes[c]))
        ax.stairs(density + error, edges, baseline=density - error, fill=True, color=colour, alpha=0.2, lw=0)
    ax.axhline(0, color=INK, lw=0.8)
    ax.set(xlabel=escape_label(_column_label(attribution, feature)), ylabel="events, unit area")
    ax.margins(x=0)
    legend_above(ax)
    return ax


def value_figure(attribution: Attribution, feature: str) -> Figure:
    """Distribution of a column above, attribution to it against its value below, on one axis.

    Parameters
    ----------
    attribution : Attribution
        With the axes ("event", "feature").
    feature : str
    """
    with style():
        figure, frames = canvas(2, 1, (7.2, 7.4), sharex=True, height_ratios=(1, 2))
        value_distribution(attribution, feature, ax=frames[0, 0])
        value_scatter(attribution, feature, ax=frames[1, 0])
        frames[0, 0].set(xlabel="")
        if (legend := frames[1, 0].get_legend()) is not None:
            legend.remove()
        return figure


def _whole(values: NDArray[np.floating]) -> Array | None:
    """For few whole numbers, one bin around each; None for other values."""
    different = np.unique(values)
    if len(different) > 0 and (different == np.round(different)).all() and np.ptp(different) <= 30:
        return np.arange(different[0] - 0.5, different[-1] + 1.0)
    return None


def _beside(size: int) -> Array:
    """Places from -0.35 to 0.35 that fill the width evenly, wherever one stops (golden section)."""
    return np.asarray(0.7 * ((np.arange(size) * 0.6180339887498949) % 1.0) - 0.35)


def _column(attribution: Attribution, feature: str) -> NDArray[np.float64]:
    table, columns = attribution.events.table()
    if feature not in columns:
        raise KeyError(f"the table has no column {feature!r}; it has {', '.join(columns)}")
    return table[:, columns.index(feature)].astype(np.float64)


def _column_label(attribution: Attribution, feature: str) -> str:
    schema = attribution.events.schema
    unit = schema.global_units[schema.globals.index(feature)]
    return f"{feature} [{unit}]" if unit else feature
