"""Ensemble: several trainings of a network, whose score is their mean logit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.events import Events
from hepxai.models.protocols import ChecksEvents, Model


@dataclass(frozen=True)
class Ensemble:
    """Trained models that score together; each is explained by itself, see `hepxai.explain`.

    Attributes
    ----------
    models : tuple of Model
        With the same view and outputs.

    Raises
    ------
    ValueError
        If there is none, or if views or outputs differ.
    """

    models: tuple[Model, ...]

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("an ensemble needs at least one model")
        for name in ("view", "outputs"):
            if len(found := {getattr(m, name) for m in self.models}) > 1:
                raise ValueError(f"models of an ensemble must have the same {name}, these have {found}")

    @property
    def view(self) -> str:
        """View of the events that the models take."""
        return self.models[0].view

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.models[0].outputs

    def check(self, events: Events) -> None:
        """Raise a ValueError if a model refuses the events."""
        for model in self.models:
            if isinstance(model, ChecksEvents):
                model.check(events)

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Mean logits, ``[E, O]``."""
        return np.asarray(np.mean(self.member_logits(events), axis=0))

    def member_logits(self, events: Events) -> NDArray[np.float64]:
        """Logits of every model, ``[T, E, O]``."""
        return np.stack([model.logits(events) for model in self.models])
