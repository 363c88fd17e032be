"""Impurity ("Gini") importance of the columns of the event-level table, for models made of trees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.table.trees import ADVICE, need_trees
from hepxai.metrics.importance import Importance
from hepxai.models.protocols import HasTrees
from hepxai.models.wrappers.booster_files import UnsupportedTreesError
from hepxai.models.wrappers.boosters import Booster
from hepxai.models.wrappers.ensembles import FORESTS, HISTOGRAM, Ensemble

Array = NDArray[np.float64]


def gini_importance(model: HasTrees) -> Importance:
    """Decrease of impurity at the splits in each column of the trees of a model.

    ``I_f = Σ_nodes split by f  N_node/N (i_node - N_left/N_node i_left - N_right/N_node i_right)`` with the
    weighted numbers of training events N and the impurity i of the nodes, for Gini's impurity
    ``i = Σ_k p_k (1 - p_k)`` [Breiman et al., Classification and Regression Trees, 1984], as a share of the
    sum over all columns. Where scikit-learn has ``feature_importances_`` it is equal to them:

    - a forest gives every tree the same vote: the mean over the trees of the shares in each;
    - boosting adds up all trees before shares are taken. Its trees learn residuals, so that this is no Gini
      impurity but the squared error of the residuals, and for HistGradientBoosting the nodes' ``gain``, the
      decrease of the loss in second order. Models of different families compare by rank only.

    It only sees the training sample, so memorised noise counts too. It favours columns of many
    values, which offer more cuts [Strobl et al., BMC Bioinformatics 8 (2007) 25], and it divides the shared
    information of correlated columns arbitrarily, by the column that was cut first.

    Parameters
    ----------
    model : HasTrees

    Returns
    -------
    Importance
        ``repeats`` are the trees; ``score`` is 1, which the shares add up to (0 if no tree has a split).
        ``error`` is the standard error over the trees, NaN for a single one. For a forest it says how far
        another forest of as many trees on the same sample may be; for boosting, whose trees follow upon each
        other, it only says how unevenly they use a column. It does not cover another sample.

    Raises
    ------
    CannotExplainError
        The model is not made of scikit-learn's trees.
    """
    if not isinstance(model, HasTrees):
        raise CannotExplainError(f"gini needs HasTrees; {type(model).__name__} has no estimator; {ADVICE}")
    ensemble, names = need_trees("gini", model.estimator), model.schema.globals
    try:
        decrease = _decrease(ensemble, len(names))
    except UnsupportedTreesError as problem:
        raise CannotExplainError(f"gini cannot read these trees: {problem}; {ADVICE}") from None
    repeats = _mean_is_share(decrease) if ensemble.kind is not FORESTS else _shares(decrease)
    trees = repeats.shape[1]
    error = repeats.std(axis=1, ddof=1) / np.sqrt(trees) if trees > 1 else np.full(len(names), np.nan)
    members = {name: (name,) for name in names}
    score = float(repeats.mean(axis=1).sum())
    return Importance(names, members, _measure(ensemble), ", ".join(model.outputs), score, repeats, error)


# --- decrease of impurity by column and tree, [G, T] ---------------------------------------------------


def _decrease(ensemble: Ensemble, columns: int) -> Array:
    trees = [tree for output in np.eye(ensemble.outputs) for tree in ensemble.trees(output)]
    if ensemble.kind is FORESTS:  # a tree has the cuts of all classes
        trees = ensemble.trees(np.eye(ensemble.outputs)[0])
    decrease = np.zeros((columns, len(trees)))
    for tree, total in zip(trees, decrease.T, strict=True):
        cut = tree.feature >= 0
        np.add.at(total, ensemble.sources[tree.feature[cut]], tree.gain[cut])
    return decrease


def _shares(decrease: Array) -> Array:
    """Shares in each tree; trees without a split are left out."""
    total = decrease.sum(axis=0)
    split = total > 0
    return np.asarray(decrease[:, split] / total[split]) if split.any() else np.zeros((len(decrease), 1))


def _mean_is_share(decrease: Array) -> Array:
    """Common factor for all trees, so that their mean is the share of the sum."""
    total = decrease.sum()
    return np.asarray(decrease * (decrease.shape[1] / total)) if total > 0 else np.zeros_like(decrease)


def _measure(ensemble: Ensemble) -> str:
    """Name of the quantity that the splits decrease."""
    last = ensemble.last
    if isinstance(last, Booster):
        return f"gain, {last.objective}"
    if loss := getattr(last, "loss", None):
        return f"{'gain' if ensemble.kind is HISTOGRAM else 'squared error of residuals'}, {loss}"
    return str(last.criterion)
