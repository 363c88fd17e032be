"""Overfitting: importances in the training events against those in others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import chi2, spearmanr

from hepxai.core.estimate import Array, Estimate
from hepxai.metrics.importance import Importance
from hepxai.metrics.null import NullDistribution

TOYS = 500
"""Rankings drawn for the error of the rank distance."""
DRAWS = 4000
"""Distances drawn where nothing differs."""


@dataclass(frozen=True)
class ImportanceShift:
    """Importances of the same columns in the training events and in the validation events.

    A column whose importance is larger in training was memorised there.

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
    def covariance(self) -> Array:
        """Covariance of `difference`, ``[N, N]``."""
        parts = (self.train, self.valid)
        one, other = (np.diag(i.error**2) if i.covariance is None else i.covariance for i in parts)
        return np.asarray(one + other)

    @property
    def distance(self) -> Estimate:
        """Length of `difference`, D = √Σ_f d_f², in units of the metric; linearised error.

        It is never negative, and not 0 where nothing differs: compare with `null`, or take `excess`.
        """
        d = self.difference
        length, spread = np.sqrt(d @ d), np.sqrt(max(float(d @ self.covariance @ d), 0.0))
        error = spread / length if length > 0 else self.floor
        return Estimate(np.asarray(length), np.asarray(error), float(len(self.train.names)))

    @property
    def floor(self) -> float:
        """Root of the mean square distance where nothing differs but the events: √Σ_f σ_f²."""
        return float(np.sqrt(np.sum(self.error**2)))

    @cached_property
    def null(self) -> NullDistribution:
        """Distances where nothing differs but the events: lengths of normal numbers with `covariance`."""
        scale = np.sqrt(np.linalg.eigvalsh(self.covariance).clip(min=0))
        drawn = np.random.default_rng(0).normal(size=(DRAWS, len(scale)))
        return NullDistribution(np.sqrt(np.sum((drawn * scale) ** 2, axis=1)))

    @property
    def excess(self) -> Estimate:
        """Distance beyond the mean of `null`: compatible with 0 where nothing differs."""
        d = self.distance
        return Estimate(np.asarray(d.value - self.null.values.mean()), d.error, d.n_eff)

    @property
    def significance(self) -> float:
        """`excess` in standard deviations of `null`; NaN where no column is ever used."""
        spread = float(self.null.expectation.error)
        return float(self.excess.value) / spread if spread > 0 else np.nan

    def __str__(self) -> str:
        return f"distance {self.distance}, by chance {self.null.expectation} ({self.significance:.1f} σ)"

    def compatible(self) -> tuple[float, int, float]:
        """χ² of the differences against 0, its degrees of freedom and its p-value.

        Columns that are never used, hence 0 ± 0 in both, do not count. The covariance of the columns enters
        where both importances have one.
        """
        used = self.error > 0
        if not used.any():
            return 0.0, 0, 1.0
        pull, scale = self.difference[used] / self.error[used], np.outer(self.error[used], self.error[used])
        correlation = self.covariance[np.ix_(used, used)] / scale
        inverse, ndf = (f(correlation, 1e-6, hermitian=True) for f in (np.linalg.pinv, np.linalg.matrix_rank))
        value = float(pull @ inverse @ pull)
        return value, int(ndf), float(chi2.sf(value, ndf))

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
