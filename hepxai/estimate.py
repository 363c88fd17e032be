"""Means over weighted populations, with statistical errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """Values with their statistical errors; same shape, no shape for a single number.

    Attributes
    ----------
    value, error : ndarray of float64
    n_eff : float
        Effective number of events, (Σw)² / Σw².
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    n_eff: float

    def __format__(self, spec: str) -> str:
        return f"{format(float(self.value), spec)} ± {format(float(self.error), spec)}"

    def __str__(self) -> str:
        return f"{self:.4g}" if np.ndim(self.value) == 0 else f"{self.value} ± {self.error}"


def as_json(figures: Mapping[str, object]) -> dict[str, dict[str, float]]:
    """Figures of merit as ``{value, error}``, with ``low`` and ``high`` where they have an interval."""
    fields = ("value", "error", "low", "high")
    return {name: {k: float(getattr(e, k)) for k in fields if hasattr(e, k)} for name, e in figures.items()}


def ratio_mean(total: NDArray[np.float64], size: NDArray[np.number], weight: NDArray[np.float64]) -> Estimate:
    """Weighted mean per entry of a clustered population, events being the independent units.

    The mean is Σ_e w_e t_e / Σ_e w_e n_e for event totals ``t`` over ``n`` entries; its variance is the
    linearised (sandwich) one, Σ_e w_e² (t_e - mean n_e)² / (Σ_e w_e n_e)², times E/(E-1) [Cochran,
    Sampling Techniques, ch. 6]. Signed weights stay signed.

    Parameters
    ----------
    total : ndarray, shape [E, ...]
    size : ndarray, shape [E]
    weight : ndarray, shape [E]

    Returns
    -------
    Estimate
        NaN where no event contributes or the weights sum to zero.
    """
    used = (size != 0) & (weight != 0)
    t, n, w = total[used], np.asarray(size[used], dtype=np.float64), weight[used]
    norm = float(np.sum(w * n))
    if norm == 0 or len(w) == 0:
        empty = np.full(total.shape[1:], np.nan)
        return Estimate(empty, empty, 0.0)
    column = (slice(None),) + (None,) * (t.ndim - 1)
    mean = np.sum(w[column] * t, axis=0) / norm
    pull = w[column] * (t - mean * n[column])
    small = len(w) / (len(w) - 1) if len(w) > 1 else np.nan
    error = np.sqrt(small * np.sum(pull**2, axis=0)) / abs(norm)
    return Estimate(np.asarray(mean), np.asarray(error), float(w.sum() ** 2 / np.sum(w**2)))
