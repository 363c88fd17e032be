"""Texts of parts of a figure, for pages that show them where the pointer is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Rectangle = tuple[float, float, float, float]
_TEXTS = "hepxai_texts"
"""Attribute of axes, so that copies in other processes have the texts too."""


@dataclass(frozen=True)
class Spot:
    """Part of a figure with a text; its place in percent of the figure, from the upper left corner."""

    text: str
    left: float
    top: float
    width: float
    height: float


def add_text(ax: Axes, rectangle: Rectangle, text: str) -> None:
    """Give a rectangle (x, y of two opposite corners, in data coordinates) a text."""
    vars(ax).setdefault(_TEXTS, []).append((rectangle, text))


def spots(figure: Figure) -> Iterator[Spot]:
    """All texts of a figure, whose layout is final."""
    for ax in figure.axes:
        for (x0, y0, x1, y1), text in vars(ax).get(_TEXTS, ()):
            corners = figure.transFigure.inverted().transform(ax.transData.transform([(x0, y0), (x1, y1)]))
            (left, bottom), (right, top) = 100 * corners.min(axis=0), 100 * corners.max(axis=0)
            place = np.round([left, 100 - top, right - left, top - bottom], 2)
            yield Spot(text, *place.tolist())
