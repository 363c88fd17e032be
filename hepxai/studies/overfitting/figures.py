"""Overfitting: importances in the training and in the validation events, and their distance over a scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from hepxai.core.estimate import Estimate
from hepxai.core.formatting import measured
from hepxai.plots.style import BLUE, FAINT, SPLIT_COLOURS, axes_or_new, escape_label, legend_above, styled
from hepxai.plots.training import quantity_name
from hepxai.studies.overfitting.numbers import ImportanceShift

MARKERS = {"train": "s", "valid": "o"}
LONGEST = 20
"""Columns that a frame has room for."""


@styled
def importance_shift(
    importances: ImportanceShift, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Importance of every column in the training and in the validation events, with errors.

    Parameters
    ----------
    importances : ImportanceShift
        The most important columns of the validation events are shown, the first on top.
    title : str, optional
        Settings of the model.
    """
    order = np.argsort(-importances.valid.mean, kind="stable")[:LONGEST]
    ax = axes_or_new(ax, (7.5, 1.9 + 0.42 * len(order)))
    rows = np.arange(len(order))
    for split, shift in (("train", -0.14), ("valid", 0.14)):
        one = getattr(importances, split)
        look: dict[str, Any] = {"ls": "", "marker": MARKERS[split], "ms": 6, "color": SPLIT_COLOURS[split]}
        label = f"{split}: {quantity_name(one.metric)} {one.score:.4g}"
        ax.errorbar(one.mean[order], rows + shift, xerr=one.error[order], label=label, **look)
    ax.axvline(0, color=FAINT, lw=1, zorder=0)
    ax.set_yticks(rows, [escape_label(importances.valid.names[i], 34) for i in order])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlabel(f"loss of {quantity_name(importances.valid.metric)} when permuted")
    legend_above(ax, fontsize="small")
    ax.set_title(_numbers(importances, title), loc="left", fontsize="small", pad=30)
    return ax


def _numbers(importances: ImportanceShift, title: str | None) -> str:
    value, number, _ = importances.compatible()
    distance, chance = (
        measured(float(e.value), float(e.error)) for e in (importances.distance, importances.null.expectation)
    )
    away = f"{importances.significance:.1f} σ"
    numbers = f"distance {distance}, by chance {chance} ({away}), χ² = {value:.1f} / {number}"
    return numbers if title is None else f"{escape_label(title)}: {numbers}"


@styled
def distance_against_gap(
    gap: Sequence[Estimate],
    distance: Sequence[Estimate],
    names: Sequence[str],
    *,
    floor: float | None = None,
    labels: tuple[str, str] = ("train − validation accuracy", "distance of importances, beyond chance"),
    ax: Axes | None = None,
) -> Axes:
    """Distance of the importances against the gap of accuracy, for several settings of a model.

    Parameters
    ----------
    gap, distance : sequence of Estimate
        See `hepxai.studies.overfitting.numbers`.
    names : sequence of str
        Of the settings, short.
    floor : float, optional
        Distance that errors alone make, to be marked.
    labels : tuple of str
        Of the axes.
    """
    ax = axes_or_new(ax)
    x, y = (np.array([float(e.value) for e in m]) for m in (gap, distance))
    dx, dy = (np.nan_to_num([float(e.error) for e in m]) for m in (gap, distance))
    ax.errorbar(x, y, dy, dx, ls="", marker="o", ms=6.5, color=BLUE)
    if floor is not None:
        ax.axhline(floor, color=FAINT, lw=1.5, ls="--", zorder=0, label="errors alone")
    ax.axhline(0, color=FAINT, lw=1, zorder=0)
    ax.axvline(0, color=FAINT, lw=1, zorder=0)
    for name, place in zip(names, zip(x, y, strict=True), strict=True):
        ax.annotate(escape_label(name, 24), place, (6, 5), textcoords="offset points", fontsize="small")
    ax.set(xlabel=escape_label(labels[0]), ylabel=escape_label(labels[1]))
    ax.margins(0.15)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    legend_above(ax)
    return ax
