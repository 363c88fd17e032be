"""What the model looked at, by particle type and by pair of types."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.formatting import common_power, fixed, scaled
from hepxai.metrics.reductions import reduced
from hepxai.plots.means import Means, is_relative, pair_means, quantity, scale_of, type_means
from hepxai.plots.style import (
    FAINT,
    INK,
    add_footnote,
    axes_or_new,
    characters,
    class_look,
    escape_label,
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
    means = type_means(reduced(attribution))
    ax = axes_or_new(ax, (7.0, 1.6 + 0.75 * len(means.labels[1])))
    power = common_power(_largest(means))
    rows = np.arange(len(means.labels[1]))[::-1]
    for c, name in reversed(list(enumerate(means.labels[0]))):
        _bars(ax, means, c, short(name), rows, 10.0**-power)
    ax.axvline(0, color=INK, lw=1)
    ax.use_sticky_edges = False  # bars of one sign would end on the frame
    ax.set_yticks(rows, [short(t) for t in means.labels[1]])
    ax.tick_params(axis="y", which="both", length=0)
    ax.set(xlabel=wrapped(scaled(f"mean {quantity(attribution)} per particle", power)))
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.margins(x=0.08)
    legend_above(ax)
    add_footnote(ax, attribution.caveat)
    return ax


def _bars(ax: Axes, means: Means, c: int, name: str, rows: NDArray[Any], factor: float) -> None:
    n = len(means.labels[0])
    y = rows + (c - 0.5 * (n - 1)) * 0.7 / n
    look = class_look(c)
    known = np.isfinite(means.value[c])
    ax.barh(y[known], means.value[c][known] * factor, height=0.6 / n, color=look["color"], alpha=0.3, lw=0)
    error = np.nan_to_num(means.error[c][known]) * factor
    ax.errorbar(means.value[c][known] * factor, y[known], xerr=error, ls="", ms=7, label=name, **look)


def _largest(means: Means) -> float:
    return float(np.nanmax(np.abs(means.value), initial=0.0)) if np.isfinite(means.value).any() else 0.0


# --- matrices --------------------------------------------------------------------------------


def matrix_scale(attribution: Attribution, means: Means) -> tuple[Colormap, Normalize]:
    """Colour scale that the panels of all classes share, around the value that says nothing."""
    return scale_of(attribution, means.value * 10.0 ** -common_power(_largest(means)))


@styled
def pair_types(
    attribution: Attribution, class_name: str, *, means: Means | None = None, ax: Axes | None = None
) -> Axes:
    """Mean attribution per pair of types of one class, as a matrix with errors: receiver against sender.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged.
    class_name : str
    means : Means, optional
        Result of `pair_means`, if at hand.
    """
    means = pair_means(reduced(attribution)) if means is None else means
    ax = axes_or_new(ax, (6.4, 5.6))
    _matrix(ax, attribution, means, class_name)
    ax.set(xlabel=means.axes[2], ylabel=means.axes[1])
    add_footnote(ax, attribution.caveat)
    return ax


@styled
def feature_matrix(
    attribution: Attribution, class_name: str, *, means: Means | None = None, ax: Axes | None = None
) -> Axes:
    """Mean attribution per particle of each type and feature of one class, as a matrix with errors.

    Parameters
    ----------
    attribution : Attribution
        With the axes ("particle", "feature").
    class_name : str
    means : Means, optional
        Result of `type_means`, if at hand.
    """
    means = type_means(attribution) if means is None else means
    ax = axes_or_new(ax, (2.2 + 1.1 * len(means.labels[2]), 1.6 + 0.8 * len(means.labels[1])))
    _matrix(ax, attribution, means, class_name)
    ax.set(xlabel="feature", ylabel="particle")
    add_footnote(ax, attribution.caveat)
    return ax


def _matrix(ax: Axes, attribution: Attribution, means: Means, class_name: str) -> None:
    c, (_, rows, columns) = means.labels[0].index(class_name), means.labels
    power = common_power(_largest(means))
    scale, norm = matrix_scale(attribution, means)
    values, errors = means.value[c] * 10.0**-power, means.error[c] * 10.0**-power
    ax.patch.set(hatch="////", ec=FAINT, fc="white", lw=0)  # seen where no event has the pair
    ax.imshow(values, cmap=scale, norm=norm, aspect="auto")
    places = 2 - int(np.floor(np.log10(_largest(means) * 10.0**-power))) if _largest(means) > 0 else 0
    for at in np.ndindex(*values.shape):
        if np.isfinite(values[at]):
            cell(ax, at, cell_text(values[at], errors[at], max(places, 0)), scale(norm(values[at])))
    ax.set_xticks(range(len(columns)), [short(t) for t in columns])
    ax.set_yticks(range(len(rows)), [short(t) for t in rows])
    ax.tick_params(which="both", length=0)
    if max(map(len, columns)) > 9 or len(columns) > 7:
        for text in ax.get_xticklabels():
            text.set(rotation=35, ha="right", rotation_mode="anchor")
    label = scaled(quantity(attribution), power)
    unit = f"  {label[label.rfind('[') :]}" if power else ""  # a power of ten must stand beside its numbers
    ax.set_title(short(class_name) + escape_label(unit), loc="left", fontsize="medium")


def cell_text(value: float, error: float, places: int) -> str:
    """Value over error, all cells with the same decimals; the tables hold more."""
    if value == 0 and error == 0:
        return "0"
    shown = fixed(error, places) if error >= 0.5 * 10.0**-places else f"<{10.0**-places:.{places}f}"
    return fixed(value, places) + (f"\n± {shown}" if np.isfinite(error) else "\n(1 event)")


def cell(ax: Axes, at: tuple[int, ...], text: str, colour: tuple[float, float, float, float]) -> None:
    """Write into a cell of this colour, dark on light or light on dark."""
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = INK if bright > 0.55 else "white"
    ax.text(at[1], at[0], text, ha="center", va="center", color=ink, fontsize="x-small", linespacing=1.15)


def matrix_bar(ax: Axes, attribution: Attribution, means: Means, panels: list[Axes]) -> None:
    """Colour bar for panels drawn with `pair_types` or `feature_matrix`."""
    image = panels[-1].images[0]
    what = "particle" if attribution.axes[0] == "particle" else "pair"
    label = scaled(f"mean {quantity(attribution)} per {what}", common_power(_largest(means)))
    if is_relative(attribution):
        label += "  (uniform = 1)"
    bar = ax.figure.colorbar(image, ax=panels, location="bottom", shrink=0.6, aspect=36, pad=0.03)
    bar.set_label(wrapped(label, characters(ax, 8)), loc="center")
    bar.ax.minorticks_off()
