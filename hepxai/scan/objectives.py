"""Figures of merit of a trial: accuracy, and properties of explanations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import in_focus, labels_of, reduced, relative_to_uniform
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import observer_name
from hepxai.core.jagged import parents
from hepxai.datasets import DatasetCard
from hepxai.events import SPLITS, Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.importance.permutation import permutation_importance
from hepxai.metrics.isolation import isolation, pair_mean
from hepxai.models.protocols import Model, Tabular
from hepxai.plots.histograms import signed_histogram
from hepxai.run import Run
from hepxai.studies.dependence.dependence import distance_correlation
from hepxai.studies.overfitting.numbers import ImportanceShift, gap

Direction = Literal["max", "min"]
Pair = tuple[str, str]
EDGES = {"attention": np.linspace(0.0, 1.0, 101), "relative": np.linspace(0.0, 10.0, 101)}
"""Fixed bins: of attention, and of attention × (n − 1). The outermost include under- and overflow."""
NAN = Estimate(np.asarray(np.nan), np.asarray(np.nan), 0.0)


@dataclass(frozen=True)
class TrialContext:
    """A trained run, and explanations of its validation events.

    Attributes
    ----------
    run : Run
    maximum : int
        Events to explain, at most.
    """

    run: Run
    maximum: int

    @cached_property
    def valid(self) -> Events:
        """Validation events."""
        return self.run.events.where("valid")

    @cached_property
    def attention(self) -> Attribution:
        """Attention of the first layer that has it, heads averaged, on evenly spread validation events."""
        return first_attention(self.run.model, self.valid[evenly_spread(len(self.valid), self.maximum)])

    @cached_property
    def shift(self) -> ImportanceShift:
        """Permutation importances in evenly spread training and validation events, by the AUC."""
        model, events = self.run.model, self.run.events
        splits = (events.where(split) for split in ("train", "valid"))
        parts = (split[evenly_spread(len(split), self.maximum)] for split in splits)
        return ImportanceShift(*(permutation_importance(need_tabular(model), part) for part in parts))

    @property
    def auc(self) -> str:
        """Name of the AUC among the figures of merit."""
        return "auc" if len(self.run.dataset.labels) == 2 else "mean_auc"

    @property
    def pair(self) -> Pair:
        """Particle types of the pair in focus."""
        focus = self.run.dataset.focus
        assert focus is not None, "metrics that need a focus are asked only where there is one"
        return focus.pair

    def figure(self, split: str, name: str) -> Estimate:
        """Figure of merit that the run has stored, NaN where the split has not both classes."""
        stored = self.run.metrics().get(split, {}).get(name)
        if stored is None:
            return NAN
        return Estimate(np.asarray(stored["value"]), np.asarray(stored["error"]), np.nan)


def first_attention(model: Model, events: Events) -> Attribution:
    """Attention of the first layer that has it, heads averaged."""
    attention = explain(model, events, "attention", target=model.outputs[0])
    return reduced(attention, layer=labels_of(attention, "layer")[0])


def need_tabular(model: Model) -> Tabular:
    """Refuse a model that cannot score rows of the event-level table."""
    if not isinstance(model, Tabular):
        raise CannotExplainError(f"{type(model).__name__} does not score rows of the event-level table")
    return model


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Attributes
    ----------
    of : callable
        From `TrialContext` to `Estimate`.
    text : str
        Label; "{pair}" and "{observer}" stand for the focus of the data-set card.
    direction : str, optional
        Better values, "max" or "min"; None for a metric that is shown but never an objective.
    needs : tuple of str
        Any of "focus" (of the data-set card), "observer" (of the focus), "attention" (of the model), "table"
        (event-level, and a model of it), "two classes" (of the data-set card).
    why_not : str
        Reason why it is never an objective.
    """

    of: Callable[[TrialContext], Estimate]
    text: str
    direction: Direction | None
    needs: tuple[str, ...] = ()
    why_not: str = ""

    def lacks(self, dataset: DatasetCard) -> str | None:
        """Missing entry of the data-set card that this metric needs, or None."""
        focus = dataset.focus
        if "two classes" in self.needs and len(dataset.labels) != 2:
            return "two classes, labels: [background, signal]"
        if "focus" in self.needs and focus is None:
            return "the pair in focus, focus: {pair: [TYPE, TYPE]}"
        if "observer" in self.needs and (focus is None or focus.observer is None):
            return "an observer in focus, focus: {pair: [TYPE, TYPE], observer: NAME}"
        if "table" in self.needs and not dataset.globals:
            return "the event-level table, globals: {NAME: EXPRESSION}"
        return None

    def label(self, dataset: DatasetCard) -> str:
        """Label with the particles of a data set."""
        focus = dataset.focus
        if focus is None:
            return self.text
        pair = f"{focus.pair[0]}–{focus.pair[1]}"
        return self.text.format(pair=pair, observer=observer_name(focus.observer or "").partition(" [")[0])


Function = Callable[[TrialContext], Estimate]
METRICS: dict[str, Metric] = {}
"""All metrics by name. Every trial stores all of them."""


def metric(
    name: str, text: str, direction: Direction | None, **options: Any
) -> Callable[[Function], Function]:
    """Decorator that enters ``function(context) -> Estimate`` in `METRICS`; see `Metric` for the options."""

    def register(of: Function) -> Function:
        if name in METRICS:
            raise ValueError(f"a metric named {name!r} exists")
        METRICS[name] = Metric(of, text, direction, **options)
        return of

    return register


_TEST = "choosing by the test events leaves none to say how good the choice is; use {}"


@metric("valid_auc", "validation AUC", "max")
def _valid_auc(context: TrialContext) -> Estimate:
    """AUC; of more than two classes the mean over the classes of that against all others."""
    return context.figure("valid", context.auc)


@metric("valid_accuracy", "validation accuracy", "max")
def _valid_accuracy(context: TrialContext) -> Estimate:
    return context.figure("valid", "accuracy")


@metric("test_auc", "test AUC", None, why_not=_TEST.format("valid_auc"))
def _test_auc(context: TrialContext) -> Estimate:
    return context.figure("test", context.auc)


@metric("test_accuracy", "test accuracy", None, why_not=_TEST.format("valid_accuracy"))
def _test_accuracy(context: TrialContext) -> Estimate:
    return context.figure("test", "accuracy")


@metric("train_gap", "training − validation balanced accuracy", "min")
def _train_gap(context: TrialContext) -> Estimate:
    return gap(*(context.figure(split, "balanced_accuracy") for split in ("train", "valid")))


@metric(
    "importance_distance",
    "distance of training and validation permutation importances, beyond chance",
    "min",
    needs=("table", "two classes"),
)
def _importance_distance(context: TrialContext) -> Estimate:
    try:
        return context.shift.excess
    except ValueError:  # a split that lacks a class, or all values of a column, has none
        return NAN


@metric("pair_attention", "mean attention of {pair} pairs", "max", needs=("focus", "attention"))
def _pair_attention(context: TrialContext) -> Estimate:
    return pair_mean(context.attention, context.pair)


@metric("pair_isolation", "isolation of the {pair} pair", "max", needs=("focus", "attention"))
def _pair_isolation(context: TrialContext) -> Estimate:
    try:
        return isolation(context.attention, context.pair)
    except ValueError:  # events of one particle type have no other pairs
        return NAN


@metric(
    "score_mass_correlation",
    "distance correlation of score and {observer}, background",
    "min",
    needs=("focus", "observer", "two classes"),
)
def _score_mass_correlation(context: TrialContext) -> Estimate:
    """On all background validation events that have a value of the observer."""
    events, focus = context.run.events, context.run.dataset.focus
    assert focus is not None, "metrics that need a focus are asked only where there is one"
    observer = np.asarray(events.observers[str(focus.observer)], dtype=np.float64)
    used = (events.split == SPLITS.index("valid")) & (events.label == 0) & np.isfinite(observer)
    if not events.weight[used].sum() > 0:
        return NAN
    return distance_correlation(context.run.scores[used, 0], observer[used], events.weight[used])


# --- all of them ---------------------------------------------------------------------------------


def measure(context: TrialContext) -> dict[str, Estimate]:
    """All metrics that the data set and the model allow."""
    estimates = {}
    for name, entry in METRICS.items():
        if entry.lacks(context.run.dataset) is None:
            with suppress(CannotExplainError):
                estimates[name] = entry.of(context)
    return estimates


def histograms(context: TrialContext) -> dict[str, Any]:
    """Attention of the pairs in focus and of all others, by class, in fixed bins; empty if there is none.

    Returns
    -------
    dict
        ``quantity → [{"class", "pairs", "value", "variance"}]`` for the quantities of ``EDGES``; "pairs" is
        "focus" or "other", weights are signed, pairs of one event count as correlated.
    """
    if context.run.dataset.focus is None:
        return {}
    try:
        attention = context.attention
    except CannotExplainError:
        return {}
    focus = in_focus(attention, context.pair)
    maps = {"attention": attention, "relative": relative_to_uniform(attention)}
    return {name: list(_histograms(values, focus, EDGES[name])) for name, values in maps.items()}


def _histograms(
    attribution: Attribution, focus: NDArray[np.bool_], edges: NDArray[np.float64]
) -> Iterator[dict[str, Any]]:
    event, events = parents(attribution.offsets), attribution.events
    for label, name in enumerate(events.schema.classes):
        for pairs, mask in (("focus", focus), ("other", ~focus)):
            rows = np.flatnonzero(mask & (events.label[event] == label))
            weight, cluster = events.weight[event[rows]], event[rows]
            histogram = signed_histogram(attribution.values[rows], weight, edges, cluster=cluster)
            numbers = {"value": histogram.values(), "variance": histogram.variances()}
            yield {"class": name, "pairs": pairs} | {k: _short(v) for k, v in numbers.items()}


def _short(values: NDArray[np.float64]) -> list[float]:
    """Histogram with six digits, enough for a figure, to keep the store small."""
    return [float(f"{v:.6g}") for v in values]
