"""Metrics with errors for any number of classes and signed weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from hepxai.core.estimate import Array, Estimate, effective, share
from hepxai.core.jagged import IntArray
from hepxai.events import SPLITS, Events
from hepxai.metrics.classification import (
    WORKING_POINTS,
    auc,
    auc_of_placements,
    binary_metrics,
    both_classes,
    has_weight,
    mean_recall,
    need_numbers,
    placements,
)

Metrics = dict[str, Estimate]


def class_logits(logits: NDArray[np.floating]) -> Array:
    """Logits ``[E, K]``, one for each class; a single logit z, ``[E]`` or ``[E, 1]``, becomes (0, z)."""
    z = np.asarray(logits, dtype=np.float64)
    z = z[:, None] if z.ndim == 1 else z
    return np.stack([np.zeros(len(z)), z[:, 0]], axis=1) if z.shape[1] == 1 else z


def class_log_odds(logits: NDArray[np.floating]) -> Array:
    """Log-odds of each class against all others ``[E, K]``, ``log p/(1 - p) = z_C - log Σ_{D≠C} exp z_D``."""
    z = class_logits(logits)
    others = (np.delete(z, k, axis=1) for k in range(z.shape[1]))
    return np.stack([z[:, k] - logsumexp(rest, axis=1) for k, rest in enumerate(others)], axis=1)


def confusion_matrix(logits: NDArray[np.floating], label: IntArray, weight: Array) -> Estimate:
    """Weighted fraction of each true class that is assigned to each class.

    An event is assigned to the class of the largest logit.

    Parameters
    ----------
    logits : ndarray, shape [E, K]; or [E] or [E, 1] for two classes
    label : ndarray of int, shape [E]
    weight : ndarray, shape [E]
        Signed.

    Returns
    -------
    Estimate, shape [K, K]
        Rows: true class, each with the sum 1; columns: assigned class. NaN in the row of a class without
        events, or whose weights sum to zero. The interval is that of `Estimate.bounded`.
    """
    z = class_logits(logits)
    need_numbers(logits=z, weight=weight)
    assigned = np.eye(z.shape[1])[z.argmax(axis=1)]
    rows = [Estimate.of(assigned[label == k], weight[label == k]) for k in range(z.shape[1])]
    value, error = (np.stack([getattr(row, name) for row in rows]) for name in ("value", "error"))
    size = np.array([[row.n_eff] for row in rows])
    return Estimate(value, error, effective(weight)).bounded("confusion matrix", size=size)


def mean_auc(logits: NDArray[np.floating], label: IntArray, weight: Array) -> Estimate | None:
    """Mean over the classes of the AUC against all others; None without events of a class.

    The score is `class_log_odds`. The error is DeLong's for correlated curves: the placement values of an
    event in all curves are added up.
    """
    return _aucs(class_log_odds(logits), label, weight)[1]


def _aucs(log_odds: Array, label: IntArray, weight: Array) -> tuple[dict[int, Estimate], Estimate | None]:
    """AUC of each class against all others, where both have events, and their mean if all have one."""
    classes = range(log_odds.shape[1])
    aucs, shares = {}, np.zeros(len(label))
    for k in (k for k in classes if both_classes(label == k, weight)):
        need_numbers(score=log_odds[:, k], weight=weight)
        placement = placements(log_odds[:, k], label == k, weight)
        aucs[k] = auc_of_placements(placement, label == k, weight)
        deviation, total = placement - float(aucs[k].value), weight[label == k].sum()
        shares += weight * deviation / np.where(label == k, total, weight.sum() - total) / len(classes)
    if len(aucs) < len(classes):
        return aucs, None
    value, error = np.asarray(np.mean([a.value for a in aucs.values()])), np.asarray(np.linalg.norm(shares))
    return aucs, Estimate(value, error, effective(weight)).bounded("mean AUC")


def classification_metrics(
    logits: NDArray[np.floating], events: Events, working_points: Sequence[float] = WORKING_POINTS
) -> dict[str, Metrics]:
    """All figures of merit of a classifier, for each split with at least two classes.

    Parameters
    ----------
    logits : ndarray, shape [E, K]; or [E] or [E, 1] for two classes
        In the order of ``events.schema.classes``.
    events : Events
    working_points : sequence of float
        Signal efficiencies of ``rejection@ε``; two classes only.

    Returns
    -------
    dict
        ``split → name → figure``. Of two classes ``accuracy, balanced_accuracy, auc, rejection@ε``. Of more
        ``accuracy``; ``balanced_accuracy``, the mean over the classes of the fraction that is assigned to the
        true one; ``auc_C_vs_rest`` of each class, by its log-odds against all others, and their mean,
        ``mean_auc``; ``auc_C_vs_D`` of each pair, the later class first, by ``z_C - z_D`` on their events.

    Raises
    ------
    ValueError
        If there is not a logit for each class, or a logit is NaN.

    Warns
    -----
    UserWarning
        If a split lacks one of several classes: figures that need it are left out.
    """
    classes, shape = events.schema.classes, np.shape(logits)
    outputs = shape[1] if len(shape) > 1 else 1
    if outputs != len(classes) and not (outputs == 1 and len(classes) == 2):
        raise ValueError(
            f"{outputs} logits for the classes {', '.join(classes) or '(none)'}; expected one logit per class"
        )
    z, result = class_logits(logits), {}
    for number, split in enumerate(SPLITS):
        rows = events.split == number
        label, weight = events.label[rows], events.weight[rows]
        present = [k for k in range(len(classes)) if has_weight(weight[label == k])]
        if len(present) < 2:
            continue
        if len(classes) == 2:
            score = (z[rows, 1] - z[rows, 0]) if outputs == 2 else z[rows, 1]
            result[split] = binary_metrics(score, label == 1, weight, working_points)
        else:
            if missing := [c for k, c in enumerate(classes) if k not in present]:
                warnings.warn(
                    f"the {split} split has no events of {', '.join(missing)}, or their weights sum to zero: "
                    "its figures of merit are those of the other classes",
                    stacklevel=2,
                )
            result[split] = dict(_metrics(z[rows], label, weight, classes, present))
    return result


def _metrics(
    z: Array, label: IntArray, weight: Array, classes: Sequence[str], present: Sequence[int]
) -> Iterator[tuple[str, Estimate]]:
    correct = z.argmax(axis=1) == label
    need_numbers(logits=z, weight=weight)
    yield "accuracy", share(correct, weight, "accuracy")
    if len(present) == len(classes):
        recalls = [Estimate.of(correct[label == k], weight[label == k]) for k in present]
        yield "balanced_accuracy", mean_recall(recalls)
    aucs, mean = _aucs(class_log_odds(z), label, weight)
    if mean is not None:
        yield "mean_auc", mean
    for k, estimate in aucs.items():
        yield f"auc_{classes[k]}_vs_rest", estimate
    for one, other in combinations(reversed(present), 2):
        two = (label == one) | (label == other)
        score = z[two, one] - z[two, other]
        yield f"auc_{classes[one]}_vs_{classes[other]}", auc(score, label[two] == one, weight[two])
