"""Ranking of all entries of a population together, with events as the independent units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Array, Estimate, effective
from hepxai.core.jagged import IntArray
from hepxai.metrics.classification import fraction_below

Flags = NDArray[np.bool_]


def pooled_auroc(value: Array, true: Flags, weight: Array, owner: IntArray) -> Estimate:
    """Probability that a true entry of the population has a larger value than another one, ties ½.

    Parameters
    ----------
    value, true : ndarray, shape [N]
    weight : ndarray, shape [E]
        Signed, of the events.
    owner : ndarray of int64, shape [N]
        Event of each entry.

    Returns
    -------
    Estimate
        The error adds up the placements [DeLong, Biometrics 44 (1988) 837] of each event, whose entries rise
        and fall together. NaN without true or without other entries, or where their weights cancel.
    """
    w = weight[owner]
    positive, negative = float(w[true].sum()), float(w[~true].sum())
    if positive == 0 or negative == 0:
        return _unknown(weight)
    placement = np.empty(len(value))
    placement[true] = fraction_below(value[true], value[~true], w[~true])
    placement[~true] = 1 - fraction_below(value[~true], value[true], w[true])
    area = float(w[true] @ placement[true]) / positive
    influence = w * (placement - area) / np.where(true, positive, negative)
    return Estimate(np.asarray(area), _clustered(influence, weight, owner), effective(weight))


def pooled_precision(value: Array, true: Flags, weight: Array, owner: IntArray) -> Estimate:
    """Average precision of the population: mean over the true entries of the precision at their value.

    Precision at t is the weight of the true entries of value ≥ t over that of all entries of value ≥ t.
    With signed weights that can leave [0, 1] where few entries are above t; NaN where it has no denominator.
    Parameters as in `pooled_auroc`; the error is linearised in the weights of the events.
    """
    used = np.flatnonzero(weight[owner])
    order = used[np.argsort(-value[used], kind="stable")]
    w, hit = weight[owner][order], true[order]
    positive = float(w[hit].sum())
    if positive == 0:
        return _unknown(weight)
    first, last = _tied(value[order])
    selected, right = (np.cumsum(v)[last] for v in (w, np.where(hit, w, 0.0)))
    selected = np.where(hit, selected, 1.0)  # only the precision at true entries counts
    if (selected == 0).any():
        return _unknown(weight)
    precision = right / selected
    average = float(np.sum(np.where(hit, w * precision, 0.0)) / positive)
    # An entry changes the precision at its own value and at all lower ones.
    share = np.where(hit, w / selected, 0.0)
    below, precise_below = (_from(v)[first] for v in (share, share * precision))
    influence = np.where(hit, precision - average + below, 0.0) - precise_below
    return Estimate(
        np.asarray(average), _clustered(w * influence / positive, weight, owner[order]), effective(weight)
    )


def pooled_by_chance(value: Array, share: Array, weight: Array, owner: IntArray) -> tuple[float, float]:
    """Expected `pooled_auroc` and `pooled_precision` for a truth shuffled inside each event.

    Not ½ and not the prevalence: if small events have larger values, and a larger share of true entries,
    the ranking of the population is better than any ranking inside an event.

    Parameters
    ----------
    value, weight, owner
        As in `pooled_auroc`.
    share : ndarray, shape [E]
        Fraction of true entries of each event.
    """
    f, w = share[owner], weight[owner]
    positive, negative = float(w @ f), float(w @ (1 - f))
    if positive == 0 or negative == 0:
        return np.nan, np.nan
    area = float(w * f @ fraction_below(value, value, w * (1 - f))) / positive
    order = np.flatnonzero(w)[np.argsort(-value[w != 0], kind="stable")]
    f, w, (_, last) = f[order], w[order], _tied(value[order])
    selected, right = (np.cumsum(v)[last] for v in (w, w * f))
    if ((selected == 0) & (f > 0)).any():
        return area, np.nan
    precision = (right + w * (1 - f)) / np.where(f > 0, selected, 1.0)  # the entry itself is true
    return area, float(w * f @ precision) / positive


def _tied(falling: Array) -> tuple[IntArray, IntArray]:
    """First and last place of the equal values around each place."""
    begins = np.append(True, np.diff(falling) != 0)[: len(falling)]
    start = np.flatnonzero(begins)
    group, stop = np.cumsum(begins) - 1, np.append(start[1:], len(falling)) - 1
    return start[group], stop[group]


def _from(values: Array) -> Array:
    """Sum of each entry and all after it."""
    return np.cumsum(values[::-1])[::-1]


def _clustered(influence: Array, weight: Array, owner: IntArray) -> Array:
    events = int(np.count_nonzero(weight))
    total = np.bincount(owner, weights=influence, minlength=len(weight))
    small = events / (events - 1) if events > 1 else np.nan
    return np.asarray(np.sqrt(small * np.sum(total**2)))


def _unknown(weight: Array) -> Estimate:
    return Estimate(np.asarray(np.nan), np.asarray(np.nan), effective(weight))
