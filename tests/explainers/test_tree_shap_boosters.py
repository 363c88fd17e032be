"""TreeSHAP of XGBoost, LightGBM and pipelines: against the definition and the libraries' own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, PolynomialFeatures, StandardScaler
from slow_tables import interventional

from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.importance.forest import Forest
from hepxai.importance.gini import gini_importance
from hepxai.importance.permutation import permutation_importance
from hepxai.models.wrappers.table import SklearnModel

Maker = Callable[[Events], Any]


@pytest.fixture
def events(wide_table: Events) -> Events:
    """Four columns: missing values in one, categories in another; weights of both signs."""
    x, rng = wide_table.globals.copy(), np.random.default_rng(8)
    x[:, 3] = rng.integers(0, 5, len(x))
    label = np.where(np.isin(x[:, 3], [1, 4]), 1 - wide_table.label, wide_table.label)
    x[rng.random(len(x)) < 0.1, 1] = np.nan
    schema = dataclasses.replace(wide_table.schema, classes=("background", "signal"))
    weight = rng.choice([1.5, 1.0, -0.5], len(x), p=[0.4, 0.4, 0.2])
    return wide_table.replace(schema=schema, globals=x, label=label, weight=weight)


def classes(events: Events) -> Events:
    schema = dataclasses.replace(events.schema, classes=("w", "top", "qcd"))
    return events.replace(schema=schema, label=events.label + (events.globals[:, 2] > 0.5))


def xgb(categories: bool = False, **settings: Any) -> Maker:
    def make(events: Events) -> Any:
        library = pytest.importorskip("xgboost")
        kinds = ["q", "q", "q", "c"] if categories else None
        data = library.DMatrix(
            events.globals, label=events.label, feature_types=kinds, enable_categorical=categories
        )
        return library.train(
            {"objective": "binary:logistic", "nthread": 1} | (settings or {"max_depth": 3}), data, 5
        )

    return make


def lgb(categories: bool = False, **settings: Any) -> Maker:
    def make(events: Events) -> Any:
        library = pytest.importorskip("lightgbm")
        data = library.Dataset(events.globals, events.label, categorical_feature=[3] if categories else [])
        quiet = {
            "objective": "binary",
            "verbose": -1,
            "num_threads": 1,
            "num_leaves": 6,
            "min_data_in_leaf": 5,
        }
        few = {"min_data_per_group": 2, "cat_smooth": 1.0, "max_cat_to_onehot": 1}
        return library.train(quiet | few | settings, data, 5)

    return make


def hist(events: Events) -> Any:
    trees = HistGradientBoostingClassifier(
        max_iter=5, max_depth=3, categorical_features=[3], min_samples_leaf=5
    )
    return trees.fit(events.globals, events.label)


BINARY: dict[str, Maker] = {
    "xgboost": xgb(),
    "xgboost categories": xgb(categories=True, max_cat_to_onehot=1),
    "xgboost forest": xgb(num_parallel_tree=3, subsample=0.5, learning_rate=1.0),
    "xgboost dart": xgb(booster="dart", rate_drop=0.5),
    "lightgbm": lgb(),
    "lightgbm categories": lgb(categories=True),
    "lightgbm forest": lgb(boosting="rf", bagging_freq=1, bagging_fraction=0.5),
    "lightgbm sigmoid": lgb(sigmoid=2.0),
    "lightgbm without missing values": lgb(use_missing=False),
    "histogram categories": hist,
}


@pytest.mark.parametrize("name", BINARY)
def test_equals_the_definition_with_signed_weights(name: str, events: Events) -> None:
    """Set by set; background rows count with their weight, also a negative one."""
    model = SklearnModel(BINARY[name](events), ("signal",), events.schema)
    rows = events[40:70]
    assert (rows.weight < 0).any()
    attribution = explain(model, events[:6], "tree_shap", baseline="interventional", rows=rows)
    expected = [
        interventional(lambda x: model.score_table(x)[:, 0], x, rows.globals, rows.weight)
        for x in events.globals[:6]
    ]
    np.testing.assert_allclose(attribution.values, expected, atol=2e-6)
    mean = np.average(model.score_table(rows.globals)[:, 0], weights=rows.weight)
    assert attribution.settings["expected"] == pytest.approx(mean, abs=1e-6)
    assert attribution.settings["reference"] == "weighted mean of 30 background rows"


@pytest.mark.parametrize("name", [n for n in BINARY if n.startswith(("xgb", "light")) and "sigmoid" not in n])
def test_path_dependent_equals_the_libraries(name: str, events: Events) -> None:
    booster = BINARY[name](events)
    model = SklearnModel(booster, ("signal",), events.schema)
    attribution = explain(model, events, "tree_shap")
    if name.startswith("xgboost"):
        library = pytest.importorskip("xgboost")
        kinds = booster.feature_types
        data = library.DMatrix(events.globals, feature_types=kinds, enable_categorical=kinds is not None)
        theirs = booster.predict(data, pred_contribs=True)
    else:
        theirs = booster.predict(events.globals, pred_contrib=True) / (5 if "forest" in name else 1)
    np.testing.assert_allclose(attribution.values, theirs[:, :-1], atol=2e-6)
    assert attribution.settings["expected"] == pytest.approx(theirs[0, -1], abs=2e-6)


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (xgb(objective="multi:softprob", num_class=3), 3),
        (xgb(objective="multi:softprob", num_class=3, booster="dart", rate_drop=0.5), 3),
        (lgb(objective="multiclass", num_class=3), 3),
        (lambda e: GradientBoostingClassifier(n_estimators=4).fit(np.nan_to_num(e.globals), e.label), 3),
        (lambda e: RandomForestClassifier(4, max_depth=4, random_state=0).fit(e.globals, e.label), 3),
    ],
)
@pytest.mark.filterwarnings("ignore:.*have a probability within")
def test_contrasts_of_several_classes(make: Maker, outputs: int, events: Events) -> None:
    """A contrast is linear in the outputs, and so are the values."""
    events = classes(events)
    if "Gradient" in type(estimator := make(events)).__name__:
        events = events.replace(globals=np.nan_to_num(events.globals))
    model = SklearnModel(estimator, events.schema.classes, events.schema)
    settings = {"baseline": "interventional", "sample": "all"}
    values = {
        t: explain(model, events, "tree_shap", target=t, **settings) for t in ("w-top", "top-qcd", "w-qcd")
    }
    sum_of_two = values["w-top"].values + values["top-qcd"].values
    np.testing.assert_allclose(values["w-qcd"].values, sum_of_two, atol=1e-6)
    if values["w-qcd"].settings["unit"] == "logit":
        score = model.logits(events)
        expected = values["w-qcd"].values.sum(1) + values["w-qcd"].settings["expected"]
        np.testing.assert_allclose(expected, score[:, 0] - score[:, 2], atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*have a probability within")
def test_deep_trees_of_many_columns(events: Events) -> None:
    """More columns on a path than patterns are counted for."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 18)).astype(np.float32)
    names = tuple(f"v{i}" for i in range(18))
    schema = dataclasses.replace(events.schema, globals=names, global_units=("",) * 18)
    wide = events.replace(schema=schema, globals=x)
    trees = RandomForestClassifier(2, max_features=1, random_state=0).fit(x, x.sum(1) > 0)
    model = SklearnModel(trees, ("signal",), schema)
    for baseline in ("path_dependent", "interventional"):
        settings = {"baseline": baseline} | ({"sample": "all"} if baseline == "interventional" else {})
        attribution = explain(model, wide, "tree_shap", **settings)
        total = attribution.values.sum(1) + attribution.settings["expected"]
        np.testing.assert_allclose(total, trees.predict_proba(x)[:, 1], atol=1e-5)


# --- signed weights ----------------------------------------------------------------------------------


def test_all_events_are_the_background(events: Events) -> None:
    model = SklearnModel(BINARY["xgboost"](events), ("signal",), events.schema)
    first = events.label == 0
    attribution = explain(model, events[:5], "tree_shap", baseline="interventional", rows=events[first])
    again = explain(model, events, "tree_shap", baseline="interventional")
    np.testing.assert_allclose(again.values[:5], attribution.values, atol=1e-12)
    drawn = explain(model, events, "tree_shap", baseline="interventional", size=4000)
    assert drawn.settings["expected"] == pytest.approx(again.settings["expected"], abs=0.01)  # signs are kept


def test_weights_that_cancel(events: Events) -> None:
    model = SklearnModel(BINARY["xgboost"](events), ("signal",), events.schema)
    cancelling = events.replace(weight=np.where(np.arange(len(events)) % 2, 1.0, -1.0))
    message = "no mean of the background rows: .*give other `rows`, or draw some by"
    with pytest.raises(ValueError, match=message):
        explain(model, cancelling, "tree_shap", baseline="interventional", sample="all")
    array = {"rows": events.globals, "baseline": "interventional"}
    assert explain(model, cancelling, "tree_shap", **array).settings["expected"]


# --- gains and permutation ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["xgboost", "xgboost dart", "lightgbm", "lightgbm categories"])
def test_gains_are_those_of_the_library(name: str, events: Events) -> None:
    booster = BINARY[name](events)
    model = SklearnModel(booster, ("signal",), events.schema)
    if name.startswith("xgboost"):
        gains = booster.get_score(importance_type="total_gain")
        theirs = np.array([gains.get(f"f{i}", 0.0) for i in range(4)])
    else:
        theirs = booster.feature_importance("gain")
    found = gini_importance(model)
    np.testing.assert_allclose(found.mean, theirs / theirs.sum(), rtol=1e-5)
    assert found.repeats.shape == (4, 5)
    assert found.metric in ("gain, binary:logistic", "gain, binary")


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_permutation_evaluates_the_trees(name: str, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SklearnModel(BINARY[name](events), ("signal",), events.schema)
    positive = events.replace(weight=np.abs(events.weight))
    assert Forest.of(model, events.globals, 0, model.logits(events)[:, 0]) is not None
    fast = permutation_importance(model, positive, repeats=2)
    monkeypatch.setattr("hepxai.importance.forest._trees", lambda *_: [])
    slow = permutation_importance(model, positive, repeats=2)
    np.testing.assert_allclose(fast.mean, slow.mean, atol=1e-12)


# --- pipelines ----------------------------------------------------------------------------------------


def frame(events: Events) -> Any:
    return pytest.importorskip("pandas").DataFrame(events.globals, columns=events.schema.globals)


PIPELINES: dict[str, Callable[[], Any]] = {
    "scaler": lambda: make_pipeline(StandardScaler()),
    "two scalers": lambda: make_pipeline(SimpleImputer(), make_pipeline(StandardScaler(), MinMaxScaler())),
    "selection": lambda: make_pipeline(SimpleImputer(), SelectKBest(k=2)),
    "ufunc": lambda: make_pipeline(FunctionTransformer(np.arctan)),
    "columns": lambda: make_pipeline(
        ColumnTransformer([("a", MinMaxScaler(), [2, 0]), ("drop", "drop", [1])], remainder=StandardScaler())
    ),
    "two of one": lambda: make_pipeline(
        ColumnTransformer([("a", MinMaxScaler(), [2, 0]), ("b", FunctionTransformer(np.sin), slice(0, 4))])
    ),
}


@pytest.mark.filterwarnings("ignore:.*have a probability within")
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("last", ["forest", "xgboost"])
def test_pipelines_are_explained_in_physical_columns(name: str, last: str, events: Events) -> None:
    if last == "forest":
        estimator: Any = RandomForestClassifier(4, max_depth=4, random_state=0)
    else:
        library = pytest.importorskip("xgboost")
        estimator = library.XGBClassifier(n_estimators=4, max_depth=3, n_jobs=1)
    pipeline = make_pipeline(*[s for _, s in PIPELINES[name]().steps], estimator)
    model = SklearnModel(pipeline.fit(events.globals, events.label), ("signal",), events.schema)
    rows = events[40:60]

    def score(x: Any) -> Any:
        return pipeline.predict_proba(x)[:, 1] if last == "forest" else model.score_table(x)[:, 0]

    attribution = explain(model, events[:4], "tree_shap", baseline="interventional", rows=rows)
    expected = [interventional(score, x, rows.globals, rows.weight) for x in events.globals[:4]]
    np.testing.assert_allclose(attribution.values, expected, atol=2e-6)
    assert attribution.labels["feature"] == events.schema.globals
    importance = gini_importance(model)
    assert importance.names == events.schema.globals
    if name == "columns":
        assert importance.mean[1] == 0
    path = explain(model, events, "tree_shap")
    np.testing.assert_allclose(
        path.values.sum(1) + path.settings["expected"], score(events.globals), atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:.*have a probability within")
def test_columns_by_name(events: Events) -> None:
    choose = ColumnTransformer([("a", StandardScaler(), ["c2", "c0"])], remainder="passthrough")
    pipeline = make_pipeline(choose, RandomForestClassifier(4, max_depth=3, random_state=0))
    pipeline.fit(frame(events), events.label)
    model = SklearnModel(pipeline, ("signal",), events.schema)
    attribution = explain(model, events, "tree_shap")
    total = attribution.values.sum(1) + attribution.settings["expected"]
    np.testing.assert_allclose(total, pipeline.predict_proba(frame(events))[:, 1], atol=1e-5)
    others = dataclasses.replace(events.schema, globals=("c3", "c0", "c1", "c2"))
    with pytest.raises(ValueError, match="was fitted on c0, c1, c2, c3; the globals are c3, c0, c1, c2"):
        SklearnModel(pipeline, ("signal",), others)


@pytest.mark.parametrize("mixing", [PCA(2), PolynomialFeatures(2), FunctionTransformer(lambda x: x[:, ::-1])])
def test_mixed_columns_are_refused_with_what_works(mixing: Any, events: Events) -> None:
    events = events.replace(globals=np.nan_to_num(events.globals))
    pipeline = make_pipeline(StandardScaler(), mixing, GradientBoostingClassifier(n_estimators=3))
    model = SklearnModel(pipeline.fit(events.globals, events.label), ("signal",), events.schema)
    message = rf"columns behind StandardScaler, {type(mixing).__name__} are not known .*kernel_shap"
    for refused in (lambda: explain(model, events, "tree_shap"), lambda: gini_importance(model)):
        with pytest.raises(CannotExplainError, match=message):
            refused()
    assert explain(model, events[:2], "kernel_shap", size=5).checks["p90_residual"] < 1e-6
    permutation_importance(model, events, repeats=1)


def test_searches_inside_and_outside(events: Events) -> None:
    events = events.replace(globals=np.nan_to_num(events.globals))
    search = GridSearchCV(GradientBoostingClassifier(n_estimators=3), {"max_depth": [1, 2]}, cv=2)
    outside = GridSearchCV(
        make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=3)),
        {"gradientboostingclassifier__max_depth": [1, 2]},
        cv=2,
    )
    for estimator in (make_pipeline(StandardScaler(), search), outside):
        estimator.fit(events.globals, events.label)
        model = SklearnModel(estimator, ("signal",), events.schema)
        attribution = explain(model, events, "tree_shap")
        total = attribution.values.sum(1) + attribution.settings["expected"]
        np.testing.assert_allclose(total, estimator.decision_function(events.globals), atol=1e-9)


@pytest.mark.parametrize(
    "estimator",
    [
        CalibratedClassifierCV(GradientBoostingClassifier(n_estimators=3), cv=2),
        VotingClassifier(
            [("a", GradientBoostingClassifier(n_estimators=3)), ("b", LogisticRegression())], voting="soft"
        ),
    ],
)
def test_what_no_sum_of_trees_is(estimator: Any, events: Events) -> None:
    events = events.replace(globals=np.nan_to_num(events.globals))
    model = SklearnModel(estimator.fit(events.globals, events.label), ("signal",), events.schema)
    with pytest.raises(
        CannotExplainError, match=f"{type(estimator).__name__} is none of them; .*kernel_shap"
    ):
        explain(model, events, "tree_shap")
    p = estimator.predict_proba(events.globals)[:, 1]
    np.testing.assert_allclose(model.logits(events)[:, 0], np.log(p / (1 - p)))
    explain(model, events[:2], "kernel_shap", size=5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (xgb(booster="gblinear"), "Booster is none of them; .*kernel_shap"),
        (lgb(linear_tree=True), r"cannot read this \w+: its leaves hold linear models .*; take kernel_shap"),
        (lgb(zero_as_missing=True), r"it takes zeros as missing .*; take kernel_shap"),
    ],
)
def test_boosters_that_are_refused(make: Maker, message: str, events: Events) -> None:
    events = events.replace(globals=np.nan_to_num(events.globals))
    model = SklearnModel(make(events), ("signal",), events.schema)
    with pytest.raises(CannotExplainError, match=message):
        explain(model, events, "tree_shap")
    explain(model, events[:2], "kernel_shap", size=5)
