"""Path of an event through a soft decision tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hepxai.core.formatting import general
from hepxai.influence.figures import event_name, pixel_bars
from hepxai.plots.style import (
    FAINT,
    GREY,
    INK,
    RED,
    axes_or_new,
    canvas,
    colours,
    escape_label,
    legend_above,
    style,
    styled,
)

if TYPE_CHECKING:
    from hepxai.explainers.image.soft_tree import TreePaths

LOUD, AROUND = 0.25, 10
"""Share of the largest value from which a hit is to be in the picture; columns on each side of such hits."""
WIDEST, THINNEST = 14.0, 0.6
"""Line widths [points] of branches that are taken with certainty, and never."""


@styled
def tree_diagram(
    tree: TreePaths, event: int, *, output: str | None = None, unit: str = "", ax: Axes | None = None
) -> Axes:
    """Draw all paths of an event, branches as wide as they are probable, the most probable path in red.

    The value of each leaf is written below it; nodes on the most probable path show the probability of the
    chosen branch.

    Parameters
    ----------
    tree : TreePaths
    event : int
        Position in ``tree.events``.
    output : str, optional
        Output whose values the leaves show; the first by default.
    unit : str
        Of that output.
    """
    leaves = tree.paths.shape[1]
    ax = axes_or_new(ax, (13.0, 5.0))
    x, y = _places(leaves)
    nodes, right = tree.route(event)
    best = int(tree.best[event])
    on_path = {*nodes.tolist(), leaves - 1 + best}
    _branches(ax, x, y, np.concatenate([tree.reached[event], tree.paths[event]]), on_path)
    _nodes(ax, x, y, leaves - 1, on_path)
    for node, goes in zip(nodes, right, strict=True):
        taken = tree.right[event, node] if goes else 1 - tree.right[event, node]
        label = ax.text(x[node], y[node] + 0.2, f"{100 * taken:.0f} %", ha="center", fontsize="small")
        label.set(color=RED, zorder=4, path_effects=[withStroke(linewidth=3, foreground="white")])
    number = 0 if output is None else tree.outputs.index(output)
    _leaf_values(ax, x, y, tree.leaves[:, number], best)
    says = f"{tree.outputs[number]} {general(tree.predictions[event, number], 3)} {unit}".strip()
    path = f"most probable path: {100 * tree.paths[event, best]:.0f} %"
    ends = f"its leaf says {general(tree.leaves[best, number], 3)} {unit}".strip()
    ax.plot([], [], color=RED, lw=4, label=escape_label(f"{path}, {ends}"))
    ax.plot([], [], color=INK, lw=4, label=escape_label(f"all paths together: {says}"))
    legend_above(ax, columns=2)
    ax.set(xlim=(-0.7, leaves - 0.3), ylim=(-0.95, float(y.max()) + 0.55))
    ax.set_axis_off()
    return ax


def _places(leaves: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Place of every node, then of every leaf."""
    x, y = [], []
    depth = leaves.bit_length() - 1
    for level in range(depth + 1):
        wide = leaves / 2**level
        x += [wide * (i + 0.5) - 0.5 for i in range(2**level)]
        y += [float(depth - level)] * 2**level
    return np.array(x), np.array(y)


def _branches(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], reached: NDArray[np.float64], on_path: set[int]
) -> None:
    child = np.arange(1, len(x))
    parent = (child - 1) // 2
    lines = np.stack([np.stack([x[parent], y[parent]], 1), np.stack([x[child], y[child]], 1)], 1)
    chosen = np.array([c in on_path for c in child])
    for mine, colour, order in ((~chosen, FAINT, 1), (chosen, RED, 2)):
        width = THINNEST + (WIDEST - THINNEST) * reached[child[mine]]
        ax.add_collection(
            LineCollection(lines[mine], linewidths=width, colors=colour, capstyle="round", zorder=order)
        )


def _nodes(ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], inner: int, on_path: set[int]) -> None:
    fill = [RED if n in on_path else "white" for n in range(inner)]
    edge = [RED if n in on_path else INK for n in range(inner)]
    ax.scatter(x[:inner], y[:inner], s=34, c=fill, edgecolors=edge, linewidths=0.8, zorder=3)


def _leaf_values(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], values: NDArray[np.float64], best: int
) -> None:
    first = len(values) - 1
    for leaf, value in enumerate(values):
        place = (x[first + leaf], y[first + leaf] - 0.15)
        drawn = ax.text(*place, general(value, 3), rotation=90, ha="center", va="top", fontsize="x-small")
        drawn.set(color=RED if leaf == best else INK, fontweight="bold" if leaf == best else "normal")


def tree_and_masks(
    tree: TreePaths,
    event: int,
    *,
    output: str | None = None,
    unit: str = "",
    labels: tuple[str, str] = ("row", "column"),
    masks: NDArray[np.floating] | None = None,
) -> Figure:
    """Draw the tree of an event, the event itself, and the masks of the nodes on its most probable path.

    Parameters
    ----------
    tree : TreePaths
    event, output, unit
        See `tree_diagram`.
    labels : tuple of str
        Of the rows and of the columns of the image.
    masks : ndarray, shape [depth, R, C], optional
        Part of `path_masks` for this event: hits are coloured by their contribution to the node, and only
        columns near coloured hits are drawn. By default the masks of the latent maps, spread over the pixels.
    """
    nodes, right = tree.route(event)
    on_hits = masks is not None
    responses = np.stack([tree.mask(event, int(n)) for n in nodes]) if masks is None else masks
    heights = [4.2, 1.25, *(1.25 for _ in nodes)]
    with style():
        figure, grid = canvas(len(heights), 1, (13.0, sum(heights) + 1.2), height_ratios=heights)
        top, below, *panels = grid[:, 0]
        tree_diagram(tree, event, output=output, unit=unit, ax=top)
        image = tree.events[[event]].image()[0].max(0)
        pixel_bars(image, ax=below, labels=labels)
        _titled(below, f"the event: {event_name(tree.events, event)}", INK)
        scale, norm = colours(responses, centre=0.0)
        for ax, mask, node, goes in zip(panels, responses, nodes, right, strict=True):
            pixel_bars(image, ax=ax, colour=f"{INK}60", labels=labels)
            if on_hits:
                ax.collections[-1].remove()
                rows, columns = np.nonzero(image)
                colour = scale(norm(mask[rows, columns]))
                ax.bar(columns, 0.84, 1.0, rows - 0.42, color=colour, edgecolor=GREY, linewidth=0.6)
            else:
                ax.imshow(mask, cmap=scale, norm=norm, aspect="auto", origin="lower", interpolation="none")
            chance = tree.right[event, node] if goes else 1 - tree.right[event, node]
            way = "right" if goes else "left"
            _titled(ax, f"node {node}: goes {way} with {100 * chance:.0f} %", RED)
        for ax in panels:
            ax.set(xlim=_window(responses) if on_hits else ax.get_xlim())
        for ax in (below, *panels[:-1]):
            ax.set_xlabel("")
            ax.tick_params(axis="x", labelbottom=on_hits and ax is below)  # it alone shows all columns
        bar = figure.colorbar(ScalarMappable(norm, scale), ax=panels, pad=0.01, fraction=0.02)
        bar.set_label("log-odds for right (+), left (−)", fontsize="x-small")
        bar.ax.yaxis.set_major_locator(MaxNLocator(5))
        bar.ax.tick_params(labelsize="x-small")
    return figure


def _window(masks: NDArray[np.floating]) -> tuple[float, float]:
    """Columns around the pixels that colour something, ``AROUND`` more on each side."""
    loud = np.abs(masks).max((0, 1))
    columns = np.flatnonzero(loud >= LOUD * loud.max())
    return max(columns[0] - AROUND, 0) - 0.5, min(columns[-1] + AROUND, len(loud) - 1) + 0.5


def _titled(ax: Axes, text: str, colour: str) -> None:
    ax.set_title(escape_label(text, 90), loc="left", fontsize="small", color=colour, pad=3)
    ax.tick_params(labelsize="x-small")
    ax.yaxis.label.set_fontsize("small")
    ax.xaxis.label.set_fontsize("small")
