"""Dependence of a score on a mass: mass shapes after cuts on the score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepxai.core.formatting import measured
from hepxai.plots.style import (
    FAINT,
    INK,
    axes_or_new,
    escape_label,
    legend_above,
    style,
    styled,
)
from hepxai.studies.dependence.sculpting import Sculpting, Shape

SHADES = "plasma"


def mass_shapes(cuts: Sequence[Sculpting], before: Shape, *, xlabel: str) -> Figure:
    """Distribution of an observer before and after cuts on a score, and the ratio to that before.

    Parameters
    ----------
    cuts : sequence of Sculpting
        One for each cut, with the same edges.
    before : Shape
        Without a cut.
    xlabel : str
        Name of the observer with its unit.

    Returns
    -------
    Figure
        With two frames above each other.
    """
    with style():
        figure = Figure(figsize=(7.0, 6.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
        shapes(cuts, before, ax=top)
        shape_ratios(cuts, ax=bottom)
        bottom.set_xlabel(escape_label(xlabel))
    return figure


@styled
def shapes(cuts: Sequence[Sculpting], before: Shape, *, ax: Axes | None = None) -> Axes:
    """Overlaid distributions, each of unit area; the parameters are those of `mass_shapes`."""
    ax = axes_or_new(ax)
    whole = before.density()
    ax.stairs(whole.value, before.edges, fill=True, color=FAINT, alpha=0.6, label="no cut")
    for look, cut in zip(_looks(len(cuts)), cuts, strict=True):
        density = cut.passing.density()
        _band(ax, density.value, density.error, before.edges, label=_cut_name(cut), **look)
    ax.set(ylabel="events, normalised")
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    legend_above(ax, columns=1, title="efficiency of the cut, JSD to the failing events", alignment="left")
    return ax


@styled
def shape_ratios(cuts: Sequence[Sculpting], *, ax: Axes | None = None) -> Axes:
    """Efficiency of each cut in a bin over its efficiency in all: 1 where the cut leaves the shape alone."""
    ax = axes_or_new(ax)
    for look, cut in zip(_looks(len(cuts)), cuts, strict=True):
        ratio = cut.relative_efficiency
        _band(ax, ratio.value, ratio.error, cut.passing.edges, label=_cut_name(cut), **look)
    ax.axhline(1, color=INK, lw=1, ls=":")
    ax.set(ylabel="cut / no cut")
    ax.margins(x=0)
    return ax


def _band(
    ax: Axes, value: Any, error: Any, edges: Any, *, label: str, color: Any, ls: str | tuple[Any, ...]
) -> None:
    ax.stairs(value, edges, baseline=None, color=color, ls=ls, lw=1.8, label=label)
    low, high = value - np.nan_to_num(error), value + np.nan_to_num(error)
    ax.stairs(high, edges, baseline=low, fill=True, color=color, alpha=0.2, lw=0)


def _looks(number: int) -> list[dict[str, Any]]:
    """Colours from dark to light, and dashes for readers who cannot distinguish them."""
    shades = mpl.colormaps[SHADES](np.linspace(0.1, 0.75, max(number, 1)))
    return [{"color": shades[i], "ls": ("-", "--", "-.", ":")[i % 4]} for i in range(number)]


def _cut_name(cut: Sculpting) -> str:
    jsd = measured(float(cut.divergence.value), float(cut.divergence.error))
    return f"{100 * float(cut.efficiency.value):.3g} %, {jsd} (chance {cut.chance_divergence:.2g})"
