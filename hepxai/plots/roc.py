"""ROC curves of a classifier, with signed weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from hepxai.attribution.spread import systematic_error
from hepxai.core.estimate import Array, Estimate, OutOfRangeWarning
from hepxai.core.formatting import measured
from hepxai.events import SPLITS, Events
from hepxai.metrics.classification import both_classes, rejection, roc
from hepxai.plots.scores import class_scores
from hepxai.plots.style import INK, SPLIT_COLOURS, axes_or_new, class_look, legend_above, short, styled

Metrics = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""``split → figure of merit → {"value", "error"}``."""
Varied = Mapping[str, Sequence[tuple[Events, NDArray[np.floating]]]]
"""Source of uncertainty → events and logits under each of its alternatives."""


def roc_band(
    score: Array, signal: NDArray[np.bool_], weight: Array, points: int = 48
) -> tuple[Array, Array, Array, Array, Array]:
    """Signal efficiencies, background rejections, errors and both ends of their interval, if finite.

    Points whose relative error exceeds 100 % (almost no background passes) are left out.
    """
    efficiency = np.linspace(0.02, 1.0, points)
    with warnings.catch_warnings():  # a curve: points without a rejection are left out
        warnings.simplefilter("ignore", OutOfRangeWarning)
        rejections = [rejection(score, signal, weight, float(e)) for e in efficiency]
    value, error, low, high = (
        np.array([float(getattr(r, k)) for r in rejections]) for k in ("value", "error", "low", "high")
    )
    finite = np.isfinite(value) & (error < value) & np.isfinite(high)
    return efficiency[finite], value[finite], error[finite], low[finite], high[finite]


@dataclass(frozen=True)
class RocSample:
    """Events behind one ROC curve.

    Attributes
    ----------
    name, split : str
    colour : str
    area : mapping, optional
        AUC, ``{"value", "error"}``.
    score, signal, weight : ndarray, shape [E]
    """

    name: str
    split: str
    colour: str
    area: Mapping[str, float | None] | None
    score: Array
    signal: NDArray[np.bool_]
    weight: Array


def roc_samples(
    events: Events, scores: NDArray[np.floating], metrics: Metrics | None = None
) -> Iterator[RocSample]:
    """Samples with both classes: of two classes each split; of more, each class against the rest in test."""
    one_each, metrics = class_scores(events.schema, scores), metrics or {}
    several = len(one_each) > 1
    for one in one_each:
        for split in ("test",) if several else SPLITS:
            rows = events.split == SPLITS.index(split)
            signal, weight = events.label[rows] == one.code, events.weight[rows]
            if both_classes(signal, weight):
                area = metrics.get(split, {}).get(f"auc_{one.name}_vs_rest" if several else "auc")
                colour = class_look(one.code, len(one_each))["color"] if several else SPLIT_COLOURS[split]
                name = one.name if several else split
                yield RocSample(name, split, colour, area, one.values[rows], signal, weight)


def roc_systematic(sample: RocSample, efficiency: Array, varied: Varied) -> Array:
    """Systematic error of the rejection of a sample at given signal efficiencies.

    The threshold moves with each variation, so that the signal efficiency stays.
    """

    def values(one: RocSample) -> Array:
        return np.array([float(rejection(one.score, one.signal, one.weight, float(e)).value)
                         for e in efficiency])  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        sources = [
            [
                values(next(s for s in roc_samples(*of) if (s.name, s.split) == (sample.name, sample.split)))
                for of in several
            ]
            for several in varied.values()
        ]
        return systematic_error(values(sample), sources)


@styled
def roc_curve(
    events: Events,
    scores: NDArray[np.floating],
    *,
    metrics: Metrics | None = None,
    systematic: Mapping[str, Array] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Rejection of one class against efficiency of the other, split by split, with an error band for test.

    Of three classes or more, each class against all others, in the test sample.

    Parameters
    ----------
    events : Events
    scores : ndarray, shape [E], or [E, K] for any number of classes
        Logits.
    metrics : mapping, optional
        ``split → name → {"value", "error"}``; "auc", or "auc_CLASS_vs_rest", goes to the legend.
    systematic : mapping, optional
        Name of a sample → `roc_systematic` at the efficiencies of `roc_band`, for an outer band.
    """
    ax, (one, *others) = axes_or_new(ax), class_scores(events.schema, scores)
    for sample in roc_samples(events, scores, metrics):
        _roc_of(ax, sample, (systematic or {}).get(sample.name))
    x = np.linspace(0.02, 1, 50)
    ax.plot(x, 1 / x, color=INK, lw=1, ls=":", label="no separation")
    of, against = (short(one.name), short(one.others)) if not others else ("class", "all others'")
    ax.set(xlabel=f"{of} efficiency", ylabel=f"{against} rejection (1 / efficiency)")
    ax.set(xlim=(0, 1), yscale="log")
    ax.set_ylim(bottom=0.9)
    ax.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    legend_above(ax, columns=2)
    return ax


def _with_interval(area: Mapping[str, float | None]) -> str:
    """Number of the JSON of an `Estimate`, both errors where they differ."""
    if "low" not in area:
        return measured(area.get("value"), area.get("error"))
    single = {k: area.get(k) for k in ("value", "error", "low", "high")}
    return f"{Estimate.from_json({**single, 'n_eff': None})}".replace("-", "−")


def _roc_of(ax: Axes, sample: RocSample, systematic: Array | None) -> None:
    area = sample.area
    auc = "" if area is None else f", AUC {_with_interval(area)}"
    look: dict[str, Any] = {"color": sample.colour, "label": short(sample.name) + auc}
    if sample.split == "test":
        x, y, _, low, high = roc_band(sample.score, sample.signal, sample.weight)
        ax.fill_between(x, low, high, color=sample.colour, alpha=0.25, lw=0)
        if systematic is not None:
            ends = y - np.hypot(y - low, systematic), y + np.hypot(high - y, systematic)
            ax.fill_between(x, *ends, color=sample.colour, alpha=0.15, lw=0)
        ax.plot(x, y, lw=2.2, **look)
        return
    x, background, _ = roc(sample.score, sample.signal, sample.weight)
    few = 5 / float(np.count_nonzero(~sample.signal))
    populated = background > few  # beyond, single events draw the curve
    ax.plot(x[populated], 1 / background[populated], lw=1.4, ls="--", **look)
