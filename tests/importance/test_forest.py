"""Boosted trees taken apart: scores equal to scikit-learn's own on the permuted table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import is_classifier
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)

from hepxai.events import Events
from hepxai.importance import forest as module
from hepxai.importance import permutation
from hepxai.importance.forest import Forest
from hepxai.importance.permutation import permutation_importance
from hepxai.models.wrappers.table import SklearnModel

ToyEvents = Callable[..., Events]
NAMES = tuple("abcdefg")
SIZE = 500


def table(seed: int, *, missing: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SIZE, len(NAMES))).astype(np.float32)
    x[:, 1] = np.round(x[:, 1])  # many values lie on a threshold
    x[:, 6] = 1.0
    if missing:
        x[rng.random(x.shape) < 0.1] = np.nan
        x[:5, 2] = np.inf if seed == 2 else 1e30
    return x


def answer(x: np.ndarray) -> np.ndarray:
    known = np.nan_to_num(x, nan=-1, posinf=3)
    return (known[:, 0] * known[:, 1] + np.sin(2 * known[:, 2]) + known[:, 3] > 0).astype(np.int64)


def fitted(estimator: Any, toy: ToyEvents, *, missing: bool = False) -> SklearnModel:
    x = table(1, missing=missing)
    y = answer(x) + (x[:, 4] > 1 if estimator.get_params().get("max_iter") == 7 else 0)
    estimator.fit(x, y if is_classifier(estimator) else y + np.random.default_rng(3).normal(size=SIZE))
    schema = dataclasses.replace(toy(1).schema, globals=NAMES, global_units=("",) * len(NAMES))
    classes = getattr(estimator, "classes_", (0, 1))
    return SklearnModel(estimator, ("signal",) if len(classes) == 2 else ("x", "y", "z"), schema)


ESTIMATORS: dict[str, tuple[Any, bool]] = {
    "histograms": (HistGradientBoostingClassifier(max_iter=30), True),
    "one split a tree": (HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=2), True),
    "63 leaves": (HistGradientBoostingClassifier(max_iter=3, max_leaf_nodes=63, min_samples_leaf=2), True),
    "several pieces": (
        HistGradientBoostingRegressor(max_iter=3, max_leaf_nodes=None, min_samples_leaf=1),
        True,
    ),
    "no split at all": (HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=400), False),
    "three classes": (HistGradientBoostingClassifier(max_iter=7), False),
    "regression": (HistGradientBoostingRegressor(max_iter=20), True),
    "exact cuts": (GradientBoostingClassifier(n_estimators=20, max_depth=3), False),
    "deep": (GradientBoostingClassifier(n_estimators=4, max_depth=None), False),
    "exact regression": (GradientBoostingRegressor(n_estimators=10, max_depth=4), False),
}


@pytest.fixture(params=ESTIMATORS)
def model(request: pytest.FixtureRequest, toy: ToyEvents) -> tuple[SklearnModel, np.ndarray]:
    estimator, missing = ESTIMATORS[request.param]
    return fitted(estimator, toy, missing=missing), table(2, missing=missing)


def taken_apart(model: SklearnModel, x: np.ndarray, output: int) -> Forest:
    found = Forest.of(model, x, output, model.score_table(x)[:, output])
    assert found is not None
    return found


def test_equals_the_model_on_the_permuted_table(
    model: tuple[SklearnModel, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    trees, x = model
    monkeypatch.setattr(module, "ROWS", 130)
    rng = np.random.default_rng(0)
    groups = [np.array(g) for g in ([0], [1], [2, 4], [6], [5])]
    orders = [[rng.permutation(SIZE) for _ in range(3)] for _ in groups]
    for output in range(len(trees.outputs)):
        forest = taken_apart(trees, x, output)
        np.testing.assert_allclose(forest.score(), trees.score_table(x)[:, output], rtol=1e-12, atol=1e-12)
        found = forest.permuted_scores(groups, orders)
        for columns, whose, scores in zip(groups, orders, found, strict=True):
            for order, score in zip(whose, scores, strict=True):
                permuted = x.copy()
                permuted[:, columns] = x[order][:, columns]
                expected = trees.score_table(permuted)[:, output]
                np.testing.assert_allclose(score, expected, rtol=1e-12, atol=1e-12)


def test_knows_what_is_never_asked_for(toy: ToyEvents) -> None:
    forest = taken_apart(fitted(ESTIMATORS["histograms"][0], toy), table(2), 0)
    assert forest.uses(np.array([0]))
    assert not forest.uses(np.array([6]))  # constant, hence no cut
    assert forest.uses(np.array([6, 1]))


def test_all_bits_are_told_apart() -> None:
    bits = np.append(np.uint64(0), np.uint64(1) << np.arange(64, dtype=np.uint64))
    places = (bits * module.DE_BRUIJN) >> np.uint64(58)
    assert places[0] == places[1] == 0
    assert sorted(places[1:]) == list(range(64))


NOT_KNOWN: dict[str, Any] = {
    "another family": RandomForestClassifier(n_estimators=3, max_depth=3),
    "categories": HistGradientBoostingClassifier(max_iter=3, categorical_features=[1]),
    "another link": HistGradientBoostingRegressor(loss="poisson", max_iter=3),
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_others_are_left_to_the_plain_path(name: str, toy: ToyEvents) -> None:
    x = np.abs(table(2))
    model = SklearnModel(
        NOT_KNOWN[name].fit(x, answer(x)),
        ("signal",),
        dataclasses.replace(toy(1).schema, globals=NAMES, global_units=("",) * len(NAMES)),
    )
    assert Forest.of(model, x, 0, model.score_table(x)[:, 0]) is None


def test_trees_that_do_not_add_up_to_the_score_are_not_believed(toy: ToyEvents) -> None:
    model, x = fitted(ESTIMATORS["histograms"][0], toy), table(2)
    assert Forest.of(model, x, 0, 1.001 * model.score_table(x)[:, 0]) is None
    assert Forest.of(model, x, 0, 0.5 + model.score_table(x)[:, 0]) is not None


def test_very_large_trees_are_left_to_the_plain_path(toy: ToyEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = fitted(ESTIMATORS["several pieces"][0], toy), table(2)
    assert len(taken_apart(model, x, 0).blocks) > 3 * len(model.estimator._predictors)
    monkeypatch.setattr(module, "LARGEST", 80)
    assert Forest.of(model, x, 0, model.score_table(x)[:, 0]) is None


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("groups", [{}, {"pair": ["a", "c"]}, {"one": ["a", "b"], "two": ["b", "c"]}])
def test_importance_is_that_of_the_plain_path(
    conditional: bool, groups: dict[str, list[str]], toy: ToyEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = fitted(ESTIMATORS["histograms"][0], toy, missing=True), table(2, missing=True)
    events = toy(SIZE, largest=0).replace(globals=x, label=answer(x), schema=model.schema)
    settings: dict[str, Any] = {"groups": groups, "conditional": conditional, "repeats": 3}
    fast = permutation_importance(model, events, **settings)
    monkeypatch.setattr(permutation, "MEMORY", 8 * 3 * SIZE * 2)  # two groups at a time
    few = permutation_importance(model, events, **settings)
    monkeypatch.setattr(Forest, "of", staticmethod(lambda *_: None))
    plain = permutation_importance(model, events, **settings)
    for found in (fast, few):
        assert found.names == plain.names
        np.testing.assert_allclose(found.repeats, plain.repeats, atol=1e-12)
        np.testing.assert_allclose(found.error, plain.error, rtol=1e-9, atol=1e-15)
    assert fast.repeats[fast.names.index("g")].tolist() == [0, 0, 0]
