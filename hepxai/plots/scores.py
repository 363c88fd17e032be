"""Score distributions of a classifier, with signed weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepxai.core.estimate import Array
from hepxai.events import SPLITS, Events, Schema
from hepxai.metrics.multiclass import class_log_odds
from hepxai.metrics.two_sample import DRAWS, EventTable, compare_axes
from hepxai.plots.histograms import fitting_bins, normalised, robust_edges, signed_histogram
from hepxai.plots.style import (
    INK,
    axes_or_new,
    canvas,
    class_legend,
    class_look,
    escape_label,
    legend_above,
    short,
    style,
    styled,
)

SIGNAL = 1  # of two classes, the one that a positive score means
PANELS = 2
"""Panels in a row of `score_figure`."""


@dataclass(frozen=True)
class ClassScore:
    """Score of one class against all others; large values mean the class.

    Attributes
    ----------
    code : int
        Position of the class.
    name, others : str
        Names of the class and of all others.
    values : ndarray, shape [E]
        Log-odds; of two classes, the logit.
    label : str
        Of the axis.
    """

    code: int
    name: str
    others: str
    values: Array
    label: str


def class_scores(schema: Schema, scores: NDArray[np.floating]) -> tuple[ClassScore, ...]:
    """Scores of a classifier: two classes share one, more have one each, the last class, signal, first.

    Parameters
    ----------
    schema : Schema
    scores : ndarray, shape [E, K]
        Logits; of two classes also ``[E]`` or ``[E, 1]``, the logit of the second.

    Raises
    ------
    ValueError
        If three classes or more have not a logit each.
    """
    values, classes = np.asarray(scores, dtype=np.float64), schema.classes
    if len(classes) < 3:
        signal, background = sides(schema)
        values = values if values.ndim == 1 else class_log_odds(values)[:, SIGNAL]
        return (ClassScore(SIGNAL, signal, background, values, f"logit of {short(signal)}"),)
    if values.ndim != 2 or values.shape[1] != len(classes):
        raise ValueError(
            f"scores have the shape {values.shape}; the classes {', '.join(classes)} need one logit each, "
            f"[event, {len(classes)}]"
        )
    odds = class_log_odds(values)
    return tuple(
        ClassScore(c, classes[c], "the rest", odds[:, c], f"log-odds of {short(classes[c])} against the rest")
        for c in reversed(range(len(classes)))
    )


def class_score(schema: Schema, scores: NDArray[np.floating], of: str | None = None) -> ClassScore:
    """Score of one class; by default the first of `class_scores`."""
    one_each = class_scores(schema, scores)
    return next((one for one in one_each if of == one.name), one_each[0])


def sides(schema: Schema) -> tuple[str, str]:
    """Names of the classes that a positive and a negative score of two classes mean."""
    classes = schema.classes
    if len(classes) != 2:
        return "signal", "background"
    return classes[SIGNAL], classes[1 - SIGNAL]


def score_histograms(
    events: Events, scores: NDArray[np.floating], bins: int | None = None, *, of: str | None = None
) -> dict[tuple[str, str], hist.Hist]:
    """Signed-weight histograms of a score for each ``(class, split)`` that has events, common bins."""
    groups, score = dict(_groups(events)), class_score(events.schema, scores, of)
    values = score.values
    edges = robust_edges(values, bins or fitting_bins(int(mask.sum()) for mask in groups.values()))
    return {
        key: signed_histogram(values[mask], events.weight[mask], edges, name="score", label=score.label)
        for key, mask in groups.items()
    }


def _groups(events: Events) -> Iterator[tuple[tuple[str, str], NDArray[np.bool_]]]:
    for c, name in enumerate(events.schema.classes):
        for s, split in enumerate(SPLITS):
            mask = (events.label == c) & (events.split == s)
            if mask.any():
                yield (name, split), mask


def overtraining(events: Events, scores: NDArray[np.floating]) -> dict[str, float]:
    """Probability of equal distributions of training and test scores, for each class.

    By the weighted Cramér–von Mises test of `hepxai.metrics.two_sample.compare_axes`. Of three classes or
    more, each is judged by its own score. A class is left out if it has too few events for the test, or
    weights without a positive sum.
    """
    p_values: dict[str, float] = {}
    for c, name in enumerate(events.schema.classes):
        masks = [(events.label == c) & (events.split == SPLITS.index(s)) for s in ("train", "test")]
        if all(events.weight[mask].sum() > 0 for mask in masks):
            values = class_score(events.schema, scores, name).values[:, None]
            test = compare_axes(*(EventTable(("score",), values[m], events.weight[m]) for m in masks))
            p_values.update((name, float(p)) for p in test.p_local)
    return p_values


def score_figure(
    events: Events,
    scores: NDArray[np.floating],
    *,
    p_values: Mapping[str, float] | None = None,
) -> Figure:
    """Score distributions of two classes over their ratio; of more, a panel for the score of each class.

    Parameters
    ----------
    events, scores, p_values
        See `score_distributions`.
    """
    one_each, names = class_scores(events.schema, scores), events.schema.classes
    p_values = overtraining(events, scores) if p_values is None else p_values
    with style():
        if len(one_each) == 1:
            figure, axes = canvas(2, 1, (8.0, 7.2), height_ratios=(3, 1), sharex=True)
            score_distributions(events, scores, p_values=p_values, ax=axes[0, 0])
            axes[0, 0].set_xlabel("")
            score_ratio(events, scores, ax=axes[1, 0])
            return figure
        rows = -(-len(one_each) // PANELS)
        figure, axes = canvas(rows, PANELS, (6.2 * PANELS, 4.8 * rows + 0.6))
        for ax, one in zip(axes.flat, one_each, strict=False):
            score_distributions(events, scores, of=one.name, p_values=p_values, others=False, ax=ax)
        for ax in axes.flat[len(one_each) :]:
            ax.remove()
        class_legend(figure, names)
        return figure


@styled
def score_distributions(
    events: Events,
    scores: NDArray[np.floating],
    *,
    of: str | None = None,
    bins: int | None = None,
    p_values: Mapping[str, float] | None = None,
    others: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Score of each class, test sample filled, training sample as points; each of unit area.

    Of three classes or more, the score is that of one class against the rest, and the others are drawn by a
    line, test sample alone.

    Parameters
    ----------
    events : Events
    scores : ndarray, shape [E], or [E, K] for any number of classes
        Logits.
    of : str, optional
        Class of the score, where there are three or more; the last, signal, by default.
    bins : int, optional
        As many as the smallest sample fills, by default.
    p_values : mapping, optional
        Result of `overtraining`, if at hand.
    others : bool
        Name the classes drawn by a line in the legend.
    """
    ax, classes, score = axes_or_new(ax), events.schema.classes, class_score(events.schema, scores, of)
    filled = score_histograms(events, scores, bins, of=of)
    p_values = overtraining(events, scores) if p_values is None else p_values
    for c, name in reversed(list(enumerate(classes))):
        look, in_front = class_look(c, len(classes)), len(classes) < 3 or c == score.code
        test, train = (filled.get((name, split)) for split in ("test", "train"))
        if test is not None:
            label = f"{short(name)}, test" if in_front or others else ""
            _area(ax, test, look, label, filled=in_front)
        if train is not None and in_front:
            _points(ax, train, look, f"{short(name)}, training{_p_value(p_values.get(name))}")
    ax.axhline(0, color=INK, lw=0.8)
    ax.set(xlabel=score.label, ylabel="events, unit area")
    ax.margins(x=0)
    legend_above(ax, columns=2 if others else 1)  # names may be long, and panels are narrow
    return ax


@styled
def sample_scores(
    values: Array,
    weight: Array,
    sample: NDArray[np.int64],
    names: Sequence[str],
    *,
    label: str,
    ax: Axes | None = None,
) -> Axes:
    """Distribution of a score in each of several samples, each of unit area, with statistical bands.

    Parameters
    ----------
    values, weight : ndarray, shape [E]
    sample : ndarray of int64, shape [E]
        Number of the sample of each event; negative for none of them.
    names : sequence of str
    label : str
        Of the score.
    """
    ax, masks = axes_or_new(ax), [sample == i for i in range(len(names))]
    sizes = [int(mask.sum()) for mask in masks if mask.any()]
    edges = robust_edges(values[sample >= 0], fitting_bins(sizes))
    for i, (name, mask) in enumerate(zip(names, masks, strict=True)):
        if mask.any():
            filled = signed_histogram(values[mask], weight[mask], edges, name="score", label=label)
            _area(ax, filled, class_look(i), escape_label(name, 40), filled=True)
    ax.axhline(0, color=INK, lw=0.8)
    ax.set(xlabel=label, ylabel="events, unit area")
    ax.margins(x=0)
    legend_above(ax)
    return ax


def _p_value(p: float | None) -> str:
    return "" if p is None else f" ({p_text(p)})"


def p_text(p: float) -> str:
    """``p = 0.021``; ``p ≤ 0.001`` at the limit of the draws."""
    least = 1 / (1 + DRAWS)
    return f"p ≤ {least:g}" if p <= least else f"p = {p:#.2g}"


@styled
def score_ratio(
    events: Events,
    scores: NDArray[np.floating],
    *,
    of: str | None = None,
    bins: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Test over training sample for each bin of the normalised scores of each class; 1 without overtraining.

    Parameters
    ----------
    events, scores, of, bins
        See `score_distributions`.
    """
    ax, classes = axes_or_new(ax, (8.0, 2.4)), events.schema.classes
    filled = score_histograms(events, scores, bins, of=of)
    for c, name in reversed(list(enumerate(classes))):
        if {(name, "test"), (name, "train")} <= filled.keys():
            shift = 0.2 * (c - 0.5 * (len(classes) - 1)) * 2 / max(len(classes), 2)  # side by side
            _ratio(ax, filled[name, "test"], filled[name, "train"], shift, class_look(c, len(classes)))
    ax.axhline(1, color=INK, lw=1, ls=":")
    label = class_score(events.schema, scores, of).label
    ax.set(xlabel=label, ylabel="test / training", ylim=(0.0, 2.0))
    ax.margins(x=0)
    return ax


def _ratio(ax: Axes, test: hist.Hist, train: hist.Hist, shift: float, look: dict[str, Any]) -> None:
    (a, da, edges), (b, db, _) = normalised(test), normalised(train)
    filled = (a > 0) & (b > 0)
    ratio = a[filled] / b[filled]
    error = ratio * np.hypot(da[filled] / a[filled], db[filled] / b[filled])
    centre = (edges[1:] + edges[:-1])[filled] / 2 + shift * np.diff(edges)[filled]
    ax.errorbar(centre, ratio, error, **look | {"ls": "", "ms": 4.5, "elinewidth": 1.2})


def _area(ax: Axes, histogram: hist.Hist, look: dict[str, Any], label: str, *, filled: bool) -> None:
    density, error, edges = normalised(histogram)
    colour = look["color"]
    if filled:
        ax.stairs(density, edges, fill=True, color=colour, alpha=0.2)
    ax.stairs(density, edges, color=colour, lw=1.8, label=label or None)
    if filled:
        band = {"fill": False, "hatch": "/////", "ec": colour, "lw": 0, "alpha": 0.55}
        ax.stairs(density + error, edges, baseline=density - error, **band)


def _points(ax: Axes, filled: hist.Hist, look: dict[str, Any], label: str) -> None:
    density, error, edges = normalised(filled)
    used = filled.variances() > 0
    centre = (edges[1:] + edges[:-1]) / 2
    points: dict[str, Any] = look | {"ls": "", "ms": 4.5, "elinewidth": 1.2, "mec": "white", "mew": 0.5}
    ax.errorbar(centre[used], density[used], error[used], label=label, **points)
