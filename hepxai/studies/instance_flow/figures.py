"""Figures of the flow of events between predicted classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from hepxai.core.estimate import Array
from hepxai.plots.style import CLASS_COLOURS, INK, axes_or_new, class_look, legend_above, short, styled
from hepxai.studies.instance_flow.numbers import KINDS, InstanceFlow

COLUMNS = 8
"""Epochs that a diagram shows unless others are named."""
WIDTH, GAP = 0.12, 0.02
"""Width of a node in epochs, and gap between the nodes of an epoch, as a share of all events."""


def shown_epochs(flow: InstanceFlow, number: int = COLUMNS) -> tuple[int, ...]:
    """Epochs to show, from 0: the first, the last and others between them, denser at the start."""
    last = len(flow.predicted) - 1
    if last < number:
        return tuple(range(last + 1))
    return tuple(np.unique(np.rint(last * np.linspace(0, 1, number) ** 1.5).astype(int)).tolist())


@styled
def flow_diagram(
    flow: InstanceFlow,
    class_name: str | None = None,
    *,
    epochs: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Sankey diagram: events in each predicted class at some epochs, and their way from one to the next.

    A ribbon has the colour of the class that its events leave; those that stay are paler. Events are
    counted, without their weights, which may be negative.

    Parameters
    ----------
    flow : InstanceFlow
    class_name : str, optional
        True class of the events; all by default.
    epochs : sequence of int, optional
        Epochs from 1; by default eight of them.

    Raises
    ------
    ValueError
        If there is no such class or epoch, no event of the class, or fewer than two epochs.
    """
    flow, columns = _selected(flow, class_name), _columns(flow, epochs)
    ax = axes_or_new(ax, (9.0, 5.0))
    bottoms = [_bottoms(flow.transitions(t, t).sum(1) / len(flow.label)) for t in columns]
    for at, (start, end) in enumerate(pairwise(columns)):
        _ribbons(ax, flow.transitions(start, end) / len(flow.label), at, bottoms[at], bottoms[at + 1])
    for at, t in enumerate(columns):
        _nodes(ax, flow.transitions(t, t).sum(1) / len(flow.label), at, bottoms[at])
        if len(flow.classes) > len(CLASS_COLOURS):
            _names(ax, flow, t, at, bottoms[at])
    ax.set_xticks(np.arange(len(columns)) + WIDTH / 2, [str(t + 1) for t in columns], minor=False)
    ax.set_xticks([], minor=True)
    ax.set_yticks([])
    ax.set_yticks([], minor=True)
    ax.set(xlim=(-0.1, len(columns) - 0.9 + WIDTH), ylim=(-GAP, 1 + GAP * len(flow.classes)), xlabel="epoch")
    what = "all events" if class_name is None else f"true class {short(class_name)}"
    ax.set_ylabel(f"predicted class of {len(flow.label):,} events, {what}", fontsize="small")
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(axis="both", which="both", length=0)
    handles = [
        Rectangle((0, 0), 1, 1, color=class_look(c, len(flow.classes))["color"], label=short(name))
        for c, name in enumerate(flow.classes)
    ]
    names = [h.get_label() for h in handles]
    legend_above(ax, columns=min(len(names), 4), handles=handles, labels=names, fontsize="small")
    return ax


def _selected(flow: InstanceFlow, class_name: str | None) -> InstanceFlow:
    if class_name is None:
        return flow
    if class_name not in flow.classes:
        raise ValueError(f"no class {class_name!r}; there are {', '.join(flow.classes)}")
    part = flow[flow.label == flow.classes.index(class_name)]
    if not len(part.label):
        raise ValueError(f"no event is of class {class_name!r}; choose another class or split")
    return part


def _columns(flow: InstanceFlow, epochs: Sequence[int] | None) -> tuple[int, ...]:
    columns = shown_epochs(flow) if epochs is None else tuple(sorted({e - 1 for e in epochs}))
    if outside := [t + 1 for t in columns if not 0 <= t < len(flow.predicted)]:
        raise ValueError(f"no epoch {outside[0]}; there are 1 to {len(flow.predicted)}")
    if len(columns) < 2:
        raise ValueError("a flow needs two epochs or more; train longer, or name more epochs")
    return columns


def _bottoms(heights: Array) -> Array:
    """Lower edges of the nodes of an epoch, one above the other; a class without events takes no room."""
    room = heights + GAP * (heights > 0)
    return np.concatenate([[0.0], np.cumsum(room)[:-1]])


def _nodes(ax: Axes, heights: Array, at: int, bottoms: Array) -> None:
    for c, (height, bottom) in enumerate(zip(heights, bottoms, strict=True)):
        if height > 0:
            colour = class_look(c, len(heights))["color"]
            ax.add_patch(Rectangle((at, bottom), WIDTH, height, fc=colour, ec=INK, lw=0.6, zorder=3))


def _names(ax: Axes, flow: InstanceFlow, epoch: int, at: int, bottoms: Array) -> None:
    """Class of each node, where there are more classes than colours."""
    heights = flow.transitions(epoch, epoch).sum(1) / len(flow.label)
    for name, height, bottom in zip(flow.classes, heights, bottoms, strict=True):
        if height > GAP:
            place = (at + WIDTH / 2, bottom + height / 2)
            text = ax.text(*place, short(name), ha="center", va="center", fontsize="xx-small", zorder=4)
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _ribbons(ax: Axes, shares: Array, at: int, left: Array, right: Array) -> None:
    """Ribbons between two epochs; those of a node in the order of the classes at their other end."""
    start = left[:, None] + np.cumsum(shares, axis=1) - shares
    end = right[None, :] + np.cumsum(shares, axis=0) - shares
    for one, other in zip(*np.nonzero(shares), strict=True):
        colour = class_look(int(one), len(shares))["color"]
        ribbon = _ribbon(at + WIDTH, at + 1, start[one, other], end[one, other], shares[one, other])
        ax.add_patch(PathPatch(ribbon, fc=colour, lw=0, alpha=0.25 if one == other else 0.6))


def _ribbon(x: float, to: float, start: float, end: float, height: float) -> Path:
    middle = (x + to) / 2
    lower = [(x, start), (middle, start), (middle, end), (to, end)]
    upper = [(to, end + height), (middle, end + height), (middle, start + height), (x, start + height)]
    curve = [Path.CURVE4] * 3
    return Path([*lower, *upper, (x, start)], [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])


@styled
def kinds_of_events(flow: InstanceFlow, *, ax: Axes | None = None) -> Axes:
    """Share of the events of each class that were never learned, forgotten, learned late or flipping.

    Weighted, with statistical errors.
    """
    shares, kinds = flow.shares(), list(KINDS)[:-1]
    ax = axes_or_new(ax, (7.0, max(3.0, 0.55 * len(shares) + 1.6)))
    offsets = np.linspace(0.27, -0.27, len(kinds))
    for k, (name, offset) in enumerate(zip(kinds, offsets, strict=True)):
        value, error = (np.array([getattr(e, a)[k] for e in shares.values()]) for a in ("value", "error"))
        place = np.arange(len(shares)) + offset
        ax.errorbar(100 * value, place, xerr=100 * error, ls="", label=name, **class_look(k))
    ax.set_yticks(range(len(shares)), [short(name) for name in shares])
    ax.set_yticks([], minor=True)
    ax.set(xlabel="events of the class [%]", xlim=(0, None), ylim=(len(shares) - 0.5, -0.5))
    legend_above(ax, columns=2)
    return ax


@styled
def class_accuracies(flow: InstanceFlow, *, ax: Axes | None = None) -> Axes:
    """Share of the events of each class that are assigned to it, epoch by epoch, with error bands."""
    ax = axes_or_new(ax)
    epochs = np.arange(1, len(flow.predicted) + 1)
    for c, (name, share) in enumerate(flow.accuracy().items()):
        colour = class_look(c, len(flow.classes))["color"]
        ax.plot(epochs, 100 * share.value, color=colour, label=short(name))
        band = (100 * (share.value - share.error), 100 * (share.value + share.error))
        ax.fill_between(epochs, *band, color=colour, alpha=0.2, lw=0)
    ax.set(xlabel="epoch", ylabel="events assigned to their class [%]", ylim=(0, None), xlim=(1, epochs[-1]))
    legend_above(ax, columns=3)
    return ax
