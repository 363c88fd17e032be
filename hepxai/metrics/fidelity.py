"""Fidelity of a surrogate to the model."""

from __future__ import annotations

import numpy as np

from hepxai.core.estimate import Array, Estimate, ratio_mean, share
from hepxai.metrics.classification import accuracy, auc, both_classes, need_numbers


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
        ``agreement``: weighted fraction on the same side of 0; ``constant_agreement``: that of the best
        constant decision, which needs no surrogate; ``logit_correlation``: weighted Pearson correlation, its
        error linearised event by event; ``auc`` of the surrogate against the original's decision (absent if
        the original decides one way only).
    """
    need_numbers(surrogate=surrogate, original=original, weight=weight)
    always = [share((original > 0) == yes, weight, "rate of a constant decision") for yes in (True, False)]
    result = {
        "agreement": accuracy(surrogate, original > 0, weight),
        "constant_agreement": max(always, key=lambda e: float(e.value)),
        "logit_correlation": _correlation(surrogate, original, weight),
    }
    decided = original > 0
    if both_classes(decided, weight):
        result["auc"] = auc(surrogate, decided, weight)
    return result


def _correlation(x: Array, y: Array, weight: Array) -> Estimate:
    def mean(values: Array) -> Estimate:
        return ratio_mean(values, np.ones(len(values)), weight)

    dx, dy = (v - mean(v).value for v in (x, y))
    vx, vy = (mean(d**2).value for d in (dx, dy))
    if not (vx > 0 and vy > 0):
        return Estimate(np.asarray(np.nan), np.asarray(np.nan), mean(x).n_eff)
    zx, zy = dx / np.sqrt(vx), dy / np.sqrt(vy)
    value = mean(zx * zy)
    # Influence of one event on Pearson's r (Devlin, Gnanadesikan & Kettenring 1975); its mean is 0.
    influence = mean(zx * zy - 0.5 * value.value * (zx**2 + zy**2))
    return Estimate(value.value, influence.error, value.n_eff).within("correlation of the logits", -1, 1)
