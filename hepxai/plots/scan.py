"""Figures of a scan: results against a hyperparameter, attention per value, trade-offs, importance."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FixedLocator, NullLocator

from hepxai.core.estimate import Array, Estimate
from hepxai.core.formatting import measured
from hepxai.plots.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    VIOLET,
    axes_or_new,
    escape_label,
    legend_above,
    styled,
)

SEED_MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
SCALE = "viridis"
PATCH = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
CROWDED = 12


@dataclass(frozen=True)
class Values:
    """Values of a hyperparameter along an axis.

    Attributes
    ----------
    name : str
    values : sequence
        Numbers, or anything with a text; one per point.
    log : bool
        Logarithmic axis of numbers.
    """

    name: str
    values: Sequence[object]
    log: bool = False

    @property
    def numeric(self) -> bool:
        """True if all values are numbers; others are evenly spaced, in their order."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    @property
    def texts(self) -> list[str]:
        """Different values, for the ticks of an axis of text."""
        return list(dict.fromkeys(map(str, self.values)))

    def positions(self) -> Array:
        """Place of every point on the axis."""
        if self.numeric:
            return np.array(self.values, dtype=np.float64)
        return np.array([self.texts.index(str(v)) for v in self.values], dtype=np.float64)

    def label(self, ax: Axes) -> None:
        """Name the x axis, and set its scale and ticks."""
        ax.set_xlabel(escape_label(self.name))
        if not self.numeric:
            ax.xaxis.set_major_locator(FixedLocator(range(len(self.texts))))
            ax.set_xticklabels([escape_label(t, 20) for t in self.texts])
            ax.xaxis.set_minor_locator(NullLocator())
        elif self.log:
            ax.set_xscale("log")


def _wrapped(text: str, width: int) -> str:
    """Label in lines of a limited length."""
    return "\n".join(textwrap.wrap(escape_label(text, 90), width, break_long_words=False))


# --- against a hyperparameter ------------------------------------------------------------------


@styled
def scan_curve(
    values: Values,
    results: Sequence[Array],
    label: str,
    *,
    joined: bool = True,
    chosen: int | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """A figure of merit against a hyperparameter: every seed, and the mean with its standard error.

    Parameters
    ----------
    values : Values
    results : sequence of ndarray
        For each value one number per seed; NaN is not drawn. One seed alone has no error.
    label : str
        Of the y axis.
    joined : bool
        Join the means by a line: where nothing else was scanned.
    chosen : int, optional
        Row to point out.
    legend : bool
        Off where the frame beside has the same one.
    """
    ax = axes_or_new(ax)
    x, order = values.positions(), np.argsort(values.positions(), kind="stable")
    for seed in range(max(map(len, results), default=0)):
        y = np.array([r[seed] if seed < len(r) else np.nan for r in results])
        look: dict[str, Any] = {"ls": "", "ms": 6, "mfc": "none", "mec": GREY, "mew": 1.2}
        ax.plot(x, y, marker=SEED_MARKERS[seed % len(SEED_MARKERS)], label=f"seed {seed + 1}", **look)
    mean, error = _means(results)
    if np.isfinite(error).any():
        line: dict[str, Any] = {"ls": "-" if joined else "", "marker": "o", "ms": 6.5, "color": BLUE}
        ax.errorbar(x[order], mean[order], error[order], label="mean ± standard error", zorder=3, **line)
    if chosen is not None:
        ring: dict[str, Any] = {"ls": "", "marker": "o", "ms": 15, "mfc": "none", "mec": VIOLET, "mew": 1.8}
        ax.plot(x[chosen], mean[chosen], label="best mean", zorder=4, **ring)
    values.label(ax)
    ax.set_ylabel(_wrapped(label, 30))
    ax.margins(x=0.06, y=0.1)
    if legend:
        legend_above(ax, columns=3, fontsize="small")
    return ax


def _means(results: Sequence[Array]) -> tuple[Array, Array]:
    finite = [r[np.isfinite(r)] for r in results]
    mean = np.array([r.mean() if len(r) else np.nan for r in finite])
    error = np.array([r.std(ddof=1) / np.sqrt(len(r)) if len(r) > 1 else np.nan for r in finite])
    return mean, error


# --- attention per value -------------------------------------------------------------------------


@dataclass(frozen=True)
class Ridge:
    """Distributions at one value of a hyperparameter.

    Attributes
    ----------
    name : str
    focus, other : ndarray, shape [seed, bin]
        Densities of the pairs in focus and of all other pairs.
    mean : Estimate, optional
        Over the pairs in focus, to be marked.
    """

    name: str
    focus: Array
    other: Array
    mean: Estimate | None = None


@styled
def ridges(
    rows: Sequence[Ridge],
    edges: Array,
    names: tuple[str, str],
    label: str,
    *,
    reference: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Distribution of the pairs in focus for each value, above that of all other pairs.

    Parameters
    ----------
    rows : sequence of Ridge
        From the top; each with the mean over seeds as an area, and a thin line for each seed.
    edges : ndarray
        Of the bins; those behind the last one that is filled are not drawn.
    names : tuple of str
        Of the pairs in focus and of the others.
    label : str
        Of the x axis.
    reference : float, optional
        Value to mark, for example 1 for uniform attention.
    """
    ax = axes_or_new(ax)
    step = _spacing(rows)
    for place, row in enumerate(rows):
        _ridge(ax, row, edges, -place * step, names if place == 0 else (None, None), z=2.0 + place)
    ax.set_yticks([-i * step for i in range(len(rows))], [escape_label(r.name, 24) for r in rows])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="y", length=0, right=False)
    ax.set(
        xlabel=escape_label(label),
        xlim=(edges[0], _filled(rows, edges)),
        ylim=(-(len(rows) - 0.9) * step, None),
    )
    if reference is not None:
        ax.axvline(reference, color=INK, lw=0.9, ls=":", zorder=1)
    legend_above(ax, columns=3, fontsize="small")
    return ax


def _spacing(rows: Sequence[Ridge]) -> float:
    """Distance of the feet: the tallest peak reaches a little into the row above."""
    peaks = [float(np.nanmax(d.mean(axis=0), initial=0.0)) for r in rows for d in (r.focus, r.other)]
    return max(peaks, default=0.0) / 1.15 or 1.0


def _filled(rows: Sequence[Ridge], edges: Array) -> float:
    """Upper edge of the last bin that holds a visible part of any distribution."""
    width = np.diff(edges)
    content = np.max([abs(d.mean(axis=0)) * width for r in rows for d in (r.focus, r.other)], axis=0)
    visible = np.flatnonzero(content > 2e-3)
    return float(edges[visible[-1] + 1] if len(visible) else edges[-1])


def _ridge(
    ax: Axes, row: Ridge, edges: Array, foot: float, names: tuple[str | None, str | None], z: float
) -> None:
    focus, other = row.focus.mean(axis=0) + foot, row.other.mean(axis=0) + foot
    ax.stairs(focus, edges, baseline=foot, fill=True, color=BLUE, alpha=0.45, lw=0, zorder=z, label=names[0])
    for seed in row.focus if len(row.focus) > 1 else ():
        ax.stairs(seed + foot, edges, baseline=None, color=BLUE, lw=0.7, zorder=z)
    ax.stairs(other, edges, baseline=None, color=ORANGE, lw=1.5, zorder=z, label=names[1])
    ax.axhline(foot, color=FAINT, lw=0.8, zorder=z)
    if row.mean is not None:
        _mark(ax, row.mean, foot, float(np.nanmax(row.focus.mean(axis=0), initial=0.0)), z)


def _mark(ax: Axes, mean: Estimate, foot: float, height: float, z: float) -> None:
    """A tick at the mean, and its value at the right."""
    at = float(mean.value)
    ax.plot([at, at], [foot, foot + 0.35 * height], color=INK, lw=1.6, zorder=z + 0.5)
    look: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": "small", "bbox": PATCH}
    text, place = measured(at, float(mean.error)), ("axes fraction", "data")
    ax.annotate(text, (0.985, foot), (0, 5), place, "offset points", zorder=z + 1, **look)


# --- several objectives, several hyperparameters -------------------------------------------------


@styled
def pareto(
    first: Sequence[Estimate],
    second: Sequence[Estimate],
    labels: tuple[str, str],
    names: Sequence[str],
    front: Sequence[int],
    *,
    joined: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Two figures of merit against each other, with standard errors over seeds, and the Pareto front.

    Parameters
    ----------
    first, second : sequence of Estimate
        Means over seeds of each point.
    labels : tuple of str
        Of the axes.
    names : sequence of str
        Of the points, short.
    front : sequence of int
        Rows that no other row beats in all objectives.
    joined : bool
        Join the front by a line: where these two are all objectives.
    """
    ax = axes_or_new(ax)
    x, dx, y, dy = (np.array([float(getattr(e, k)) for e in m]) for m in (first, second) for k in _PARTS)
    rest = [i for i in range(len(x)) if i not in set(front)]
    for rows, colour, marker, name in ((rest, GREY, "s", "beaten"), (front, VIOLET, "o", "Pareto front")):
        index = np.array(rows, dtype=np.int64)
        if len(index):
            errors = (_or_none(dy[index]), _or_none(dx[index]))
            ax.errorbar(x[index], y[index], *errors, ls="", marker=marker, ms=7, color=colour, label=name)
    if joined:
        line = sorted(front, key=lambda i: x[i])
        ax.plot(x[line], y[line], color=VIOLET, lw=1.2, ls="--", zorder=1)
    for i, name in enumerate(names):
        ax.annotate(
            escape_label(name, 20), (x[i], y[i]), (6, 5), textcoords="offset points", fontsize="small"
        )
    ax.set(xlabel=escape_label(labels[0]), ylabel=_wrapped(labels[1], 44))
    ax.margins(0.15)
    legend_above(ax)
    return ax


_PARTS = ("value", "error")


def _or_none(error: Array) -> Array | None:
    return error if np.isfinite(error).any() else None


@styled
def parallel(columns: Sequence[Values], result: Array, label: str, *, ax: Axes | None = None) -> Axes:
    """Parallel coordinates: one line per point through all hyperparameters, coloured by the result.

    Parameters
    ----------
    columns : sequence of Values
        Hyperparameters, and further figures of merit, left to right.
    result : ndarray
        One number per point; those without are left out. The best known are drawn last.
    label : str
        Of the colour scale.
    """
    ax = axes_or_new(ax)
    heights = np.stack([_height(c) for c in columns])
    low, high = np.nanmin(result), np.nanmax(result)
    norm = Normalize(low, high if high > low else low + 1e-9)
    scale = mpl.colormaps[SCALE]
    for i in np.argsort(np.where(np.isfinite(result), result, -np.inf)):
        if np.isfinite(result[i]):
            ax.plot(range(len(columns)), heights[:, i], color=scale(norm(result[i])), lw=1.8, alpha=0.85)
    for place, column in enumerate(columns):
        _upright(ax, place, column)
    ax.set_xticks(range(len(columns)), [_wrapped(c.name, 18) for c in columns])
    ax.set(ylim=(-0.06, 1.06), xlim=(-0.35, len(columns) - 0.65))
    ax.yaxis.set_visible(False)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="x", length=0, top=False)
    for side in ("left", "right", "top", "bottom"):
        ax.spines[side].set_visible(False)
    ax.figure.colorbar(ScalarMappable(norm, scale), ax=ax, label=_wrapped(label, 40), pad=0.03)
    return ax


def _scaled(column: Values) -> Array:
    at = column.positions()
    return np.log(at) if column.numeric and column.log else at


def _height(column: Values) -> Array:
    at = _scaled(column)
    low, high = np.nanmin(at), np.nanmax(at)
    return (at - low) / (high - low) if high > low else np.full(len(at), 0.5)


def _upright(ax: Axes, place: int, column: Values) -> None:
    """An axis of a hyperparameter: all values where they are few, otherwise the ends."""
    ax.axvline(place, color=INK, lw=1.0, zorder=1)
    heights = dict(zip(_height(column), column.values, strict=True))
    labelled = heights if len(heights) <= CROWDED else {h: heights[h] for h in (min(heights), max(heights))}
    for height, value in labelled.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        look: dict[str, Any] = {"va": "center", "fontsize": "small", "bbox": PATCH}
        ax.annotate(escape_label(text, 14), (place, height), (6, 0), textcoords="offset points", **look)


@styled
def importance_bars(shares: Mapping[str, Estimate], label: str, *, ax: Axes | None = None) -> Axes:
    """Share of the variance of a figure of merit that each hyperparameter explains, the largest on top.

    Parameters
    ----------
    shares : mapping
        Name → share with its error.
    label : str
        Name of the figure of merit.
    """
    ax = axes_or_new(ax)
    order = sorted(shares, key=lambda name: float(shares[name].value))
    share = [float(shares[n].value) for n in order]
    error = [float(shares[n].error) for n in order]
    colours = [GREY if name == "seed" else BLUE for name in order]
    ax.barh(range(len(order)), share, xerr=error, color=colours, ecolor=INK, height=0.6)
    ax.set_yticks(range(len(order)), [escape_label(n, 30) for n in order])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=f"share of the variance of {escape_label(label)}")
    ax.set_xlim(0, max(1.0, *(s + e for s, e in zip(share, error, strict=True))) * 1.02)
    return ax
