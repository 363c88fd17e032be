"""Matrices of numbers with errors: means by type, feature or time step, and the agreement of methods."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.means import Means, pair_means, step_means, type_means
from hepxai.attribution.reductions import is_relative, quantity, reduced, reference_value, unit_of
from hepxai.core.estimate import Array, Estimate
from hepxai.core.formatting import common_power, fixed, measured, scaled
from hepxai.metrics.agreement import AgreementMatrix
from hepxai.metrics.columns import Ranking, ranking_agreement
from hepxai.plots.hover import add_text
from hepxai.plots.style import (
    FAINT,
    INK,
    add_footnote,
    axes_or_new,
    characters,
    colours,
    escape_label,
    short,
    styled,
    wrapped,
)

Scale = tuple[Colormap, Normalize]


def scale_of(attribution: Attribution, values: NDArray[np.floating]) -> Scale:
    """Colour scale of a map around `reference_value`; from 0 up for values without a unit."""
    signed = is_relative(attribution) or unit_of(attribution)
    return colours(values, centre=reference_value(attribution) if signed else None)


# --- means -----------------------------------------------------------------------------------


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
    _means_matrix(ax, attribution, means, class_name)
    ax.set(xlabel=means.axes[2], ylabel=means.axes[1])
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
    _means_matrix(ax, attribution, means, class_name)
    ax.set(xlabel="feature", ylabel="particle")
    return ax


@styled
def step_matrix(
    attribution: Attribution,
    class_name: str,
    *,
    steps: int = 8,
    means: Means | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean attribution at each time step and of each feature of one class, as a matrix with errors.

    Parameters
    ----------
    attribution : Attribution
        With the axes ("particle", "feature").
    class_name : str
    steps : int
        Largest number of steps; the first is the particle of highest pT.
    means : Means, optional
        Result of `step_means`, if at hand.
    """
    means = step_means(attribution, steps) if means is None else means
    ax = axes_or_new(ax, (2.2 + 1.1 * len(means.labels[2]), 1.6 + 0.6 * len(means.labels[1])))
    feature_matrix(attribution, class_name, means=means, ax=ax)
    ax.set(ylabel="time step, by falling pT")
    return ax


def _means_matrix(ax: Axes, attribution: Attribution, means: Means, class_name: str) -> None:
    c, (_, rows, columns) = means.labels[0].index(class_name), means.labels
    power = common_power(means.largest)
    factor = 10.0**-power
    scale = scale_of(attribution, means.value * factor)  # shared by the panels of all classes
    places = 2 - int(np.floor(np.log10(means.largest * factor))) if means.largest > 0 else 0
    ax.patch.set(hatch="////", ec=FAINT, fc="white", lw=0)  # visible in groups without an event
    spreads = [column[c] * factor for column in means.spread.values()]
    _cells(ax, means.value[c] * factor, means.error[c] * factor, max(places, 0), scale, spreads)
    _tick_names(ax, [short(t) for t in columns], [short(t) for t in rows])
    _hover_texts(ax, means, c)
    if max(map(len, columns)) > 9 or len(columns) > 7:
        for text in ax.get_xticklabels():
            text.set(rotation=35, ha="right", rotation_mode="anchor")
    label = scaled(quantity(attribution), power)
    unit = f"  {label[label.rfind('[') :]}" if power else ""  # a power of ten must stand beside its numbers
    ax.set_title(short(class_name) + escape_label(unit), loc="left", fontsize="medium")
    add_footnote(ax, attribution.caveat)


def _hover_texts(ax: Axes, means: Means, c: int) -> None:
    """Names, number and events of each cell of one class."""
    (_, first, second), (classes, rows, columns) = means.axes, means.labels
    for i, j in np.argwhere(means.events[c] > 0):
        numbers = (float(a[c, i, j]) for a in (means.value, means.error, *means.spread.values()))
        names = f"{classes[c]}: {first} {rows[i]}, {second} {columns[j]}"
        text = f"{names}\n{measured(*numbers)}\n{means.events[c, i, j]:,} events"
        add_text(ax, (j - 0.5, i - 0.5, j + 0.5, i + 0.5), text)


def matrix_bar(ax: Axes, attribution: Attribution, means: Means, panels: list[Axes]) -> None:
    """Colour bar for panels drawn with `pair_types` or `feature_matrix`."""
    what = "particle" if attribution.axes[0] == "particle" else "pair"
    label = scaled(f"mean {quantity(attribution)} per {what}", common_power(means.largest))
    if is_relative(attribution):
        label += "  (uniform = 1)"
    image = panels[-1].images[0]
    bar = ax.figure.colorbar(image, ax=panels, location="bottom", shrink=0.6, aspect=36, pad=0.03)
    bar.set_label(wrapped(label, characters(ax, 8)), loc="center")
    bar.ax.minorticks_off()


@styled
def class_confusion(confusion: Estimate, classes: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Fraction of each true class that is assigned to each class, as a matrix with errors, signal first.

    Parameters
    ----------
    confusion : Estimate, shape [K, K]
        Result of `hepxai.metrics.multiclass.confusion_matrix`.
    classes : sequence of str, length K
        The last, signal, is in the first row and column.
    """
    ax = axes_or_new(ax, (2.2 + 1.1 * len(classes), 1.4 + 0.8 * len(classes)))
    value, error, low, high = (
        np.asarray(v)[::-1, ::-1] for v in (confusion.value, confusion.error, confusion.low, confusion.high)
    )
    ax.patch.set(hatch="////", ec=FAINT, fc="white", lw=0)  # visible in the row of a class without events
    _cells(ax, value, error, 3, colours(np.append(np.abs(value), 1.0)), ends=(value - low, high - value))
    names = [short(c) for c in reversed(classes)]
    _tick_names(ax, names, names)
    if max(map(len, names)) > 9:
        for text in ax.get_xticklabels():
            text.set(rotation=35, ha="right", rotation_mode="anchor")
    ax.set(xlabel="assigned class", ylabel="true class")
    return ax


# --- agreement of methods --------------------------------------------------------------------


@styled
def method_agreement(
    agreement: AgreementMatrix, *, title: str = "rank correlation per event", ax: Axes | None = None
) -> Axes:
    """Mean agreement of every two methods, as a matrix with errors.

    Parameters
    ----------
    agreement : AgreementMatrix
    title : str
        Name of the measure.
    """
    size = len(agreement.methods)
    ax = axes_or_new(ax, (2.4 + 1.4 * size, 1.6 + 0.9 * size))
    values = agreement.mean.value
    errors = np.where(np.eye(size, dtype=bool), 0.0, agreement.mean.error)
    _cells(ax, values, errors, 3, colours(np.append(values, 1.0)))
    names = [textwrap.fill(escape_label(n, 40), 14) for n in agreement.titles or agreement.methods]
    _tick_names(ax, names, names)
    ax.set_title(escape_label(f"{title}{_chance_level(agreement)}"), loc="left", fontsize="small")
    add_footnote(ax, agreement.caveat)
    return ax


def _chance_level(agreement: AgreementMatrix) -> str:
    """Chance level, if the same for all pairs of methods."""
    off = agreement.chance.value[~np.eye(len(agreement.methods), dtype=bool)]
    levels = off[np.isfinite(off)]
    return f" (chance {levels.mean():.3g})" if len(levels) and np.ptp(levels) < 5e-4 else ""


@styled
def method_correlation(agreement: AgreementMatrix | Mapping[str, Ranking], *, ax: Axes | None = None) -> Axes:
    """Rank correlation of the columns between methods, as a matrix with errors.

    Parameters
    ----------
    agreement : AgreementMatrix or mapping
        Rankings of each method, for a population; or the result of
        `hepxai.metrics.agreement.agreement_matrix` with `hepxai.metrics.columns.column_agreement`, per event.
    """
    title = "rank correlation of columns"
    if isinstance(agreement, AgreementMatrix):
        return method_agreement(agreement, title=title, ax=ax)
    return method_agreement(ranking_agreement(agreement), title=f"{title}, for the population", ax=ax)


# --- cells -----------------------------------------------------------------------------------


def _cells(
    ax: Axes,
    values: Array,
    errors: Array,
    places: int,
    scale: Scale,
    spreads: Sequence[Array] = (),
    ends: tuple[Array, Array] | None = None,
) -> None:
    """Coloured cells with their numbers; ``ends`` are the distances down and up of an interval."""
    colour_map, norm = scale
    ax.imshow(np.ma.masked_invalid(values), cmap=colour_map, norm=norm, aspect="auto")
    for at in np.ndindex(*values.shape):
        if np.isfinite(values[at]):
            red, green, blue, _ = colour_map(norm(values[at]))
            ink = INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
            text = _cell_text(float(values[at]), [float(e[at]) for e in (errors, *spreads)], places)
            if ends is not None:
                down, up = (fixed(float(e[at]), places) for e in ends)
                text = text if down == up else f"{fixed(float(values[at]), places)}\n+{up} −{down}"
            look: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "fontsize": "x-small"}
            ax.text(at[1], at[0], text, linespacing=1.15, **look)


def _cell_text(value: float, errors: Sequence[float], places: int) -> str:
    """Value over its errors, all cells with the same decimals; the tables hold more."""
    if not any(errors) and value in (0, 1):
        return f"{value:g}"
    least = 10.0**-places
    texts = [fixed(e, places) if e >= least / 2 else f"<{least:.{places}f}" for e in errors]
    return fixed(value, places) + (
        "".join(f"\n± {text}" for text in texts) if np.isfinite(errors[0]) else "\n(1 event)"
    )


def _tick_names(ax: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(which="both", length=0)
