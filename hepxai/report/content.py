"""What a report is made from: one frozen record, checked before anything is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.jagged import IntArray
from hepxai.events import Events

Number = Mapping[str, float | None]


@dataclass(frozen=True)
class ReportContent:
    """All that a report shows. Empty mappings and sequences are fine: their sections say what to run.

    Attributes
    ----------
    title : str
    provenance : mapping of str to Any
        Hashes, versions, seeds, paths as text: whatever JSON holds and a reader needs to trust or repeat
        the run.
    cards : mapping of str to str
        Name and YAML text.
    cutflow : sequence of mapping
        Rows with sample, step, entries, weighted, error.
    history : sequence of mapping
        One row per epoch: epoch and any of train_loss, valid_loss, valid_auc, learning_rate, …
    metrics : mapping
        ``split → name → {"value", "error"}``: accuracy, auc, rejection@0.5, … Infinity, NaN and None (the
        null that JSON holds for both) are shown as such.
    events : Events
        The whole population.
    scores : ndarray of float64, shape [E]
        Logit of class 1 for every event; of a regression what it says of its first target.
    explained : mapping of str to Attribution
        ``method → attribution``; each carries the events that it explains.
    focus : tuple of two str
        Particle types of the pair that the physics question is about.
    observer : str, optional
        Name in ``events.observers``, for example of the mass of the pair in focus.
    warnings : sequence of str
        Shown at the top, and beside the products of a method that the text names.
    fidelity : mapping
        ``split → name → {"value", "error"}`` of a surrogate: agreement, logit_correlation, auc.
    names : mapping of str to str
        Axis labels with units for observers and the like, where the built-in ones do not do.
    about : sequence of str
        What was trained on what, in a sentence or two each: data, stand-ins, model.
    best_epoch : float, optional
        Epoch whose weights were kept, as the history counts.
    calibrated_loss : float, optional
        Validation loss of the model as it is used, after the calibration.
    predictions : mapping of str to ndarray of float64, shape [E]
        What a regression says of each target; empty for a classifier.
    """

    title: str
    provenance: Mapping[str, Any]
    cards: Mapping[str, str]
    cutflow: Sequence[Mapping[str, Any]]
    history: Sequence[Number]
    metrics: Mapping[str, Mapping[str, Number]]
    events: Events
    scores: NDArray[np.float64]
    explained: Mapping[str, Attribution]
    focus: tuple[str, str]
    observer: str | None = None
    warnings: Sequence[str] = ()
    fidelity: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    about: Sequence[str] = ()
    best_epoch: float | None = None
    calibrated_loss: float | None = None
    predictions: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        said = {f"predictions of {target}": values for target, values in self.predictions.items()}
        for what, values in ({"scores": self.scores} | said).items():
            if np.shape(values) != (len(self.events),):
                raise ValueError(f"{what} have shape {np.shape(values)} for {len(self.events)} events")
            if bad := int(np.count_nonzero(~np.isfinite(values))):
                raise ValueError(f"{bad} of {len(values)} {what} are NaN or infinite; no event is left out")
        for particle in self.focus:
            self.events.schema.code(particle)
        if self.observer is not None and self.observer not in self.events.observers:
            known = ", ".join(self.events.observers) or "none"
            raise KeyError(f"no observer {self.observer!r}; the events have {known}")
        for method, attribution in self.explained.items():
            if attribution.events.schema != self.events.schema:
                raise ValueError(f"{method} explains events of another schema")
            if not self._known(attribution.events).all():
                raise ValueError(f"{method} explains an event that is not among those of the report")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, the one that a positive score means first."""
        return self.events.schema.classes[::-1]

    def scores_of(self, events: Events) -> NDArray[np.float64]:
        """Scores of part of the population, found by file and entry."""
        return np.asarray(self.scores)[self._rows(events)]

    def predicted(self, target: str, events: Events) -> NDArray[np.float64]:
        """Predictions of part of the population, found by file and entry."""
        return np.asarray(self.predictions[target])[self._rows(events)]

    def _rows(self, events: Events) -> IntArray:
        order = np.lexsort((self.events.entry, self.events.file))
        known, asked = self._key(self.events)[order], self._key(events)
        return order[np.minimum(np.searchsorted(known, asked), max(len(known) - 1, 0))]

    def _known(self, events: Events) -> NDArray[np.bool_]:
        return np.isin(self._key(events), self._key(self.events))

    def _key(self, events: Events) -> IntArray:
        entries = int(self.events.entry.max(initial=0)) + 1
        # An entry beyond those known would wrap into the next file: give it a key that nothing has.
        return np.where(events.entry < entries, events.file * entries + events.entry, -1)

    def warnings_about(self, method: str) -> tuple[str, ...]:
        """Those warnings that name a method, or the surrogate that it stands on."""
        words = {method.lower()} | ({"surrogate"} if method.startswith("surrogate") else set())
        named = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in words), re.IGNORECASE)
        return tuple(w for w in self.warnings if named.search(w))
