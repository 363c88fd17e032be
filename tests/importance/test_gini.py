"""Impurity importance: against the formula, node by node, and scikit-learn where it has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from hepxai.events import Events, Schema
from hepxai.explainers import CannotExplainError
from hepxai.importance.gini import gini_importance
from hepxai.models.wrappers.table import SklearnModel, TableModel

COLUMNS = ("ht", "btag", "njet")
SCHEMA = Schema(("pt",), ("GeV",), ("jet",), ("b", "s"), globals=COLUMNS, global_units=("GeV", "", ""))


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    x[:, 2] = rng.integers(3, 7, 400)
    y = (x[:, 0] + 0.5 * x[:, 1] * x[:, 2] + 0.5 * rng.normal(size=400) > 0).astype(int)
    return x, y, rng.uniform(0.5, 2, 400)


def wrap(estimator: Any, outputs: tuple[str, ...] = ("signal",)) -> SklearnModel:
    return SklearnModel(estimator, outputs, SCHEMA)


def small(kind: Callable[..., Any], **settings: Any) -> Any:
    size = {"max_iter": 5} if kind.__name__.startswith("Hist") else {"n_estimators": 5}
    return kind(random_state=0, max_depth=3, **({} if kind is DecisionTreeClassifier else size), **settings)


# --- slow references -----------------------------------------------------------------------------------


def gini(y: np.ndarray, w: np.ndarray) -> float:
    """Σ_k p_k (1 - p_k)."""
    share = np.array([w[y == k].sum() for k in np.unique(y)]) / w.sum()
    return float((share * (1 - share)).sum())


def passing(x: np.ndarray, left: Any, right: Any, feature: Any, cut: Any, node: int, rows: np.ndarray) -> Any:
    """Each node that splits, with the rows that reach it, and those that go left."""
    if left[node] <= 0:
        return
    goes = x[rows, feature[node]] <= cut[node]
    yield node, rows, goes
    for child, own in ((left[node], rows[goes]), (right[node], rows[~goes])):
        yield from passing(x, left, right, feature, cut, child, own)


def slow_gini(estimator: Any, sample: tuple[np.ndarray, ...]) -> np.ndarray:
    """Of one classification tree: N_node/N (i_node - N_left/N_node i_left - N_right/N_node i_right)."""
    (x, y, w), tree, found = sample, estimator.tree_, np.zeros(3)
    parts = (tree.children_left, tree.children_right, tree.feature, tree.threshold)
    for node, rows, goes in passing(x, *parts, 0, np.arange(len(x))):
        whole = w[rows].sum()
        decrease = gini(y[rows], w[rows])
        for own in (rows[goes], rows[~goes]):
            decrease -= w[own].sum() / whole * gini(y[own], w[own])
        found[tree.feature[node]] += whole / w.sum() * decrease
    return found / found.sum()


def slow_gain(estimator: Any, sample: tuple[np.ndarray, ...], staged: list[np.ndarray]) -> np.ndarray:
    """Chen and Guestrin, arXiv:1603.02754, eq. 7 without its constants: G_l²/H_l + G_r²/H_r - G²/H."""
    (x, y, w), total = sample, []
    raw = np.full(len(x), float(np.ravel(estimator._baseline_prediction)[0]))
    for (step,), after in zip(estimator._predictors, staged, strict=True):
        classify = hasattr(estimator, "classes_")
        p = 1 / (1 + np.exp(-raw)) if classify else raw
        g, h = w * (p - y), w * (p * (1 - p) if classify else np.ones(len(x)))
        n, found = step.nodes, np.zeros(3)
        left = np.where(n["is_leaf"], 0, n["left"])
        for node, rows, goes in passing(
            x, left, n["right"], n["feature_idx"], n["num_threshold"], 0, np.arange(len(x))
        ):
            parts = [g[r].sum() ** 2 / h[r].sum() for r in (rows[goes], rows[~goes], rows)]
            found[n["feature_idx"][node]] += parts[0] + parts[1] - parts[2]
        total.append(found)
        raw = after
    return np.array(total).T


# --- tests ---------------------------------------------------------------------------------------------


def test_a_tree_equals_the_formula(sample: tuple[np.ndarray, ...]) -> None:
    x, y, w = sample
    estimator = small(DecisionTreeClassifier).fit(x, y, w)
    found = gini_importance(wrap(estimator))
    np.testing.assert_allclose(found.mean, slow_gini(estimator, sample), rtol=1e-9)
    assert np.isnan(found.error).all()
    assert (found.metric, found.target, found.names) == ("gini", "signal", COLUMNS)


@pytest.mark.parametrize(
    "kind",
    [
        DecisionTreeClassifier,
        ExtraTreesClassifier,
        GradientBoostingClassifier,
        GradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn(
    kind: Callable[..., Any], sample: tuple[np.ndarray, ...], weighted: bool
) -> None:
    x, y, w = sample
    estimator = small(kind).fit(x, y, w if weighted else None)
    found = gini_importance(wrap(estimator))
    np.testing.assert_allclose(found.mean, estimator.feature_importances_, rtol=1e-12)
    assert found.score == pytest.approx(1)
    if kind is not DecisionTreeClassifier:
        assert found.repeats.shape == (3, 5)
        np.testing.assert_allclose(found.error, found.spread / np.sqrt(5))


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, HistGradientBoostingRegressor])
@pytest.mark.parametrize("weighted", [False, True])
def test_gains_equal_the_formula(
    kind: Callable[..., Any], sample: tuple[np.ndarray, ...], weighted: bool
) -> None:
    x, y, w = sample
    w = w if weighted else np.ones(len(x))
    estimator = small(kind).fit(x, y, w if weighted else None)
    steps = getattr(estimator, "staged_decision_function", None) or estimator.staged_predict
    expected = slow_gain(estimator, (x, y, w), [np.ravel(s) for s in steps(x)])
    found = gini_importance(wrap(estimator))
    np.testing.assert_allclose(found.mean, expected.sum(1) / expected.sum(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.repeats / 5, expected / expected.sum(), rtol=1e-3, atol=1e-6)
    assert found.metric.startswith("gain, ")


def test_histogram_boosting_ranks_as_boosting_does(sample: tuple[np.ndarray, ...]) -> None:
    x, y, _ = sample
    first, second = (
        gini_importance(wrap(small(k).fit(x, y)))
        for k in (GradientBoostingClassifier, HistGradientBoostingClassifier)
    )
    assert [n for n, _ in first.ranked()] == [n for n, _ in second.ranked()]


def test_categories_keep_their_column(sample: tuple[np.ndarray, ...]) -> None:
    """Inside, scikit-learn puts them in front."""
    x, _, _ = sample
    y = ((x[:, 2] == 4) | (x[:, 2] == 6)).astype(int)
    estimator = small(HistGradientBoostingClassifier, categorical_features=[2], min_samples_leaf=5).fit(x, y)
    assert gini_importance(wrap(estimator)).ranked()[0][0] == "njet"
    assert gini_importance(wrap(estimator)).mean[2] > 0.9


def test_several_classes(sample: tuple[np.ndarray, ...]) -> None:
    """Boosting has a tree for each class and step."""
    x, y, _ = sample
    y = y + (x[:, 2] > 4)
    for kind, trees in ((HistGradientBoostingClassifier, 15), (GradientBoostingClassifier, 15)):
        found = gini_importance(wrap(small(kind).fit(x, y), ("a", "b", "c")))
        assert found.repeats.shape == (3, trees)
        assert found.target == "a, b, c"
        assert found.mean.sum() == pytest.approx(1)


def test_no_split(sample: tuple[np.ndarray, ...]) -> None:
    """A leaf is all that constant columns allow."""
    x, y, _ = sample
    for kind in (HistGradientBoostingClassifier, GradientBoostingClassifier, RandomForestClassifier):
        found = gini_importance(wrap(small(kind).fit(np.zeros_like(x), y)))
        assert (found.mean == 0).all()
        assert found.score == 0


def test_classes_of_ones_own(sample: tuple[np.ndarray, ...]) -> None:
    """What inherits from a known estimator has its trees."""

    class Mine(RandomForestClassifier):
        pass

    x, y, _ = sample
    assert gini_importance(wrap(small(Mine).fit(x, y))).repeats.shape == (3, 5)


# --- bad input -----------------------------------------------------------------------------------------


def test_models_without_trees(sample: tuple[np.ndarray, ...], table_model: TableModel) -> None:
    x, y, _ = sample
    for other in (LogisticRegression(), AdaBoostClassifier(n_estimators=2)):
        message = f"{type(other).__name__} is none of them; for other models .* permutation_importance"
        with pytest.raises(CannotExplainError, match=message):
            gini_importance(wrap(other.fit(x, y)))
    with pytest.raises(
        CannotExplainError, match="gini needs HasTrees; TableModel has no estimator; for other"
    ):
        gini_importance(table_model)


@pytest.mark.slow
def test_the_errors_cover_another_forest(sample: tuple[np.ndarray, ...]) -> None:
    """Of forests grown on the same sample with other random numbers."""
    x, y, w = sample
    found = [
        gini_importance(wrap(RandomForestClassifier(20, random_state=s, max_depth=4).fit(x, y, w)))
        for s in range(40)
    ]
    spread = np.std([f.mean for f in found], axis=0, ddof=1)
    claimed = np.mean([f.error for f in found], axis=0)
    np.testing.assert_allclose(claimed / spread, 1, atol=0.35)


def test_schema_of_the_model_names_the_columns(events: Events) -> None:
    schema = dataclasses.replace(events.schema, globals=("a", "b"))
    estimator = small(RandomForestClassifier).fit(events.globals, events.label)
    assert gini_importance(SklearnModel(estimator, ("signal",), schema)).names == ("a", "b")
