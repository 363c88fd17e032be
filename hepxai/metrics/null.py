"""Null distributions of statistics that measure a dependence between weighted columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hepxai.core.estimate import Array, Estimate


@dataclass(frozen=True)
class NullDistribution:
    """Values of a statistic under the null hypothesis.

    Attributes
    ----------
    values : ndarray, shape [R]
    """

    values: Array

    @property
    def expectation(self) -> Estimate:
        """Mean, and the spread of a single value (not the error of the mean)."""
        spread = self.values.std(ddof=1) if len(self.values) > 1 else np.nan
        return Estimate(np.asarray(self.values.mean()), np.asarray(spread), float(len(self.values)))

    def p_value(self, observed: float) -> float:
        """Fraction of values of at least ``observed``, counting the data as one more draw; NaN for NaN."""
        if not (np.isfinite(observed) and np.isfinite(self.values).all()):
            return float("nan")
        return float((1 + np.count_nonzero(self.values >= observed)) / (1 + len(self.values)))


def random_signs(
    statistic: Callable[[Array], float], size: int, *, draws: int, seed: int
) -> NullDistribution:
    """Null distribution from a random sign for each event's contribution to the dependence.

    Shuffling a column gives a wrong null distribution if the weights depend on it: heavy events get the
    values of light ones. Random signs keep value and weight of an event together. Under independence the
    contributions average to zero, and independent signs preserve their spread for any weights [wild
    bootstrap: Wu, Ann. Stat. 14 (1986) 1261; of degenerate V-statistics: Leucht & Neumann, J. Multivar.
    Anal. 117 (2013) 257].

    Parameters
    ----------
    statistic : callable
        Function of the signs ``[E]``.
    size : int
        Number of events.
    draws, seed : int
        Number of values, and seed of the random generator.
    """
    rng = np.random.default_rng(seed)
    return NullDistribution(np.array([statistic(rng.choice([-1.0, 1.0], size)) for _ in range(draws)]))
