"""Sums over events that give weighted means per entry and their errors; sums of parts add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
K = TypeVar("K")
V = TypeVar("V", bound=Any)


def added(one: Mapping[K, V], other: Mapping[K, V]) -> dict[K, V]:
    """Sums of two mappings by key; a value that only one of them has is taken as it is."""
    return {**one, **other, **{key: one[key] + other[key] for key in one if key in other}}


@dataclass(frozen=True)
class RatioSums:
    """Sums of weights w, entries n and totals t of events; see `hepxai.core.estimate.ratio_mean`.

    Addition is associative and commutative up to rounding. The squares are about a reference c near the
    mean, so that no digits cancel [Chan, Golub, LeVeque, Am. Stat. 37 (1983) 242].

    Attributes
    ----------
    events : int
        Events with an entry and a weight.
    weight, weight_squared : float
        Σ w and Σ w².
    size, size_squared : float
        Σ w n and Σ w² n².
    total : ndarray
        Σ w t.
    reference : ndarray
        c, the mean where there is one.
    cross, squared : ndarray
        Σ w² n (t - c n) and Σ w² (t - c n)².
    """

    events: int
    weight: float
    weight_squared: float
    size: float
    size_squared: float
    total: Array
    reference: Array
    cross: Array
    squared: Array

    @staticmethod
    def of(total: Array, size: NDArray[np.number], weight: Array) -> RatioSums:
        """Sums of events.

        Parameters
        ----------
        total : ndarray, shape [E, ...]
        size : ndarray, shape [E]
        weight : ndarray, shape [E]
        """
        used = (size != 0) & (weight != 0)
        t, n, w = total[used], np.asarray(size[used], dtype=np.float64), weight[used]
        column = (slice(None),) + (None,) * (t.ndim - 1)
        sum_t, sum_n = np.sum(w[column] * t, axis=0), float(np.sum(w * n))
        reference = np.asarray(sum_t / sum_n if sum_n else np.zeros_like(sum_t))
        pull = w[column] * (t - reference * n[column])
        cross, squared = np.sum((w * n)[column] * pull, axis=0), np.sum(pull**2, axis=0)
        numbers = (len(w), float(w.sum()), float(w @ w), sum_n, float((w * n) @ (w * n)))
        return RatioSums(*numbers, *map(np.asarray, (sum_t, reference, cross, squared)))

    def __add__(self, other: RatioSums) -> RatioSums:
        names = ("events", "weight", "weight_squared", "size", "size_squared", "total")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        larger = max(self, other, key=lambda s: s.weight_squared)
        reference = np.asarray(sums["total"] / sums["size"] if sums["size"] else larger.reference)
        one, two = self._about(reference), other._about(reference)
        return RatioSums(**sums, reference=reference, cross=one[0] + two[0], squared=one[1] + two[1])

    def _about(self, reference: Array) -> tuple[Array, Array]:
        """``cross`` and ``squared`` about another reference."""
        shift = reference - self.reference
        cross = self.cross - shift * self.size_squared
        return cross, self.squared - shift * (self.cross + cross)

    @property
    def mean(self) -> Array:
        """Σ w t / Σ w n; NaN where no event contributes or the weights sum to zero."""
        return self.total / self.size if self.size else np.full_like(self.total, np.nan)

    @property
    def error(self) -> Array:
        """Standard error of the mean; NaN of fewer than two events."""
        if not self.size or self.events < 2:
            return np.full_like(self.total, np.nan)
        squared = np.maximum(self._about(self.mean)[1], 0.0)
        return np.asarray(np.sqrt(self.events / (self.events - 1) * squared) / abs(self.size))

    @property
    def n_eff(self) -> float:
        """Effective number of events, (Σ w)² / Σ w²; 0 without a mean."""
        return self.weight**2 / self.weight_squared if self.size and self.weight_squared else 0.0

    def to_json(self) -> dict[str, Any]:
        """Numbers and lists, from which `from_json` makes the same sums, bit for bit."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> RatioSums:
        """Sums of `to_json`."""
        arrays = ("total", "reference", "cross", "squared")
        values: dict[str, Any] = dict(entry)
        return RatioSums(**values | {k: np.asarray(values[k], dtype=np.float64) for k in arrays})
