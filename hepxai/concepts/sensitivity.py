"""TCAV scores with errors and p-values: the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hepxai.concepts.result import estimate_from_json, estimate_to_json
from hepxai.core.estimate import Estimate
from hepxai.core.html import html_table

Array = NDArray[np.float64]
Statistic = Literal["derivative", "score"]
SATURATED = "a score of 0 or 1, as for more than 1 in 40 random directions"
ARRAYS = ("concept_error", "band", "p_value", "corrected")


@dataclass(frozen=True)
class Comparison:
    """Values of all concepts and classes, compared with those of random directions.

    Attributes
    ----------
    estimate : Estimate, shape [K, T]
        With the statistical error of the events, which are weighted.
    concept_error : ndarray, shape [K, T]
        Error from the examples of the concept (bootstrap); 0 for a given direction.
    band : ndarray, shape [2, K, T]
        2.5 % and 97.5 % quantile of random directions.
    p_value : ndarray, shape [K, T]
        Two-sided probability of a value as far out, for a random direction.
    corrected : ndarray, shape [K, T]
        The same, corrected for the number of concepts and classes (Holm): the look-elsewhere effect.
    """

    estimate: Estimate
    concept_error: Array
    band: Array
    p_value: Array
    corrected: Array

    @property
    def value(self) -> Array:
        """Values, ``[K, T]``."""
        return self.estimate.value

    @property
    def error(self) -> Array:
        """Errors of the events and of the examples of the concept in quadrature, ``[K, T]``."""
        return np.asarray(np.hypot(self.estimate.error, self.concept_error))

    def to_json(self) -> dict[str, Any]:
        """Nested lists of numbers."""
        arrays = {name: getattr(self, name).tolist() for name in ARRAYS}
        return {"estimate": estimate_to_json(self.estimate)} | arrays

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Comparison:
        """Comparison from the output of `to_json`."""
        arrays = {name: np.asarray(stored[name], dtype=np.float64) for name in ARRAYS}
        return Comparison(estimate_from_json(stored["estimate"]), **arrays)


@dataclass(frozen=True)
class TcavScores:
    """Dependence of the target of each class on each concept.

    Attributes
    ----------
    layer : str
    concepts, classes, targets : tuple of str
        Lengths K, T and T; the targets are explained for the events of each class.
    score : Comparison
        Fraction of events whose target rises along the concept.
    derivative : Comparison
        Mean derivative of the target along the concept, in units of the target per unit of activation.
        It has more power: where the sign is the same for all events, the fraction is 0 or 1 for most random
        directions, too.
    accuracy : mapping of str to Estimate
        Balanced accuracy of the linear classifier of each concept that was given by examples.
    settings : mapping
        Everything needed to repeat it (JSON values).
    """

    layer: str
    concepts: tuple[str, ...]
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    score: Comparison
    derivative: Comparison
    accuracy: Mapping[str, Estimate] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = f"{len(self.concepts)} concepts x {len(self.classes)} classes"
        return f"<TcavScores: {size}, {int(self.significant().sum())} significant at 5 %>"

    def _repr_html_(self) -> str:
        header, columns = ("concept", *self.classes), range(len(self.classes))
        stars = np.where(self.significant(), "*", "")
        rows = [
            (name, *(f"{self.text((k, t))}{stars[k, t]}" for t in columns))
            for k, name in enumerate(self.concepts)
        ]
        note = f"*: corrected p-value of the mean derivative below 5 %. Saturated: {SATURATED}."
        return html_table(f"TCAV scores of layer {self.layer}", header, rows, note)

    def text(self, place: tuple[int, int]) -> str:
        """Score of a concept for a class (row, column), and its `note`."""
        return ", ".join(filter(None, (str(self.score.estimate.at(place)), self.note(place))))

    def significant(self, level: float = 0.05, statistic: Statistic = "derivative") -> NDArray[np.bool_]:
        """True where the corrected p-value is at most ``level``, ``[K, T]``."""
        comparison: Comparison = getattr(self, statistic)
        return np.asarray(comparison.corrected <= level)

    @property
    def independent(self) -> NDArray[np.bool_]:
        """True for each class whose target does not depend on the layer: all derivatives are 0, ``[T]``."""
        d = self.derivative
        return np.asarray(~(d.value.any(axis=0) | d.error.any(axis=0) | d.band.any(axis=(0, 1))))

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """True where the score is 0 or 1, as for more than 1 in 40 random directions, ``[K, T]``."""
        value, (low, high) = self.score.value, self.score.band
        none, all_events = (np.isclose(value, n) & np.isclose(end, n) for n, end in ((0, low), (1, high)))
        return np.asarray(none | all_events)

    def note(self, place: tuple[int, int]) -> str:
        """Reason why the score of a concept for a class (row, column) says nothing; empty if it does."""
        if self.independent[place[1]]:
            return f"does not depend on layer {self.layer}"
        return "saturated" if self.saturated[place] else ""

    def to_json(self) -> dict[str, Any]:
        """Numbers, lists and texts."""
        names = {n: list(getattr(self, n)) for n in ("concepts", "classes", "targets")}
        accuracy = {name: estimate_to_json(e) for name, e in self.accuracy.items()}
        compared = {n: getattr(self, n).to_json() for n in ("score", "derivative")}
        return names | compared | {"layer": self.layer, "accuracy": accuracy, "settings": dict(self.settings)}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> TcavScores:
        """Scores from the output of `to_json`, possibly read from JSON."""
        names: dict[str, Any] = {n: tuple(stored[n]) for n in ("concepts", "classes", "targets")}
        compared: dict[str, Any] = {n: Comparison.from_json(stored[n]) for n in ("score", "derivative")}
        accuracy = {name: estimate_from_json(e) for name, e in stored["accuracy"].items()}
        return TcavScores(
            layer=stored["layer"], accuracy=accuracy, settings=stored["settings"], **names, **compared
        )


def two_sided(value: Array, null: Array) -> Array:
    """Twice the smaller tail of a null distribution ``[R, ...]``, the value counted as one more draw."""
    draws = len(null) + 1
    above, below = (1 + np.sum(null >= value, axis=0), 1 + np.sum(null <= value, axis=0))
    return np.asarray(np.minimum(1.0, 2 * np.minimum(above, below) / draws))


def holm(p_values: Array) -> Array:
    """Corrected p-values of any shape [Holm, Scand. J. Stat. 6 (1979) 65], for any dependence of tests."""
    order = np.argsort(p_values, axis=None)
    steps = p_values.ravel()[order] * np.arange(p_values.size, 0, -1)
    corrected = np.empty(p_values.size)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected.reshape(p_values.shape)
