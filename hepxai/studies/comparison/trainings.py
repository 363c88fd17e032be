"""Differences of methods over several trainings, judged by the statistical error and the spread."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

from hepxai.attribution.spread import TRAINING
from hepxai.core.estimate import Estimate
from hepxai.metrics.averages import over_seeds

ERRORS = 3.0
"""Size of a difference, in statistical errors and in spreads, from which it counts."""


def differences(numbers: Sequence[Estimate], others: Sequence[Estimate]) -> list[Estimate]:
    """Differences of two numbers, training by training.

    The errors of both are added in quadrature, too large for two methods on the same events: the difference
    is judged cautiously.
    """
    pairs = zip(numbers, others, strict=True)
    return [Estimate(a.value - b.value, np.hypot(a.error, b.error), a.n_eff) for a, b in pairs]


def exceeds(numbers: Sequence[Estimate], errors: float = ERRORS) -> bool:
    """True if a number has one sign in all trainings, and its mean exceeds so many of both errors.

    Never for a single training, whose spread is unknown.
    """
    mean, signs = over_seeds(numbers), {np.sign(float(n.value)) for n in numbers}
    if TRAINING not in mean.spread or len(signs) != 1 or 0 in signs:
        return False
    return bool(abs(mean.value) > errors * max(mean.error, mean.spread[TRAINING]))


def is_better(
    numbers: Sequence[Estimate], others: Sequence[Estimate], *, larger: bool = True, errors: float = ERRORS
) -> bool:
    """True if a number is better than another one of the same trainings, by a difference that `exceeds`."""
    difference = differences(numbers, others)
    return exceeds(difference, errors) and bool(difference[0].value > 0) == larger


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
    for one, other in itertools.permutations(numbers, 2):
        if is_better(numbers[one], numbers[other], larger=larger, errors=errors):
            yield one, other
