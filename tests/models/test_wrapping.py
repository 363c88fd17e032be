"""Models of other libraries, given as they are: the advice, and whether it works."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_events import make_images
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

import hepxai
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.run.manifest import RunError
from hepxai.run.user_models import card_of


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(60, seed=2)


class Network:
    """A Keras model, as far as it is asked: `predict` gives probabilities [E, 1]."""

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-x[:, :1].astype(np.float64) / 100))


GIVEN = [
    (nn.Linear(2, 1), "Linear is a bare torch module; .* as in hepxai.PygModel", None),
    (LogisticRegression(), "LogisticRegression is a bare estimator", "hepxai.SklearnModel(estimator, ("),
    (Network(), "Network is neither a torch module nor", "predict_proba=lambda x: np.column_stack([1"),
    (LogisticRegression, "LogisticRegression is a class; give a trained object of it", None),
    (Path("model.safetensors"), r"'model\.safetensors' is a text; hepxai\.models\.load_model\(", None),
    (hepxai.ModelCard.find("dense"), r"DenseCard is a card; model, history = hepxai\.fit\(card", None),
]


@pytest.mark.parametrize(("given", "message", "remedy"), GIVEN)
def test_explain_says_how_to_wrap(events: Events, given: Any, message: str, remedy: str | None) -> None:
    for method in ("feature_ig", "tree_shap"):
        with pytest.raises(CannotExplainError, match=message) as refusal:
            explain(given, events, method)
        assert remedy is None or remedy in str(refusal.value)


@pytest.mark.parametrize(("given", "message", "remedy"), GIVEN)
def test_wrappers_say_which_one_it_needs(
    events: Events, given: Any, message: str, remedy: str | None
) -> None:
    estimator = isinstance(given, LogisticRegression)
    with pytest.raises(TypeError, match=message) as refusal:
        (hepxai.TableModel if estimator else hepxai.SklearnModel)(given, ("signal",), events.schema)
    assert remedy is None or remedy in str(refusal.value)


def test_other_estimators_of_scikit_learn(events: Events) -> None:
    with pytest.raises(
        TypeError, match="StandardScaler predicts nothing; a classifier or regressor is needed"
    ):
        hepxai.SklearnModel(StandardScaler().fit(events.globals), ("signal",), events.schema)
    with pytest.raises(TypeError, match=r"function is no torch\.nn\.Module; write a torch\.nn\.Module"):
        hepxai.TableModel(lambda x: x, ("signal",), events.schema)  # type: ignore[arg-type]


def test_a_dressed_network(events: Events) -> None:
    model = Network()

    def p(x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.ravel(model.predict(x))

    net = types.SimpleNamespace(
        classes_=(0, 1),
        n_features_in_=len(events.schema.globals),
        predict=model.predict,
        predict_proba=lambda x: np.column_stack([1 - p(x), p(x)]),
    )
    wrapped = hepxai.SklearnModel(net, ("signal",), events.schema)
    np.testing.assert_allclose(wrapped.logits(events)[:, 0], events.globals[:, 0] / 100, rtol=1e-6)
    attribution = explain(wrapped, events[:5], "kernel_shap", sample="all", rows=events.globals)
    expected = (events.globals[:5, 0] - events.globals[:, 0].mean()) / 100
    np.testing.assert_allclose(attribution.values[:, 0], expected, atol=1e-6)


def test_a_raw_booster(events: Events) -> None:
    xgboost = pytest.importorskip("xgboost")
    data = xgboost.DMatrix(events.globals, label=events.label)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5)
    message = r"Booster is a raw booster; .* hepxai\.SklearnModel\(booster, \('signal',\), events\.schema\)"
    with pytest.raises(CannotExplainError, match=message):
        explain(booster, events, "tree_shap")
    explain(hepxai.SklearnModel(booster, ("signal",), events.schema), events, "tree_shap")


@pytest.mark.parametrize("wrapper", ["compile", "parallel", "double"])
def test_modules_in_wrappers_give_the_same_values(events: Events, wrapper: str) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    plain = hepxai.TableModel(net, ("signal",), events.schema)
    other = {
        "compile": lambda: torch.compile(net, backend="eager"),
        "parallel": lambda: nn.DataParallel(net),
        "double": lambda: nn.Sequential(*net).double(),
    }[wrapper]
    expected = {m: explain(plain, events, m).values for m in ("feature_ig", "conductance")}
    model = hepxai.TableModel(other(), ("signal",), events.schema)
    assert model.hidden_layers == plain.hidden_layers
    for method, values in expected.items():
        np.testing.assert_allclose(explain(model, events, method).values, values, atol=1e-5)


def test_outputs_in_a_tuple(events: Events) -> None:
    class Two(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            return super().forward(x), x

    net = Two(2, 1)
    with pytest.raises(ValueError, match=r"call=lambda module, x: module\(x\)\[0\]"):
        explain(hepxai.TableModel(net, ("signal",), events.schema), events, "feature_ig")
    model = hepxai.TableModel(net, ("signal",), events.schema, call=lambda module, x: module(x)[0])
    assert explain(model, events, "feature_ig").checks["median_residual"] < 1e-5
    with pytest.raises(ValueError, match=r"failed on 2 columns \(ht, njet\): .*shapes.*in this order"):
        explain(hepxai.TableModel(nn.Linear(3, 1), ("signal",), events.schema), events, "feature_ig")


def test_a_text_as_outputs(events: Events) -> None:
    """It would pass as a sequence of letters."""
    schema, rows = events.schema, events.globals
    images = make_images(2).schema
    trees = LogisticRegression().fit(rows, events.label)
    match = r"outputs='signal' is a text; a tuple is needed: outputs=\('signal',\)"
    for make in (
        lambda: hepxai.TableModel(nn.Linear(2, 1), "signal", schema),  # type: ignore[arg-type]
        lambda: hepxai.SklearnModel(trees, "signal", schema),  # type: ignore[arg-type]
        lambda: hepxai.ImageModel(nn.Conv2d(1, 1, 1), "signal", images),  # type: ignore[arg-type]
        lambda: hepxai.PygModel(nn.Linear(2, 1), "signal"),  # type: ignore[arg-type]
        lambda: hepxai.load_onnx("m.onnx", schema, "signal"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=match):
            make()
    model = types.SimpleNamespace(view="table", outputs="signal", logits=lambda events: events.globals)
    with pytest.raises(RunError, match=rf"my_model.py:make: {match}"):
        card_of(model, schema, "my_model.py:make")
