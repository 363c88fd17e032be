"""A run as its report reads it: results loaded once, and warnings drawn from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.spread import with_spread, with_systematic
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.core.estimate import ROUNDING, Array, cancellation
from hepxai.core.formatting import measured, real
from hepxai.core.jagged import IntArray
from hepxai.events import SPLITS, Events
from hepxai.models.network import output_names
from hepxai.models.target import REST, Target
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.plots.scores import ClassScore, class_scores
from hepxai.plots.training import time_name
from hepxai.report.section import kinds_of_errors
from hepxai.run import Run
from hepxai.run.user_models import TRAINING_EVENTS_UNKNOWN
from hepxai.training import History, validation_loss

VS_REST = f"_vs_{REST}"
FULL_TARGETS = 2
"""Targets of a regression whose explanations have figures."""
R = TypeVar("R")
Number = Mapping[str, float | None]
Figures = Mapping[str, Number]
"""Figure of merit → ``{"value", "error"}``, with "low" and "high" for rates; JSON's null is None."""


@dataclass(frozen=True)
class RunView:
    """Results of a run, each loaded or computed once.

    Attributes
    ----------
    run : Run
    """

    run: Run

    def __post_init__(self) -> None:
        several = len(self.class_scores) > 1
        columns = {f"scores of {s.name}" if several else "scores": s.values for s in self.class_scores}
        columns |= {f"predictions of {t}": v for t, v in self.predictions.items()}
        for what, values in columns.items():
            if bad := int(np.count_nonzero(~np.isfinite(values))):
                raise ValueError(f"{bad} of {len(values)} {what} are NaN or infinite; no event is left out")

    # --- results -----------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """Heading of the page."""
        return f"{self.run.dataset.name}: what makes the model say {' / '.join(self.run.outputs)}?"

    @property
    def about(self) -> list[str]:
        """Descriptions of data and model in the cards."""
        texts = (("Data", self.run.dataset.description), ("Model", self.run.card.description))
        return [f"{what}: {' '.join(text.split())}" for what, text in texts if text.strip()]

    @cached_property
    def cards(self) -> dict[str, str]:
        """Name and YAML text of the cards."""
        return self.run.cards()

    @property
    def events(self) -> Events:
        """The whole population."""
        return self.run.events

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, signal first: the last class of the schema."""
        return self.events.schema.classes[::-1]

    @cached_property
    def class_scores(self) -> tuple[ClassScore, ...]:
        """Scores of the classifier, signal first; two classes share one. Empty for a regression."""
        return () if self.predictions else class_scores(self.events.schema, self.run.scores)

    @property
    def scores(self) -> Array:
        """Score of signal, ``[E]``: logit, or log-odds against the rest; of a regression its first output."""
        return self.class_scores[0].values if self.class_scores else self.run.scores[:, 0]

    @cached_property
    def predictions(self) -> dict[str, Array]:
        """Prediction of each target of a regression, ``[E]``; empty for a classifier."""
        return self.run.predictions

    @cached_property
    def every(self) -> dict[str, Attribution]:
        """Attributions as the run has them: with the axis "training", and with their variations."""
        return self.run.explained()

    @cached_property
    def varied(self) -> dict[str, dict[str, tuple[Attribution, ...]]]:
        """``method → source → `` means over trainings under each of its alternatives."""
        return {
            name: {source: tuple(map(mean_of_trainings, maps)) for source, maps in a.varied.items()}
            for name, a in self.every.items()
        }

    @cached_property
    def sources(self) -> dict[str, list[Run]]:
        """Sources of systematic uncertainty, and the runs under their alternatives."""
        return self.run.sources()

    @property
    def errors(self) -> str:
        """Kinds of the errors of figures of merit, for captions."""
        return kinds_of_errors(self.trainings, systematic=bool(self.sources))

    @cached_property
    def explained(self) -> dict[str, Attribution]:
        """Attributions by method, or by ``METHOD_TARGET``: means over trainings, with their events."""
        return {name: mean_of_trainings(a) for name, a in self.every.items()}

    @cached_property
    def histories(self) -> dict[str, History]:
        """Figures of every epoch, or number of trees, of each training by its name."""
        return self.run.histories()

    @property
    def history(self) -> History:
        """Those of the first training."""
        return next(iter(self.histories.values()))

    @property
    def trainings(self) -> int:
        """Trainings whose spread is an error of the numbers; 1 without one."""
        return int(self.run.card.training.trainings)

    @cached_property
    def metrics(self) -> Mapping[str, Figures]:
        """``split → figure of merit → {value, error}``."""
        return self.run.metrics()

    # --- drawn from the results --------------------------------------------------------------

    def with_errors(self, measure: Callable[[Events, Array], R]) -> R:
        """Result of ``measure(events, logits)`` with the spread of the trainings and the systematic error."""
        result, singles = measure(self.events, self.run.scores), getattr(self.run, "scores_of_trainings", ())
        if self.trainings > 1 and len(singles):
            result = with_spread(result, [measure(self.events, logits) for logits in singles])
        varied = {s: [measure(r.events, r.scores) for r in runs] for s, runs in self.sources.items()}
        return with_systematic(result, varied) if varied else result

    @cached_property
    def products(self) -> dict[str, Any]:
        """What several sections use, by the name of the function that computes it; see `once`."""
        return {}

    def compact(self, target: str) -> bool:
        """True for an output that the page explains by tables alone.

        Of three classes or more, all contrasts ``CLASS-rest`` but that of signal, the last class; of a
        regression, all targets after the first two. Each would fill as many figures as the first one.
        """
        others = self.classes[1:] if len(self.class_scores) > 1 else ()
        return target in {f"{c}-{REST}" for c in others} or target in list(self.predictions)[FULL_TARGETS:]

    @property
    def focus(self) -> tuple[str, str]:
        """Particle types of the pair that the physics question is about."""
        first, focus = self.events.schema.types[0], self.run.dataset.focus
        return (first, first) if focus is None else focus.pair

    @property
    def observer(self) -> str | None:
        """Name in ``events.observers``, for example of the mass of the pair in focus."""
        return None if self.run.dataset.focus is None else self.run.dataset.focus.observer

    @property
    def in_full(self) -> str:
        """Note on the outputs whose explanations have figures, for the sections of the others."""
        outputs = list(self.predictions)[:FULL_TARGETS] or self.classes[:1]
        return f"Tables alone: figures are drawn for {' and '.join(outputs)}; numbers and histograms for all."

    @cached_property
    def best_epoch(self) -> float | None:
        """Epoch, or number of trees, that was kept, as the history counts."""
        return best_epoch(self.history, self.run.card.training.monitor)

    @cached_property
    def calibrated_loss(self) -> float | None:
        """Validation loss of the model after the calibration; None without one."""
        training = self.run.card.training
        calibrated = getattr(training, "calibrate", False) and not training.regression
        calibrated = calibrated and len(self.histories) == 1  # each of several is calibrated by itself
        return validation_loss(self.run.scores, self.events, training) if calibrated else None

    @cached_property
    def fidelity(self) -> Mapping[str, Figures]:
        """``split → figure → {value, error}`` of the surrogate; empty without one."""
        return next(filter(None, map(fidelity_of, self.explained.values())), {})

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Shown at the top: notes of the reading, doubts about the model, concerns about attributions."""
        concerns = (c for key in self.explained for c in self.warnings_about(key))
        doubts = (*out_of_range(self.metrics), *doubts_about(self.metrics))
        unknown = (TRAINING_EVENTS_UNKNOWN,) if isinstance(self.run.card, PythonCard) else ()
        return (*self.run.reading.notes, *unknown, *doubts, *self._without_systematic(), *concerns)

    def _without_systematic(self) -> Iterator[str]:
        """Maps that lack the systematic error that other numbers have."""
        for name, attribution in self.every.items():
            if self.sources and not attribution.varied:
                yield (
                    f"{name}: no systematic error, for the variations explained other events, with other "
                    f"settings, or not this method; `hepxai vary {self.run.folder.name}` completes it."
                )

    def warnings_about(self, key: str) -> tuple[str, ...]:
        """Concerns about one attribution, shown beside its products."""
        return tuple(f"{key}: {concern}." for concern in self.explained[key].concerns)

    def scores_of(self, events: Events) -> Array:
        """Scores of part of the population, found by file and entry."""
        return np.asarray(self.scores[self.rows_of(events)])

    def logits_of(self, events: Events) -> Array:
        """Logits of part of the population, ``[E, O]``."""
        return np.asarray(self.run.scores[self.rows_of(events)])

    def output_of(self, target: str, events: Events) -> Array | None:
        """Explained output of part of the population, ``[E]``; None if the model has no such output."""
        if target in self.predictions:
            return self.predicted(target, events)
        schema, names = self.events.schema, output_names(self.run.card, self.events.schema)
        if len(schema.classes) == 2 and target == "-".join(schema.classes[::-1]):
            target = names[0]  # of two logits, a run stores the difference
        try:
            output = Target.of(names, target)
        except KeyError:
            return None
        return output(self.logits_of(events))

    def shown_score(self, target: str, events: Events) -> Array:
        """Number to write beside an event: the explained output, or the score of signal for a bare class."""
        output = None if target in self.classes else self.output_of(target, events)
        return self.scores_of(events) if output is None else output

    def shown_name(self, target: str) -> str:
        """Name of the number that `shown_score` gives."""
        if len(self.class_scores) == 1:
            return "logit"
        if target in self.predictions or target not in self.classes:
            return target.replace("-", " − ")
        return self.class_scores[0].label

    def predicted(self, target: str, events: Events) -> Array:
        """Predictions of part of the population, found by file and entry."""
        return np.asarray(self.predictions[target][self.rows_of(events)])

    def rows_of(self, events: Events) -> IntArray:
        """Rows of part of the population, found by file and entry."""
        entries = int(self.events.entry.max(initial=0)) + 1
        keys, requested = (e.file * entries + e.entry for e in (self.events, events))
        order = np.argsort(keys, kind="stable")
        return np.asarray(order[np.searchsorted(keys[order], requested)])


def once(compute: Callable[[RunView], R]) -> Callable[[RunView], R]:
    """Decorator: compute something once for each view."""
    name = f"{compute.__module__}.{compute.__qualname__}"

    @wraps(compute)
    def stored(view: RunView) -> R:
        if name not in view.products:
            view.products[name] = compute(view)
        result: R = view.products[name]
        return result

    return stored


def best_epoch(history: History, monitor: str) -> float | None:
    """Epoch, or number of trees, that `hepxai.training.fit` keeps: the first of the best by the monitor."""
    if not history:
        return None
    by_auc = monitor == "auc" and "valid_auc" in history[0]
    figures = [real(row.get("valid_auc")) if by_auc else -real(row["valid_loss"]) for row in history]
    return history[int(np.argmax(np.nan_to_num(figures, nan=-np.inf)))][time_name(history)]


def fidelity_of(attribution: Attribution) -> dict[str, Figures]:
    """Fidelity of a surrogate, by split, from the flat checks of its attribution; empty for any other."""
    checks = attribution.checks
    return {
        split: {
            name.removeprefix(f"{split}_"): {"value": value, "error": checks[f"{name}_error"]}
            for name, value in checks.items()
            if name.startswith(f"{split}_") and not name.endswith("_error")
        }
        for split in SPLITS
        if f"{split}_agreement" in checks
    }


# --- warnings --------------------------------------------------------------------------------


def out_of_range(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Warnings of figures of merit outside of their range, hence of their interval."""
    for split, row in metrics.items():
        for name, figure in row.items():
            value, low, high = (real(figure.get(k)) for k in ("value", "low", "high"))
            if value < low - ROUNDING or value > high + ROUNDING:
                yield (
                    f"{split} {name.replace('_', ' ')} is {measured(value, figure['error'])}, which cannot "
                    f"be: {cancellation(figure['n_eff'])}."
                )


def doubts_about(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Doubts about explaining this model at all, beyond three standard errors."""
    if "test" not in metrics:
        return
    train, test = metrics.get("train", {}), metrics["test"]  # a run of all folds has test events only
    for target in (n.removeprefix("gain_") for n in test if n.startswith("gain_")):
        yield from _doubted_target(target, train, test)
    for name, of in aucs(test).items():
        if name in train or not train:
            yield from _doubted_auc(of, train.get(name), test[name])


def aucs(figures: Collection[str]) -> dict[str, str]:
    """Keys of the AUCs of each class against the rest, and the class; "" for the one AUC of two classes."""
    of_classes = {n: n[4 : -len(VS_REST)] for n in figures if n.startswith("auc_") and n.endswith(VS_REST)}
    return {"auc": ""} if "auc" in figures else of_classes


def _doubted_auc(of: str, train: Mapping[str, Any] | None, test: Mapping[str, Any]) -> Iterator[str]:
    texts, what = _texts(train or test, test), f"{of} from the rest" if of else "the classes"
    if train is not None and train["value"] - test["value"] > 3 * math.hypot(train["error"], test["error"]):
        yield _overtrained(f"AUC of {of} against the rest" if of else "AUC", texts)
    if not abs(real(test["value"]) - 0.5) > 3 * real(test["error"]):
        yield (
            f"The model does not separate {what} (test AUC {texts[1]}): explanations of "
            f"{of or 'it'} describe noise."
        )


def _doubted_target(
    target: str, train: Mapping[str, Mapping[str, Any]], test: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    (one, two), gain = (train[f"mae_{target}"], test[f"mae_{target}"]), test[f"gain_{target}"]
    texts = _texts(one, two, gain)
    if two["value"] - one["value"] > 3 * math.hypot(one["error"], two["error"]):
        yield _overtrained(f"mean |error| of {target}", texts)
    if not gain["value"] > 3 * gain["error"]:
        yield (
            f"The model knows {target} hardly better than a constant (mean |error| on the test events "
            f"{texts[1]}, smaller by {texts[2]}): explanations of {target} describe noise."
        )


def _texts(*figures: Mapping[str, Any]) -> list[str]:
    return [measured(f["value"], f["error"]) for f in figures]


def _overtrained(what: str, texts: Sequence[str]) -> str:
    return (
        f"The model is overtrained: {what} {texts[0]} on the events it learned from, {texts[1]} on the test "
        "events. Part of what it uses is noise."
    )
