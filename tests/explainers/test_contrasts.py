"""Contrasts of several classes: complete, and the same if one function is added to all logits."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from explained_models import IMAGE, build, build_image, build_table
from quick_settings import TABLES
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from torch import Tensor, nn
from toy_events import make_events

from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, explain
from hepxai.models.hooks import last_linear
from hepxai.models.target import Target
from hepxai.models.wrappers.table import SklearnModel, TableModel

CLASSES = ("ttbar", "ttz", "signal")
TARGETS = ("signal-rest", "signal-ttbar")
VIEWS = ("graph", "table", "image")
QUICK: dict[str, dict[str, Any]] = TABLES | {
    m: {"steps": 4} for m in ("conductance", "edge_ig", "feature_ig", "node_ig", "image_ig")
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def three() -> Events:
    events = make_events(12, seed=3)
    schema = dataclasses.replace(events.schema, classes=CLASSES, image=IMAGE)
    return events.replace(schema=schema, label=np.arange(12) % 3)


def model_of(view: str, events: Events) -> Any:
    """Random weights, three outputs."""
    if view == "graph":
        return build(
            events,
            {"kind": "transformer", "width": 6},
            {"kind": "dynamic_edge", "width": 6, "neighbours": 3},
        )
    model = build_table(events) if view == "table" else build_image(events)
    torch.manual_seed(15)
    *layers, last = model.module
    module = nn.Sequential(*layers, nn.Linear(last.in_features, 3))
    return dataclasses.replace(model, module=module, outputs=CLASSES)


def shifted(model: Any) -> Any:
    """Model whose logits all have the same function g of the last hidden layer added, hence of the inputs."""
    other = copy.deepcopy(model)
    last = last_linear(getattr(other, "network", None) or other.module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        slope = torch.randn(1, last.weight.shape[1], generator=generator)
        last.weight.add_(slope * (30 if model.view == "image" else 1))  # hidden layers hardly vary there
        last.bias.add_(2.5)
    return other


def methods(view: str) -> list[str]:
    reads = {"graph": ("graph",), "table": ("table",), "image": ("image",)}[view]
    names = (n for n, e in EXPLAINERS.items() if e.reads in reads and e.tells_outputs_apart)
    other = {"surrogate", "tree_shap", "counterfactual"}  # of its own network; of trees; to a given logit
    return sorted(set(names) - other)


@pytest.mark.parametrize(("view", "method"), [(v, m) for v in VIEWS for m in methods(v)])
def test_unchanged_if_a_function_is_added_to_all_logits(three: Events, view: str, method: str) -> None:
    model = model_of(view, three)
    other = shifted(model)
    change = other.logits(three) - model.logits(three)
    assert np.ptp(change, axis=0).min() > 0.05
    np.testing.assert_allclose(np.ptp(change, axis=1), 0, atol=1e-6 * (10 + np.abs(change).max()))
    for target in TARGETS:
        one, two = (explain(m, three, method, target=target, **QUICK.get(method, {})) for m in (model, other))
        assert one.target == target
        size = np.abs(one.values).max()
        assert size > 0
        np.testing.assert_allclose(two.values, one.values, atol=1e-3 * size)
    with pytest.warns(UserWarning, match="target='signal' is explained as 'signal-rest'"):
        named = explain(model, three, method, target="signal", **QUICK.get(method, {}))
    assert named.target == "signal-rest"


class Plus(nn.Module):
    """A module with a function of its inputs, and not of its layers, added to all outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.module(x)
        return outputs + 3 * torch.sin(x.sum(1, keepdim=True))


@pytest.mark.parametrize("method", ["feature_ig", "kernel_shap", "gradient_shap", "input_x_gradient"])
def test_unchanged_if_the_function_is_of_the_inputs(three: Events, method: str) -> None:
    model = model_of("table", three)
    other = TableModel(Plus(model.module), CLASSES, three.schema)
    one, two = (
        explain(m, three, method, target="signal-rest", **QUICK.get(method, {})) for m in (model, other)
    )
    np.testing.assert_allclose(two.values, one.values, atol=5e-4 * np.abs(one.values).max())


@pytest.mark.parametrize(
    ("view", "method", "settings"),
    [
        ("graph", "edge_ig", {"steps": 64}),
        ("graph", "node_ig", {"steps": 64}),
        ("graph", "shapley", {}),
        ("table", "feature_ig", {"steps": 64}),
        ("table", "kernel_shap", {"size": 5}),
        ("image", "image_ig", {"steps": 64}),
    ],
)
def test_complete(three: Events, view: str, method: str, settings: dict[str, Any]) -> None:
    """Values add up to the change of the contrast; those of all classes against the rest cancel."""
    model = model_of(view, three)
    maps = [explain(model, three, method, target=f"{name}-rest", **settings) for name in CLASSES]
    for attribution in maps:
        scale = np.abs(attribution.output_change).max()
        assert np.median(np.abs(attribution.residual)) < 0.02 * scale
    size = max(np.abs(a.values).max() for a in maps)
    np.testing.assert_allclose(sum(a.values for a in maps), 0, atol=1e-3 * size)


@pytest.mark.parametrize("baseline", ["path_dependent", "interventional"])
@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, RandomForestClassifier])
def test_trees(three: Events, kind: Any, baseline: str) -> None:
    """TreeSHAP is additive for a linear contrast: of logits, or of a forest's probabilities."""
    shap = pytest.importorskip("shap")
    options = (
        {"max_iter": 4, "min_samples_leaf": 2}
        if kind is HistGradientBoostingClassifier
        else {"n_estimators": 5}
    )
    trees = kind(random_state=0, max_depth=3, **options).fit(three.globals, three.label)
    model = SklearnModel(trees, CLASSES, three.schema)
    raw = getattr(trees, "decision_function", getattr(trees, "predict_proba", None))(three.globals)
    settings = {"size": 10} if baseline == "interventional" else {}
    maps = {
        t: explain(model, three, "tree_shap", target=t, baseline=baseline, **settings)
        for t in (*TARGETS, "ttz-signal")
    }
    for target, attribution in maps.items():
        output = Target.of(CLASSES, target)(raw)
        total = attribution.values.sum(axis=1)
        np.testing.assert_allclose(total - total.mean(), output - output.mean(), atol=1e-5)
    combined = (maps["signal-ttbar"].values - maps["ttz-signal"].values) / 2
    np.testing.assert_allclose(maps["signal-rest"].values, combined, atol=1e-6)
    if baseline == "path_dependent" and kind is HistGradientBoostingClassifier:
        reference = shap.TreeExplainer(trees).shap_values(three.globals)
        expected = reference[..., 2] - reference[..., :2].mean(axis=-1)
        np.testing.assert_allclose(maps["signal-rest"].values, expected, atol=1e-6)
