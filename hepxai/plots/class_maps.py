"""Mean map over pixels of every class, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.attribution.reductions import short_name
from hepxai.core.estimate import Array
from hepxai.plots.images import sum_of_channels
from hepxai.plots.style import add_footnote, canvas, colours, escape_label, style

WIDE = 3
"""Columns over rows above which maps stand in two columns instead of four."""


def class_mean_maps(
    maps: Attribution | Mapping[str, Attribution], *, scale: Literal["common", "own"] = "common"
) -> Figure:
    """Draw the weighted mean map of the events of each class: red raises the output, blue lowers it.

    Parameters
    ----------
    maps : Attribution or mapping of str to Attribution
        One map for the events of all classes; or one for each class, of an output of its own, as a run keeps
        them (``METHOD_CLASS``): then a panel shows what speaks for a class in events of that class.
    scale : {"common", "own"}
        One colour scale for all classes, or one for each, with its own colour bar.

    Raises
    ------
    ValueError
        If there is no map over pixels, or no such scale.
    KeyError
        If the events have no such class.
    """
    if scale not in ("common", "own"):
        raise ValueError(f"scale={scale!r}; one of common, own is needed")
    by_class = dict.fromkeys(_classes(maps), maps) if isinstance(maps, Attribution) else dict(maps)
    if not by_class:
        raise ValueError("no maps to draw")
    means = {name: _mean(attribution, name) for name, attribution in by_class.items()}
    rows, columns = next(iter(means.values())).shape
    across = min(len(means), 2 if columns > WIDE * rows else 4)
    down = math.ceil(len(means) / across)
    width, height = (
        (5.6, 1.9) if columns > WIDE * rows else (3.1, 2.6 * min(max(rows / columns, 0.5), 2) + 0.5)
    )
    with style():
        figure, axes = canvas(
            down, across, (width * across + 1, height * down + 0.6), sharex=True, sharey=True
        )
        both = colours(np.concatenate([m.ravel() for m in means.values()]))
        for ax, (name, mean) in zip(axes.flat, means.items(), strict=False):
            _panel(ax, mean, _title(by_class[name], name), both if scale == "common" else colours(mean))
        for ax in axes.flat[len(means) :]:
            ax.set_axis_off()
        first = next(iter(by_class.values()))
        drawn = [ax for ax in axes.flat if ax.collections]
        for group in [drawn] if scale == "common" else [[ax] for ax in drawn]:
            bar = figure.colorbar(
                group[0].collections[0], ax=group, pad=0.01, aspect=30 if len(group) > 1 else 12
            )
            bar.ax.yaxis.set_major_locator(MaxNLocator(4))
            bar.ax.tick_params(labelsize="x-small", which="both")
        layout = first.events.image_layout()
        figure.supylabel(escape_label(layout.rows.feature), fontsize="small")
        figure.supxlabel(escape_label(layout.columns.feature), fontsize="small")
        targets = {a.target for a in by_class.values()}
        what = f"of {first.target}" if len(targets) == 1 else "of the output of each class"
        what = ", ".join(filter(None, (what, sum_of_channels(first))))
        figure.suptitle(escape_label(f"mean {short_name(first)} {what}", 90), fontsize="medium")
        add_footnote(drawn[0], first.caveat)
    return figure


def _classes(attribution: Attribution) -> tuple[str, ...]:
    return attribution.events.schema.classes


def _of_class(attribution: Attribution, name: str) -> NDArray[np.bool_]:
    classes = _classes(attribution)
    if name not in classes:
        raise KeyError(f"no class {name!r}; the events have {', '.join(classes)}")
    return np.asarray(attribution.events.label == classes.index(name))


def _mean(attribution: Attribution, name: str) -> Array:
    if attribution.axes not in (PIXELS, CHANNEL_PIXELS):
        axes = ", ".join(attribution.axes)
        raise ValueError(f"needs maps over pixels (event, row, column); {attribution.method} has {axes}")
    mean: Array = attribution.population(_of_class(attribution, name)).value
    return mean.sum(0) if attribution.axes == CHANNEL_PIXELS else mean


def _title(attribution: Attribution, name: str) -> str:
    number = int(_of_class(attribution, name).sum())
    return f"{escape_label(name, 24)} ({number:,})"


def _panel(ax: Any, mean: Array, title: str, look: tuple[Colormap, Normalize]) -> None:
    ax.pcolormesh(mean, cmap=look[0], norm=look[1], rasterized=True)
    ax.set_title(title, loc="left", fontsize="small")
    ax.tick_params(labelsize="x-small", which="both")
    ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
