"""An image with its proponents and opponents among the training images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hepxai.core.formatting import general
from hepxai.events import Events
from hepxai.plots.style import BLUE, INK, RED, canvas, escape_label, style

if TYPE_CHECKING:
    from hepxai.influence.result import Influence

Image = NDArray[np.floating]
NARROWEST = 1.6
"""Line width [points] of a lit pixel: one of 384 in a row is visible."""


def pixel_bars(
    image: Image, *, ax: Axes, colour: str = INK, labels: tuple[str, str] = ("row", "column")
) -> Axes:
    """Pixels of an image ``[R, C]`` that are not 0, as bars, the fainter the smaller; rows go upwards.

    Parameters
    ----------
    image : ndarray, shape [R, C]
    ax : Axes
    colour : str
    labels : tuple of str
        Of the rows and of the columns.
    """
    rows, columns = np.nonzero(image)
    size = np.abs(image[rows, columns])
    width = max(NARROWEST, 72 * ax.get_window_extent().width / ax.figure.dpi / image.shape[1])
    shade = np.tile(to_rgba(colour), (len(size), 1))
    shade[:, 3] *= size / size.max(initial=0.0) if len(size) else 1.0
    ax.vlines(columns, rows - 0.42, rows + 0.42, colors=[tuple(c) for c in shade.tolist()], lw=width)
    ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(-0.6, image.shape[0] - 0.4))
    ax.set(ylabel=escape_label(labels[0]), xlabel=escape_label(labels[1]))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.minorticks_off()
    return ax


def influence_images(
    image: Image,
    proponents: Image,
    opponents: Image,
    *,
    captions: Sequence[Sequence[str]] = ((), (), ()),
    labels: tuple[str, str] = ("row", "column"),
) -> Figure:
    """Draw an image above, and below it its proponents on the left and its opponents on the right.

    Parameters
    ----------
    image : ndarray, shape [R, C]
    proponents, opponents : ndarray, shape [k, R, C]
        The strongest first.
    captions : sequence of sequence of str
        Of the image (one), of the proponents and of the opponents; see `influence_captions`.
    labels : tuple of str
        Of the rows and of the columns.
    """
    k = max(len(proponents), len(opponents))
    with style():
        figure, grid = canvas(k + 1, 2, (12.0, 1.3 + 1.55 * (k + 1)), sharex=True, sharey=True)
        above, *below = grid
        for ax in above:
            ax.remove()
        whole = figure.add_subplot(grid[0, 0].get_gridspec()[0, :])
        _panel(whole, image, INK, "the event", next(iter(captions[0]), ""), labels)
        whole.set_xlabel("")
        sides = ((proponents, BLUE, "proponent"), (opponents, RED, "opponent"))
        for column, (images, colour, name) in enumerate(sides):
            for rank, (ax, one) in enumerate(zip_longest([row[column] for row in below], images)):
                if one is None:
                    ax.set_axis_off()
                    continue
                text = captions[column + 1][rank] if rank < len(captions[column + 1]) else ""
                _panel(ax, one, colour, f"{name} {rank + 1}", text, labels)
                ax.label_outer()
    return figure


def _panel(ax: Axes, image: Image, colour: str, name: str, text: str, labels: tuple[str, str]) -> None:
    pixel_bars(image, ax=ax, colour=colour, labels=labels)
    title = f"{name}: {text}" if text else name
    ax.set_title(escape_label(title, 90), loc="left", fontsize="x-small", color=colour, pad=4)
    ax.tick_params(labelsize="x-small")
    ax.xaxis.label.set_fontsize("small")
    ax.yaxis.label.set_fontsize("small")


def influence_captions(influence: Influence, event: int) -> tuple[list[str], list[str], list[str]]:
    """Captions of `influence_images`: target or class of each event, and its influence with error."""
    sides = []
    for side in range(2):
        rows, values = influence.rows[event, side], influence.values[event, side]
        errors = [None] * len(rows) if influence.error is None else influence.error[event, side]
        sides.append(
            [
                f"{_signed(v, e)},  {event_name(influence.train, int(r))}"
                for r, v, e in zip(rows, values, errors, strict=True)
            ]
        )
    return [event_name(influence.events, event)], sides[0], sides[1]


def _signed(value: float, error: float | None) -> str:
    text = ("+" if value > 0 else "") + general(value, 3)
    return text if error is None else f"{text} ± {general(error, 2)}"


def event_name(events: Events, row: int) -> str:
    """Targets of an event with their units, or its class."""
    names, units = events.schema.targets, events.schema.target_units
    if not names:
        return str(events.schema.classes[events.label[row]])
    targets = zip(names, events.targets[row], units, strict=True)
    texts = [f"{name} {general(float(v), 3)} {unit}".strip() for name, v, unit in targets if np.isfinite(v)]
    return ", ".join(texts) or "no target"
