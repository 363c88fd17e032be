"""Label of experiment, centre-of-mass energy and luminosity above a whole figure."""

from __future__ import annotations

import mplhep
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from hepxai.datasets.presentation import ExperimentLabel
from hepxai.plots.style import escape_label, style

STRIP = 0.4
"""Height of the label, in inches; the figure grows by so much, and its frames keep their size."""
SIZE = 14.0
"""Font size, in points; smaller in a figure that is too narrow for the label."""


def experiment_label(figure: Figure | Axes, label: ExperimentLabel | None) -> None:
    """Draw the label of an experiment over the top of a finished figure, in the style of mplhep.

    The figure is laid out, and the layout then fixed: draw everything else before.

    Parameters
    ----------
    figure : Figure or Axes
        A figure, or any of its axes.
    label : ExperimentLabel or None
        For example ``ExperimentLabel(experiment="CMS", text="Simulation", com=13.6, lumi=138)``; None, or an
        empty one, draws nothing.
    """
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    if label is None or whole is None or not label.model_dump(exclude_defaults=True):
        return
    with style():
        top = _grow(whole)
        left, right = _ends(whole)
        strip = whole.add_axes((left, top, right - left, 1e-4), frameon=False, xticks=[], yticks=[])
        texts = _draw(strip, label, SIZE)
        if (excess := _width(texts) / strip.get_window_extent().width) > 1:
            for text in texts:
                text.remove()
            _draw(strip, label, SIZE / excess)


def _grow(figure: Figure) -> float:
    """Add the strip to the top, lay the figure out below it, and return where it begins."""
    width, height = figure.get_size_inches()
    top = float(height / (height + STRIP))
    figure.set_size_inches(width, height + STRIP)
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1, top))
    else:
        for ax in figure.axes:
            place = ax.get_position()
            ax.set_position((place.x0, place.y0 * top, place.width, place.height * top))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for legend in figure.legends:  # the layout makes room below, but puts legend and title at the very top
        legend.set_bbox_to_anchor((0, 0, 1, top), figure.transFigure)
    for text in figure.texts:
        if text.get_text() and text.get_text() == figure.get_suptitle():
            text.set_y(text.get_position()[1] - (1 - top))
    return top


def _ends(figure: Figure) -> tuple[float, float]:
    """Left end of the leftmost and right end of the rightmost frame, at least two thirds of the figure."""
    places = [ax.get_position() for ax in figure.axes]
    return min([1 / 6, *(p.x0 for p in places)]), max([5 / 6, *(p.x1 for p in places)])


def _draw(strip: Axes, label: ExperimentLabel, size: float) -> list[Text]:
    """Texts of the label; energy and luminosity on the right."""
    com = None if label.com is None else f"{label.com:g}"
    lumi = None if label.lumi is None else f"{label.lumi:g}"
    texts = mplhep.label.exp_label(
        exp=escape_label(label.experiment),
        text=escape_label(label.text),
        data=True,  # the card says whether it is a simulation
        com=com,
        lumi=lumi,
        loc=0,
        fontsize=size,
        scilocator_adjust=False,
        ax=strip,
    )
    return [text for text in texts if text is not None]


def _width(texts: list[Text]) -> float:
    """Sum of the widths of texts, with a space between them, in pixels."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return 1.05 * sum(box.width for box in boxes)
