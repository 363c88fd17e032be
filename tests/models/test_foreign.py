"""Modules that a user brings: scored and explained as the same weights in the package's own network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from plain_pyg import PlainGNN, settle, shuffle
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import GATConv, GCNConv, SAGEConv, TransformerConv, global_mean_pool

from hepxai.attribution import Attribution
from hepxai.datasets import CutFlow, Reading
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.models import PygModel
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.protocols import Differentiable, HasAttention, HasEdgeWeights

CARD = ModelCard.model_validate(
    {
        "convolutions": [
            {"kind": "transformer", "width": 8, "heads": 2},
            {"kind": "dynamic_edge", "width": 8, "neighbours": 3},
            {"kind": "graph", "width": 6},
            {"kind": "dynamic_edge", "width": 8, "neighbours": 2, "aggregation": "max"},
        ],
        "dense": [6],
    }
)
CLOSE = {"rtol": 2e-3, "atol": 1e-5}


def apply(module: nn.Module, batch: Batch) -> Tensor:
    logits: Tensor = module(batch.x, batch.p4, batch.ptr)
    return logits


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(12, seed=4, largest=6)


@pytest.fixture
def own(events: Events) -> NetworkModel:
    torch.manual_seed(6)
    model = NetworkModel.build(CARD, events.schema)
    settle(model.network, events)
    return model


@pytest.fixture
def foreign(own: NetworkModel) -> PygModel:
    return PygModel(PlainGNN(CARD, own.network), ("signal",), call=apply)


def by_pair(found: Attribution) -> dict[tuple[int, int], np.ndarray]:
    ends = zip(found.pairs.src.tolist(), found.pairs.dst.tolist(), strict=True)
    return dict(zip(ends, found.values, strict=True))


def assert_same(found: Attribution, expected: Attribution) -> None:
    mine, theirs = by_pair(found), by_pair(expected)
    assert mine.keys() == theirs.keys()
    for pair, value in theirs.items():
        np.testing.assert_allclose(mine[pair], value, **CLOSE, err_msg=str(pair))


def test_abilities(foreign: PygModel) -> None:
    for ability in (Differentiable, HasAttention, HasEdgeWeights):
        assert isinstance(foreign, ability)
    assert foreign.edge_layers == tuple(f"convolutions.{i}" for i in range(4))


def test_logits(own: NetworkModel, foreign: PygModel, events: Events) -> None:
    np.testing.assert_allclose(foreign.logits(events), own.logits(events), rtol=1e-4, atol=1e-5)
    assert foreign.logits(events[:0]).shape == (0, 1)


@pytest.mark.parametrize("layer", range(4))
def test_edge_ig(own: NetworkModel, foreign: PygModel, events: Events, layer: int) -> None:
    """The module searches its neighbours again along the path, as ours does with "dynamic"."""
    found = explain(foreign, events, "edge_ig", layer=foreign.edge_layers[layer], steps=4)
    settings = {"layer": own.edge_layers[layer], "steps": 4, "neighbours": "dynamic"}
    expected = explain(own, events, "edge_ig", **settings)
    assert_same(found, expected)
    np.testing.assert_allclose(found.output_change, expected.output_change, **CLOSE)


def test_attention(own: NetworkModel, foreign: PygModel, events: Events) -> None:
    found = explain(foreign, events, "attention")
    assert found.labels["layer"] == ("convolutions.0",)
    assert_same(found, explain(own, events, "attention"))
    assert found.checks["max_row_deviation"] < 1e-5


# --- modules of all sorts --------------------------------------------------------------------------


class Plain(nn.Module):
    """What a user writes in the morning."""

    def __init__(self, convolution: Callable[..., nn.Module], **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.one, self.two = convolution(5, 6, **settings), SAGEConv(6, 6)
        self.norm, self.drop, self.last = nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1)

    def forward(self, batch: Batch) -> Tensor:
        h = torch.tanh(self.one(batch.x / 50, batch.edge_index))  # smooth: few steps integrate it exactly
        h = torch.tanh(self.two(h, batch.edge_index))
        pooled = global_mean_pool(h, batch.batch, size=batch.num_graphs)
        return self.last(self.drop(self.norm(pooled)))[:, 0]


LAYERS = {
    "GCN": (GCNConv, {"add_self_loops": False}),
    "SAGE": (SAGEConv, {}),
    "GAT": (GATConv, {"add_self_loops": False}),
    "transformer": (TransformerConv, {}),
}


@pytest.fixture(params=LAYERS)
def plain(request: pytest.FixtureRequest) -> PygModel:
    layer, settings = LAYERS[request.param]
    return PygModel(Plain(layer, **settings), ("signal",))


@pytest.mark.parametrize("layer", ["one", "two"])
def test_edge_ig_is_complete(plain: PygModel, events: Events, layer: str) -> None:
    found = explain(plain, events, "edge_ig", layer=layer, steps=12)
    assert np.abs(found.values).max() > 1e-4
    np.testing.assert_allclose(found.residual, 0, atol=2e-6)
    assert np.abs(found.output_change).max() > 1e-2
    complete, _, _ = events.pairs()
    assert len(found.values) == len(complete)


def test_particles_of_one_event_only(plain: PygModel, events: Events) -> None:
    """Alone as in the batch, in any order of the particles."""
    for method in ("edge_ig", "node_ig"):
        settings = {"baseline": "zero"} if method == "node_ig" else {}
        whole = explain(plain, events, method, steps=4, **settings)
        shuffled, old = shuffle(events)
        permuted = explain(plain, shuffled, method, steps=4, **settings)
        if method == "node_ig":
            np.testing.assert_allclose(permuted.values, whole.values[old], **CLOSE)
        else:
            renamed = {(old[s], old[d]): v for (s, d), v in by_pair(permuted).items()}
            for pair, value in by_pair(whole).items():
                np.testing.assert_allclose(renamed[pair], value, **CLOSE)
        for e in range(0, len(events), 4):
            alone = explain(plain, events[[e]], method, steps=4, **settings)
            np.testing.assert_allclose(alone.values, whole[np.array([e])].values, **CLOSE)


def test_the_module_stays_as_it_was(plain: PygModel, events: Events) -> None:
    module = plain.module.train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    attributes = [sorted(vars(m)) for m in module.modules()]
    hooks = [{k: len(v) for k, v in vars(m).items() if k.endswith("hooks")} for m in module.modules()]
    plain.logits(events)
    for method in ("edge_ig", "node_ig"):
        explain(plain, events, method, steps=2)
    assert all(m.training for m in module.modules())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert attributes == [sorted(vars(m)) for m in module.modules()]
    assert hooks == [{k: len(v) for k, v in vars(m).items() if k.endswith("hooks")} for m in module.modules()]


def test_a_compiled_layer_keeps_its_name_and_edges(events: Events) -> None:
    plain, part = PygModel(Plain(SAGEConv), ("signal",)), Plain(SAGEConv)
    part.one = torch.compile(part.one, backend="eager")
    compiled = PygModel(part, ("signal",))
    assert compiled.edge_layers == ("one", "two")
    for layer in compiled.edge_layers:
        found, expected = (explain(m, events, "edge_ig", layer=layer, steps=4) for m in (compiled, plain))
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-7)


def test_a_module_may_take_its_batch_apart(events: Events) -> None:
    class OneByOne(Plain):
        def forward(self, batch: Batch) -> Tensor:
            graphs = batch.to_data_list()
            assert [g.num_nodes for g in graphs] == batch.ptr.diff().tolist()
            return torch.cat([super(OneByOne, self).forward(Batch.from_data_list([g])) for g in graphs])

    model = PygModel(OneByOne(SAGEConv), ("signal",))
    whole = PygModel(Plain(SAGEConv), ("signal",))
    np.testing.assert_allclose(model.logits(events), whole.logits(events), rtol=1e-4, atol=1e-6)


def test_lonely_particles(plain: PygModel, toy: Callable[..., Events]) -> None:
    lonely = toy(8, largest=1)
    assert np.isfinite(plain.logits(lonely)).all()
    found = explain(plain, lonely, "edge_ig", steps=2)
    assert len(found.values) == 0
    assert not found.residual.any()


# --- what cannot be done ---------------------------------------------------------------------------


def test_a_bare_module_is_told_its_wrapper(events: Events) -> None:
    for method in ("edge_ig", "attention"):
        with pytest.raises(
            CannotExplainError, match=r"Plain is a bare torch module; wrap it .*PygModel\(net"
        ):
            explain(Plain(SAGEConv), events, method)


def renamed(events: Events, features: tuple[str, ...]) -> Events:
    units = tuple("" for _ in features)
    schema = dataclasses.replace(events.schema, features=features, units=units)
    return dataclasses.replace(events, schema=schema, particles=events.particles[:, : len(features)])


def test_other_features_are_refused(events: Events) -> None:
    """Same number, other names: the module would take them and be wrong."""
    model = PygModel(Plain(SAGEConv), ("signal",), schema=events.schema)
    assert model.logits(events).shape == (12, 1)
    other = renamed(events, ("pt", "phi", "eta", "charge", "btag"))
    for ask in (model.logits, lambda e: explain(model, e, "edge_ig", layer="one", steps=2)):
        with pytest.raises(
            ValueError, match=r"trained on features \('pt', 'eta', .*these events have \('pt', 'phi'"
        ):
            ask(other)


def test_another_number_of_features_is_told_without_a_schema(events: Events) -> None:
    model = PygModel(Plain(SAGEConv), ("signal",))
    with pytest.raises(ValueError, match=r"failed on events with 2 features \(pt, eta\): .*mat1 and mat2"):
        explain(model, renamed(events, ("pt", "eta")), "edge_ig", layer="one")


def test_no_attention(events: Events) -> None:
    model = PygModel(Plain(SAGEConv), ("signal",))
    with pytest.raises(CannotExplainError, match="no attention layer"):
        explain(model, events, "attention")


def test_wrong_number_of_outputs(events: Events) -> None:
    model = PygModel(Plain(SAGEConv), ("background", "signal"))
    with pytest.raises(ValueError, match=r"returned .* for \d+ events and \('background', 'signal'\)"):
        model.logits(events)


class Twice(nn.Module):
    """One layer used twice, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.idle, self.out = GCNConv(5, 5), SAGEConv(5, 5), nn.Linear(5, 1)

    def forward(self, batch: Batch) -> Tensor:
        h = self.shared(torch.tanh(self.shared(batch.x / 50, batch.edge_index)), batch.edge_index)
        return self.out(global_mean_pool(h, batch.batch, len(batch.ptr) - 1))


def test_a_layer_must_be_called_once(events: Events) -> None:
    """The map of the last call would look complete and be wrong."""
    model = PygModel(Twice().eval(), ("signal",))
    with pytest.raises(ValueError, match="layer shared sends messages 2 times for one batch"):
        explain(model, events, "edge_ig", layer="shared")
    with pytest.raises(ValueError, match="layer idle sends no messages: it is not called, or"):
        explain(model, events, "edge_ig", layer="idle")
    with pytest.raises(CannotExplainError, match="no attention layer"):
        explain(model, events, "attention")


def test_outputs_are_a_tuple() -> None:
    """A text would be six outputs: s, i, g, n, a, l."""
    wrong: Any = "signal"
    with pytest.raises(TypeError, match=r"a tuple is needed: outputs=\('signal',\)"):
        PygModel(Plain(SAGEConv), wrong)


class Squashed(nn.Module):
    """Returns probabilities, as many public networks do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Tensor:
        return torch.sigmoid(1e3 * (apply(self.network, batch) - 0.0623))


def test_probabilities_are_doubted(own: NetworkModel, foreign: PygModel, toy: Callable[..., Events]) -> None:
    many = toy(40, seed=4, largest=4)
    squashed = PygModel(Squashed(foreign.module), ("signal",))
    with pytest.warns(UserWarning, match=r"lie in \[0, 1\] for all 40 events .*meant for logits"):
        explain(squashed, many, "node_ig", steps=4, baseline="zero")
    explain(squashed, many[:5], "node_ig", steps=4, baseline="zero")  # too few to say: no warning
    explain(foreign, many, "node_ig", steps=4, baseline="zero")


def test_arguments_in_another_order(own: NetworkModel, events: Events) -> None:
    wrong: Any = explain
    with pytest.raises(
        TypeError, match=r"explain\(model, events, method\): the second argument is of type ParticleGNNMod"
    ):
        wrong(events, own, "edge_ig")
    with pytest.raises(TypeError, match="second argument is of type Reading, Events is needed there"):
        wrong(own, Reading(events, CutFlow(), (), ()), "edge_ig")
