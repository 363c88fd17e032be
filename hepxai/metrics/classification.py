"""Binary classification with signed weights: accuracy, AUC, working points, all with errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Array, Estimate, as_arrays, effective, ratio_mean, share

WORKING_POINTS = (0.3, 0.5, 0.7, 0.9)


def _mean(values: NDArray[np.generic], weight: Array) -> Estimate:
    return ratio_mean(np.asarray(values, dtype=np.float64), np.ones(len(values)), weight)


def need_numbers(**columns: NDArray[np.floating]) -> None:
    """Refuse columns with NaN, which has no place in an order and is on no side of a cut."""
    for name, values in columns.items():
        if bad := int(np.count_nonzero(np.isnan(values))):
            raise ValueError(f"{bad} of {len(values)} values of {name} are NaN; leave these events out")


def both_classes(signal: NDArray[np.bool_], weight: Array) -> bool:
    """True if signal and background are there, with weights that do not cancel."""
    return has_weight(weight[signal]) and has_weight(weight[~signal])


def has_weight(weight: Array) -> bool:
    """True if there are events, with weights that do not cancel."""
    return bool(abs(weight.sum()) > 1e-9 * abs(weight).sum())


def _need_two_classes(score: Array, signal: NDArray[np.bool_], weight: Array) -> None:
    need_numbers(score=score, weight=weight)
    if signal.all() or not signal.any():
        present = "signal" if len(signal) and signal.all() else "background" if len(signal) else "none"
        raise ValueError(f"both classes are needed, present is only: {present}")
    if not both_classes(signal, weight):
        empty = "background" if has_weight(weight[signal]) else "signal"
        raise ValueError(f"the weights of the {empty} sum to zero")


def accuracy(score: Array, signal: NDArray[np.bool_], weight: Array) -> Estimate:
    """Weighted fraction of events on the right side of logit 0."""
    need_numbers(score=score, weight=weight)
    return share((score > 0) == signal, weight, "accuracy")


def balanced_accuracy(score: Array, signal: NDArray[np.bool_], weight: Array) -> Estimate:
    """Mean of the two classes' weighted fractions on the right side of logit 0.

    Accuracy for equal total weights of the two classes: cross sections do not enter.
    """
    _need_two_classes(score, signal, weight)
    return mean_recall([_mean((score > 0)[of] == (of is signal), weight[of]) for of in (signal, ~signal)])


def mean_recall(recalls: Sequence[Estimate]) -> Estimate:
    """Balanced accuracy, from the fraction of each class on the right side."""
    value, error = as_arrays(recalls)
    n_eff, classes = np.array([r.n_eff for r in recalls]), len(recalls)
    mean = Estimate(value.sum() / classes, np.hypot.reduce(error) / classes, float(n_eff.sum()))
    return mean.bounded("balanced accuracy", size=classes**2 / (1 / n_eff).sum())


def fraction_below(score: Array, reference: Array, weight: Array) -> Array:
    """Weighted fraction of ``reference`` below each score, ties counted half."""
    order = np.argsort(reference, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    below, upto = (np.searchsorted(reference[order], score, side=s) for s in ("left", "right"))
    return np.asarray((total[below] + total[upto]) / (2 * total[-1]))


def placements(score: Array, signal: NDArray[np.bool_], weight: Array) -> Array:
    """Weighted fraction of the other class on the wrong side of each event, ties counted half, ``[E]``.

    The mean over either class is the area under the ROC curve.
    """
    order = np.argsort(score)
    is_signal, ranked = signal[order], score[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    bounds = np.append(starts, len(score))
    below = []
    for other in (~is_signal, is_signal):
        total = np.append(0.0, np.cumsum(np.where(other, weight[order], 0.0)))
        below.append((total[bounds[:-1]] + total[bounds[1:]]) / (2 * total[-1]))
    placement = np.empty(len(score))
    placement[order] = np.where(is_signal, *(np.repeat(b, np.diff(bounds)) for b in (below[0], 1 - below[1])))
    return placement


def auc(score: Array, signal: NDArray[np.bool_], weight: Array) -> Estimate:
    """Area under the ROC curve: the weighted Mann–Whitney statistic, valid for signed weights.

    The error is DeLong's (Biometrics 44 (1988) 837): the spread of the placement values of each class,
    generalised to weights. Exact for unweighted events. The interval is that of `Estimate.bounded`; near 0
    and 1, where DeLong's error vanishes, with the variance of Hanley & McNeil (Radiology 143 (1982) 29) in
    the symmetric form of Newcombe (Stat. Med. 25 (2006) 559).
    """
    _need_two_classes(score, signal, weight)
    return auc_of_placements(placements(score, signal, weight), signal, weight)


def auc_of_placements(placement: Array, signal: NDArray[np.bool_], weight: Array) -> Estimate:
    """Area under the ROC curve from the `placements` of the events; see `auc`."""
    value, other = (_mean(placement[of], weight[of]) for of in (signal, ~signal))
    area_under_curve = Estimate(value.value, np.hypot(value.error, other.error), effective(weight))
    area, s, b = np.clip(value.value, 0, 1), value.n_eff, other.n_eff
    pairs = max((s + b) / 2 - 1, 0) * ((1 - area) / (2 - area) + area / (1 + area))
    return area_under_curve.bounded("AUC", size=s * b / (1 + pairs))


def auc_difference(score: Array, other: Array, signal: NDArray[np.bool_], weight: Array) -> Estimate:
    """AUC of ``score`` less that of ``other``, two scores of the same events.

    The error is DeLong's for correlated curves: the spread of the differences of the placement values. It is
    smaller than that of two independent samples where the scores agree on which events are hard.
    """
    _need_two_classes(score, signal, weight)
    need_numbers(other=other)
    gain = placements(score, signal, weight) - placements(other, signal, weight)
    value, rest = (_mean(gain[of], weight[of]) for of in (signal, ~signal))
    return Estimate(value.value, np.hypot(value.error, rest.error), value.n_eff + rest.n_eff)


def roc(score: Array, signal: NDArray[np.bool_], weight: Array) -> tuple[Array, Array, Array]:
    """Signal and background efficiency for falling thresholds, and the thresholds.

    With signed weights the curve need not be monotonic; nothing is smoothed away.

    Returns
    -------
    signal_efficiency, background_efficiency, threshold : ndarray, shape [T]
    """
    _need_two_classes(score, signal, weight)
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    pass_s, pass_b = (np.cumsum(np.where(c, weight, 0.0)[order])[last] for c in (signal, ~signal))
    return pass_s / pass_s[-1], pass_b / pass_b[-1], score[order][last]


def rejection(score: Array, signal: NDArray[np.bool_], weight: Array, efficiency: float) -> Estimate:
    """Background rejection 1/ε_b at a signal efficiency.

    The error adds the background's count at fixed threshold and the threshold's own error from the finite
    signal sample, through the slope of the ROC curve. The interval is one over that of ε_b: not symmetric.
    Infinite if no background passes, with a lower end.
    """
    if not 0 < efficiency <= 1:
        raise ValueError(f"efficiency={efficiency}; it must be above 0 and at most 1")
    eff_s, eff_b, threshold = roc(score, signal, weight)
    cut = threshold[np.argmax(eff_s >= efficiency)]
    passed = _mean(score[~signal] >= cut, weight[~signal])
    signal_error = _mean(score[signal] >= cut, weight[signal]).error
    error = np.hypot(passed.error, _slope(eff_s, eff_b, efficiency, float(signal_error)) * signal_error)
    ends = Estimate(passed.value, error, passed.n_eff).bounded(f"background efficiency at {efficiency:g}")
    with np.errstate(divide="ignore"):
        low, high = (np.asarray(1 / e) for e in (ends.high, ends.low))
    if passed.value <= 0:
        return Estimate(np.asarray(np.inf), np.asarray(np.inf), passed.n_eff, (low, np.asarray(np.inf)))
    return Estimate(1 / passed.value, error / passed.value**2, passed.n_eff, (low, high))


def _slope(eff_s: Array, eff_b: Array, efficiency: float, width: float) -> float:
    """dε_b/dε_s around a working point, over a window as wide as the efficiency's own error."""
    width = max(width, 0.01)
    # Signed weights can make the curve turn back; interpolation needs it not to.
    rising = np.maximum.accumulate(eff_s)
    low, high = max(efficiency - width, 0.0), min(efficiency + width, 1.0)
    below, above = (np.interp(e, rising, eff_b) for e in (low, high))
    return float((above - below) / (high - low))


def binary_metrics(
    score: Array, signal: NDArray[np.bool_], weight: Array, working_points: Sequence[float] = WORKING_POINTS
) -> dict[str, Estimate]:
    """Figures of merit of a binary score: ``accuracy, balanced_accuracy, auc, rejection@ε``."""
    measures = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "auc": auc}
    figures = {name: measure(score, signal, weight) for name, measure in measures.items()}
    return figures | {f"rejection@{e:g}": rejection(score, signal, weight, e) for e in working_points}
