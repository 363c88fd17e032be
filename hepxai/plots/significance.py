"""Expected significance and upper limit against the cut on the score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from hepxai.core.estimate import Array, total_error
from hepxai.metrics.significance import WorkingPoint
from hepxai.plots.style import (
    INK,
    SPLIT_COLOURS,
    axes_or_new,
    escape_label,
    legend_above,
    plain_numbers,
    styled,
)

ONE_SIGMA, TWO_SIGMA = "#607641", "#f5bb54"
"""Colours of the bands of expected limits [CMS Publications Committee]."""


@styled
def significance_scan(
    curves: Mapping[str, tuple[Array, Array]],
    point: WorkingPoint,
    *,
    score: str = "logit",
    ax: Axes | None = None,
) -> Axes:
    """Expected significance against the cut, and the working point with its errors.

    Parameters
    ----------
    curves : mapping of str to (ndarray, ndarray)
        Cuts and significances of each split; NaN leaves a gap.
    point : WorkingPoint
        Its thin error bar is that with the spread of what else varies.
    score : str
        Name of the score.
    """
    ax = axes_or_new(ax)
    for name, (cuts, significance) in curves.items():
        colour = SPLIT_COLOURS.get(name, INK)
        ax.plot(
            cuts, significance, color=colour, ls="-" if name == "test" else "--", label=escape_label(name)
        )
    value, z = float(point.significance.value), point.significance
    if (total := float(total_error(z))) > float(z.error):
        ax.errorbar([point.cut], [value], [total], fmt="none", ecolor=INK, elinewidth=0.8, capsize=3)
    ax.errorbar([point.cut], [value], [float(z.error)], fmt="o", color=INK, ms=6, label="working point")
    ax.set(xlabel=f"cut on the {escape_label(score)}", ylabel="expected significance Z")
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    legend_above(ax, columns=3)
    return ax


@styled
def limit_scan(
    cuts: Array, bands: Array, point: WorkingPoint, *, score: str = "logit", ax: Axes | None = None
) -> Axes:
    """Expected upper limit on the signal strength at 95 % CL against the cut, with bands of 1 and 2 σ.

    Parameters
    ----------
    cuts : ndarray, shape [C]
    bands : ndarray, shape [C, 5]
        See `hepxai.metrics.significance.expected_limit`.
    point : WorkingPoint
    score : str
        Name of the score.
    """
    ax = axes_or_new(ax)
    ax.fill_between(cuts, bands[:, 0], bands[:, 4], color=TWO_SIGMA, lw=0, label="expected ±2σ")
    ax.fill_between(cuts, bands[:, 1], bands[:, 3], color=ONE_SIGMA, lw=0, label="expected ±1σ")
    ax.plot(cuts, bands[:, 2], color=INK, ls="--", label="median expected")
    error = total_error(point.limit)
    ax.errorbar([point.cut], [float(point.limit.value)], [float(error)], fmt="o", color=INK, ms=6)
    ax.axhline(1, color=INK, lw=1, ls=":")
    ax.set(xlabel=f"cut on the {escape_label(score)}", ylabel="95 % CL limit on µ", yscale="log")
    plain_numbers(ax.yaxis)
    finite = bands[np.isfinite(bands).all(axis=1)]
    if len(finite):
        ax.set_ylim(finite.min() / 1.4, finite.max() * 1.4)
    ax.margins(x=0)
    legend_above(ax, columns=3)
    return ax
