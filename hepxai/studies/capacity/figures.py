"""Capacity: accuracy and active neurons against the width of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from hepxai.plots.style import (
    FAINT,
    SPLIT_COLOURS,
    VIOLET,
    axes_or_new,
    class_look,
    legend_above,
    styled,
)
from hepxai.studies.capacity.numbers import WidthStudy

NAMES = {"train": "training", "valid": "validation"}
SPLIT_MARKERS = {"train": "s", "valid": "o"}


@styled
def accuracy_by_width(study: WidthStudy, *, ax: Axes | None = None) -> Axes:
    """Accuracy of both splits against the width, before and after layers were shrunk to active neurons.

    Points after shrinking stand at the width that they were shrunk from. Errors are those of the mean over
    seeds, for one seed the statistical ones. A line marks the width that is recommended.
    """
    ax = axes_or_new(ax)
    for split, name in NAMES.items():
        for after in (False, True):
            points = [p for p in study.points if not after or p.after]
            means = [p.mean(split, after=after) for p in points]
            look: dict[str, Any] = {"color": SPLIT_COLOURS[split], "marker": SPLIT_MARKERS[split], "ms": 6.5}
            look |= {"mfc": "white", "ls": ":"} if after else {"ls": "-"}
            if points:
                ax.errorbar(
                    [p.width * (1.06 if after else 1.0) for p in points],
                    [float(e.value) for e in means],
                    [float(np.nan_to_num(e.error)) for e in means],
                    label=f"{name}, shrunk" if after else name,
                    **look,
                )
    _widths(ax, study)
    ax.set_ylabel("accuracy")
    legend_above(ax, fontsize="small")
    return ax


@styled
def neurons_by_width(study: WidthStudy, *, ax: Axes | None = None) -> Axes:
    """Active neurons of every layer against its width; bars reach to the fewest that errors allow.

    The mean over seeds; the dotted line is that of all neurons.
    """
    ax = axes_or_new(ax)
    width = np.array([p.width for p in study.points])
    ax.plot(width, width, color=FAINT, ls=":", label="all neurons")
    for layer in range(len(study.points[0].before[0].widths)):
        most, fewest = (
            np.array([np.mean([getattr(t, k)[layer] for t in p.before]) for p in study.points])
            for k in ("active", "fewest")
        )
        look: dict[str, Any] = class_look(layer) | {"ms": 6.5}
        down = [np.maximum(most - fewest, 0.0), np.zeros(len(most))]
        ax.errorbar(width * (1 + 0.03 * layer), most, down, label=f"active in layer {layer + 1}", **look)
    _widths(ax, study)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:.0f}")
    ax.set_ylabel("neurons")
    legend_above(ax, fontsize="small")
    return ax


def _widths(ax: Axes, study: WidthStudy) -> None:
    width = [p.width for p in study.points]
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(width))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.axvline(study.chosen.width, color=VIOLET, lw=1.2, ls="--", zorder=0, label="recommended")
    ax.set_xlabel("width of the layers")
