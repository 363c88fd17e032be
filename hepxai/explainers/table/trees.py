"""Trees inside a scikit-learn estimator."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.explainers.base import CannotExplainError

FORESTS = ("RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")
BOOSTED = ("GradientBoosting",)
HISTOGRAM = ("HistGradientBoosting",)
ADVICE = "for other models of the table there are permutation_importance and kernel_shap"
PIPELINE = "trees need no scaled columns: fit the last step alone on events.table(), and wrap that"


def family(estimator: Any) -> tuple[str, ...] | None:
    """Family of an estimator: ``FORESTS``, ``BOOSTED``, ``HISTOGRAM`` or None."""
    names = {kind.__name__ for kind in type(estimator).__mro__ if kind.__module__.startswith("sklearn.")}
    for kinds in (FORESTS, BOOSTED, HISTOGRAM):
        if names & {f"{name}{task}" for name in kinds for task in ("Classifier", "Regressor")}:
            return kinds
    return None


def need_trees(method: str, estimator: Any) -> tuple[str, ...]:
    """Family of an estimator.

    Raises
    ------
    CannotExplainError
        If it is none of the three; the message names these, and methods for other estimators.
    """
    kind = family(estimator)
    if kind is None:
        raise CannotExplainError(
            f"{method} reads the decision trees of scikit-learn's GradientBoosting, HistGradientBoosting, "
            f"RandomForest, ExtraTrees and DecisionTree models; {type(estimator).__name__} is none of them; "
            + (f"{PIPELINE}; " if hasattr(estimator, "named_steps") else "")
            + ADVICE
        )
    return kind


def counted_once(estimator: Any) -> Any:
    """Copy whose nodes hold the number of training events, each counted once, where they hold weights.

    Nodes of HistGradientBoosting hold that number anyway, and no weights.
    """
    plain = copy.copy(estimator)
    if hasattr(estimator, "tree_"):
        build, arguments, state = estimator.tree_.__reduce__()
        nodes = state["nodes"].copy()
        nodes["weighted_n_node_samples"] = nodes["n_node_samples"]
        plain.tree_ = build(*arguments)
        plain.tree_.__setstate__(state | {"nodes": nodes})
    elif hasattr(estimator, "estimators_"):
        trees = np.array(estimator.estimators_, dtype=object)
        plain.estimators_ = np.empty_like(trees)
        plain.estimators_.flat = [counted_once(tree) for tree in trees.flat]
    return plain


def columns_inside(estimator: Any) -> IntArray:
    """Column of the table for each column number inside a HistGradientBoosting model: categories first."""
    categorical = getattr(estimator, "is_categorical_", None)
    if categorical is None:
        return np.arange(estimator.n_features_in_)
    return np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~np.asarray(categorical))])
