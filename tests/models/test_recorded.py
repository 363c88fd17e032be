"""Layers of foreign modules are known by what they do: nodes, edges, aggregation, coefficients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import (
    AGNNConv,
    EdgeConv,
    FAConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GENConv,
    GraphConv,
    SAGEConv,
    TransformerConv,
    global_mean_pool,
)

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.models import PygModel
from hepxai.models.protocols import EdgeCoefficients

INPUTS = 5


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(12, seed=4, largest=6)


class Two(nn.Module):
    """A layer of choice, a second one, and a readout."""

    def __init__(self, conv: nn.Module, width: int, *, attributes: bool = False) -> None:
        super().__init__()
        self.conv, self.two, self.last = conv, GraphConv(width, 6), nn.Linear(6, 1)
        self.attributes = attributes

    def forward(self, batch: Batch) -> Tensor:
        src, dst = batch.edge_index
        given = {"edge_attr": batch.p4[src, 1:3] - batch.p4[dst, 1:3]} if self.attributes else {}
        x = torch.tanh(self.conv(batch.x / 50, batch.edge_index, **given))
        x = torch.tanh(self.two(x, batch.edge_index))
        return self.last(global_mean_pool(x, batch.batch, batch.num_graphs))


def by_hand(net: nn.Module, events: Events, layer: str, steps: int = 32) -> dict[tuple[int, int], float]:
    """The definition: a weight on each message, all from 0 to 1, the gradient of each integrated."""
    conv, graph, state = net.get_submodule(layer), events.graph(), {}
    net.eval()

    def weigh(_module: nn.Module, _inputs: object, message: Tensor) -> Tensor:
        state.setdefault("weight", torch.ones(len(message)))
        return message * state["weight"].view(-1, *(1 for _ in message.shape[1:]))

    def keep_edges(_module: nn.Module, inputs: tuple) -> None:
        state["edges"] = inputs[0]

    handles = [
        conv.register_message_forward_hook(weigh),
        conv.register_propagate_forward_pre_hook(keep_edges),
    ]
    net(graph)
    total = torch.zeros(len(state["weight"]))
    for node, share in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
        state["weight"] = torch.full_like(total, (node + 1) / 2, requires_grad=True)
        total += share / 2 * torch.autograd.grad(net(graph).sum(), state["weight"])[0]
    for handle in handles:
        handle.remove()
    return {(int(s), int(d)): float(v) for s, d, v in zip(*state["edges"], total.detach(), strict=True)}


LAYERS = {
    "sum": (lambda: GraphConv(INPUTS, 8), 8, False),
    "mean and max": (lambda: SAGEConv(INPUTS, 8, aggr=["mean", "max"]), 8, False),
    "max of an MLP": (lambda: EdgeConv(nn.Linear(2 * INPUTS, 8), aggr="max"), 8, False),
    "standard deviation": (lambda: SAGEConv(INPUTS, 8, aggr="std"), 8, False),
    "softmax": (lambda: SAGEConv(INPUTS, 8, aggr="softmax"), 8, False),
    "variance": (lambda: SAGEConv(INPUTS, 8, aggr="var"), 8, False),
    "product": (lambda: SAGEConv(INPUTS, 8, aggr="mul"), 8, False),
    "softmax, edge features": (lambda: GENConv(INPUTS, 8, edge_dim=2, norm="layer"), 8, True),
    "attention, edge features": (lambda: TransformerConv(INPUTS, 4, heads=2, edge_dim=2, beta=True), 8, True),
    "GATv2, edge features": (
        lambda: GATv2Conv(INPUTS, 4, heads=2, edge_dim=2, add_self_loops=False),
        8,
        True,
    ),
    "self loops, norm": (lambda: GCNConv(INPUTS, 8), 8, False),
    "self loops, attention": (lambda: GATConv(INPUTS, 4, heads=2), 8, False),
    "self loops, attention without the name": (AGNNConv, INPUTS, False),
}


def values_of(attribution: Attribution) -> dict[tuple[int, int], float]:
    ends = zip(attribution.pairs.src.tolist(), attribution.pairs.dst.tolist(), strict=True)
    pairs = dict(zip(ends, attribution.values.tolist(), strict=True))
    loops = attribution.self_loops
    return pairs | ({} if loops is None else {(n, n): v for n, v in enumerate(loops.values.tolist())})


@pytest.mark.parametrize("kind", LAYERS)
def test_edge_ig_is_that_of_weights_on_messages(events: Events, kind: str) -> None:
    torch.manual_seed(1)
    make, width, attributes = LAYERS[kind]
    net = Two(make(), width, attributes=attributes)
    found = explain(PygModel(net, ("signal",)), events, "edge_ig", layer="conv", steps=32)
    expected, mine = by_hand(net, events, "conv"), values_of(found)
    assert expected.keys() <= mine.keys()
    np.testing.assert_allclose([mine[k] for k in expected], list(expected.values()), atol=2e-6)
    assert (found.pairs.src != found.pairs.dst).all()
    assert np.abs(found.residual).max() < 0.1 * np.abs(found.output_change).max()
    assert (found.self_loops is not None) == kind.startswith("self loops")


def test_an_lstm_over_the_senders_sees_the_padding_of_other_events(events: Events) -> None:
    """PyG runs it over the zeros behind the last sender, as many as the largest event needs."""
    model = PygModel(Two(SAGEConv(INPUTS, 8, aggr="lstm"), 8), ("signal",))
    with pytest.raises(ValueError, match="score of an event depends on the other events of its batch"):
        explain(model, events, "edge_ig")
    same = events[events.counts == 4]
    with pytest.warns(UserWarning, match="depends on the order of the particles"):
        found = explain(model, same, "edge_ig", layer="conv", steps=32)
    expected, mine = by_hand(model.module, same, "conv"), values_of(found)
    np.testing.assert_allclose([mine[k] for k in expected], list(expected.values()), atol=2e-6)


# --- self loops ------------------------------------------------------------------------------------------


@pytest.fixture
def looped(events: Events) -> Attribution:
    torch.manual_seed(1)
    return explain(PygModel(Two(GATConv(INPUTS, 8), 8), ("signal",)), events, "edge_ig", steps=16)


def test_self_loops_are_never_pairs(looped: Attribution, tmp_path) -> None:
    loops = looped.self_loops
    assert loops.axes == ("self",)
    assert len(looped.values) == (looped.events.counts * (looped.events.counts - 1)).sum()
    muons = looped.select(pair=("muon", "muon"))
    assert (muons.pairs.src != muons.pairs.dst).all()
    assert muons.self_loops is None
    of_muons = loops.select(particle="muon")
    assert len(of_muons.values) == looped.events.is_type("muon").sum()
    sums = looped.sum("pair").values + loops.sum("self").values
    np.testing.assert_allclose(sums - looped.output_change, looped.residual, atol=1e-6)
    some = looped[np.array([3, 5])]
    first, last = looped.events.offsets[[5, 6]]
    np.testing.assert_array_equal(some.self_values[-(last - first) :], looped.self_values[first:last])
    looped.save(tmp_path / "map.safetensors")
    again = Attribution.load(tmp_path / "map.safetensors", looped.events)
    np.testing.assert_array_equal(again.self_values, looped.self_values)
    joined = Attribution.concatenate([looped[:4], looped[4:]])
    np.testing.assert_array_equal(joined.self_values, looped.self_values)


def test_a_particle_with_itself_is_refused_as_a_pair(looped: Attribution) -> None:
    src = looped.pairs.src.copy()
    src[0] = looped.pairs.dst[0]
    with pytest.raises(ValueError, match="1 pairs are a particle with itself: put these into self_values"):
        looped.replace(pairs=type(looped.pairs)(src, looped.pairs.dst, looped.pairs.offsets))


# --- attention -------------------------------------------------------------------------------------------


class Heads(nn.Module):
    """Attention as it is usually built: several heads and then one."""

    def __init__(self, **settings: bool) -> None:
        super().__init__()
        self.one, self.two = GATConv(INPUTS, 4, heads=4, **settings), GATConv(16, 6, **settings)
        self.last = nn.Linear(6, 1)

    def forward(self, batch: Batch) -> Tensor:
        x = F.elu(self.one(batch.x / 50, batch.edge_index))
        return self.last(global_mean_pool(self.two(x, batch.edge_index), batch.batch, batch.num_graphs))


@pytest.mark.parametrize("loops", [True, False])
def test_attention_of_each_layer_with_self_loops_apart(events: Events, loops: bool) -> None:
    torch.manual_seed(2)
    net = Heads(add_self_loops=loops)
    model = PygModel(net, ("signal",))
    both = explain(model, events, "attention")
    assert both.axes == ("pair", "head")
    assert both.labels["head"] == ("one 0", "one 1", "one 2", "one 3", "two 0")
    graph = events.graph()
    with torch.no_grad():
        _, (edges, alpha) = net.eval().one(graph.x / 50, graph.edge_index, return_attention_weights=True)
    found = explain(model, events, "attention", layer="one")
    np.testing.assert_array_equal(found.values[:, 0], both.values[:, :4])
    mine = {(s, d): v for s, d, v in zip(found.pairs.src, found.pairs.dst, found.values[:, 0], strict=True)}
    if loops:
        mine |= {(n, n): v for n, v in enumerate(found.self_loops.values[:, 0])}
    assert len(mine) == edges.shape[1]
    for (s, d), expected in zip(edges.T.tolist(), alpha, strict=True):
        np.testing.assert_allclose(mine[s, d], expected, rtol=1e-5, atol=1e-7)
    assert found.checks["max_row_deviation"] < 1e-5


def test_attention_that_a_layer_does_not_name(events: Events) -> None:
    """AGNN forms softmax(β cos) inside of its message; events of two particles cannot tell it from a mean."""
    found = explain(PygModel(Two(AGNNConv(add_self_loops=False), INPUTS), ("signal",)), events, "attention")
    x = torch.as_tensor(events.particles) / 50
    unit = F.normalize(x, dim=1)
    similar = (unit[found.pairs.src] * unit[found.pairs.dst]).sum(1).exp().numpy()
    total = np.zeros(events.n_particles)
    np.add.at(total, found.pairs.dst, similar)
    np.testing.assert_allclose(found.values[:, 0, 0], similar / total[found.pairs.dst], rtol=1e-4)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(INPUTS, 8), nn.Linear(8, 1)
        self.conv = FAConv(8, add_self_loops=False, normalize=False)

    def forward(self, batch: Batch) -> Tensor:
        x = self.first(batch.x / 50)
        x = self.conv(x, x, batch.edge_index, torch.ones(batch.edge_index.shape[1]))
        return self.last(global_mean_pool(x, batch.batch, batch.num_graphs))


def test_gates_are_no_attention(events: Events) -> None:
    with pytest.raises(
        ValueError, match=r"layer conv: its coefficients range from .*gates or norms, not attention"
    ):
        explain(PygModel(Gated(), ("signal",)), events, "attention")


@pytest.mark.parametrize("layer", [GCNConv(INPUTS, 8), SAGEConv(INPUTS, 8), GraphConv(INPUTS, 8)])
def test_norms_and_means_are_no_attention(events: Events, layer: nn.Module) -> None:
    with pytest.raises(CannotExplainError, match="no attention layer"):
        explain(PygModel(Two(layer, 8), ("signal",)), events, "attention")


def test_attention_with_a_diagonal_can_be_stored(events: Events, tmp_path) -> None:
    """Self-attention of one's own model."""

    class Own:
        view, outputs = "graph", ("score",)

        def __init__(self, diagonal: bool) -> None:
            self.diagonal = diagonal

        def logits(self, events: Events) -> np.ndarray:
            return np.arange(len(events) * 1.0)[:, None] * 0

        def attention(self, cloud):
            rows = torch.arange(len(cloud.x))
            dst = torch.repeat_interleave(rows, cloud.counts[cloud.batch])
            src = torch.cat(
                [rows[a:b].repeat(b - a) for a, b in zip(cloud.ptr[:-1], cloud.ptr[1:], strict=True)]
            )
            alpha = (1 / cloud.counts[cloud.batch[dst]])[:, None]
            return {"self": EdgeCoefficients(src, dst, alpha) if self.diagonal else alpha}

    found = explain(Own(True), events, "attention")
    assert found.checks["max_row_deviation"] < 1e-6
    np.testing.assert_allclose(found.self_loops.values[:, 0, 0], 1 / events.counts[events.parent])
    found.save(tmp_path / "a.safetensors")
    with pytest.raises(
        ValueError, match=r"has \d+ rows for \d+ pairs .* return .*EdgeCoefficients\(src, dst, v"
    ):
        explain(Own(False), events, "attention")


# --- nodes that are no particles -------------------------------------------------------------------------


class Sorted(nn.Module):
    """A second layer on particles that a pooling of the user has sorted: same number, other particles."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.one, self.two, self.last = SAGEConv(INPUTS, 8), GATConv(8, 8), nn.Linear(8, 1)

    def forward(self, batch: Batch) -> Tensor:
        x = torch.tanh(self.one(batch.x / 50, batch.edge_index))
        order = (x[:, 0] + 10 * batch.batch).argsort()
        x = self.two(x[order], order.argsort()[batch.edge_index])
        return self.last(global_mean_pool(x, batch.batch[order], batch.num_graphs))


def test_sorted_nodes_are_no_particles(events: Events) -> None:
    model = PygModel(Sorted(), ("signal",))
    for method in ("edge_ig", "attention"):
        with pytest.raises(ValueError, match=r"layer two: .*pooled or sorted.*node_ig and shapley"):
            explain(model, events, method, layer="two")
    found = explain(model, events, "edge_ig", layer="one", steps=4)  # the remedy
    assert len(found.values) == len(events.pairs()[0])


class Odd(nn.Module):
    """Edges that are no pairs of an event's particles."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv, self.last = kind, GraphConv(INPUTS, 8, aggr="mean"), nn.Linear(8, 1)

    def forward(self, batch: Batch) -> Tensor:
        edges = batch.edge_index
        if self.kind == "twice":
            edges = torch.cat([edges, edges], dim=1)
        if self.kind == "clusters":  # two nodes for each event, which the particles feed
            x, nodes = batch.x / 50, torch.arange(len(batch.x))
            edges = torch.stack([nodes, 2 * batch.batch + (batch.x[:, 0] > 40)])
            x = torch.tanh(self.conv((x, x.new_zeros(2 * batch.num_graphs, INPUTS)), edges))
            rows = torch.arange(batch.num_graphs).repeat_interleave(2)
            return self.last(global_mean_pool(x, rows, batch.num_graphs))
        x = torch.tanh(self.conv(batch.x / 50, edges))
        return self.last(global_mean_pool(x, batch.batch, batch.num_graphs))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("twice", r"several edges between the same two particles: .*coalesce"),
        ("clusters", r"it has \d+ senders, \d+ receivers for \d+ particles"),
    ],
)
def test_other_edges_are_refused_with_the_reason(events: Events, kind: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"layer conv: .*{reason}"):
        explain(PygModel(Odd(kind), ("signal",)), events, "edge_ig")
