"""Measures of maps over several trainings: statistical error, spread, and differences between methods."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hepxai.core.estimate import Estimate, as_arrays
from hepxai.core.formatting import with_errors

ERRORS = 3.0
"""Size of a difference, in statistical errors and in spreads, from which it counts."""


@dataclass(frozen=True)
class Repeated:
    """Mean over trainings on the same events.

    Attributes
    ----------
    value : float
    statistical : float
        Mean of the errors of the trainings: they share the events, so that more trainings do not reduce it.
    spread : float
        Standard deviation over the trainings, that of a single one; NaN for one training.
    trainings : int
    same_sign : bool
        True if the values of all trainings have one sign.
    """

    value: float
    statistical: float
    spread: float
    trainings: int
    same_sign: bool

    @staticmethod
    def of(numbers: Sequence[Estimate]) -> Repeated:
        """Mean of one number of each training."""
        value, error = as_arrays(numbers)
        spread = float(value.std(ddof=1)) if len(value) > 1 else np.nan
        sign = bool((value > 0).all() or (value < 0).all())
        return Repeated(float(value.mean()), float(error.mean()), spread, len(value), sign)

    @staticmethod
    def difference(numbers: Sequence[Estimate], others: Sequence[Estimate]) -> Repeated:
        """Difference of two numbers, training by training.

        The errors of both are added in quadrature, too large for two methods on the same events: the
        difference is judged cautiously.
        """
        pairs = zip(numbers, others, strict=True)
        return Repeated.of(
            [Estimate(a.value - b.value, np.hypot(a.error, b.error), a.n_eff) for a, b in pairs]
        )

    def __str__(self) -> str:
        return with_errors(self.value, {"stat": self.statistical, "trainings": self.spread})

    @property
    def estimate(self) -> Estimate:
        """Value with both errors in quadrature."""
        total = np.hypot(self.statistical, np.nan_to_num(self.spread))
        return Estimate(np.asarray(self.value), np.asarray(total), float(self.trainings))

    def exceeds(self, errors: float = ERRORS) -> bool:
        """True if the value has one sign in all trainings and exceeds so many of both errors.

        Never for a single training, whose spread is unknown.
        """
        least = errors * np.array([self.statistical, self.spread])
        return self.same_sign and bool((abs(self.value) > least).all())


def by_chance(trainings: int, errors: float = ERRORS) -> float:
    """Probability that a difference of 0 on average exceeds so many spreads, if only trainings differ.

    Two-sided, Student's t with ``trainings - 1`` degrees of freedom: a spread from few trainings is rough.
    """
    return float(2 * stats.t.sf(errors * np.sqrt(trainings), trainings - 1))


def resolved(
    numbers: Mapping[str, Sequence[Estimate]], *, larger: bool = True, errors: float = ERRORS
) -> Iterator[tuple[str, str]]:
    """Pairs of methods, the better one first, whose difference exceeds both errors.

    Parameters
    ----------
    numbers : mapping of str to sequence of Estimate
        One measure of each method and training.
    larger : bool
        True if a larger value is better.
    errors : float
    """
    for one, other in itertools.combinations(numbers, 2):
        difference = Repeated.difference(numbers[one], numbers[other])
        if difference.exceeds(errors):
            yield (one, other) if (difference.value > 0) == larger else (other, one)
