"""Boosted decision trees and random forests of scikit-learn on the event-level table."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

from hepxai.events import Events, Schema
from hepxai.models.card import BoostedTreesCard
from hepxai.models.network import output_names
from hepxai.models.schemas import same_columns
from hepxai.models.storage import Arrays, bytes_as_array, save_model
from hepxai.models.table.rows import finite_columns
from hepxai.models.table.stored_trees import CraftedError, check_archive, refusing_crafted
from hepxai.models.wrappers.table import SklearnModel, logits_of

ALGORITHMS = {
    "hist_gradient_boosting": HistGradientBoostingClassifier,
    "gradient_boosting": GradientBoostingClassifier,
    "random_forest": RandomForestClassifier,
}
REGRESSORS = {
    "hist_gradient_boosting": HistGradientBoostingRegressor,
    "gradient_boosting": GradientBoostingRegressor,
    "random_forest": RandomForestRegressor,
}
LOSSES = {"mae": "absolute_error", "mse": "squared_error"}
_HISTOGRAM = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_FORESTS = (RandomForestClassifier, RandomForestRegressor)
TRUSTED = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
"""Types of such estimators beyond those that skops trusts; others are refused."""


def estimator_of(card: BoostedTreesCard) -> Any:
    """Estimator without trees, which grow in steps."""
    limits = {"max_depth": card.depth, "max_leaf_nodes": card.leaves}
    common: dict[str, Any] = (limits if any(limits.values()) else {}) | {
        "min_samples_leaf": card.smallest_leaf,
        "random_state": card.training.seed,
        "warm_start": True,
    }
    if card.algorithm != "random_forest" and card.training.learning_rate is not None:
        common["learning_rate"] = card.training.learning_rate
    if card.algorithm == "hist_gradient_boosting":
        # It would use a random part of the training events, not the validation split.
        common |= {"l2_regularization": card.l2, "early_stopping": False}
    if card.training.regression and card.algorithm != "random_forest":
        common["loss"] = LOSSES[card.training.loss]
    return _kind(card)(**common)


def _kind(card: BoostedTreesCard) -> Any:
    return (REGRESSORS if card.training.regression else ALGORITHMS)[card.algorithm]


def number_of_trees(estimator: Any) -> int:
    """Number of trees for each output."""
    return len(getattr(estimator, "_predictors", getattr(estimator, "estimators_", ())))


def set_number_of_trees(estimator: Any, trees: int) -> None:
    """Set the number of trees after the next fit."""
    name = "max_iter" if isinstance(estimator, _HISTOGRAM) else "n_estimators"
    estimator.set_params(**{name: trees})


@contextmanager
def unweighted_bins(estimator: Any) -> Iterator[None]:
    """Bin columns by quantiles of unweighted events in the fit of an estimator.

    scikit-learn's weighted quantiles sort each column once for each of 254 bins, in every fit: minutes for
    10^5 events. And signed weights have no quantiles. Bins only limit the places of cuts.
    """
    binning = getattr(estimator, "_bin_data", None)
    if binning is None or "sample_weight" not in inspect.signature(binning).parameters:
        yield
        return
    estimator._bin_data = lambda x, sample_weight, is_training_data: binning(x, None, is_training_data)
    try:
        yield
    finally:
        del estimator._bin_data


def first_trees(estimator: Any, trees: int) -> Any:
    """Estimator with the first trees of another one, as if fitted with so many."""
    first = copy.copy(estimator)
    if isinstance(estimator, _HISTOGRAM):
        first._predictors = estimator._predictors[:trees]
        first.train_score_ = estimator.train_score_[: trees + 1]
    else:
        first.estimators_ = estimator.estimators_[:trees]
    if isinstance(estimator, (GradientBoostingClassifier, GradientBoostingRegressor)):
        first.n_estimators_ = trees
        first.train_score_ = estimator.train_score_[:trees]
    set_number_of_trees(first, trees)
    return first


def share_of_trees(estimator: Any, first: int, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Contribution of the trees from ``first`` on to the score, ``[E, O]``; see `scores_of`.

    For boosting log-odds or predictions, including the constant start if ``first`` is 0; for a forest the sum
    of the probabilities or predictions.
    """
    if isinstance(estimator, _FORESTS):
        score = "predict_proba" if isinstance(estimator, RandomForestClassifier) else "predict"
        total = sum(getattr(tree, score)(x) for tree in estimator.estimators_[first:])
        return np.asarray(total).reshape(len(x), -1)
    tail = copy.copy(estimator)
    if isinstance(estimator, _HISTOGRAM):
        tail._predictors = estimator._predictors[first:]
        if first:
            tail._baseline_prediction = np.zeros_like(estimator._baseline_prediction)
    else:
        tail.estimators_ = estimator.estimators_[first:]
        if first:
            tail.init_ = "zero"
    score = getattr(tail, "decision_function", tail.predict)
    return np.asarray(score(x), dtype=np.float64).reshape(len(x), -1)


def scores_of(estimator: Any, shares: NDArray[np.float64], clip: float) -> NDArray[np.float64]:
    """Scores ``[E, O]`` from the contributions of all trees, as of `SklearnModel`."""
    if not isinstance(estimator, _FORESTS):
        return shares
    mean = shares / number_of_trees(estimator)
    return mean if isinstance(estimator, RandomForestRegressor) else logits_of(mean, clip)


@dataclass(frozen=True)
class BoostedTreesModel:
    """Trees on the event-level table, with card and schema.

    Attributes
    ----------
    estimator : object
        Fitted, of the card's algorithm.
    card : BoostedTreesCard
    schema : Schema
        Of the events of the training; others are refused.
    """

    estimator: Any
    card: BoostedTreesCard
    schema: Schema

    @property
    def view(self) -> str:
        """View of the events that the model takes."""
        return self.card.view

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs: one for two classes, named after the second one; else one for each.

        Of a regression its target.
        """
        return output_names(self.card, self.schema)

    @property
    def table(self) -> SklearnModel:
        """Wrapped estimator."""
        return SklearnModel(self.estimator, self.outputs, self.schema)

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Log-odds, or predictions of a regression, ``[E, O]``."""
        self.check(events)
        return self.table.logits(events)

    def score_table(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds, or predictions, ``[E, O]`` of rows of the table."""
        return self.table.score_table(x)

    def check(self, events: Events) -> None:
        """Refuse events whose table is not that of the training, or is not finite."""
        same_columns(self.schema, events.schema)
        finite_columns(events)

    # --- storage -----------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write estimator, card and schema to one safetensors file."""
        save_model(path, {"estimator": dumped(self.estimator)}, self.card, self.schema)

    @staticmethod
    def restored(arrays: Arrays, card: BoostedTreesCard, schema: Schema) -> BoostedTreesModel:
        """Model from the content of a file; see `hepxai.models.storage.load_model`."""
        if "estimator" not in arrays:
            raise ValueError("the file has the card of boosted trees, and holds no estimator")
        estimator = restored(arrays["estimator"], card, len(schema.globals))
        return BoostedTreesModel(estimator, card, schema)


def dumped(estimator: Any) -> NDArray[np.uint8]:
    """Estimator in the format of skops, which holds numbers and names and no code."""
    return bytes_as_array(skops.io.dumps(estimator))


def restored(content: NDArray[np.uint8], card: BoostedTreesCard, columns: int) -> Any:
    """Estimator from the bytes of `dumped`, for a table with this number of columns.

    Raises
    ------
    CraftedError
        If it contains other types than scikit-learn's trees, or modified trees, before any of them is built;
        or if it is not of the card's algorithm.
    """
    estimator, expected = restored_trees(content.tobytes(), columns), _kind(card)
    if type(estimator) is not expected:
        name = type(estimator).__name__
        raise CraftedError(f"the file holds a {name}, its card says {expected.__name__}")
    return estimator


def restored_trees(data: bytes, columns: int) -> Any:
    """Boosted trees or a forest of scikit-learn from an uncompressed archive of skops.

    Raises
    ------
    CraftedError
        If it holds anything else, or modified trees; before any of them is built.
    """
    with refusing_crafted():
        check_archive(data, columns)
        if foreign := sorted(set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED)):
            raise CraftedError(f"objects of type {', '.join(foreign)} are no part of boosted trees")
        estimator = skops.io.loads(data, trusted=list(TRUSTED))
        if type(estimator) not in (*ALGORITHMS.values(), *REGRESSORS.values()):
            raise CraftedError(f"the file holds a {type(estimator).__name__}, not boosted trees or a forest")
        _check_shape(estimator, columns)
    return estimator


def _check_shape(estimator: Any, columns: int) -> None:
    """Refuse trees that do not fit each other: compiled code does not check."""
    classes = len(getattr(estimator, "classes_", "yn"))
    fits = estimator.n_features_in_ == columns and classes > 1 and getattr(estimator, "n_jobs", None) is None
    if isinstance(estimator, _HISTOGRAM):
        steps, scores = estimator._predictors, 1 if classes == 2 else classes
        fits &= all(len(step) == scores and all(type(t) is TreePredictor for t in step) for step in steps)
    else:
        trees = np.array(estimator.estimators_, dtype=object)
        fits &= all(type(getattr(tree, "tree_", None)) is Tree for tree in trees.flat)
    if isinstance(estimator, (GradientBoostingClassifier, GradientBoostingRegressor)):
        start = estimator._raw_predict_init(np.zeros((1, columns), dtype=np.float32))
        fits &= trees.ndim == 2 and start.shape == (1, trees.shape[1])
    if not fits:
        raise CraftedError(f"its trees do not fit each other, or a table of {columns} columns")
