"""Decision trees inside the estimator of a model, in one form for all libraries."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray
from hepxai.models.protocols import HasTrees
from hepxai.models.table.decision_trees import Array, Nodes, cart_nodes, histogram_nodes
from hepxai.models.wrappers.boosters import Booster
from hepxai.models.wrappers.pipelines import source_columns, split, transformed

FORESTS = ("RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")
BOOSTED = ("GradientBoosting",)
HISTOGRAM = ("HistGradientBoosting",)
BOOSTERS = ("XGBoost", "LightGBM")


class MixedColumnsError(ValueError):
    """Transformers before the trees that make a column from several ones."""


def family(estimator: Any) -> tuple[str, ...] | None:
    """Family of an estimator, or of the last one of a pipeline: one of the four above, or None."""
    return _family(split(estimator)[1])


def _family(last: Any) -> tuple[str, ...] | None:
    if isinstance(last, Booster):
        return BOOSTERS if last.has_trees else None
    names = {kind.__name__ for kind in type(last).__mro__ if kind.__module__.startswith("sklearn.")}
    for kinds in (FORESTS, BOOSTED, HISTOGRAM):
        if names & {f"{name}{task}" for name in kinds for task in ("Classifier", "Regressor")}:
            return kinds
    return None


@dataclass(frozen=True)
class Ensemble:
    """Trees of an estimator.

    Attributes
    ----------
    kind : tuple of str
        Family.
    last : object
        Estimator with the trees.
    transformers : sequence
        Before them.
    sources : ndarray of int, shape [T]
        Column of the event-level table that each column of the trees is a function of.
    estimator : object
        All of it.
    """

    kind: tuple[str, ...]
    last: Any
    transformers: Sequence[Any]
    sources: IntArray
    estimator: Any

    @staticmethod
    def of(estimator: Any) -> Ensemble:
        """Trees of an estimator of a known `family`.

        Raises
        ------
        MixedColumnsError
            If a transformer before the trees makes a column from several ones, or is not known.
        """
        transformers, last = split(estimator)
        sources = source_columns(transformers, estimator.n_features_in_)
        if sources is None:
            names = ", ".join(type(t).__name__ for t in transformers)
            raise MixedColumnsError(f"columns behind {names} are not known to depend on one column each")
        kind = _family(last)
        assert kind is not None
        categorical = getattr(last, "is_categorical_", None)
        if kind is HISTOGRAM and categorical is not None:  # inside, categories come first
            chosen = np.asarray(categorical)
            sources = sources[np.concatenate([np.flatnonzero(chosen), np.flatnonzero(~chosen)])]
            transformers = [*transformers, last._preprocessor]
        return Ensemble(kind, last, transformers, sources, estimator)

    def inputs(self, x: NDArray[np.floating]) -> NDArray[np.floating]:
        """Table ``[E, T]`` as the trees read it, from physical values ``[E, G]``."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            x = transformed(self.transformers, x, self.estimator)
        if self.kind is HISTOGRAM:
            return x
        if isinstance(self.last, Booster):
            x = self.last.as_missing(x)
            return x.astype(np.float32) if self.last.single_precision else x
        return x.astype(np.float32)

    @property
    def gives_probabilities(self) -> bool:
        """True for forests of classification trees, which average probabilities."""
        return self.kind is FORESTS and hasattr(self.last, "classes_")

    @property
    def outputs(self) -> int:
        """Numbers K that the trees give for an event: 1 for two classes, except in forests."""
        if isinstance(self.last, Booster):
            return self.last.outputs
        classes = len(getattr(self.last, "classes_", [0]))
        return 1 if classes == 2 and self.kind is not FORESTS else classes

    def trees(self, weights: Array) -> list[Nodes]:
        """Trees that add up to Σ_k weights_k output_k, up to a constant; weights ``[K]``."""
        if self.kind is FORESTS:
            return _forest(self.last, weights)
        outputs = [(int(k), float(weights[k])) for k in np.flatnonzero(weights)]
        return [tree.times(w) for k, w in outputs for tree in self._of_output(k)]

    def _of_output(self, k: int) -> list[Nodes]:
        if isinstance(self.last, Booster):
            return self.last.trees(k)
        if self.kind is HISTOGRAM:
            return [histogram_nodes(step[k]) for step in self.last._predictors]
        rate = float(self.last.learning_rate)
        return [cart_nodes(t.tree_, rate * t.tree_.value[:, 0, 0]) for t in self.last.estimators_[:, k]]

    def weights(self, model: HasTrees, target: Array) -> Array:
        """Weights ``[K]`` of the trees' outputs from those ``[O]`` of the model's outputs."""
        order = list(getattr(model, "class_order", range(len(target))))
        weights = np.zeros(self.outputs)
        if len(target) > 1:
            weights[order] = target
        elif self.outputs > 1:  # a forest of two classes
            weights[order[-1]] = target[0]
        else:  # the estimator's second class may be the card's first one
            weights[0] = -target[0] if order == [1, 0] else target[0]
        return weights


def _forest(estimator: Any, weights: Array) -> list[Nodes]:
    trees = [t.tree_ for t in getattr(estimator, "estimators_", [estimator])]
    if not hasattr(estimator, "classes_"):
        return [cart_nodes(t, weights[0] * t.value[:, 0, 0] / len(trees)) for t in trees]
    shares = [t.value[:, 0] / t.value[:, 0].sum(axis=1, keepdims=True) for t in trees]
    return [cart_nodes(t, p @ weights / len(trees)) for t, p in zip(trees, shares, strict=True)]
