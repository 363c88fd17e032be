"""TreeSHAP: against the definition set by set, its own promise, and the traps of the library."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from slow_tables import interventional, path_dependent

from hepxai.core.extras import MissingExtraError
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError, explain
from hepxai.explainers.methods import is_default_for
from hepxai.models.wrappers.table import SklearnModel, TableModel

ToyEvents = Callable[..., Events]
KINDS = [
    DecisionTreeClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
]


@pytest.fixture
def events(wide_table: Events) -> Events:
    return wide_table


def fitted(kind: Callable[..., Any], events: Events, **settings: Any) -> SklearnModel:
    """A few small trees; a regressor learns 10 times the label, which is no probability."""
    few = {"max_iter": 6} if kind.__name__.startswith("Hist") else {"n_estimators": 6}
    few = {} if kind is DecisionTreeClassifier else few
    trees = kind(max_depth=3, min_samples_leaf=5, random_state=0, **few, **settings)
    target = 10.0 * events.label if kind.__name__.endswith("Regressor") else events.label
    return SklearnModel(trees.fit(events.globals, target), ("signal",), events.schema)


def scores(model: SklearnModel, x: np.ndarray) -> np.ndarray:
    """What is shared out: log-odds, or the probability where trees average those."""
    if hasattr(model.estimator, "classes_") and not hasattr(model.estimator, "decision_function"):
        return model.estimator.predict_proba(x)[:, 1]
    return model.score_table(x)[:, 0]


def plain_trees(estimator: Any) -> list[dict[str, Any]]:
    """Nodes of every tree by name."""
    if hasattr(estimator, "_predictors"):
        nodes = [step[0].nodes for step in estimator._predictors]
        return [
            {n: t[s] for n, s in (("right", "right"), ("feature", "feature_idx"), ("value", "value"))}
            | {"left": np.where(t["is_leaf"], -1, t["left"].astype(int))}
            | {"threshold": t["num_threshold"], "size": t["count"]}
            for t in nodes
        ]
    trees = [t.tree_ for t in np.ravel(estimator.estimators_)]
    probability = hasattr(estimator, "classes_") and trees[0].n_outputs == 1 and trees[0].n_classes[0] > 1
    scale = getattr(estimator, "learning_rate", 1 / len(trees))
    return [
        {"left": t.children_left, "right": t.children_right, "feature": t.feature, "threshold": t.threshold}
        | {"size": t.n_node_samples, "value": t.value[:, 0, 1 if probability else 0] * scale}
        for t in trees
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_interventional_equals_the_definition(kind: Callable[..., Any], events: Events) -> None:
    model = fitted(kind, events)
    found = explain(model, events[:8], "tree_shap", baseline="interventional", rows=events.globals[20:50])
    expected = [
        interventional(lambda x: scores(model, x), x, events.globals[20:50]) for x in events.globals[:8]
    ]
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    [
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
        RandomForestRegressor,
    ],
)
def test_path_dependent_equals_the_definition(kind: Callable[..., Any], events: Events) -> None:
    model = fitted(kind, events)
    found = explain(model, events[:8], "tree_shap")
    expected = [path_dependent(plain_trees(model.estimator), x) for x in events.globals[:8]]
    np.testing.assert_allclose(found.values, expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*have a probability within 1e-06 of 0 or 1")
@pytest.mark.parametrize("kind", KINDS)
def test_one_reference_for_weighted_trees(kind: Callable[..., Any], events: Events) -> None:
    """Mean score of the training events, each counted once, whatever their weights in the training."""
    bootstrap = {"bootstrap": False} if kind.__name__.startswith("RandomForest") else {}
    trees = fitted(kind, events, **bootstrap).estimator
    target = 10.0 * events.label if kind.__name__.endswith("Regressor") else events.label
    trees.fit(events.globals, target, sample_weight=np.where(events.label == 1, 5.0, 1.0))
    model = SklearnModel(trees, ("signal",), events.schema)
    attribution = explain(model, events[:20], "tree_shap")
    assert attribution.settings["expected"] == pytest.approx(scores(model, events.globals).mean(), abs=1e-6)
    assert attribution.settings["reference"] == "training events, each counted once"
    assert attribution.checks["p90_residual"] < 1e-5  # a probability of 0 is clipped


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, RandomForestClassifier])
def test_classes_in_another_order(kind: Callable[..., Any], events: Events) -> None:
    """Values are those of the card's second class, where it is the estimator's first one."""
    right = explain(fitted(kind, events), events, "tree_shap")
    trees = fitted(kind, events).estimator
    trees.fit(events.globals, np.array(["zbkg", "sig"])[events.label])
    model = SklearnModel(trees, ("signal",), events.schema, classes=("signal", "background"))
    attribution = explain(model, events, "tree_shap")
    np.testing.assert_allclose(attribution.values, right.values, atol=1e-6)
    assert attribution.settings["expected"] == pytest.approx(right.settings["expected"], abs=1e-6)


def test_the_best_trees_of_a_grid_search(events: Events) -> None:
    search = GridSearchCV(
        HistGradientBoostingClassifier(max_iter=4, random_state=0), {"max_depth": [1, 3]}, cv=2
    )
    model = SklearnModel(search.fit(events.globals, events.label), ("signal",), events.schema)
    attribution = explain(model, events, "tree_shap")
    score = search.decision_function(events.globals)
    np.testing.assert_allclose(attribution.values.sum(1) + attribution.settings["expected"], score, atol=1e-9)


def test_a_pipeline_is_refused_with_what_works(events: Events) -> None:
    pipeline = make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=3))
    model = SklearnModel(pipeline.fit(events.globals, events.label), ("signal",), events.schema)
    message = r"Pipeline is none of them; .*fit the last step alone on events\.table\(\).*kernel_shap"
    with pytest.raises(CannotExplainError, match=message):
        explain(model, events, "tree_shap")
    explain(model, events[:3], "kernel_shap")
    last = SklearnModel(pipeline[-1].fit(events.table()[0], events.label), ("signal",), events.schema)
    explain(last, events, "tree_shap")


@pytest.mark.filterwarnings("ignore:.*have a probability within 1e-06 of 0 or 1")
@pytest.mark.parametrize("baseline", ["path_dependent", "interventional"])
@pytest.mark.parametrize("kind", KINDS)
def test_adds_up_to_the_score(kind: Callable[..., Any], events: Events, baseline: str) -> None:
    model = fitted(kind, events)
    found = explain(model, events, "tree_shap", baseline=baseline)
    score, expected = scores(model, events.globals), found.settings["expected"]
    np.testing.assert_allclose(found.values.sum(1) + expected, score, atol=5e-6)
    np.testing.assert_allclose(
        found.output_change + expected, score, atol=1.1e-6
    )  # a probability of 0 is clipped
    assert found.axes == ("event", "feature")
    assert found.labels["feature"] == events.schema.globals
    assert found.settings["unit"] in ("logit", "probability", "prediction")
    if baseline == "interventional":
        assert found.settings["expected"] == pytest.approx(_mean_of_drawn(model, events))


def _mean_of_drawn(model: SklearnModel, events: Events) -> float:
    prepared = EXPLAINERS["tree_shap"](baseline="interventional").prepare(model, events, "signal")
    assert prepared.rows.shape == (100, 4)
    own = {r.tobytes() for r in events.globals[events.label == 0]}
    assert {r.tobytes() for r in prepared.rows} <= own
    return float(scores(model, prepared.rows).mean())


def test_more_than_a_hundred_rows_are_all_used(events: Events) -> None:
    """shap would silently take 100 of them."""
    model = fitted(GradientBoostingClassifier, events)
    few = explain(model, events[:3], "tree_shap", baseline="interventional", rows=events.globals[:140])
    expected = [
        interventional(lambda x: scores(model, x), x, events.globals[:140]) for x in events.globals[:3]
    ]
    np.testing.assert_allclose(few.values, expected, atol=1e-6)


@pytest.mark.slow
def test_several_classes(events: Events) -> None:
    label = events.label + (events.globals[:, 2] > 0.5)
    schema = events.schema
    for kind in (HistGradientBoostingClassifier, RandomForestClassifier):
        trees = kind(max_depth=3, random_state=0).fit(events.globals, label)
        model = SklearnModel(trees, ("a", "b", "c"), schema)
        raw = getattr(trees, "decision_function", trees.predict_proba)(events.globals)
        for o, target in enumerate(model.outputs):
            for baseline in ("path_dependent", "interventional"):
                found = explain(model, events, "tree_shap", target=target, baseline=baseline)
                total = found.values.sum(1) + found.settings["expected"]
                np.testing.assert_allclose(total, raw[:, o], atol=1e-5)


def test_missing_values(events: Events) -> None:
    table = events.globals.copy()
    table[::5, 1] = np.nan
    holes = events.replace(globals=table)
    model = fitted(HistGradientBoostingClassifier, holes)
    found = explain(model, holes, "tree_shap")
    assert found.checks["p90_residual"] < 1e-6
    with pytest.raises(ValueError, match="not finite: c1 in 40 of 200 events"):
        explain(model, holes, "tree_shap", baseline="interventional")


def test_settings_are_small_and_complete(events: Events) -> None:
    model = fitted(GradientBoostingClassifier, events)
    found = explain(model, events, "tree_shap", baseline="interventional", size=30, seed=4)
    assert len(json.dumps(dict(found.settings))) < 350
    again = explain(model, events, "tree_shap", baseline="interventional", size=30, seed=4)
    other = explain(model, events, "tree_shap", baseline="interventional", size=30, seed=5)
    assert np.array_equal(found.values, again.values)
    assert not np.array_equal(found.values, other.values)


# --- the background ------------------------------------------------------------------------------------


def test_rows_are_drawn_by_weight(events: Events) -> None:
    """Each event as often as its share of the weight says, up to one."""
    weight = np.where(np.arange(len(events)) % 2, 3.0, 1.0)
    heavy = events.replace(weight=weight, label=np.zeros(len(events), dtype=np.int64))
    model = fitted(GradientBoostingClassifier, events)
    drawn = EXPLAINERS["tree_shap"](baseline="interventional", size=1000, sample="all")
    rows = drawn.prepare(model, heavy, "signal").rows
    times = np.array([(rows == x).all(axis=1).sum() for x in heavy.globals])
    expected = weight / weight.sum() * 1000
    assert (np.abs(times - expected) < 1).all()


def test_no_background(events: Events) -> None:
    model = fitted(GradientBoostingClassifier, events)
    with pytest.raises(ValueError, match="no event of class 'background' with a weight to compare with"):
        explain(model, events[events.label == 1], "tree_shap", baseline="interventional")


# --- traps and bad input -------------------------------------------------------------------------------


def test_trees_of_double_precision_are_refused(toy: ToyEvents) -> None:
    """With float32 rows at float64 cuts shap's interventional values do not add up."""
    events = toy(600, largest=0)
    table = np.random.default_rng(3).normal(size=(600, 2))
    label = (table[:, 0] * table[:, 1] > 0).astype(np.int64)
    trees = HistGradientBoostingClassifier(random_state=0).fit(table, label)
    same = events.replace(globals=table.astype(np.float32), label=label)
    model = SklearnModel(trees, ("signal",), events.schema)
    message = r"do not add up to the score for \d+ of 600 events; .* train on `events.table\(\)`"
    with pytest.raises(ArithmeticError, match=message):
        explain(model, same, "tree_shap", baseline="interventional")
    assert explain(model, same, "tree_shap").checks["p90_residual"] < 1e-6


def test_categories_are_refused(events: Events) -> None:
    table = events.globals.copy()
    table[:, 3] = np.arange(len(table)) % 4
    whole = events.replace(globals=table)
    model = fitted(HistGradientBoostingClassifier, whole, categorical_features=[3])
    with pytest.raises(CannotExplainError, match=r"shap takes the categorical columns .* kernel_shap"):
        explain(model, whole, "tree_shap")


def test_models_without_trees(events: Events, table_model: TableModel) -> None:
    linear = SklearnModel(LogisticRegression().fit(events.globals, events.label), ("signal",), events.schema)
    message = "tree_shap reads the decision trees .*; LogisticRegression is none of them; .* kernel_shap"
    with pytest.raises(CannotExplainError, match=message):
        explain(linear, events, "tree_shap")
    with pytest.raises(CannotExplainError, match="TableModel has no estimator"):
        explain(table_model, events, "tree_shap")
    with pytest.raises(CannotExplainError) as refused:
        explain(linear, events, "attention")
    assert "tree_shap" not in str(refused.value)


def test_what_shap_cannot_do(events: Events) -> None:
    label = events.label + (events.globals[:, 2] > 0.5)
    trees = GradientBoostingClassifier(n_estimators=3).fit(events.globals, label)
    model = SklearnModel(trees, ("a", "b", "c"), events.schema)
    with pytest.raises(CannotExplainError, match=r"only supported for binary .*; take kernel_shap"):
        explain(model, events, "tree_shap", target="a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "zero"}, "baseline='zero'; should be 'path_dependent' or 'interventional'"),
        ({"sample": "signal"}, "sample='signal'; should be 'background' or 'all'"),
        ({"size": 0}, "size=0; should be greater than or equal to 1"),
        ({"seed": 1.5}, "seed=1.5; should be a valid integer"),
        ({"tolerance": "a lot"}, "tolerance='a lot'; should be a valid number"),
        ({"baseline": "interventional", "rows": np.zeros((3, 2))}, r"rows have shape \(3, 2\); rows of c0"),
    ],
)
def test_settings_that_cannot_be(events: Events, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(fitted(GradientBoostingClassifier, events), events, "tree_shap", **settings)


def test_without_the_library_it_is_no_default(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(GradientBoostingClassifier, events)
    assert is_default_for("tree_shap", model)
    monkeypatch.setattr("hepxai.explainers.table.tree_shap.installed", lambda name: False)
    assert not is_default_for("tree_shap", model)


def test_without_the_library(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingExtraError, match=r'tree_shap needs shap .*: pip install "hepxai\[shap\]"'):
        explain(fitted(GradientBoostingClassifier, events), events, "tree_shap")


def test_a_column_without_any_value_is_refused(events: Events) -> None:
    table = events.globals.copy()
    table[:, 1] = np.nan
    model = fitted(HistGradientBoostingClassifier, events)
    with pytest.raises(ValueError, match=f"all values of {events.schema.globals[1]} are NaN"):
        explain(model, events.replace(globals=table), "tree_shap")
