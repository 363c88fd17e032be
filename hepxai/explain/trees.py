"""The trees inside a scikit-learn estimator, and which of its kinds have any that can be explained."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepxai.explain.base import CannotExplainError
from hepxai.jagged import IntArray

FORESTS = ("RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")
BOOSTED = ("GradientBoosting",)
HISTOGRAM = ("HistGradientBoosting",)
ADVICE = "for other models of the table there are permutation_importance and kernel_shap"


def family(estimator: Any) -> tuple[str, ...] | None:
    """Which of ``FORESTS``, ``BOOSTED`` and ``HISTOGRAM`` an estimator belongs to; None for all others."""
    names = {kind.__name__ for kind in type(estimator).__mro__ if kind.__module__.startswith("sklearn.")}
    for known in (FORESTS, BOOSTED, HISTOGRAM):
        if names & {f"{name}{task}" for name in known for task in ("Classifier", "Regressor")}:
            return known
    return None


def need_trees(method: str, estimator: Any) -> tuple[str, ...]:
    """Family of an estimator.

    Raises
    ------
    CannotExplainError
        If it is none of the three; the message says which are, and what works on the others.
    """
    found = family(estimator)
    if found is None:
        raise CannotExplainError(
            f"{method} reads the decision trees of scikit-learn's GradientBoosting, HistGradientBoosting, "
            f"RandomForest, ExtraTrees and DecisionTree models; {type(estimator).__name__} is none of them; "
            f"{ADVICE}"
        )
    return found


def columns_inside(estimator: Any) -> IntArray:
    """Column of the table for each column number inside a HistGradientBoosting model: categories first."""
    categorical = getattr(estimator, "is_categorical_", None)
    if categorical is None:
        return np.arange(estimator.n_features_in_)
    return np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~np.asarray(categorical))])
