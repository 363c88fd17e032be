"""Null distributions of statistics that measure a dependence between weighted columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hepxai.estimate import Estimate
from hepxai.metrics.maps import Array


@dataclass(frozen=True)
class Null:
    """Values of a statistic where there is nothing to find.

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

    def p_value(self, seen: float) -> float:
        """Fraction of the draws, with the data themselves as one of them, at least as large; NaN for NaN."""
        if not (np.isfinite(seen) and np.isfinite(self.values).all()):
            return float("nan")
        return float((1 + np.count_nonzero(self.values >= seen)) / (1 + len(self.values)))


def random_signs(statistic: Callable[[Array], float], size: int, *, draws: int, seed: int) -> Null:
    """Statistic where each event's contribution to the dependence gets a random sign.

    A permutation of one column is no null distribution where weights depend on that column: the values of
    heavy events come to light ones. Signs leave values and weights together. Independence makes the
    contributions sum to zero on average, and signs of their own keep their spread, whatever the weights
    [wild bootstrap: Wu, Ann. Stat. 14 (1986) 1261; of degenerate V-statistics: Leucht & Neumann, J.
    Multivar. Anal. 117 (2013) 257].

    Parameters
    ----------
    statistic : callable
        From signs ``[E]`` to its value.
    size : int
        Events.
    draws, seed : int
        The same numbers for the same seed.
    """
    rng = np.random.default_rng(seed)
    return Null(np.array([statistic(rng.choice([-1.0, 1.0], size)) for _ in range(draws)]))
