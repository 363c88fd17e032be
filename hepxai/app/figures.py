"""Figures as files. One at a time: matplotlib's styles are global."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepxai.attribution import Attribution

LOCK = threading.Lock()
DPI = 150


class FigureFiles(NamedTuple):
    """A figure as PNG and PDF."""

    png: bytes
    pdf: bytes


def figure_of(axes: Axes) -> Figure:
    """Figure of some axes."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def figure_of_event(attribution: Attribution) -> Figure:
    """Figure of the map of one event."""
    return figure_of(attribution.plot(0))


def drawn(draw: Callable[[], Figure]) -> FigureFiles:
    """Files of the figure that a function draws."""
    with LOCK:
        try:
            figure = draw()
            return FigureFiles(_saved(figure, "png"), _saved(figure, "pdf"))
        finally:
            plt.close("all")


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    when = {"CreationDate": None} if kind == "pdf" else None  # equal figures are equal files
    figure.savefig(buffer, format=kind, dpi=DPI, bbox_inches="tight", metadata=when)
    return buffer.getvalue()
