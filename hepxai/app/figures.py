"""Figures and their numbers as files. One figure at a time: matplotlib's styles are global."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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


def figure_files(draw: Callable[[], Figure]) -> FigureFiles:
    """Files of the figure that a function draws."""
    with LOCK:
        try:
            figure = draw()
            return FigureFiles(_image(figure, "png"), _image(figure, "pdf"))
        finally:
            plt.close("all")


def _image(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    when = {"CreationDate": None} if kind == "pdf" else None  # equal figures are equal files
    figure.savefig(buffer, format=kind, dpi=DPI, bbox_inches="tight", metadata=when)
    return buffer.getvalue()


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as comma-separated values; a text that a spreadsheet would take for a formula gets a quote."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
    writer.writerow({k: _harmless(k) for k in writer.fieldnames})
    writer.writerows({k: _harmless(v) for k, v in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@") else value
