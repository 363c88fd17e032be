"""Score distributions and ROC curve of a classifier, with signed weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from hepxai.core.estimate import Array, OutOfRangeWarning
from hepxai.core.formatting import measured
from hepxai.events import SPLITS, Events, Schema
from hepxai.metrics.classification import both_classes, rejection, roc
from hepxai.plots.histograms import fitting_bins, normalised, robust_edges, signed_histogram, signed_ks
from hepxai.plots.style import (
    INK,
    SPLIT_COLOURS,
    axes_or_new,
    class_look,
    legend_above,
    short,
    styled,
)

SIGNAL = 1  # class that a positive score means
PERMUTATIONS = 999  # behind a p-value


def sides(schema: Schema) -> tuple[str, str]:
    """Names of the classes that a positive and a negative score mean."""
    classes = schema.classes
    if len(classes) != 2:
        return "signal", "background"
    return classes[SIGNAL], classes[1 - SIGNAL]


def score_name(schema: Schema) -> str:
    """Axis label of the score."""
    return f"logit of {short(sides(schema)[0])}"


def score_histograms(
    events: Events, scores: Array, bins: int | None = None
) -> dict[tuple[str, str], hist.Hist]:
    """Signed-weight histograms of the score for each ``(class, split)`` that has events, common bins."""
    groups, label = dict(_groups(events)), score_name(events.schema)
    edges = robust_edges(scores, bins or fitting_bins(int(mask.sum()) for mask in groups.values()))
    return {
        key: signed_histogram(scores[mask], events.weight[mask], edges, name="score", label=label)
        for key, mask in groups.items()
    }


def _groups(events: Events) -> Iterator[tuple[tuple[str, str], NDArray[np.bool_]]]:
    for c, name in enumerate(events.schema.classes):
        for s, split in enumerate(SPLITS):
            mask = (events.label == c) & (events.split == s)
            if mask.any():
                yield (name, split), mask


def overtraining(events: Events, scores: Array) -> dict[str, tuple[float, float]]:
    """Kolmogorov–Smirnov distance of training and test scores, and its p-value, for each class."""
    distances = {}
    for c, name in enumerate(events.schema.classes):
        train, test = ((events.label == c) & (events.split == SPLITS.index(s)) for s in ("train", "test"))
        if train.any() and test.any():
            samples = ((scores[m], events.weight[m]) for m in (train, test))
            distances[name] = signed_ks(*samples, permutations=PERMUTATIONS)
    return distances


@styled
def score_distributions(
    events: Events,
    scores: Array,
    *,
    bins: int | None = None,
    distances: Mapping[str, tuple[float, float]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Score of each class, test sample filled, training sample as points; each of unit area.

    Parameters
    ----------
    events : Events
    scores : ndarray, shape [E]
        Logits.
    bins : int, optional
        As many as the smallest sample fills, by default.
    distances : mapping, optional
        Result of `overtraining`, if at hand.
    """
    ax = axes_or_new(ax)
    filled = score_histograms(events, scores, bins)
    distances = overtraining(events, scores) if distances is None else distances
    for c, name in reversed(list(enumerate(events.schema.classes))):
        if (name, "test") in filled:
            _area(ax, filled[name, "test"], c, f"{short(name)}, test")
        if (name, "train") in filled:
            _points(ax, filled[name, "train"], c, f"{short(name)}, training{_distance(distances.get(name))}")
    ax.axhline(0, color=INK, lw=0.8)
    ax.set(xlabel=score_name(events.schema), ylabel="events, unit area")
    ax.margins(x=0)
    legend_above(ax, columns=2)
    return ax


def _distance(test: tuple[float, float] | None) -> str:
    return "" if test is None or not np.isfinite(test[0]) else f" (KS {test[0]:.3f}, {p_text(test[1])})"


def p_text(p: float) -> str:
    """``p = 0.021``; ``p ≤ 0.001`` at the limit of the permutations."""
    least = 1 / (1 + PERMUTATIONS)
    return f"p ≤ {least:g}" if p <= least else f"p = {p:#.2g}"


@styled
def score_ratio(events: Events, scores: Array, *, bins: int | None = None, ax: Axes | None = None) -> Axes:
    """Test over training sample for each bin of the normalised scores of each class; 1 without overtraining.

    Parameters
    ----------
    events, scores, bins
        See `score_distributions`.
    """
    ax = axes_or_new(ax, (8.0, 2.4))
    filled = score_histograms(events, scores, bins)
    for c, name in reversed(list(enumerate(events.schema.classes))):
        if {(name, "test"), (name, "train")} <= filled.keys():
            _ratio(ax, filled[name, "test"], filled[name, "train"], c)
    ax.axhline(1, color=INK, lw=1, ls=":")
    ax.set(xlabel=score_name(events.schema), ylabel="test / training", ylim=(0.0, 2.0))
    ax.margins(x=0)
    return ax


def _ratio(ax: Axes, test: hist.Hist, train: hist.Hist, index: int) -> None:
    (a, da, edges), (b, db, _) = normalised(test), normalised(train)
    filled = (a > 0) & (b > 0)
    ratio = a[filled] / b[filled]
    error = ratio * np.hypot(da[filled] / a[filled], db[filled] / b[filled])
    shift = (index - 0.5) * 0.2 * np.diff(edges)[filled]  # classes side by side
    look = class_look(index) | {"ls": "", "ms": 4.5, "elinewidth": 1.2}
    ax.errorbar((edges[1:] + edges[:-1])[filled] / 2 + shift, ratio, error, **look)


def _area(ax: Axes, filled: hist.Hist, index: int, label: str) -> None:
    density, error, edges = normalised(filled)
    colour = class_look(index)["color"]
    ax.stairs(density, edges, fill=True, color=colour, alpha=0.2)
    ax.stairs(density, edges, color=colour, lw=1.8, label=label)
    band = {"fill": False, "hatch": "/////", "ec": colour, "lw": 0, "alpha": 0.55}
    ax.stairs(density + error, edges, baseline=density - error, **band)


def _points(ax: Axes, filled: hist.Hist, index: int, label: str) -> None:
    density, error, edges = normalised(filled)
    used = filled.variances() > 0
    centre = (edges[1:] + edges[:-1]) / 2
    look = class_look(index) | {"ls": "", "ms": 4.5, "elinewidth": 1.2, "mec": "white", "mew": 0.5}
    ax.errorbar(centre[used], density[used], error[used], label=label, **look)


# --- ROC -------------------------------------------------------------------------------------


def roc_band(
    score: Array, signal: NDArray[np.bool_], weight: Array, points: int = 48
) -> tuple[Array, Array, Array]:
    """Signal efficiencies, background rejections and their errors; only for finite rejections.

    Points whose relative error exceeds 100 % (almost no background passes) are left out.
    """
    efficiency = np.linspace(0.02, 1.0, points)
    with warnings.catch_warnings():  # a curve: points without a rejection are left out
        warnings.simplefilter("ignore", OutOfRangeWarning)
        rejections = [rejection(score, signal, weight, float(e)) for e in efficiency]
    value, error = (np.array([float(getattr(r, k)) for r in rejections]) for k in ("value", "error"))
    finite = np.isfinite(value) & (error < value)
    return efficiency[finite], value[finite], error[finite]


@styled
def roc_curve(
    events: Events,
    scores: Array,
    *,
    metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Rejection of one class against efficiency of the other, split by split, with an error band for test.

    Parameters
    ----------
    events : Events
    scores : ndarray, shape [E]
        Logits of signal.
    metrics : mapping, optional
        ``split → name → {"value", "error"}``; "auc" goes to the legend.
    """
    ax = axes_or_new(ax)
    for s, split in enumerate(SPLITS):
        in_split = events.split == s
        signal = events.label[in_split] == SIGNAL
        if both_classes(signal, events.weight[in_split]):
            area = (metrics or {}).get(split, {}).get("auc")
            _roc_of(ax, split, scores[in_split], signal, events.weight[in_split], area)
    x = np.linspace(0.02, 1, 50)
    ax.plot(x, 1 / x, color=INK, lw=1, ls=":", label="no separation")
    signal_name, background = map(short, sides(events.schema))
    ax.set(xlabel=f"{signal_name} efficiency", ylabel=f"{background} rejection (1 / efficiency)")
    ax.set(xlim=(0, 1), yscale="log")
    ax.set_ylim(bottom=0.9)
    ax.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    legend_above(ax, columns=2)
    return ax


def _roc_of(
    ax: Axes,
    split: str,
    score: Array,
    signal: NDArray[np.bool_],
    weight: Array,
    area: Mapping[str, float | None] | None,
) -> None:
    label = split if area is None else f"{split}, AUC {measured(area.get('value'), area.get('error'))}"
    colour = SPLIT_COLOURS[split]
    if split == "test":
        x, y, error = roc_band(score, signal, weight)
        ax.fill_between(x, y - error, y + error, color=colour, alpha=0.25, lw=0)
        ax.plot(x, y, color=colour, lw=2.2, label=label)
        return
    x, background, _ = roc(score, signal, weight)
    few = 5 / float(np.count_nonzero(~signal))
    populated = background > few  # beyond, single events draw the curve
    ax.plot(x[populated], 1 / background[populated], color=colour, lw=1.4, ls="--", label=label)
