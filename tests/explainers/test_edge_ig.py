"""Integrated Gradients over edges: against loops, against PyG and Captum, and against their own promise."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from slow_reference import SlowNetwork, double, with_counts
from torch import Tensor, nn
from torch_geometric.explain import CaptumExplainer, Explainer, ModelConfig
from torch_geometric.nn import GraphConv, TransformerConv, global_mean_pool

from hepxai.attribution.residuals import relative_residual
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.explainers.path import STEPS, integrate
from hepxai.models.network import NetworkModel

PAIRS = ("delta_r", "mass")
EVERY_KIND = (
    {"kind": "transformer", "width": 6, "heads": 2},
    {"kind": "dynamic_edge", "width": 6, "neighbours": 2},
    {"kind": "graph", "width": 5},
    {"kind": "dynamic_edge", "width": 6, "neighbours": 3, "aggregation": "max"},
)
LAYERS = ("transformer_1", "dynamic_edge_2", "graph_3", "dynamic_edge_4")
Case = tuple[NetworkModel, Events]


@pytest.fixture(params=[(), PAIRS], ids=["features only", "pair features"])
def case(
    request: pytest.FixtureRequest, toy: Callable[..., Events], make_model: Callable[..., NetworkModel]
) -> Case:
    """All kinds of layers, in double precision, on events of 0 to 6 particles."""
    events = with_counts(toy(60, seed=1), [4, 0, 1, 6, 2, 5, 3])
    events = events.replace(schema=dataclasses.replace(events.schema, pair_features=request.param))
    model = make_model(events, *EVERY_KIND)
    model.network.double()
    return model, double(events)


@pytest.mark.parametrize("neighbours", ["frozen", "dynamic"])
@pytest.mark.parametrize("layer", LAYERS)
def test_equals_the_loop_over_events_and_edges(case: Case, layer: str, neighbours: str) -> None:
    model, events = case
    found = explain(model, events, "edge_ig", layer=layer, neighbours=neighbours, steps=4)
    for e in range(len(events)):
        slow = SlowNetwork(model, events[[e]])
        edges, value, change = slow.edge_ig(layer, 0, 4, frozen=neighbours == "frozen")
        own = slice(found.offsets[e], found.offsets[e + 1])
        pairs = np.stack([found.pairs.src[own], found.pairs.dst[own]], axis=1) - events.offsets[e]
        assert [tuple(p) for p in pairs] == edges
        np.testing.assert_allclose(found.values[own], value, rtol=1e-8, atol=1e-11)
        assert found.output_change[e] == pytest.approx(change, rel=1e-8, abs=1e-11)
        assert found.residual[e] == pytest.approx(float(value.sum()) - change, abs=1e-10)


def test_span_is_the_logit_minus_the_logit_without_edges(case: Case) -> None:
    model, events = case
    found = explain(model, events, "edge_ig", steps=3)
    logits = model.logits(events)[:, 0]
    for e in range(len(events)):
        slow = SlowNetwork(model, events[[e]])
        cut = torch.zeros(len(slow.lists["transformer_1"]), dtype=torch.float64)
        without = slow.logits(layer="transformer_1", weight=cut, lists=slow.lists)
        assert found.output_change[e] == pytest.approx(
            logits[e] - float(without[0].detach()), rel=1e-8, abs=1e-11
        )


# --- PyG and Captum ------------------------------------------------------------------------------


class StaticPyg(nn.Module):
    """One convolution, mean, head: written with PyG alone."""

    def __init__(self, model: NetworkModel) -> None:
        super().__init__()
        card = model.card.convolutions[0]
        scaler = model.network.standardise
        self.mean, self.scale = scaler.mean, scaler.scale
        inputs = len(self.mean)
        if card.kind == "graph":
            self.conv: nn.Module = GraphConv(inputs, card.width)
        else:
            self.conv = TransformerConv(inputs, card.width // card.heads, heads=card.heads)
        self.conv.load_state_dict(model.network.convolutions[0].conv.state_dict())
        norm, _, first, selu, last = copy.deepcopy(model.network.head)
        self.head = nn.Sequential(norm, first, selu, last)
        self.eval()

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        h = torch.relu(self.conv((x - self.mean) / self.scale, edge_index))
        return self.head(global_mean_pool(h, batch))[:, 0]


@pytest.mark.parametrize(
    "layer",
    [
        {"kind": "transformer", "width": 8},
        {"kind": "transformer", "width": 8, "heads": 4},
        {"kind": "graph", "width": 8},
    ],
)
def test_equals_pygs_captum_explainer_on_a_static_graph(
    toy: Callable[..., Events], make_model: Callable[..., NetworkModel], layer: dict[str, object]
) -> None:
    events = toy(12, seed=2, smallest=2, largest=7)
    model = make_model(events, layer)
    static = StaticPyg(model)
    explainer = Explainer(
        static,
        algorithm=CaptumExplainer("IntegratedGradients", n_steps=16, method="gausslegendre"),
        explanation_type="model",
        edge_mask_type="object",
        model_config=ModelConfig(mode="regression", task_level="graph", return_type="raw"),
    )
    found = explain(model, events, "edge_ig", steps=16)
    for e in range(len(events)):
        graph = events[[e]].graph()
        mask = explainer(graph.x, graph.edge_index, batch=graph.batch).edge_mask.detach()
        own = slice(found.offsets[e], found.offsets[e + 1])
        expected = np.stack([found.pairs.src[own], found.pairs.dst[own]]) - events.offsets[e]
        assert np.array_equal(graph.edge_index, expected)
        np.testing.assert_allclose(found.values[own], mask, rtol=1e-4, atol=1e-6)
    assert np.abs(found.values).max() > 1e-3


# --- completeness --------------------------------------------------------------------------------


def test_residual_vanishes_with_more_steps(case: Case) -> None:
    """Frozen neighbours leave a path that is smooth but for the kinks of ReLU."""
    model, events = case
    coarse, fine = (
        np.nanmedian(relative_residual(explain(model, events, "edge_ig", steps=n))) for n in (2, 200)
    )
    assert fine < 2e-3
    assert fine < coarse


def test_graph_layer_before_a_linear_readout_is_exact() -> None:
    """A quadratic along a straight line: two nodes are enough, one is exact for the linear part."""
    torch.manual_seed(0)
    start, change = torch.randn(2, 5, 3, dtype=torch.float64)
    square = torch.randn(3, dtype=torch.float64)

    def output(h: Tensor) -> Tensor:
        return (h**2 @ square) + h.sum(1)

    for steps in (1, 2, 7):
        found = integrate(output, start, change, steps)
        total = (found.gradient * change).sum(1)
        torch.testing.assert_close(total, found.output_change, rtol=1e-12, atol=1e-12)


def test_events_without_pairs(toy: Callable[..., Events], model: NetworkModel) -> None:
    lonely = toy(10, largest=1)
    for neighbours in ("frozen", "dynamic"):
        found = explain(model, lonely, "edge_ig", neighbours=neighbours)
        assert found.values.shape == (0,)
        assert not found.residual.any()
        assert not found.output_change.any()
        assert found.checks["median_residual"] == 0


# --- settings ------------------------------------------------------------------------------------


def test_steps_follow_from_the_tolerance(model: NetworkModel, events: Events) -> None:
    found = explain(model, events, "edge_ig")
    assert found.settings["steps"] in STEPS
    assert found.checks["median_residual"] <= 0.01
    loose = explain(model, events, "edge_ig", tolerance=10.0)
    assert loose.settings["steps"] == STEPS[0]
    strict = explain(model, events, "edge_ig", tolerance=0.0)
    assert strict.settings["steps"] == STEPS[-1]
    fewer = explain(model, events, "edge_ig", steps=found.settings["steps"])
    assert np.array_equal(fewer.values, found.values)
    residual = relative_residual(found)
    median, tail = np.nanquantile(residual, [0.5, 0.9], method="higher")
    assert found.checks["median_residual"] == pytest.approx(median)
    assert found.checks["p90_residual"] == pytest.approx(tail)


def test_settings_are_stored(model: NetworkModel, events: Events) -> None:
    found = explain(model, events, "edge_ig", layer="dynamic_edge_2", neighbours="dynamic", steps=5)
    assert found.settings == {
        "layer": "dynamic_edge_2",
        "neighbours": "dynamic",
        "steps": 5,
        "tolerance": 0.01,
        "baseline": "edge weights 0",
    }
    assert explain(model, events, "edge_ig", steps=5).settings["layer"] == "transformer_1"


def test_explains_the_target(toy: Callable[..., Events], make_model: Callable[..., NetworkModel]) -> None:
    events = toy(10)
    three = dataclasses.replace(events.schema, classes=("ttZ", "ttH", "HpHm"))
    events = events.replace(schema=three)
    model = make_model(events, {"kind": "graph", "width": 6})
    logits = model.logits(events)
    spans = {
        f"{t}-rest": explain(model, events, "edge_ig", target=f"{t}-rest", steps=4) for t in three.classes
    }
    assert len({float(a.values.sum()) for a in spans.values()}) == 3
    for output, (target, found) in enumerate(spans.items()):
        assert found.target == target
        for e in range(len(events)):
            slow = SlowNetwork(model, events[[e]])
            changes = [slow.edge_ig("graph_1", o, 4, frozen=True)[2] for o in range(3)]
            contrast = changes[output] - (sum(changes) - changes[output]) / 2
            assert found.output_change[e] == pytest.approx(contrast, rel=1e-3, abs=1e-5)
    with pytest.raises(KeyError, match="choose one of ttZ, ttH, HpHm"):
        explain(model, events, "edge_ig")
    assert logits.shape == (10, 3)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"layer": "transformer_9"}, KeyError, "no layer 'transformer_9'; .*transformer_1, dynamic_edge_2"),
        ({"neighbours": "some"}, ValueError, "neighbours='some'; should be 'frozen' or 'dynamic'"),
        ({"steps": 0}, ValueError, "steps=0; should be greater than"),
    ],
)
def test_wrong_settings(
    model: NetworkModel, events: Events, settings: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        explain(model, events, "edge_ig", **settings)
