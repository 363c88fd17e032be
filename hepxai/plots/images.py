"""Maps over pixels: on one event, several methods side by side, and how well they find the truth."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from hepxai.attribution import Attribution
from hepxai.core.formatting import short_method
from hepxai.metrics.pixels import LitPixels, flat
from hepxai.plots.style import (
    GREY,
    INK,
    axes_or_new,
    colours,
    escape_label,
    styled,
)

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
    bar.set_label(escape_label(own.settings.get("unit", unit_of(own))), fontsize="x-small")
    ax.set(xlim=window(lit, columns, zoom), ylim=(0, rows))
    _frames(ax, lit, columns)
    _row_numbers(ax, rows)
    layout = own.events.image_layout()
    ax.set(ylabel=escape_label(layout.rows.feature), xlabel=escape_label(layout.columns.feature))
    ax.set_title(escape_label(title or _what(own), 90), loc="left", fontsize="small")
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
