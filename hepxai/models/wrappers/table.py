"""Wrappers for models of the event-level table: a torch module, or an estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.events import Events, Schema
from hepxai.models.hooks import capture_activations, last_layer_io, last_linear
from hepxai.models.losses import Loss, known_loss, loss_of_outputs
from hepxai.models.network import evaluating
from hepxai.models.schemas import checked_outputs, listed, need_columns, same_columns
from hepxai.models.table.rows import need_scores
from hepxai.models.wrappers.advice import wrapping_advice
from hepxai.models.wrappers.boosters import as_estimator, library_of
from hepxai.models.wrappers.modules import (
    as_logits,
    call_module,
    cast_like,
    check_layers,
    naming_inputs,
    plain_module,
)
from hepxai.models.wrappers.pipelines import split, transformed

ROWS = 65_536
"""Rows in a chunk."""


@dataclass(frozen=True)
class TableModel:
    """A torch module that scores rows of the event-level table, as a `hepxai` model.

    Attributes
    ----------
    module : nn.Module
        Takes ``[B, G]`` physical values (it standardises them itself), returns logits ``[B, O]``, or ``[B]``
        for one output. It is called in evaluation mode and never changed. A compiled or parallel one is
        unwrapped; it must be on the CPU.
    outputs : tuple of str, length O
    schema : Schema
        Of the events that it was trained on (``events.schema``). Events whose globals have other names,
        units or another order are refused.
    layers : tuple of str, optional
        Names of the submodules whose outputs are the hidden neurons. By default all ``nn.Linear`` but the
        last. A neuron has the same conductance before and after an activation function.
    loss : str
        Of the training, for TracIn; see `hepxai.models.losses.event_loss`.
    call : callable
        ``(module, x) -> logits``; give one if ``forward`` returns more than the logits, e.g.
        ``lambda m, x: m(x)[0]``.

    Raises
    ------
    TypeError
        If it is no torch module.
    ValueError
        If the schema has no globals, a layer is none of the module's, there is no such loss, or the module is
        on another device.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    schema: Schema
    layers: tuple[str, ...] | None = None
    loss: Loss = "cross_entropy"
    call: Callable[[nn.Module, Tensor], Tensor] = call_module
    view: str = field(default="table", init=False)

    def __post_init__(self) -> None:
        checked_outputs(self.outputs)
        object.__setattr__(self, "module", plain_module(self.module))
        need_columns(self.schema)
        known_loss(self.loss)
        check_layers(self.module, self.layers or ())

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """Names of the layers with hidden neurons."""
        if self.layers is not None:
            return self.layers
        return tuple(n for n, m in self.module.named_modules() if isinstance(m, nn.Linear))[:-1]

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Logits ``[E, O]``."""
        same_columns(self.schema, events.schema)
        return need_scores(self.score_table(events.table()[0]), events)

    def score_table(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logits ``[E, O]`` of rows of the table."""
        with torch.no_grad():
            return _score_in_chunks(
                x, len(self.outputs), lambda c: self.forward_table(torch.tensor(c)).double().numpy()
            )

    def forward_table(self, x: Tensor) -> Tensor:
        """Logits ``[B, O]``, differentiable, in evaluation mode."""
        columns = f"{x.shape[1]} columns ({listed(self.schema.globals)})"
        with evaluating(self.module), naming_inputs(columns):
            logits = self.call(self.module, cast_like(x, self.module))
        return as_logits(logits, len(x), self.outputs)

    def forward_hidden(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits ``[B, O]`` and the values ``[B, H]`` of every hidden layer."""
        meaning = "neurons are the columns of a table [event, neuron]"
        with capture_activations(self.module, self.hidden_layers, 2, meaning) as neurons:
            logits = self.forward_table(x)
        if missing := [name for name in self.hidden_layers if name not in neurons]:
            raise ValueError(
                f"the module does not call its layer {listed(missing)}; name the `layers` it calls"
            )
        return logits, {name: neurons[name] for name in self.hidden_layers}

    def last_layer(self, events: Events) -> tuple[Tensor, Tensor]:
        """Output ``[E, O]`` and input ``[E, H]`` of the last ``nn.Linear``; the module must end there."""
        same_columns(self.schema, events.schema)
        rows = torch.as_tensor(np.require(events.table()[0], requirements=("C", "W")))
        return last_layer_io(last_linear(self.module), lambda: self.forward_table(rows))

    def training_loss(self, z: Tensor, events: Events) -> Tensor:
        """Loss of every event, ``[E]``."""
        return loss_of_outputs(self.loss, self.outputs, z, events)


@dataclass(frozen=True)
class SklearnModel:
    """A fitted estimator on the event-level table, as a `hepxai` model.

    Takes classifiers and regressors of scikit-learn, XGBoost and LightGBM, pipelines of them, and raw
    boosters; `hepxai.load_trees` reads the files of boosters.

    The score is, in this order: the prediction of a regressor; the margin of a booster; the
    ``decision_function`` of a classifier that has one (log-odds for boosted trees and logistic regression, a
    distance for support vectors); log(p / (1 - p)) of ``predict_proba`` (random forests), for several classes
    log(p), whose differences are those of logits.

    Attributes
    ----------
    estimator : object
        Fitted, on the columns of ``schema.globals``. Of a grid search, its best estimator. After early
        stopping, a booster is scored by its best rounds.
    outputs : tuple of str, length O
        One for two classes (the second one of the card) and for a regressor of one value; else one for each,
        in the order of the card.
    schema : Schema
        Of the events that it was fitted on (``events.schema``). Events whose globals have other names,
        units or another order are refused.
    clip : float
        Probabilities are kept within [clip, 1 - clip]: those of a forest reach 0 and 1, whose log-odds are
        infinite. `logits` warns where that happened.
    classes : tuple of str, optional
        The card's class of each of ``estimator.classes_``. Needed where those are neither the numbers of
        ``events.label`` nor the names of the card's classes.

    Raises
    ------
    TypeError
        If it has no ``predict``, or is no estimator; the message has a remedy.
    ValueError
        If the estimator knows one class only, has another number of classes than there are outputs, was
        fitted on another number of columns or on other names, its classes are not recognised, or the margin
        of a booster is neither a logit nor a prediction.
    """

    estimator: Any
    outputs: tuple[str, ...]
    schema: Schema
    clip: float = 1e-6
    classes: tuple[str, ...] | None = None
    view: str = field(default="table", init=False)

    def __post_init__(self) -> None:
        checked_outputs(self.outputs)
        need_columns(self.schema)
        if not 0 < self.clip < 0.5:
            raise ValueError(f"clip={self.clip}; it must be above 0 and below 0.5")
        estimator = getattr(self.estimator, "best_estimator_", self.estimator)
        raw = library_of(estimator) and type(estimator).__name__ == "Booster"
        object.__setattr__(self, "estimator", as_estimator(estimator, stacklevel=4) if raw else estimator)
        self._check_columns()
        if hasattr(self.estimator, "classes_"):
            self._check_classes()
        elif (size := getattr(self._parts[1], "outputs", len(self.outputs))) != len(self.outputs):
            raise ValueError(f"the booster predicts {size} values; named are {self.outputs}")

    def _check_columns(self) -> None:
        kind, mine = type(self.estimator).__name__, self.schema.globals
        wanted = "a classifier or regressor is needed"
        predicts = any(hasattr(self.estimator, name) for name in ("predict", "predict_proba"))
        if isinstance(self.estimator, type) or not predicts:
            raise TypeError(wrapping_advice(self.estimator) or f"{kind} predicts nothing; {wanted}")
        size = getattr(self.estimator, "n_features_in_", None)
        if size is None and hasattr(self.estimator, "get_params"):
            raise ValueError(f"{kind} is not fitted: call its fit first, which must set n_features_in_")
        if size is None:
            raise TypeError(wrapping_advice(self.estimator) or f"{kind} has no n_features_in_")
        if size != len(mine):
            raise ValueError(f"the estimator was fitted on {size} columns; the globals are {listed(mine)}")
        names = tuple(getattr(self.estimator, "feature_names_in_", mine))
        if names != mine and (set(names) & set(mine) or names not in _placeholders(size)):
            raise ValueError(f"the estimator was fitted on {listed(names)}; the globals are {listed(mine)}")

    def _check_classes(self) -> None:
        classes = list(self.estimator.classes_)
        if len(classes) < 2:
            raise ValueError(f"the classifier was fitted on one class only: {classes}")
        expected = 1 if len(classes) == 2 else len(classes)
        if len(self.outputs) != expected:
            raise ValueError(
                f"a classifier of {len(classes)} classes has {expected} outputs, named are {self.outputs}"
            )
        names = self._class_names()
        right = [names[place] for place in self.class_order][-expected:]
        if set(self.outputs) & set(names) and list(self.outputs) != right:
            raise ValueError(
                f"outputs={self.outputs}, but this classifier scores {listed(right)}, in this order: give "
                f"outputs={tuple(right)}"
            )

    def _class_names(self) -> tuple[str, ...]:
        """The card's class of each class of the estimator; a number where the card has no name for it."""
        theirs, mine = list(self.estimator.classes_), self.schema.classes
        if self.classes is not None:
            if len(set(self.classes)) != len(theirs):
                raise ValueError(f"classes={self.classes}; a name for each of {listed(theirs)} is needed")
            return tuple(self.classes)
        if set(theirs) == set(mine):
            return tuple(map(str, theirs))
        if theirs == list(range(len(theirs))) and len(theirs) != len(mine):  # for example one against all
            return tuple(map(str, theirs))
        if set(theirs) <= set(range(len(mine))):
            return tuple(mine[int(c)] for c in theirs)
        wanted = (f"the card's class of {str(c)!r}" for c in theirs)
        raise ValueError(
            f"the classes of the estimator are {listed(theirs)}, those of the card {listed(mine)}: which "
            f"is which? Fit it on the numbers of events.label, or give classes=({', '.join(wanted)})"
        )

    @property
    def class_order(self) -> tuple[int, ...]:
        """Place in ``estimator.classes_`` of each class, in the order of the card."""
        names, mine = self._class_names(), self.schema.classes
        return tuple(map(names.index, mine)) if set(names) == set(mine) else tuple(range(len(names)))

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Scores ``[E, O]``; warns where a probability was clipped."""
        same_columns(self.schema, events.schema)
        x = events.table()[0]
        scores = need_scores(self.score_table(x), events)
        limit = np.log((1 - self.clip) / self.clip) * (1 - 1e-9)  # up to rounding
        if self._by_probability() and (clipped := int((np.abs(scores) >= limit).any(axis=1).sum())):
            warnings.warn(
                f"{clipped} of {len(x)} events have a probability within {self.clip:g} of 0 or 1; "
                f"their log-odds are taken as ±{limit:.3g}",
                UserWarning,
                stacklevel=2,
            )
        return scores

    def score_table(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores ``[E, O]`` of rows of the table."""
        return _score_in_chunks(x, len(self.outputs), lambda chunk: self._score(chunk.copy()))

    @cached_property
    def _parts(self) -> tuple[list[Any], Any]:
        """Transformers, and the estimator behind them."""
        return split(self.estimator)

    def _by_probability(self) -> bool:
        return hasattr(self.estimator, "classes_") and not hasattr(self._parts[1], "decision_function")

    def _score(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        transformers, last = self._parts
        with warnings.catch_warnings():  # their order was checked when the model was made
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            if transformers:
                x = transformed(transformers, x, self.estimator)
            if not hasattr(self.estimator, "classes_"):
                return np.asarray(last.predict(x), dtype=np.float64)
            order = list(self.class_order)
            if not self._by_probability():
                score = np.asarray(last.decision_function(x), dtype=np.float64)
                if len(order) == 2:  # of the second class of the estimator
                    return score if order == [0, 1] else -score
                return score[:, order]
            p = np.asarray(last.predict_proba(x), dtype=np.float64)[:, order]
        return logits_of(p, self.clip)


def logits_of(p: NDArray[np.float64], clip: float) -> NDArray[np.float64]:
    """Logits of clipped probabilities ``[E, K]``: one, the log-odds, for two classes, else log(p)."""
    if p.shape[1] > 2:
        return np.asarray(np.log(np.clip(p, clip, 1.0)))
    one = np.clip(p[:, 1:], clip, 1 - clip)
    return np.asarray(np.log(one / (1 - one)))


def _score_in_chunks(
    x: NDArray[np.float32], outputs: int, score: Callable[[NDArray[np.float32]], NDArray[np.floating]]
) -> NDArray[np.float64]:
    scores = np.empty((len(x), outputs))
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        scores[rows] = score(x[rows]).reshape(-1, outputs)
    return scores


def _placeholders(size: int) -> set[tuple[str, ...]]:
    """Names that LightGBM and xgboost give to columns without any."""
    return {tuple(f"{name}{i}" for i in range(size)) for name in ("Column_", "f")}
