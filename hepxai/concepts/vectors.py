"""Concept activation vectors: linear classifiers of events with a concept against events without it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hepxai.core.estimate import Estimate
from hepxai.explainers.base import CheckWarning

Array = NDArray[np.float64]
ALPHA = 1.0
FOLDS = 5
BLOCK = 2**22
"""Labels of random splits that are held at a time."""
LINEAR = 0.7
"""Balanced accuracy below which a concept counts as not linearly there."""


@dataclass(frozen=True)
class ConceptVector:
    """Direction from counter-examples to examples of a concept, in the pooled channels of a layer.

    Attributes
    ----------
    name : str
    direction : ndarray, shape [c]
        Of length 1.
    accuracy : Estimate
        Balanced accuracy of the linear classifier in cross-validation.
    examples, counterexamples : ndarray, shape [n, c]
        Means of the maps over the positions.
    """

    name: str
    direction: Array
    accuracy: Estimate
    examples: Array
    counterexamples: Array

    def random(self, number: int, seed: int) -> Array:
        """Directions ``[number, c]`` of random splits of all examples into parts of the same sizes."""
        pool = np.concatenate([self.examples, self.counterexamples])
        rng, part = np.random.default_rng(seed), np.zeros(len(pool))
        part[: len(self.examples)] = 1
        each = max(BLOCK // len(pool), 1)
        sizes = [min(each, number - start) for start in range(0, number, each)]
        splits = (rng.permuted(np.tile(part, (size, 1)), axis=1) for size in sizes)
        return np.concatenate([_directions(pool, parts) for parts in splits])

    def resampled(self, number: int, seed: int) -> Array:
        """Directions ``[number, c]`` of bootstrap samples of the examples and of the counter-examples."""
        rng = np.random.default_rng(seed)
        sides = (self.examples, self.counterexamples)
        samples = ([s[rng.integers(0, len(s), len(s))] for s in sides] for _ in range(number))
        return np.concatenate([_directions(np.concatenate(s), _part(*s)[None]) for s in samples])


def concept_vector(name: str, examples: Array, counterexamples: Array, *, seed: int = 0) -> ConceptVector:
    """Concept activation vector [Kim et al., arXiv:1711.11279] in the pooled channels of a layer.

    The normal of a linear classifier (scikit-learn's RidgeClassifier on standardised channels). Pooled, since
    a direction in all positions has more components than there are examples, and depends on the place.

    Parameters
    ----------
    name : str
    examples, counterexamples : ndarray, shape [n, c]
    seed : int
        Of the folds of the cross-validation.

    Raises
    ------
    ValueError
        If there are fewer than five examples or counter-examples, or all are the same.

    Warns
    -----
    CheckWarning
        If the classifier does not separate them.
    """
    fewest = min(len(examples), len(counterexamples))
    if fewest < FOLDS:
        raise ValueError(
            f"{name}: {len(examples)} examples and {len(counterexamples)} counter-examples; at least {FOLDS} "
            "of each are needed for a cross-validation"
        )
    pool, part = np.concatenate([examples, counterexamples]), _part(examples, counterexamples)
    if not np.ptp(pool, axis=0).any():
        raise ValueError(f"{name}: the layer is the same for all examples and counter-examples; give others")
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=ALPHA)).fit(pool, part)
    normal = classifier[-1].coef_.ravel() / classifier[0].scale_
    accuracy = _accuracy(pool, part, seed)
    if accuracy.value < LINEAR:
        warnings.warn(
            f"{name} is not linearly there: a linear classifier tells its examples from the counter-examples "
            f"with a balanced accuracy of {accuracy} (chance: 0.5); its TCAV score means little",
            CheckWarning,
            stacklevel=3,
        )
    return ConceptVector(name, normal / np.linalg.norm(normal), accuracy, examples, counterexamples)


def _part(examples: Array, counterexamples: Array) -> Array:
    return np.repeat([1.0, 0.0], [len(examples), len(counterexamples)])


def _accuracy(pool: Array, part: Array, seed: int) -> Estimate:
    """Balanced accuracy with its binomial error."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=ALPHA, class_weight="balanced"))
    right = cross_val_predict(classifier, pool, part, cv=folds) == part
    sides = [
        Estimate.of(right[part == p].astype(np.float64), np.ones(int((part == p).sum()))) for p in (0, 1)
    ]
    value = np.asarray(np.mean([s.value for s in sides]))
    error = np.hypot(*(s.error for s in sides)) / 2
    return Estimate(value, np.asarray(error), float(len(pool))).bounded("accuracy")


def _directions(pool: Array, parts: Array) -> Array:
    """Normals of the same classifier for several splits ``[R, n]`` (1: example), in one product.

    Ridge regression is linear in the labels: ``w = (XᵀX + α)⁻¹ Xᵀ(y - ȳ)`` for standardised X.
    """
    scale = pool.std(axis=0)
    scale[scale == 0] = 1
    x = (pool - pool.mean(axis=0)) / scale
    labels = parts - parts.mean(axis=1, keepdims=True)
    normals = np.linalg.solve(x.T @ x + ALPHA * np.eye(x.shape[1]), x.T @ labels.T).T / scale
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.where(lengths > 0, lengths, 1))
