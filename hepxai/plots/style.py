"""House style: one palette, one set of fonts, legends beside the data. Nothing here draws physics."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from hepxai.core.estimate import Array, Estimate

P = ParamSpec("P")
R = TypeVar("R")

# Petroff, arXiv:2107.02270: distinguishable with the common colour-vision deficiencies and in grey.
BLUE, ORANGE, RED, PURPLE, GREY, VIOLET = "#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd"
# Then six more, found by the smallest distance in CIELAB under each deficiency: 17, as in Petroff's ten.
ADDED_COLOURS = ("#1a9850", "#4d2c19", "#86c8dd", "#656364", "#0d0d30", "#e1bd9a")
CLASS_COLOURS = (BLUE, RED, ORANGE, PURPLE, GREY, VIOLET, *ADDED_COLOURS)
CLASS_MARKERS = ("s", "o", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
SPLIT_COLOURS = {"train": GREY, "valid": ORANGE, "test": VIOLET}
# Particle types avoid red and blue, which carry the sign of an attribution. Okabe & Ito, 2008.
TYPE_COLOURS = ("#e69f00", "#009e73", "#8c8c8c", "#cc79a7", "#5b3a1d", "#000000", "#b8b000", "#56b4e9")
TYPE_MARKERS = ("o", "s", "^", "D", "v", "p", "h", "8")
USUAL_TYPES = ("muon", "electron", "jet", "met", "photon", "tau", "bjet", "lepton")
"""Particle types that have their place among these, whatever other types there are."""
INK, FAINT = "#222222", "#c8c8c8"
DIVERGING = "RdBu_r"
SEQUENTIAL = "YlGnBu"
DPI = 160

SETTINGS: dict[str, Any] = {
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],  # a list of families: Greek comes from the second
    "font.size": 14,
    "figure.figsize": (7.0, 5.2),
    "figure.facecolor": "white",
    "axes.unicode_minus": True,
    "axes.linewidth": 1.2,
    "xtick.major.size": 7,
    "ytick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.minor.size": 3.5,
    "lines.linewidth": 1.8,
    "legend.handlelength": 2.0,
    "errorbar.capsize": 0,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "hepxai",  # the same numbers give the same file
}


@contextmanager
def style() -> Iterator[None]:
    """Context with the house style of figures, which ends with the context."""
    with plt.style.context([mplhep.style.ROOT, SETTINGS]):
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Use the house style where the caller gives no ``ax``; an ``ax`` brings its own."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs.get("ax") is not None:
            return draw(*args, **kwargs)
        with style():
            return draw(*args, **kwargs)

    return inside


def axes_or_new(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """Return the given axes, or new ones in a figure of their own."""
    return ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]


def canvas(
    rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None, **grid: Any
) -> tuple[Figure, NDArray[Any]]:
    """Make a figure outside pyplot's global list and its axes ``[rows, columns]``; call inside `style`.

    ``grid`` goes to `matplotlib.figure.Figure.subplots`: sharex, height_ratios.
    """
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def legend_above(ax: Axes, columns: int = 2, **options: Any) -> None:
    """Legend in rows above the frame, where no data can be."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles and "handles" not in options:
        return
    chosen: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.3}
    ax.legend(**({"handles": handles, "labels": labels} | chosen | {"ncols": columns} | options))


def class_legend(figure: Figure, classes: Sequence[str]) -> None:
    """Lines in the colours of the classes, the last class first, in rows above all frames of a figure."""
    looks = [class_look(c, len(classes)) | {"marker": ""} for c in range(len(classes))]
    handles = [Line2D([], [], label=short(n), **k) for n, k in zip(classes, looks, strict=True)]
    figure.legend(handles=handles[::-1], loc="outside upper center", ncols=min(len(handles), 5))


def add_footnote(ax: Axes, text: str | None) -> None:
    """Write a note at the foot of the whole figure, once for all its frames; nothing for None."""
    figure = ax.figure
    lines = None if text is None else wrapped(text, characters(ax, 9))
    before = figure.get_supxlabel()
    if lines is not None and lines not in before:
        figure.supxlabel("\n".join(filter(None, (before, lines))), color=RED, fontsize="small")


def class_look(index: int, classes: int | None = None) -> dict[str, Any]:
    """Colour and marker of a class, or of anything else that is counted.

    Parameters
    ----------
    index : int
    classes : int, optional
        Number of classes. The last, signal, then looks the same whatever their number: red.
    """
    if classes is not None and classes > 2 and index > 0:
        index = 1 if index == classes - 1 else index + 1
    return {
        "color": CLASS_COLOURS[index % len(CLASS_COLOURS)],
        "marker": CLASS_MARKERS[index % len(CLASS_MARKERS)],
    }


def type_looks(types: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and marker of each particle type, whatever the order of the types.

    Usual names have a fixed look; others take those that are left, in alphabetical order.
    """
    number, looks = len(TYPE_COLOURS), {n: USUAL_TYPES.index(n) for n in types if n in USUAL_TYPES}
    left = [i for i in range(number) if i not in looks.values()]
    for i, name in enumerate(sorted(set(types) - looks.keys())):
        looks[name] = left[i] if i < len(left) else i % number
    return [(TYPE_COLOURS[looks[n]], TYPE_MARKERS[looks[n]]) for n in types]


@functools.cache
def _known_characters() -> frozenset[int]:
    ours = Path(font_manager.findfont("DejaVu Sans"))
    return frozenset(font_manager.get_font(str(ours)).get_charmap())


def escape_label(text: object, longest: int = 60) -> str:
    """Make a text safe to draw: no formula mark-up, no character that the fonts lack, not too long."""
    drawable, whole = _known_characters(), str(text)
    cut = whole if len(whole) <= longest else f"{whole[: longest - 1]}…"
    label = "".join(c if ord(c) in drawable else "?" for c in cut)
    return label.replace("$", r"\$").replace("μ", "µ")  # the micro sign of the first font sits closer


def wrapped(text: str, width: int = 60) -> str:
    """Text in as many lines as it needs: a unit at its end is not cut off."""
    return "\n".join(textwrap.wrap(escape_label(text, 400), max(width, 12)))


def characters(ax: Axes, per_inch: float) -> int:
    """Characters that a line across the whole figure can have."""
    figure = ax.get_figure(root=True)
    return int(per_inch * figure.get_figwidth()) if figure is not None else 60


def interval_bars(estimates: Sequence[Estimate]) -> Array:
    """Distances from the values of single estimates down and up to their intervals ``[2, N]``; 0 for NaN."""
    value, low, high = (np.array([float(getattr(e, k)) for e in estimates]) for k in ("value", "low", "high"))
    return np.asarray(np.nan_to_num(np.stack([value - low, high - value]).clip(min=0), posinf=0.0))


def short(text: object) -> str:
    """Name of a class or a particle type in a figure; the tables spell it out."""
    return escape_label(text, 20)


def colours(values: NDArray[Any], *, centre: float | None = None) -> tuple[Colormap, Normalize]:
    """Colour scale for attributions: two colours around a centre, or one from 0 up.

    Parameters
    ----------
    values : ndarray
        NaN are ignored.
    centre : float, optional
        Value without meaning, drawn pale; the scale reaches equally far on both sides, but not below 0 where
        no value is. By default 0 if any value is negative; a scale of one colour if none is.
    """
    finite = values[abs(values) < float("inf")]
    positive = not (finite < 0).any()
    if centre is None and positive:
        return mpl.colormaps[SEQUENTIAL], Normalize(0.0, float(finite.max(initial=0.0)) or 1.0)
    middle = centre or 0.0
    reach = float(abs(finite - middle).max(initial=0.0)) or 1.0
    foot = 0.0 if positive and 0 < middle < reach else middle - reach
    return mpl.colormaps[DIVERGING], TwoSlopeNorm(middle, foot, middle + reach)


def plain_numbers(axis: Axis) -> None:
    """Write 0.4 and 200 on a logarithmic axis, not powers of ten; also between them on a short axis."""
    for place in (axis.set_major_formatter, axis.set_minor_formatter):
        place(_PlainNumbers(labelOnlyBase=False, minor_thresholds=(2, 0.5)))


class _PlainNumbers(LogFormatter):
    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def for_lines(scale: Colormap) -> Colormap:
    """Make a scale of `colours` dark enough everywhere for a line on white paper."""
    if scale.name == SEQUENTIAL:
        steps = [scale(0.25 + 0.75 * i / 32) for i in range(33)]
    else:
        steps = [scale(0.0), scale(0.15), mpl.colors.to_rgba(FAINT), scale(0.85), scale(1.0)]
    return LinearSegmentedColormap.from_list(f"{scale.name}_lines", steps)
