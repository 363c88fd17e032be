"""What a model leans on in the events that trained it, against what holds in others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, spearmanr

from hepxai.estimate import Estimate
from hepxai.metrics.importance import Importance

Array = NDArray[np.float64]
TOYS = 500
"""Rankings drawn for the error of the rank distance."""


@dataclass(frozen=True)
class ImportanceShift:
    """Importances of the same columns in the training events and in the validation events.

    A column whose importance is larger in training was learned by heart there.

    Attributes
    ----------
    train, valid : Importance
        Of one model, by one metric.
    """

    train: Importance
    valid: Importance

    def __post_init__(self) -> None:
        for what in ("names", "metric", "target", "conditional"):
            one, other = getattr(self.train, what), getattr(self.valid, what)
            if one != other:
                raise ValueError(f"importances of different {what} cannot be compared: {one} and {other}")

    @property
    def difference(self) -> Array:
        """Importance in training minus that in validation, ``[N]``."""
        return self.train.mean - self.valid.mean

    @property
    def error(self) -> Array:
        """Standard error of `difference`, ``[N]``; the events of the two splits are different ones."""
        return np.asarray(np.hypot(self.train.error, self.valid.error))

    @property
    def distance(self) -> Estimate:
        """Length of `difference`, D = √Σ_f d_f², in units of the metric; linearised error √Σ_f d_f² σ_f² / D.

        It is never negative; `floor` is what errors alone make of it.
        """
        length = float(np.sqrt(np.sum(self.difference**2)))
        spread = float(np.sqrt(np.sum((self.difference * self.error) ** 2)))
        error = spread / length if length > 0 else self.floor
        return Estimate(np.asarray(length), np.asarray(error), float(len(self.train.names)))

    @property
    def floor(self) -> float:
        """Distance to be expected where nothing differs but the events: √Σ_f σ_f²."""
        return float(np.sqrt(np.sum(self.error**2)))

    def compatible(self) -> tuple[float, int, float]:
        """χ² of the differences against 0, its degrees of freedom and its p-value.

        Columns that are never used, hence 0 ± 0 in both, do not count. Columns of the same events are taken
        as independent, although they share what is hard about these events: the p-value is a guide.
        """
        used = self.error > 0
        value = float(np.sum((self.difference[used] / self.error[used]) ** 2))
        return value, int(used.sum()), float(chi2.sf(value, used.sum())) if used.any() else 1.0

    def rank_distance(self, *, seed: int = 0) -> Estimate:
        """One minus Spearman's correlation of the two rankings: 0 for the same order, 1 for unrelated ones.

        The error is the spread of rankings drawn with the errors of the importances. NaN where a ranking has
        no order.
        """
        rng, one, other = np.random.default_rng(seed), self.train, self.valid
        size = float(len(one.names))
        if np.ptp(one.mean) == 0 or np.ptp(other.mean) == 0:
            return Estimate(np.asarray(np.nan), np.asarray(np.nan), size)
        drawn = [[rng.normal(i.mean, i.error) for i in (one, other)] for _ in range(TOYS)]
        value = 1 - float(spearmanr(one.mean, other.mean).statistic)
        spread = float(np.std([1 - float(spearmanr(a, b).statistic) for a, b in drawn], ddof=1))
        return Estimate(np.asarray(value), np.asarray(spread), size)


def gap(train: Estimate, valid: Estimate) -> Estimate:
    """By how much a figure of merit is better in the training events; of other events, so errors add."""
    value, error = np.asarray(train.value - valid.value), np.asarray(np.hypot(train.error, valid.error))
    return Estimate(value, error, min(train.n_eff, valid.n_eff))
