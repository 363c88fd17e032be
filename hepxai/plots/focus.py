"""Distribution of the pairs in focus and of all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hist
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import in_focus, pair_name, quantity, reduced, reference_value, whole_pairs
from hepxai.attribution.spread import TRAINING, over_trainings
from hepxai.core.estimate import Array, Estimate, total_error
from hepxai.core.jagged import IntArray, parents
from hepxai.plots.histograms import fitting_bins, normalised, robust_edges, signed_histogram
from hepxai.plots.style import (
    INK,
    add_footnote,
    axes_or_new,
    class_look,
    escape_label,
    legend_above,
    short,
    styled,
    wrapped,
)

Key = tuple[str, str]
Mask = NDArray[np.bool_]
MANY = 3
"""Classes beyond which only one has errors and other pairs in `focus_distribution`."""
ENDS = "  (end bins: all beyond)"


def focus_histograms(
    attribution: Attribution,
    focus: tuple[str, str],
    bins: int | None = None,
    *,
    edges: Array | None = None,
) -> dict[tuple[str, str], hist.Hist]:
    """Signed-weight histograms for each ``(class, pairs)`` that has pairs, in common bins.

    The second key is the name of the focus or "other pairs". Pairs of one event are correlated, and the
    variances say so. Bins are chosen from the values unless their ``edges`` are given.
    """
    owner = parents(attribution.offsets)
    groups = dict(_groups(attribution, focus, owner))
    if edges is None:
        edges = _common_edges([attribution.values[mask] for mask in groups.values()], bins)
    weight, label = attribution.events.weight[owner], quantity(attribution)
    return {
        key: signed_histogram(
            attribution.values[mask], weight[mask], edges, cluster=owner[mask], name="value", label=label
        )
        for key, mask in groups.items()
    }


def _groups(attribution: Attribution, focus: tuple[str, str], owner: IntArray) -> Iterator[tuple[Key, Mask]]:
    chosen = in_focus(attribution, focus)
    for c, name in reversed(list(enumerate(attribution.events.schema.classes))):
        for pairs, mask in ((pair_name(focus), chosen), ("other pairs", ~chosen)):
            in_class = mask & (attribution.events.label[owner] == c)
            if in_class.any():
                yield (name, pairs), in_class


def _common_edges(groups: list[NDArray[np.floating]], bins: int | None) -> Array:
    """Bins over the ranges of all groups: quantiles of all pairs would hide the few in focus."""
    number = bins or fitting_bins(map(len, groups), least=24)
    ends = [robust_edges(values, 1, tail=0.005) for values in groups] or [np.array([0.0, 1.0])]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    return np.linspace(0.0 if all((g >= 0).all() for g in groups) else low, high, number + 1)


@styled
def focus_distribution(
    attribution: Attribution, focus: tuple[str, str], *, bins: int | None = None, ax: Axes | None = None
) -> Axes:
    """Attribution of the pairs in focus and of all other pairs, class by class; each of unit area.

    Of more than three classes, errors and other pairs are drawn for the last class, signal, alone.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged.
    focus : tuple of two str
        Particle types, in either order.
    bins : int, optional
        As many as the smallest group fills, by default.
    """
    ax = axes_or_new(ax)
    plain_map = whole_pairs(reduced(attribution))
    classes = attribution.events.schema.classes
    filled_map = focus_histograms(plain_map, focus, bins)
    edges = next((np.asarray(h.axes[0].edges) for h in filled_map.values()), np.zeros(0))
    every = attribution.apply(lambda a: whole_pairs(reduced(a, keep=TRAINING)))
    histograms = {
        (name, pairs): histogram
        for (name, pairs), histogram in filled_map.items()
        if pairs == pair_name(focus) or len(classes) <= MANY or name == classes[-1]
    }
    for (name, pairs), filled in histograms.items():
        label = f"{short(name)}, {escape_label(pairs, 40)}"
        _step(ax, filled, classes.index(name), len(classes), label, pairs == pair_name(focus))
        if pairs == pair_name(focus):
            density = focus_density(every, focus, name, edges)
            _outer_band(ax, density, edges, classes.index(name), len(classes))
    ax.axvline(reference_value(attribution), color=INK, lw=0.8, ls=":")
    ax.set(xlabel=wrapped(quantity(plain_map) + ENDS), ylabel="pairs, unit area")
    _density_scale(ax, [normalised(h)[0] for h in histograms.values()])
    ax.margins(x=0)
    legend_above(ax)
    add_footnote(ax, attribution.caveat)
    return ax


@over_trainings
def focus_density(attribution: Attribution, focus: tuple[str, str], name: str, edges: Array) -> Estimate:
    """Density of the values of the pairs in focus in events of a class; NaN without any."""
    filled = focus_histograms(attribution, focus, edges=edges).get((name, pair_name(focus)))
    empty = np.full(len(edges) - 1, np.nan)
    density, error = (empty, empty) if filled is None else normalised(filled)[:2]
    return Estimate(density, error, np.nan)


def _outer_band(ax: Axes, density: Estimate, edges: Array, index: int, classes: int) -> None:
    """Outer band: statistical error and all that varies besides, in quadrature."""
    if density.spread and (classes <= MANY or index == classes - 1):
        value, total = density.value, total_error(density)
        band: dict[str, Any] = {"fill": True, "color": class_look(index, classes)["color"], "lw": 0}
        ax.stairs(value + total, edges, baseline=value - total, alpha=0.12, **band)


def _density_scale(ax: Axes, densities: list[Array]) -> None:
    """Logarithmic; with a linear part around zero if signed weights left negative bins."""
    values = np.concatenate([*densities, np.zeros(1)])
    positive, negative = values[values > 0], values[values < 0]
    if len(positive) == 0:
        return
    if len(negative) == 0:
        ax.set(yscale="log", ylim=(0.4 * positive.min(), 2.5 * positive.max()))
        return
    linear = 10.0 ** np.ceil(np.log10(max(-negative.min(), positive.min())))  # a tick of its own
    ax.set_yscale("symlog", linthresh=linear, linscale=0.6)
    ax.set_ylim(-1.2 * linear, 2.5 * positive.max())
    ax.axhline(0, color=INK, lw=0.8)


def _step(ax: Axes, filled: hist.Hist, index: int, classes: int, label: str, in_front: bool) -> None:
    density, error, edges = normalised(filled)
    colour = class_look(index, classes)["color"]
    dashes = (4 * index, (4, 4))  # those of the second class fill the gaps of the first
    look: dict[str, Any] = {
        "color": colour,
        "lw": 2.2 if in_front else 1.3,
        "ls": "-" if in_front else dashes,
    }
    height = np.where(filled.variances() > 0, density, np.nan)
    ax.stairs(height, edges, baseline=None, label=label, **look)
    if in_front and (classes <= MANY or index == classes - 1):
        ax.stairs(density + error, edges, baseline=density - error, fill=True, color=colour, alpha=0.2, lw=0)
