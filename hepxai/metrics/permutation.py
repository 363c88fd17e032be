"""What a statistic is worth where there is nothing to find: its values on permuted data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hepxai.estimate import Estimate
from hepxai.metrics.maps import Array


@dataclass(frozen=True)
class Null:
    """Values of a statistic on permuted data.

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
        """Fraction of the permutations, with the data themselves as one of them, at least as large."""
        return float((1 + np.count_nonzero(self.values >= seen)) / (1 + len(self.values)))


def permuted(statistic: Callable[[Array], float], values: Array, *, permutations: int, seed: int) -> Null:
    """Statistic of ``values`` dealt out anew among the events; the same numbers for the same seed."""
    rng = np.random.default_rng(seed)
    return Null(np.array([statistic(rng.permutation(values)) for _ in range(permutations)]))
