"""XGBoost and LightGBM: margins, columns, classes and files."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hepxai
from hepxai.events import Events
from hepxai.models.wrappers.booster_files import xgboost_content, xgboost_nodes

xgboost = pytest.importorskip("xgboost")
lightgbm = pytest.importorskip("lightgbm")
Table = NDArray[np.float32]
QUIET = {"verbose": -1, "num_threads": 1, "num_leaves": 6, "min_data_in_leaf": 5}


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    """Events with missing values and a column of six categories."""
    plain, rng = toy(300, seed=6, largest=0), np.random.default_rng(7)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    x[:, 3] = rng.integers(0, 6, 300)
    label = (x[:, 0] + x[:, 1] * x[:, 2] + 2 * np.isin(x[:, 3], [1, 4]) > 0.5).astype(np.int64)
    x[rng.random(x.shape) < 0.05] = np.nan
    names = ("c0", "c1", "c2", "c3")
    schema = dataclasses.replace(plain.schema, globals=names, global_units=("",) * 4)
    return plain.replace(schema=schema, globals=x, label=label)


def xgb(events: Events, rounds: int = 6, label: Any = None, **settings: Any) -> Any:
    label = events.label if label is None else label
    data = xgboost.DMatrix(events.globals, label=label, feature_names=settings.pop("names", None))
    common = {"objective": "binary:logistic", "nthread": 1, "max_depth": 3}
    return xgboost.train(common | settings, data, rounds)


def lgb(events: Events, rounds: int = 6, label: Any = None, **settings: Any) -> Any:
    data = lightgbm.Dataset(events.globals, events.label if label is None else label)
    return lightgbm.train(QUIET | {"objective": "binary"} | settings, data, rounds)


def margin(booster: Any, x: Table) -> Any:
    if isinstance(booster, lightgbm.Booster):
        return booster.predict(x, raw_score=True)
    return booster.predict(xgboost.DMatrix(x, feature_names=booster.feature_names), output_margin=True)


def three(events: Events) -> Events:
    schema = dataclasses.replace(events.schema, classes=("w", "top", "qcd"))
    label = events.label + (np.nan_to_num(events.globals[:, 2]) > 0.5)
    return events.replace(schema=schema, label=label)


# --- scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [xgb, lgb])
def test_margins_are_the_logits(train: Callable[..., Any], events: Events) -> None:
    booster = train(events)
    model = hepxai.SklearnModel(booster, ("signal",), events.schema)
    np.testing.assert_allclose(model.logits(events)[:, 0], margin(booster, events.globals), rtol=1e-12)
    assert model.logits(events[:0]).shape == (0, 1)
    reversed_classes = hepxai.SklearnModel(
        booster, ("signal",), events.schema, classes=("signal", "background")
    )
    assert np.array_equal(reversed_classes.logits(events), -model.logits(events))


@pytest.mark.parametrize(
    ("train", "settings"),
    [
        (xgb, {"objective": "multi:softprob"}),
        (xgb, {"objective": "multi:softmax"}),
        (lgb, {"objective": "multiclass"}),
    ],
)
def test_several_classes(train: Callable[..., Any], settings: dict[str, Any], events: Events) -> None:
    events = three(events)
    booster = train(events, num_class=3, **settings)
    model = hepxai.SklearnModel(booster, events.schema.classes, events.schema)
    np.testing.assert_allclose(model.logits(events), margin(booster, events.globals), rtol=1e-12)
    with pytest.raises(ValueError, match=r"a classifier of 3 classes has 3 outputs, named are \('qcd',\)"):
        hepxai.SklearnModel(booster, ("qcd",), events.schema)


@pytest.mark.parametrize(
    "settings", [{"sigmoid": 2.0}, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}]
)
def test_the_sigmoid_of_a_logit_is_the_probability(settings: dict[str, Any], events: Events) -> None:
    booster = lgb(events, **settings)
    logit = hepxai.SklearnModel(booster, ("signal",), events.schema).logits(events)[:, 0]
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), booster.predict(events.globals), rtol=1e-9)


def test_estimators_of_the_libraries(events: Events) -> None:
    x, y = events.globals, events.label
    trees = xgboost.XGBClassifier(n_estimators=4, n_jobs=1).fit(x, y)
    leaves = lightgbm.LGBMClassifier(n_estimators=4, n_jobs=1, verbose=-1).fit(x, y)
    for estimator, expected in (
        (trees, trees.predict(x, output_margin=True)),
        (leaves, leaves.predict(x, raw_score=True)),
    ):
        model = hepxai.SklearnModel(estimator, ("signal",), events.schema)
        np.testing.assert_allclose(model.logits(events)[:, 0], expected, rtol=1e-12)
    value = xgboost.XGBRegressor(n_estimators=4, n_jobs=1, missing=0.0).fit(np.nan_to_num(x), x[:, 0] > 0)
    model = hepxai.SklearnModel(value, ("value",), events.schema)
    np.testing.assert_allclose(model.score_table(np.nan_to_num(x))[:, 0], value.predict(np.nan_to_num(x)))
    with pytest.raises(ValueError, match="XGBClassifier is not fitted: call its fit first"):
        hepxai.SklearnModel(xgboost.XGBClassifier(), ("signal",), events.schema)


@pytest.mark.filterwarnings("ignore:The argument 'eval_set'")
def test_the_best_rounds_count(events: Events, tmp_path: Path) -> None:
    """As the estimators of the libraries score."""
    x, y, other = events.globals[::2], events.label[::2], (events.globals[1::2], events.label[1::2])
    stop = {"n_estimators": 60, "learning_rate": 0.5, "n_jobs": 1}
    trees = xgboost.XGBClassifier(early_stopping_rounds=3, **stop).fit(x, y, eval_set=[other], verbose=False)
    booster, best = trees.get_booster(), trees.best_iteration + 1
    assert best < booster.num_boosted_rounds()
    expected = trees.predict(events.globals, output_margin=True)
    model = hepxai.SklearnModel(trees, ("signal",), events.schema)
    np.testing.assert_allclose(model.logits(events)[:, 0], expected, rtol=1e-12)
    booster.save_model(tmp_path / "early.json")
    message = rf"its best {best} of \d+ rounds .*set_attr\(best_iteration=None\)"
    with pytest.warns(UserWarning, match=message) as caught:
        raw = hepxai.SklearnModel(booster, ("signal",), events.schema)
    with pytest.warns(UserWarning, match=message) as of_file:
        hepxai.load_trees(tmp_path / "early.json", events.schema)
    assert {warning.filename for warning in (*caught, *of_file)} == {__file__}
    np.testing.assert_allclose(raw.logits(events)[:, 0], expected, rtol=1e-12)
    booster.set_attr(best_iteration=None)
    whole = hepxai.SklearnModel(booster, ("signal",), events.schema)
    np.testing.assert_allclose(whole.logits(events)[:, 0], margin(booster, events.globals), rtol=1e-12)
    callbacks = [lightgbm.early_stopping(3, verbose=False)]
    leaves = lightgbm.LGBMClassifier(verbose=-1, **stop).fit(x, y, eval_set=[other], callbacks=callbacks)
    model = hepxai.SklearnModel(leaves, ("signal",), events.schema)
    expected = leaves.predict(events.globals, raw_score=True)
    np.testing.assert_allclose(model.logits(events)[:, 0], expected, rtol=1e-12)


# --- what does not fit ---------------------------------------------------------------------------------


def test_columns_of_a_booster(events: Events) -> None:
    named = xgb(events, names=list(events.schema.globals))
    hepxai.SklearnModel(named, ("signal",), events.schema)
    swapped = xgb(events, names=["c1", "c0", "c2", "c3"])
    with pytest.raises(ValueError, match="fitted on c1, c0, c2, c3; the globals are c0, c1, c2, c3"):
        hepxai.SklearnModel(swapped, ("signal",), events.schema)
    narrow = events.replace(
        schema=dataclasses.replace(events.schema, globals=("c0", "c1"), global_units=("", "")),
        globals=events.globals[:, :2],
    )
    for booster in (named, lgb(events)):
        with pytest.raises(ValueError, match="fitted on 4 columns; the globals are c0, c1"):
            hepxai.SklearnModel(booster, ("signal",), narrow.schema)


@pytest.mark.parametrize(
    ("train", "objective", "message"),
    [
        (
            xgb,
            "count:poisson",
            "objective count:poisson is neither a logit nor a prediction; known are binary",
        ),
        (xgb, "reg:gamma", "objective reg:gamma is neither"),
        (lgb, "poisson", "objective poisson is neither"),
        (lgb, "lambdarank", "objective lambdarank ranks events within groups, which has no logit"),
    ],
)
def test_objectives_without_a_logit(
    train: Callable[..., Any], objective: str, message: str, events: Events
) -> None:
    if objective == "lambdarank":
        data = lightgbm.Dataset(events.globals, events.label, group=[150, 150])
        booster = lightgbm.train(QUIET | {"objective": objective}, data, 2)
    else:
        booster = train(events, label=events.label + 1.0, objective=objective)
    with pytest.raises(ValueError, match=message):
        hepxai.SklearnModel(booster, ("signal",), events.schema)


def test_the_remedy_for_other_objectives(events: Events) -> None:
    counts = lightgbm.LGBMRegressor(objective="poisson", n_estimators=3, verbose=-1, n_jobs=1)
    counts.fit(events.globals, events.label)
    model = hepxai.SklearnModel(counts, ("count",), events.schema)
    np.testing.assert_allclose(model.logits(events)[:, 0], counts.predict(events.globals))


# --- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.json", "model.ubj", "model.txt"])
def test_files_give_the_scores_of_the_booster(name: str, events: Events, tmp_path: Path) -> None:
    booster = lgb(events) if name.endswith("txt") else xgb(events)
    booster.save_model(str(tmp_path / name))
    model = hepxai.load_trees(tmp_path / name, events.schema)
    assert model.outputs == ("signal",)
    np.testing.assert_allclose(model.logits(events)[:, 0], margin(booster, events.globals), rtol=1e-12)


def test_outputs_of_a_file(events: Events, tmp_path: Path) -> None:
    events = three(events)
    xgb(events, objective="multi:softprob", num_class=3).save_model(tmp_path / "three.json")
    assert hepxai.load_trees(tmp_path / "three.json", events.schema).outputs == ("w", "top", "qcd")
    xgb(events, objective="reg:squarederror").save_model(tmp_path / "value.json")
    assert hepxai.load_trees(tmp_path / "value.json", events.schema, ("mass",)).outputs == ("mass",)
    with pytest.raises(
        ValueError, match=r"value\.json: the booster predicts 1 values; named are \('a', 'b'\)"
    ):
        hepxai.load_trees(tmp_path / "value.json", events.schema, ("a", "b"))
    one = xgb(events.replace(label=(events.label == 0).astype(int)))
    one.save_model(tmp_path / "one.json")
    with pytest.raises(
        ValueError, match=r"separates two classes, the events have w, top, qcd: give outputs="
    ):
        hepxai.load_trees(tmp_path / "one.json", events.schema)
    assert hepxai.load_trees(tmp_path / "one.json", events.schema, ("w",)).outputs == ("w",)


def test_ubjson_is_json(events: Events) -> None:
    booster = xgb(events)
    binary, text = (
        xgboost_nodes(xgboost_content(bytes(booster.save_raw(form))), 6, 0) for form in ("ubj", "json")
    )
    for one, other in zip(binary, text, strict=True):
        for name in ("feature", "threshold", "missing_left", "left", "right", "value", "size", "gain"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def altered(data: bytes, change: Callable[[Any], None]) -> bytes:
    content = json.loads(data)
    change(content["learner"]["gradient_booster"]["model"]["trees"][0])
    return json.dumps(content).encode()


BAD: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "half": ("json", cut, r"incomplete or no XGBoost model \("),
    "half ubj": ("ubj", cut, r"incomplete or no XGBoost model \(the file ends after \d+ bytes"),
    "half text": ("txt", cut, r"incomplete or no LightGBM model \(no 'tree' at the start, or no 'end of tr"),
    "other json": ("json", lambda _: b'{"a": 1}', "incomplete or no XGBoost model .*no 'learner' in it"),
    "pickle": ("json", lambda _: pickle.dumps(1), "a pickle, which could execute .* a booster of XGBoost"),
    "text": ("json", lambda _: b"hello", r"no tree model; .*save_model\('model.json'\)"),
    "empty": ("json", lambda _: b"", "no tree model"),
    "cycle": (
        "json",
        lambda d: altered(d, lambda t: t["left_children"].__setitem__(1, 0)),
        "none of|as in a cycle",
    ),
    "nowhere": ("json", lambda d: altered(d, lambda t: t["right_children"].__setitem__(0, 999)), "none of"),
    "column": (
        "json",
        lambda d: altered(d, lambda t: t["split_indices"].__setitem__(0, 9)),
        "reads column 9",
    ),
    "lengths": ("json", lambda d: altered(d, lambda t: t["split_conditions"].pop()), "incomplete or no XGB"),
    "fewer trees": ("txt", lambda d: d.replace(b"\nTree=1\n", b"\nTwig=1\n"), "5 trees of 6|incomplete"),
    "fewer cuts": (
        "txt",
        lambda d: d.replace(b"num_leaves=6", b"num_leaves=9", 1),
        "a tree of 9 leaves has 5",
    ),
}


@pytest.mark.parametrize("problem", BAD)
def test_files_that_are_no_model(problem: str, events: Events, tmp_path: Path) -> None:
    """LightGBM would end the process on some of them."""
    suffix, change, message = BAD[problem]
    booster, path = lgb(events) if suffix == "txt" else xgb(events), tmp_path / f"model.{suffix}"
    booster.save_model(str(path))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as refusal:
        hepxai.load_trees(path, events.schema)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_infinite_values_are_named(events: Events) -> None:
    table = events.globals.copy()
    table[3, 1] = np.inf
    model = hepxai.SklearnModel(xgb(events), ("signal",), events.schema)
    with pytest.raises(ValueError, match="infinite values in 1 of 300 rows"):
        model.logits(events.replace(globals=table))
