"""Maps over pixels: on one event, several methods side by side, and how well they find the truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.estimate import Estimate
from hepxai.explain.convergence import Convergence
from hepxai.explain.smoothgrad_scan import SmoothPoint, SmoothScan
from hepxai.metrics.pixels import LitPixels, flat
from hepxai.plots.hits import hit_display
from hepxai.plots.style import (
    CLASS_COLOURS,
    GREY,
    INK,
    axes_or_new,
    canvas,
    class_look,
    colours,
    legend_above,
    plain,
    style,
    styled,
)
from hepxai.plots.text import general, short_method

LEAST = 24
"""Columns that a zoomed map shows at least."""


@styled
def attribution_image(
    attribution: Attribution,
    event: int,
    *,
    truth: str | None = None,
    zoom: int | None = 12,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One event's map: red raises the output, blue lowers it, on a symmetric scale; one colour if none does.

    Hits are framed, thick and black those of the truth, thin and grey the others. Rows (layers) go upwards; a
    pixel is as high as the frame allows, whatever its width.

    Parameters
    ----------
    attribution : Attribution
        Axes ("event", "row", "column").
    event : int
        Position in ``attribution.events``.
    truth : str, optional
        One of ``events.truth``.
    zoom : int, optional
        Columns that are shown on each side of the hits (of the truth, where there are any); None shows all.
    title : str, optional
        The method and the target by default. The unit stands at the scale.
    """
    ax = axes_or_new(ax, (10.0, 3.0))
    own = attribution[np.array([event])]
    lit = LitPixels.lit(own.events, truth)
    rows, columns = own.values.shape[1:]
    values = flat(own).reshape(rows, columns)
    scale, norm = colours(values)
    mesh = ax.pcolormesh(values, cmap=scale, norm=norm, rasterized=True)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.01, aspect=12)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.ax.tick_params(labelsize="x-small", which="both")
    bar.set_label(plain(own.settings.get("unit", unit_of(own))), fontsize="x-small")
    ax.set(xlim=window(lit, columns, zoom), ylim=(0, rows))
    _frames(ax, lit, columns)
    _row_numbers(ax, rows)
    layout = own.events.image_layout()
    ax.set(ylabel=plain(layout.rows.feature), xlabel=plain(layout.columns.feature))
    ax.set_title(plain(title or _what(own), 90), loc="left", fontsize="small")
    return ax


def window(lit: LitPixels, columns: int, zoom: int | None) -> tuple[float, float]:
    """Columns from and to that show the hits of one event, with ``zoom`` more on each side."""
    if zoom is None or len(lit.place) == 0:
        return 0.0, float(columns)
    shown = (lit.place[lit.true] if lit.true.any() else lit.place) % columns
    low, high = int(shown.min()) - zoom, int(shown.max()) + 1 + zoom
    missing = max(LEAST - (high - low), 0)
    return float(max(low - missing // 2, 0)), float(min(high + missing - missing // 2, columns))


def _frames(ax: Axes, lit: LitPixels, columns: int) -> None:
    """Frame the hits, those of the truth last so that no other frame covers theirs."""
    low, high = ax.get_xlim()
    thickest = 0.3 * 72 * ax.get_window_extent().width / ax.figure.dpi / (high - low)  # or it hides the pixel
    for place, true in sorted(zip(lit.place.tolist(), lit.true.tolist(), strict=True), key=lambda p: p[1]):
        row, column = divmod(place, columns)
        colour, width = (INK, 1.8) if true else (GREY, 0.9)
        frame = Rectangle((column, row), 1, 1, fc="none", ec=colour, lw=min(width, thickest))
        ax.add_patch(frame)


def _row_numbers(ax: Axes, rows: int) -> None:
    step = max(1, rows // 5)
    ax.set_yticks(np.arange(0, rows, step) + 0.5, [str(r) for r in range(0, rows, step)])
    ax.tick_params(axis="y", which="both", length=0)


def _what(attribution: Attribution) -> str:
    return f"{short_method(attribution.method)} of {attribution.target}"


def unit_of(attribution: Attribution) -> str:
    """Unit of the explained target; empty for a logit."""
    schema = attribution.events.schema
    units = dict(zip(schema.targets, schema.target_units, strict=True))
    return units.get(attribution.target, "")


def convergence_figure(
    maps: Mapping[str, Attribution],
    event: int,
    *,
    truth: str | None = None,
    predicted: Mapping[str, float] | None = None,
    zoom: int | None = 12,
) -> Figure:
    """Draw the hits of one event, and below them the maps of all methods, with prediction and truth.

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
        height = 2.1 * (len(maps) + 1)
        figure, axes = canvas(len(maps) + 1, 1, (11.0, height))
        top, *others = axes[:, 0]
        hit_display(first.events, event, truth=truth, ax=top)
        columns = first.events.image_layout().shape[2]
        top.set(xlim=window(LitPixels.lit(first.events[[event]], truth), columns, zoom))
        for ax, (name, found) in zip(others, maps.items(), strict=True):
            said = None if predicted is None else predicted.get(name)
            attribution_image(
                found, event, truth=truth, zoom=zoom, title=_caption(name, found, event, said), ax=ax
            )
        for ax in axes[:-1, 0]:
            ax.set(xlabel="")
            ax.tick_params(axis="x", labelbottom=False)
    return figure


def _caption(name: str, found: Attribution, event: int, predicted: float | None) -> str:
    unit = unit_of(found)
    end = f" {unit}" if unit else ""
    shown = short_method(name)
    parts = [shown if shown.endswith(found.target) else f"{shown}, {found.target}"]
    if predicted is not None:
        parts.append(f"predicted {general(predicted, 3)}{end}")
    if found.target in found.events.schema.targets:
        true = found.events.targets[event, found.events.schema.targets.index(found.target)]
        parts.append(f"true {general(float(true), 3)}{end}" if np.isfinite(true) else "no true value")
    return ", ".join(parts)


@styled
def truth_shares(
    found: Convergence, *, quantity: str = "", what: str = "among_hits", ax: Axes | None = None
) -> Axes:
    """Share of each method's |attribution| on the true hits in bins, and that of a map with all hits alike.

    Parameters
    ----------
    found : Convergence
        With bins.
    quantity : str
        What the bins are of, with its unit.
    what : {"among_hits", "of_all"}
    """
    if found.edges is None:
        raise ValueError("no bins: compare with quantity and edges")
    ax = axes_or_new(ax)
    middle, half = (found.edges[1:] + found.edges[:-1]) / 2, np.diff(found.edges) / 2
    for i, method in enumerate(found.methods):
        value, error = _columns([getattr(part.shares[method], what) for part in found.bins])
        shift = 1.2 * half * ((i + 0.5) / len(found.methods) - 0.5)
        look = class_look(i) | ({"mfc": "white"} if i >= len(CLASS_COLOURS) else {})
        ax.errorbar(middle + shift, value, error, ls="", ms=6, label=plain(short_method(method)), **look)
    chance = [part.shares[found.methods[0]].chance for part in found.bins]
    ax.stairs(_columns(chance)[0], found.edges, color=INK, ls="--", lw=1.2, label="all hits alike")
    where = "hits" if what == "among_hits" else "image"
    ax.set(xlabel=quantity, ylabel=f"share on true hits, of the {where}", ylim=(0, None))
    legend_above(ax, columns=3, fontsize="x-small")
    return ax


def _columns(found: list[Estimate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([f.value for f in found]), np.array([f.error for f in found])


@styled
def smoothgrad_shares(scan: SmoothScan, *, ax: Axes | None = None) -> Axes:
    """Share on the true hits against the number of noisy copies, one line for each noise level."""
    ax = axes_or_new(ax)
    _lines(ax, scan, "share", "share on true hits, of the hits")
    ax.axhline(float(scan.choice.chance.value), color=INK, ls="--", lw=1.2, label="all hits alike")
    legend_above(ax, columns=3, fontsize="x-small")
    return ax


@styled
def smoothgrad_stability(scan: SmoothScan, *, ax: Axes | None = None) -> Axes:
    """Correlation between two seeds against the number of noisy copies, one line for each noise level."""
    ax = axes_or_new(ax)
    _lines(ax, scan, "stability", "correlation between two seeds")
    ax.axhline(scan.stable, color=INK, ls=":", lw=1.2, label="asked for")
    legend_above(ax, columns=3, fontsize="x-small")
    return ax


def _lines(ax: Axes, scan: SmoothScan, what: str, label: str) -> None:
    """Draw one line for each level, and a ring around the choice."""
    levels = sorted({p.level for p in scan.points})

    def place(point: SmoothPoint) -> float:  # levels beside each other
        return float(point.samples * 1.03 ** (levels.index(point.level) - 0.5 * (len(levels) - 1)))

    for i, level in enumerate(levels):
        own = sorted((p for p in scan.points if p.level == level), key=lambda p: p.samples)
        value, error = _columns([getattr(p, what) for p in own])
        ax.errorbar(
            list(map(place, own)), value, error, ms=5, lw=1.2, label=f"noise {level:g}", **class_look(i)
        )
    chosen = float(getattr(scan.choice, what).value)
    ax.plot([place(scan.choice)], [chosen], "o", ms=15, mfc="none", mec=INK, label="choice")
    numbers = sorted({p.samples for p in scan.points})
    ax.set_xscale("log")
    ax.set_xticks(numbers, [str(n) for n in numbers])
    ax.minorticks_off()
    ax.set(xlabel="noisy copies", ylabel=label)
