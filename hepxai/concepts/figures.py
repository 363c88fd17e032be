"""Figures of concepts: the most typical events of each, the choice of their number, TCAV scores."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from hepxai.concepts.choice import ConceptChoice
from hepxai.concepts.result import Concepts
from hepxai.concepts.sensitivity import Statistic, TcavScores
from hepxai.core.estimate import Estimate
from hepxai.events import Events
from hepxai.influence.figures import event_name
from hepxai.plots.style import BLUE, FAINT, GREY, INK, RED, canvas, escape_label, style

WINDOW = 48
"""Columns of a wide image that are shown around the largest score."""
WIDE = 3.0
"""Columns per row above which an image is wide."""
OPAQUE = 0.75
SAME = 0.02
"""Share of the largest pixel below which a pixel is blank."""
Image = NDArray[np.floating]


def typical_events(concepts: Concepts, events: Events, *, number: int = 4, least: bool = False) -> Figure:
    """Score maps, in red on the image, of the most typical events of each concept, one row per concept.

    Images are summed over the channels and drawn in grey; wide ones are cut around the largest score. The red
    of a row is scaled to the largest score in it.

    Parameters
    ----------
    concepts : Concepts
    events : Events
    number : int
        Events per concept.
    least : bool
        Draw the least typical events in place of the most typical ones.
    """
    rows = concepts.typical(events, number, least=least)
    layout = events.image_layout()
    _, height, width = layout.shape
    row, column = (escape_label(axis.feature) for axis in (layout.rows, layout.columns))
    wide = width > WIDE * height
    panel = (3.6, 1.25) if wide else (2.1, 2.1)
    with style():
        size = (panel[0] * rows.shape[1] + 1, panel[1] * len(rows) + 0.4)
        figure, grid = canvas(len(rows), rows.shape[1], size)
        for k, (axes, members) in enumerate(zip(grid, rows, strict=True)):
            chosen = events[members]
            maps, images = concepts.scores(chosen, upsample=True)[:, k], chosen.image().sum(1)
            largest = float(maps.max(initial=0.0)) or 1.0
            for i, ax in enumerate(axes):
                score_on_image(images[i], maps[i] / largest, ax=ax, columns=WINDOW if wide else None)
                ax.set_title(escape_label(event_name(chosen, i), 34), fontsize="x-small", loc="left", pad=3)
                ax.tick_params(labelbottom=wide or k == len(rows) - 1, labelleft=i == 0)
            axes[0].set_ylabel(f"{concepts.names[k]}\n{row}", fontsize="small")
        figure.supxlabel(column, fontsize="small")
    return figure


def score_on_image(image: Image, score: Image, *, ax: Axes, columns: int | None = None) -> Axes:
    """Image ``[R, C]`` in grey, and a score map from 0 to 1 in red on it; rows go upwards.

    Parameters
    ----------
    image, score : ndarray, shape [R, C]
    ax : Axes
    columns : int, optional
        Columns shown around the largest score; all by default.
    """
    height, width = image.shape
    size = np.abs(image) / (np.abs(image).max() or 1.0)
    ax.imshow(_coloured(INK, np.where(size > SAME, 0.15 + 0.85 * size, 0.0)), origin="lower", aspect="auto")
    red = _coloured(RED, OPAQUE * np.clip(score, 0, 1))
    ax.imshow(red, origin="lower", aspect="auto", interpolation="nearest")
    zoom = min(columns or width, width)
    first = int(np.clip(score.max(axis=0).argmax() - zoom // 2, 0, width - zoom))
    ax.set(xlim=(first - 0.5, first + zoom - 0.5), ylim=(-0.5, height - 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.minorticks_off()
    ax.tick_params(labelsize="x-small", length=3)
    return ax


def _coloured(colour: str, opacity: Image) -> Image:
    shade = np.tile(np.asarray(to_rgba(colour)), (*opacity.shape, 1))
    shade[..., 3] = opacity
    return shade


def choice_curve(choice: ConceptChoice) -> Figure:
    """Fidelity, error of the layer and stability against the number of concepts; the chosen number marked.

    Parameters
    ----------
    choice : ConceptChoice
    """
    with style():
        figure, grid = canvas(3, 1, (7.5, 8.0), sharex=True)
        above, middle, below = grid[:, 0]
        _curve(above, choice, choice.fidelity, choice.mean_fidelity, choice.merit)
        above.axhline(choice.threshold, color=GREY, ls="--", lw=1.2, label="best less its standard error")
        above.set_title(f"chosen: {choice.number} concepts of layer {escape_label(choice.layer)}", loc="left")
        above.legend(fontsize="x-small", loc="lower right")
        _curve(middle, choice, choice.error, None, "relative error of layer")
        middle.set_ylim(bottom=0)
        if choice.similarity.size:
            _seeds(below, choice, choice.similarity)
        below.plot(choice.numbers, choice.chance, color=GREY, ls="--", lw=1.2, label="random directions")
        below.set(ylabel="cosine between seeds", xlabel="number of concepts", ylim=(None, 1.03))
        below.legend(fontsize="x-small", loc="lower right")
        for ax in grid[:, 0]:
            ax.axvline(choice.number, color=RED, lw=1.2, zorder=0)
            ax.set_xticks(choice.numbers, [str(n) for n in choice.numbers])
            ax.xaxis.set_minor_locator(NullLocator())
            ax.yaxis.label.set_fontsize("small")
            ax.tick_params(labelsize="small")
    return figure


def _curve(ax: Axes, choice: ConceptChoice, values: Estimate, mean: Estimate | None, label: str) -> None:
    _seeds(ax, choice, values.value)
    if mean is not None:
        ax.errorbar(
            choice.numbers, mean.value, mean.error, color=BLUE, marker="o", ms=5, label="mean ± error"
        )
    ax.set_ylabel(label)


def _seeds(ax: Axes, choice: ConceptChoice, values: Image) -> None:
    """Each seed, or pair of seeds, as a point, and their mean as a line."""
    for column in values.T:
        ax.plot(choice.numbers, column, ls="", marker="_", ms=9, color=INK, alpha=0.6)
    ax.plot(choice.numbers, values.mean(axis=1), color=BLUE, lw=1.2)


def tcav_bars(scores: TcavScores, *, statistic: Statistic = "score") -> Figure:
    """Scores of all concepts with errors, one frame per class; the 95 % band of random directions in grey.

    A star marks a corrected p-value of this statistic below 5 %, a circle a score of 0 or 1 that random
    directions have, too.

    Parameters
    ----------
    scores : TcavScores
    statistic : {"score", "derivative"}
    """
    number, classes = len(scores.concepts), scores.classes
    columns = 1 if len(classes) == 1 else 2
    lines = -(-len(classes) // columns)
    with style():
        width = max(0.42 * number + 1.6, 4.2)
        figure, grid = canvas(lines, columns, (columns * width, 2.1 * lines + 1.0), sharex=True)
        for t, ax in enumerate(grid.ravel()):
            if t < len(classes):
                _bars(ax, scores, t, statistic)
            else:
                ax.set_axis_off()
        for ax in grid.ravel()[max(len(classes) - columns, 0) : len(classes)]:
            ax.tick_params(labelbottom=True)
        label = "fraction of events whose target rises" if statistic == "score" else "mean derivative"
        figure.supylabel(label, fontsize="small")
        figure.supxlabel("concept", fontsize="small")
        marks = "★ significant" + ", ○ 0 or 1 as for random directions" * (statistic == "score")
        figure.suptitle(f"bars: concepts ({marks});  grey: 95 % of random directions", fontsize="small")
    return figure


def _bars(ax: Axes, scores: TcavScores, column: int, statistic: Statistic) -> None:
    compared = scores.score if statistic == "score" else scores.derivative
    place = np.arange(len(scores.concepts))
    value, error = compared.value[:, column], compared.error[:, column]
    low, high = compared.band[:, :, column]
    ax.bar(place, high - low, bottom=low, width=0.92, color=FAINT, zorder=1)
    for edge in (low, high):
        ax.hlines(edge, place - 0.46, place + 0.46, color=GREY, lw=1, zorder=3)
    ax.bar(place, value, width=0.5, color=BLUE, zorder=2)
    ends = [np.maximum(compared.estimate.value - compared.estimate.low, compared.concept_error)[:, column]]
    ends += [np.maximum(compared.estimate.high - compared.estimate.value, compared.concept_error)[:, column]]
    ax.errorbar(place, value, ends, ls="", color=INK, lw=1.2, zorder=4)
    ax.axhline(0, color=INK, lw=0.8, zorder=3)
    top, bottom = max(*(value + error), *high, 0.0), min(*(value - error), *low, 0.0)
    reach = (top - bottom) or 1.0
    for k in np.flatnonzero(scores.significant(statistic=statistic)[:, column]):
        ax.annotate("★", (k, top + 0.02 * reach), ha="center", va="bottom", color=RED, fontsize="small")
    ax.set_ylim(bottom - 0.05 * reach * (bottom < 0), top + 0.22 * reach)
    names = [n.removeprefix("concept ") for n in scores.concepts]
    ax.set_xticks(
        place, [escape_label(n, 14) for n in names], rotation=0 if len(max(names, key=len)) < 4 else 30
    )
    ax.xaxis.set_minor_locator(NullLocator())
    if statistic == "score":
        same = place[scores.saturated[:, column]]
        if len(same):  # an unclipped line without points would count as one in the corner of the figure
            ax.plot(same, value[same], "o", ms=4, mfc="white", mec=INK, clip_on=False, zorder=5)
        ax.set_yticks((0, 0.5, 1))
        ax.yaxis.set_minor_locator(NullLocator())
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4))
    if scores.independent[column]:
        ax.text(0.5, 0.6, scores.note((0, column)), transform=ax.transAxes, ha="center", fontsize="small")
    ax.tick_params(labelsize="x-small")
    ax.set_title(
        escape_label(f"{scores.classes[column]}: {scores.targets[column]}", 40), loc="left", fontsize="small"
    )
