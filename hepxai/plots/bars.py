"""Horizontal bars with errors: particle types, rankings of columns and neurons; and the tree of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.means import type_means
from hepxai.attribution.reductions import labels_of, quantity, reduced, short_name
from hepxai.attribution.spread import TRAINING
from hepxai.core.estimate import Array, Estimate, total_error
from hepxai.core.formatting import common_power, scaled
from hepxai.metrics.columns import Ranking
from hepxai.metrics.importance import correlation_tree
from hepxai.plots.style import (
    CLASS_COLOURS,
    GREY,
    INK,
    add_footnote,
    axes_or_new,
    class_look,
    escape_label,
    interval_bars,
    legend_above,
    short,
    styled,
    wrapped,
)


@styled
def particle_types(attribution: Attribution, *, ax: Axes | None = None) -> Axes:
    """Mean attribution per particle of each type, class by class, with statistical errors.

    Parameters
    ----------
    attribution : Attribution
        With a "particle" axis; features are summed, other axes averaged.
    """
    means = type_means(attribution.apply(lambda a: reduced(a, keep=TRAINING)))
    classes, types = means.labels
    power, number = common_power(means.largest), len(classes)
    ax = axes_or_new(ax, (7.0, 1.6 + max(0.75, 0.2 * number) * len(types)))
    for c, name in reversed(list(enumerate(classes))):
        y = np.arange(len(types))[::-1] + (c - 0.5 * (number - 1)) * 0.7 / number
        value, error, total = np.stack([means.value[c], means.error[c], total_error(means)[c]]) * 10.0**-power
        _bar(ax, y, value, error, total, class_look(c, number), 0.6 / number, short(name))
    name_rows(ax, [short(t) for t in types])
    ax.set(xlabel=wrapped(scaled(f"mean {quantity(attribution)} per particle", power)))
    legend_above(ax)
    add_footnote(ax, attribution.caveat)
    return ax


@styled
def grouped_bars(
    series: Mapping[str, Mapping[str, Estimate]],
    xlabel: str,
    *,
    caveat: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Numbers with errors in rows, several series side by side.

    Parameters
    ----------
    series : mapping of str to mapping of str to Estimate
        ``series → row → number``, with the same rows.
    xlabel : str
    caveat : str, optional
        Concerns, for the footnote.
    """
    number, rows = len(series), list(next(iter(series.values()), {}))
    ax = axes_or_new(ax, (7.0, 1.8 + (0.3 + 0.2 * number) * len(rows)))
    for i, (name, of) in enumerate(series.items()):
        y = np.arange(len(rows))[::-1] + (0.5 * (number - 1) - i) * 0.7 / number
        numbers = [of[row] for row in rows]
        value, total = (
            np.array([(float(e.value), float(total_error(e)) if e.spread else 0.0) for e in numbers])
            .reshape(-1, 2)
            .T
        )
        _bar(ax, y, value, interval_bars(numbers), total, class_look(i), 0.6 / number, short(name))
    name_rows(ax, rows)
    ax.set(xlabel=xlabel)
    legend_above(ax, columns=3)
    add_footnote(ax, caveat)
    return ax


@styled
def entry_bars(attribution: Attribution, event: int, *, top: int = 15, ax: Axes | None = None) -> Axes:
    """Values of the particles, columns or neurons of one event, those of the largest magnitude first.

    Parameters
    ----------
    attribution : Attribution
        With the axes ("particle",), ("event", "feature") or ("event", "neuron").
    event : int
        Position of the event.
    top : int
        Entries that are shown.
    """
    single = attribution[np.array([event])]
    if single.axes[0] == "particle":
        particles = np.arange(single.events.n_particles) if single.pairs is None else single.pairs.src
        labels, pt = single.events.labels_of_particles(), single.events.p4[:, 0]
        names = [f"{labels[i]}, {pt[i]:.0f} GeV" if pt[i] > 0 else labels[i] for i in particles]
        values = single.values
    else:
        names, values = list(labels_of(single, single.axes[1])), single.values[0]
    order = np.argsort(-np.abs(values), kind="stable")[:top]
    ax = axes_or_new(ax, (7.6, 1.6 + 0.34 * max(len(order), 1)))
    power = common_power(float(np.abs(values[order]).max(initial=0.0)))
    value = np.asarray(values[order], dtype=np.float64) * 10.0**-power
    colour = [class_look(int(v > 0))["color"] for v in value]
    ax.barh(np.arange(len(order))[::-1], value, height=0.66, color=colour, alpha=0.6, lw=0)
    name_rows(ax, [names[i] for i in order])
    ax.set(xlabel=wrapped(scaled(quantity(single), power)))
    if len(order) < len(values):
        ax.set_title(f"{len(order)} of {len(values)} values", loc="left", fontsize="small")
    add_footnote(ax, attribution.caveat)
    return ax


# --- rankings ------------------------------------------------------------------------------------------


@styled
def importance_bars(rankings: Mapping[str, Ranking], *, top: int = 15, ax: Axes | None = None) -> Axes:
    """Importance of the columns with errors, the largest first, of any number of methods side by side.

    Several methods have units of their own: each is then drawn relative to its largest importance.

    Parameters
    ----------
    rankings : mapping
        ``method → ranking``; a column that a method does not rank has no bar.
    top : int
        Columns that are shown, by their mean over the methods.
    """
    several = len(rankings) > 1
    names, value, error, total = _side_by_side(rankings, relative=several)
    order = np.argsort(-np.nanmean(value, axis=0), kind="stable")[:top]
    ax = axes_or_new(ax, (7.6, 1.6 + (0.34 + 0.1 * len(rankings)) * len(order)))
    power = common_power(float(np.nanmax(np.abs(value), initial=0.0)))
    number = len(rankings)
    for m, (method, ranking) in enumerate(rankings.items()):
        y = np.arange(len(order))[::-1] + (0.5 * (number - 1) - m) * 0.76 / number
        sizes = np.stack([value, error, total])[:, m, order] * 10.0**-power
        _bar(ax, y, sizes[0], sizes[1], sizes[2], class_look(m), 0.66 / number, short_name(ranking, method))
    what = "importance, relative to the largest" if several else next(iter(rankings.values())).what
    ax.set(xlabel=wrapped(scaled(what, power)))
    name_rows(ax, [names[i] for i in order])
    if several:
        legend_above(ax, columns=3)
    return ax


def _side_by_side(
    rankings: Mapping[str, Ranking], *, relative: bool
) -> tuple[list[str], Array, Array, Array]:
    """All names; values, errors and errors with spread of every method ``[M, N]``, NaN where it has none."""
    if not rankings:
        raise ValueError("there is no ranking to draw")
    names = list(dict.fromkeys(n for r in rankings.values() for n in r.names))
    columns = np.full((3, len(rankings), len(names)), np.nan)
    for m, ranking in enumerate(rankings.values()):
        place = [names.index(n) for n in ranking.names]
        largest = float(np.nanmax(np.abs(ranking.value), initial=0.0)) if relative else 1.0
        numbers = np.stack([ranking.value, ranking.error, total_error(ranking)])
        columns[:, m, place] = numbers / (largest or 1.0)
    return names, *columns


def _bar(
    ax: Axes,
    y: NDArray[np.floating],
    value: Array,
    error: Array,
    total: Array,
    look: dict[str, Any],
    height: float,
    label: str,
) -> None:
    """Bars of one method or class, with a point and an error at their end; a thin line is the whole error."""
    finite = np.isfinite(value)
    y, value = y[finite], value[finite]
    error, total = (np.nan_to_num(e[..., finite]) for e in (error, total))
    ax.barh(y, value, height=height, color=look["color"], alpha=0.3, lw=0)
    ax.errorbar(value, y, xerr=error, ls="", ms=6, label=escape_label(label), **look)
    if (total > error).any():
        ax.errorbar(value, y, xerr=total, fmt="none", ecolor=look["color"], elinewidth=1, capsize=4)


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Rows from the top to the bottom, and a line at zero."""
    ax.axvline(0, color=INK, lw=1)
    ax.use_sticky_edges = False  # bars of one sign would end on the frame
    ax.set_yticks(np.arange(len(names))[::-1], [escape_label(n, 40) for n in names])
    ax.tick_params(axis="y", which="both", length=0)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.margins(x=0.08)


@styled
def neuron_bars(
    attribution: Attribution,
    *,
    where: NDArray[np.bool_] | None = None,
    top: int = 15,
    ax: Axes | None = None,
) -> Axes:
    """Weighted mean conductance of the neurons with the largest positive and negative values, with errors.

    Parameters
    ----------
    attribution : Attribution
        With the axes ("event", "neuron"), neurons called ``layer:number``.
    where : ndarray of bool, shape [E], optional
        Events to use, all by default.
    top : int
        Neurons from each end. Those in between are left out, which a line says.
    """
    names = np.array(attribution.labels["neuron"])
    mean = attribution.population(where)
    order = np.argsort(-mean.value, kind="stable")
    rows = order if len(order) <= 2 * top else np.concatenate([order[:top], order[-top:]])
    ax = axes_or_new(ax, (7.4, 1.8 + 0.26 * len(rows)))
    power = common_power(float(np.abs(mean.value[rows]).max(initial=0.0)))
    value, error, total = (c[rows] * 10.0**-power for c in (mean.value, mean.error, total_error(mean)))
    layers = [n.rpartition(":")[0] for n in names]
    y, layer_of = np.arange(len(rows))[::-1].astype(np.float64), np.array([layers[i] for i in rows])
    for k, layer in enumerate(dict.fromkeys(layers)):
        at = layer_of == layer
        _bar(ax, y[at], value[at], error[at], total[at], class_look(k), 0.66, f"layer {layer}")
    name_rows(ax, [str(names[i]) for i in rows])
    if len(rows) < len(order):
        ax.axhline(top - 0.5, color=INK, lw=1, ls=":")
        between = f"{len(order) - len(rows)} neurons between"
        place = ax.get_yaxis_transform()
        ax.text(0.99, top - 0.45, between, transform=place, ha="right", va="bottom", fontsize="x-small")
    what = f"mean {short_name(attribution)} for {quantity(attribution).removeprefix('attribution to ')}"
    ax.set(xlabel=wrapped(scaled(what, power)), ylabel="neuron (layer:number)")
    legend_above(ax, columns=3)
    add_footnote(ax, attribution.caveat)
    return ax


# --- groups of columns -----------------------------------------------------------


@styled
def correlation_dendrogram(
    table: NDArray[np.floating],
    columns: Sequence[str],
    *,
    threshold: float = 0.7,
    ax: Axes | None = None,
) -> Axes:
    """Tree of correlated columns: hierarchical clustering by |rank correlation|, with the cut into groups.

    Parameters
    ----------
    table : ndarray, shape [E, G]
    columns : sequence of str, length G
    threshold : float
        Of the mean |rank correlation|, as in `hepxai.metrics.importance.correlated_groups`: branches that
        join at or above it are a group, in colour.
    """
    from scipy.cluster.hierarchy import dendrogram

    if len(columns) < 2:
        raise ValueError(f"a tree needs at least two columns; there is {', '.join(columns) or 'none'}")
    ax = axes_or_new(ax, (7.2, 1.8 + 0.32 * len(columns)))
    tree = correlation_tree(table)
    colour = _branch_colours(tree, len(columns), 1 - threshold)
    drawing: dict[str, Any] = dendrogram(tree, no_plot=True, link_color_func=colour.__getitem__)
    branches = zip(drawing["dcoord"], drawing["icoord"], drawing["color_list"], strict=True)
    for distance, place, branch_colour in branches:
        ax.plot(1 - np.array(distance), place, color=branch_colour, lw=2)
    ax.axvline(threshold, color=INK, lw=1, ls="--", label=f"groups are cut at {threshold:g}")
    names = [escape_label(columns[i], 40) for i in drawing["leaves"]]
    ax.set_yticks(5.0 + 10.0 * np.arange(len(columns)), names)
    ax.tick_params(axis="y", which="both", length=0)
    ax.set(xlabel="mean |rank correlation| of the joined columns", xlim=(-0.02, 1.02))
    ax.set_ylim(0, 10 * len(columns))
    legend_above(ax)
    return ax


def _branch_colours(tree: Array, leaves: int, cut: float) -> dict[int, str]:
    """Colour of every junction: one for each group, grey for those that join groups."""
    colour: dict[int, str] = {}
    groups = 0
    for row in range(len(tree) - 1, -1, -1):
        node = leaves + row
        if tree[row, 2] > cut:
            colour[node] = GREY
        elif node not in colour:
            colour[node] = CLASS_COLOURS[(0, 1, 2, 3, 5)[groups % 5]]
            groups += 1
        if tree[row, 2] <= cut:
            colour |= {int(child): colour[node] for child in tree[row, :2] if child >= leaves}
    return colour
