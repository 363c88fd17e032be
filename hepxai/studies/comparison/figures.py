"""Maps of several methods on one event, their shares on the true hits, and their faithfulness."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import short_name
from hepxai.core.estimate import as_arrays
from hepxai.core.formatting import general
from hepxai.metrics.pixels import LitPixels
from hepxai.metrics.removal_curves import RemovalCurve
from hepxai.plots.energies import is_wide
from hepxai.plots.images import attribution_image, hit_display, target_unit, window
from hepxai.plots.style import (
    CLASS_COLOURS,
    INK,
    axes_or_new,
    canvas,
    class_look,
    escape_label,
    interval_bars,
    legend_above,
    style,
    styled,
)
from hepxai.studies.comparison.faithfulness_table import ALIKE, RANDOM, FaithfulnessTable
from hepxai.studies.comparison.numbers import MethodComparison

ACROSS = 3
"""Most images side by side."""


def convergence_figure(
    maps: Mapping[str, Attribution],
    event: int,
    *,
    truth: str | None = None,
    predicted: Mapping[str, float] | None = None,
    zoom: int | None = 12,
) -> Figure:
    """Draw the hits of one event, and then the maps of all methods, with prediction and truth.

    Below each other for wide images, side by side for others.

    Parameters
    ----------
    maps : mapping
        ``name → attribution`` of the same events.
    event : int
        Position in their events.
    truth : str, optional
        One of ``events.truth``.
    predicted : mapping, optional
        ``name → output`` of the model that this map explains, for this event.
    zoom : int, optional
        As for `attribution_image`.
    """
    if not maps:
        raise ValueError("no maps to draw")
    first = next(iter(maps.values()))
    with style():
        layout = first.events.image_layout()
        across = 1 if is_wide(layout) else min(len(maps) + 1, ACROSS)
        down = -(-(len(maps) + 1) // across)
        figure, axes = canvas(down, across, (11.0, 2.1 * down) if across == 1 else (4.4 * across, 4.0 * down))
        top, *others = axes.flat[: len(maps) + 1]
        for unused in axes.flat[len(maps) + 1 :]:
            unused.remove()
        hit_display(first.events, event, truth=truth, ax=top)
        if across == 1:
            lit = LitPixels.lit(first.events[[event]], truth)
            top.set(xlim=window(lit, layout.columns.size, zoom))
        for ax, (name, attribution) in zip(others, maps.items(), strict=True):
            prediction = None if predicted is None else predicted.get(name)
            title = _caption(name, attribution, event, prediction)
            attribution_image(attribution, event, truth=truth, zoom=zoom, title=title, ax=ax)
        for ax in axes[:-1, 0] if across == 1 else ():
            ax.set(xlabel="")
            ax.tick_params(axis="x", labelbottom=False)
    return figure


def _caption(name: str, attribution: Attribution, event: int, predicted: float | None) -> str:
    unit = target_unit(attribution)
    end = f" {unit}" if unit else ""
    method = short_name(attribution, name)
    parts = [method if method.endswith(attribution.target) else f"{method}, {attribution.target}"]
    if predicted is not None:
        parts.append(f"predicted {general(predicted, 3)}{end}")
    if attribution.target in attribution.events.schema.targets:
        true = attribution.events.targets[event, attribution.events.schema.targets.index(attribution.target)]
        parts.append(f"true {general(float(true), 3)}{end}" if np.isfinite(true) else "no true value")
    return ", ".join(parts)


@styled
def truth_shares(
    comparison: MethodComparison, *, quantity: str = "", what: str = "among_hits", ax: Axes | None = None
) -> Axes:
    """Share of |attribution| on the true hits in bins, of each method and of equal values on all hits.

    Parameters
    ----------
    comparison : MethodComparison
        With bins.
    quantity : str
        Binned quantity with its unit.
    what : {"among_hits", "of_all"}
    """
    if comparison.edges is None:
        raise ValueError("no bins: compare with quantity and edges")
    ax = axes_or_new(ax)
    middle, half = (comparison.edges[1:] + comparison.edges[:-1]) / 2, np.diff(comparison.edges) / 2
    for i, (method, title) in enumerate(zip(comparison.methods, comparison.rank.titles, strict=True)):
        shares = [getattr(part.shares[method], what) for part in comparison.bins]
        shift = 1.2 * half * ((i + 0.5) / len(comparison.methods) - 0.5)
        look = class_look(i) | ({"mfc": "white"} if i >= len(CLASS_COLOURS) else {})
        value, bars = as_arrays(shares)[0], interval_bars(shares)
        ax.errorbar(middle + shift, value, bars, ls="", ms=6, label=escape_label(title), **look)
    chance = [part.shares[comparison.methods[0]].chance for part in comparison.bins]
    ax.stairs(as_arrays(chance)[0], comparison.edges, color=INK, ls="--", lw=1.2, label="all hits alike")
    where = "hits" if what == "among_hits" else "image"
    ax.set(xlabel=quantity, ylabel=f"share on true hits, of the {where}", ylim=(0, None))
    legend_above(ax, columns=3, fontsize="x-small")
    return ax


def faithfulness_curves(table: FaithfulnessTable) -> Figure:
    """Mean deletion and insertion curve of each method with a band of one error, and of a random order.

    Outputs are relative to the whole change: 1 is the image, 0 the baseline.
    """
    with style():
        figure, axes = canvas(1, 2, (13.5, 6.2), sharey=True)
        for ax, kind, title in zip(axes[0], (0, 1), ("deletion", "insertion"), strict=True):
            for i, (name, curves) in enumerate(_drawn(table)):
                _band(ax, curves[kind], table.titles[name], i, mirrored=name == RANDOM and kind == 1)
            ax.set_title(title, fontsize="small")
            ax.set(xlabel=f"fraction of pixels {'inserted' if kind else 'deleted'}", xlim=(0, 1))
        axes[0, 0].set(ylabel="output, relative to its change")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize="x-small")
    return figure


def _drawn(table: FaithfulnessTable) -> list[tuple[str, tuple[RemovalCurve, RemovalCurve]]]:
    return [(name, curves) for name, curves in table.curves.items() if name != ALIKE]


def _band(ax: Axes, curve: RemovalCurve, name: str, index: int, *, mirrored: bool) -> None:
    """Mean with its error; the insertion curve of random orders is their deletion curve from its end."""
    turn = slice(None, None, -1) if mirrored else slice(None)
    value, error = curve.mean.value[turn], np.nan_to_num(curve.mean.error[turn])
    look = class_look(index) | {"ls": ("-", "--", "-.", ":")[index // len(CLASS_COLOURS) % 4]}
    if name == RANDOM:
        name, look = "random order", {"color": INK, "marker": "", "ls": "--"}
    ax.plot(curve.fraction, value, lw=1.6, ms=4, label=escape_label(name), **look)
    ax.fill_between(curve.fraction, value - error, value + error, color=look["color"], alpha=0.15, lw=0)
