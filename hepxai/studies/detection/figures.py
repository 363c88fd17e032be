"""Figure of one event with its boxes, and one map for each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from hepxai.events import Events
from hepxai.events.boxes import Boxes
from hepxai.plots.images import attribution_image, hit_display
from hepxai.plots.style import INK, TYPE_COLOURS, canvas, escape_label, style
from hepxai.studies.detection.numbers import BoxMaps

HEIGHT = 2.1
"""Height of a frame, inches."""
ACROSS = 5
"""Boxes in a row of the legend."""
COLOURS = tuple(c for c in TYPE_COLOURS if c not in ("#8c8c8c", "#000000"))
"""Without grey and black, which are those of hits and of true boxes."""


def box_maps(
    maps: BoxMaps | Sequence[BoxMaps], events: Events, event: int, *, true: Boxes | None = None
) -> Figure:
    """Hits of one event with its boxes, and below one map for each method and detected box.

    Parameters
    ----------
    maps : BoxMaps or sequence of BoxMaps
        Of one method, or of several for the same boxes.
    events : Events
        Those that were given to `explain_boxes`.
    event : int
        Position in ``events``.
    true : Boxes, optional
        True boxes of ``events``: dashed.
    """
    methods = [maps] if isinstance(maps, BoxMaps) else list(maps)
    boxes, first_box = methods[0].boxes[[event]], methods[0].boxes.offsets[event]
    if any(not np.array_equal(m.boxes.edges, methods[0].boxes.edges) for m in methods):
        raise ValueError("the maps are of different boxes; give boxes= to explain_boxes")
    with style():
        rows = 1 + len(methods) * len(boxes)
        figure, axes = canvas(rows, 1, (11.0, HEIGHT * rows + 0.5))
        first: Axes = axes[0, 0]
        hit_display(events, event, ax=first)
        first.set_title("")
        for i in range(len(boxes)):
            _frame(first, boxes, i, colour_of(i), "-")
        if true is not None:
            _true_boxes(first, true[[event]])
        _legend(first, boxes, true is not None)
        for n, (method, i) in enumerate(product(methods, range(len(boxes))), 1):
            ax: Axes = axes[n, 0]
            title = _title(method, boxes, i)
            attribution_image(method.attribution, int(first_box) + i, zoom=None, title=title, ax=ax)
            _frame(ax, boxes, i, colour_of(i), "-")
        for ax in axes[:-1, 0]:
            ax.set_xlabel("")
            ax.tick_params(axis="x", labelbottom=False)  # below a frame is the title of the next
    return figure


def colour_of(box: int) -> str:
    """Colour of a box: none of those that carry the sign of a map."""
    return COLOURS[box % len(COLOURS)]


def _title(maps: BoxMaps, boxes: Boxes, i: int) -> str:
    name, score = boxes.classes[boxes.label[i]], boxes.score[i]
    method = maps.attribution.short_title or maps.attribution.method
    return escape_label(f"{method} of box {i + 1}: {name}, score {score:.2f}", 90)


def _true_boxes(ax: Axes, true: Boxes) -> None:
    rows = ax.get_ylim()[1]
    ax.set_ylim(0, rows + 3.0)  # room for the names of the classes
    for i in range(len(true)):
        _frame(ax, true, i, INK, (0, (4, 3)))
        ax.text(
            float(true.edges[i, [0, 2]].mean()),
            rows + 0.4 + 0.9 * (i % 2),
            escape_label(true.classes[true.label[i]]),
            ha="center",
            fontsize="x-small",
        )


def _frame(ax: Axes, boxes: Boxes, i: int, colour: str, line: object) -> None:
    left, bottom, right, top = map(float, boxes.edges[i])
    frame = Rectangle((left, bottom), right - left, top - bottom, fc="none", ec=colour, lw=2.0)
    frame.set_linestyle(line)  # type: ignore[arg-type]
    frame.set_path_effects([Stroke(linewidth=3.6, foreground="white"), Normal()])
    frame.set_clip_on(False)
    ax.add_patch(frame)


def _legend(ax: Axes, boxes: Boxes, has_true: bool) -> None:
    names = [f"box {i + 1}: {boxes.classes[boxes.label[i]]} {boxes.score[i]:.2f}" for i in range(len(boxes))]
    handles = [Line2D([], [], color=colour_of(i), label=escape_label(n)) for i, n in enumerate(names)]
    if has_true:
        handles.append(Line2D([], [], color=INK, ls="--", label="true, with its class"))
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=min(max(len(handles), 1), ACROSS),
        fontsize="x-small",
        borderaxespad=0.3,
    )
