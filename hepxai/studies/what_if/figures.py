"""Score of an event against the value of one of its columns."""

from __future__ import annotations

from matplotlib.axes import Axes

from hepxai.core.estimate import Array
from hepxai.plots.style import INK, axes_or_new, escape_label, styled
from hepxai.studies.what_if.numbers import POINTS


@styled
def score_curve(points: Array, output: Array, *, column: str, target: str, ax: Axes | None = None) -> Axes:
    """Curve of the output, with the event as it is and with its new value.

    Parameters
    ----------
    points, output : ndarray, shape [POINTS + 2]
        Of `hepxai.studies.what_if.numbers.grid`: the last two are the value of the event and the new one.
    column, target : str
    """
    ax = axes_or_new(ax, (6.4, 4.6))
    ax.plot(points[:POINTS], output[:POINTS], color=INK, lw=1.5)
    ax.plot(points[-2], output[-2], "o", mfc="white", mec=INK, ms=9, label="this event")
    ax.plot(points[-1], output[-1], "o", color=INK, ms=9, label="new value")
    ax.set(xlabel=escape_label(column), ylabel=escape_label(target))
    ax.legend(loc="best", fontsize="small")
    return ax
