"""How well a surrogate repeats the model that it stands for."""

from __future__ import annotations

import numpy as np

from hepxai.estimate import Estimate, ratio_mean
from hepxai.metrics.classification import Array, auc


def fidelity(surrogate: Array, original: Array, weight: Array) -> dict[str, Estimate]:
    """Agreement of two logits on the same events.

    Parameters
    ----------
    surrogate, original : ndarray, shape [E]
        Logits.
    weight : ndarray, shape [E]
        Signed.

    Returns
    -------
    dict
        ``agreement``: weighted fraction on the same side of 0; ``logit_correlation``: weighted Pearson
        correlation, its error linearised event by event; ``auc`` of the surrogate against the
        original's decision (absent if the original decides one way only).
    """
    same = ((surrogate > 0) == (original > 0)).astype(np.float64)
    result = {
        "agreement": ratio_mean(same, np.ones(len(same)), weight),
        "logit_correlation": _correlation(surrogate, original, weight),
    }
    decided = original > 0
    if decided.any() and not decided.all():
        result["auc"] = auc(surrogate, decided, weight)
    return result


def _correlation(x: Array, y: Array, weight: Array) -> Estimate:
    norm = weight.sum()
    dx, dy = (v - np.sum(weight * v) / norm for v in (x, y))
    vx, vy = (np.sum(weight * d**2) / norm for d in (dx, dy))
    if not (vx > 0 and vy > 0):
        return Estimate(np.asarray(np.nan), np.asarray(np.nan), float(norm**2 / np.sum(weight**2)))
    zx, zy = dx / np.sqrt(vx), dy / np.sqrt(vy)
    value = float(np.sum(weight * zx * zy) / norm)
    # Influence of one event on Pearson's r (Devlin, Gnanadesikan & Kettenring 1975).
    influence = zx * zy - 0.5 * value * (zx**2 + zy**2)
    error = np.sqrt(np.sum((weight * influence) ** 2)) / abs(norm)
    return Estimate(np.asarray(value), np.asarray(error), float(norm**2 / np.sum(weight**2)))
