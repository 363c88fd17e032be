"""Score of a model by which a population is judged: of a class, of two classes, or of a regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Array
from hepxai.events import Events
from hepxai.metrics.multiclass import class_log_odds
from hepxai.models.protocols import Tabular
from hepxai.models.target import Target


@dataclass(frozen=True)
class Score:
    """Score of a target, and the truth that a metric compares with it.

    Attributes
    ----------
    name : str
        Of the target.
    truth : ndarray, shape [E]
        Mask of the events of its class; of a regression the values.
    rows : ndarray of bool, shape [E]
        Events that it concerns.
    target : Target
    column : int, optional
        The only output that it needs; None for a comparison of classes.
    rest : bool
        The class is compared with several others.
    regression : bool
    """

    name: str
    truth: NDArray[Any]
    rows: NDArray[np.bool_]
    target: Target
    column: int | None
    rest: bool = False
    regression: bool = False

    @staticmethod
    def of(model: Tabular, events: Events, name: str | None) -> Score:
        """Score of a target by name.

        Raises
        ------
        KeyError
            If the outputs have no such target, or it was left out and there are several.
        """
        outputs, schema = model.outputs, events.schema
        if name is None and len(outputs) > 2:
            raise KeyError(f"the model has several outputs; choose one of {', '.join(outputs)}, as target=…")
        name = name or outputs[-1]
        target = Target.of(outputs, name)
        if schema.targets and name in schema.targets:
            truth = events.targets[:, schema.targets.index(name)].astype(np.float64)
            return Score(name, truth, np.isfinite(truth), target, outputs.index(name), regression=True)
        everything = np.ones(len(events), dtype=bool)
        if len(outputs) == 1:
            return Score(name, events.label == 1, everything, target, 0)
        one = int(np.argmax(target.weights))
        others = [k for k, w in enumerate(target.weights) if w < 0]
        if len(others) == 1:
            rows = (events.label == one) | (events.label == others[0])
            return Score(name, events.label == one, rows, target, None)
        return Score(name, events.label == one, everything, target, None, rest=True)

    def __call__(self, outputs: Array) -> Array:
        """Score ``[E]`` from outputs ``[E, O]``."""
        if self.rest:
            return np.asarray(class_log_odds(outputs)[:, int(np.argmax(self.target.weights))])
        return np.asarray(self.target(outputs), dtype=np.float64)
