"""torch_geometric networks on edges of their own: every explained quantity against a slow reference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import (
    EdgeConv,
    GATConv,
    GATv2Conv,
    GraphConv,
    SAGEConv,
    SAGPooling,
    TAGConv,
    TopKPooling,
    TransformerConv,
    global_mean_pool,
)

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.explainers.base import CheckWarning
from hepxai.models import PygModel, knn_edges
from hepxai.models.wrappers.nodes import VIRTUAL

INPUTS, STEPS = 5, 6
virtual = pytest.mark.filterwarnings("ignore:.*virtual nodes:hepxai.explainers.base.CheckWarning")


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(6, seed=4, largest=6)


class Net(nn.Module):
    """A readout behind convolutions of the standardised particles."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.last = nn.Linear(width, 1)

    def convolve(self, x: Tensor, batch: Batch) -> Tensor:
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        x = self.convolve(batch.x / 50, batch)
        return self.last(global_mean_pool(x[: len(batch.x)], batch.batch, batch.num_graphs))


def wrapped(net: nn.Module, **settings: object) -> PygModel:
    return PygModel(net, ("signal",), **settings)


def pair_values(found: Attribution) -> dict[tuple[int, int], float]:
    ends = zip(found.pairs.src.tolist(), found.pairs.dst.tolist(), strict=True)
    loops = found.self_loops
    own = {} if loops is None else {(n, n): v for n, v in enumerate(loops.values.tolist())}
    return dict(zip(ends, found.values.tolist(), strict=True)) | own


def by_hand(  # noqa: C901
    model: PygModel,
    events: Events,
    layer: str,
    number: int = 0,
    particle: Callable[[int], Callable[[int], int | None]] = lambda n: (
        lambda node: node if node < n else None
    ),
) -> dict[tuple[int, int], float]:
    """Event by event: a weight on each message between particles in one call, from 0 to 1 in small steps."""
    conv, values = model.module.eval().get_submodule(layer), {}
    state: dict = {}

    def on_edges(_: nn.Module, inputs: tuple) -> None:
        state["call"] += 1
        if state["call"] == number:
            state["edges"] = inputs[0].T.tolist()

    def on_message(_: nn.Module, __: tuple, message: Tensor) -> Tensor | None:
        if state["call"] != number:
            return None
        name = particle(state["size"])
        ends = [(name(s), name(d)) for s, d in state["edges"]]
        between = torch.tensor([None not in e for e in ends], dtype=torch.bool)
        state["ends"] = ends
        state["weight"] = torch.full((len(ends),), state["t"], requires_grad=True)
        weight = torch.where(between, state["weight"], 1.0)
        return message * weight.view(-1, *(1 for _ in message.shape[1:]))

    handles = [
        conv.register_propagate_forward_pre_hook(on_edges),
        conv.register_message_forward_hook(on_message),
    ]
    for e, (first, last) in enumerate(pairwise(events.offsets.tolist())):
        state["size"] = last - first
        for node, share in zip(*np.polynomial.legendre.leggauss(STEPS), strict=True):
            state |= {"call": -1, "t": (node + 1) / 2, "ends": ()}
            batch = events[[e]].graph()
            if model.edges is not None:
                edges = model.edges(batch)
                batch.edge_index, batch.edge_attr = edges if isinstance(edges, tuple) else (edges, None)
            score = model.module(batch).sum()
            if not state["ends"]:
                continue
            (gradient,) = torch.autograd.grad(score, state["weight"], allow_unused=True)
            gradient = torch.zeros(len(state["ends"])) if gradient is None else gradient
            for (s, d), g in zip(state["ends"], gradient.tolist(), strict=True):
                if s is not None and d is not None:
                    key = first + s, first + d
                    values[key] = values.get(key, 0.0) + share / 2 * g
    for handle in handles:
        handle.remove()
    return values


def assert_by_hand(model: PygModel, events: Events, layer: str, **how: object) -> Attribution:
    attribution = explain(model, events, "edge_ig", layer=layer, steps=STEPS)
    expected, mine = by_hand(model, events, layer.partition("#")[0], **how), pair_values(attribution)
    assert {k for k in mine if k[0] != k[1]} == {k for k in expected if k[0] != k[1]}
    assert max(map(abs, expected.values())) > 1e-3
    for pair, value in expected.items():
        assert mine[pair] == pytest.approx(value, abs=2e-6), pair
    return attribution


# --- edges of the user -----------------------------------------------------------------------------


def near(batch: Batch) -> tuple[Tensor, Tensor]:
    """Three neighbours in η and φ, with Δη and Δφ."""
    src, dst = edges = knn_edges(batch, 3)
    return edges, batch.p4[src, 1:3] - batch.p4[dst, 1:3]


class One(Net):
    """A convolution of choice on the edges of the batch, and a second one."""

    def __init__(self, conv: nn.Module, *, bipartite: bool = False, attributes: bool = False) -> None:
        super().__init__()
        self.conv, self.two = conv, GraphConv(6, 6, aggr="mean")
        self.bipartite, self.attributes = bipartite, attributes

    def convolve(self, x: Tensor, batch: Batch) -> Tensor:
        attributes = (batch.edge_attr,) if self.attributes else ()
        x = torch.tanh(self.conv((x, x) if self.bipartite else x, batch.edge_index, *attributes))
        return torch.tanh(self.two(x, batch.edge_index))


KINDS = {
    "GATv2, concat": (lambda: GATv2Conv(5, 3, heads=2, edge_dim=2), False, True),
    "GATv2, mean of heads": (lambda: GATv2Conv(5, 6, heads=3, concat=False, edge_dim=2), False, True),
    "GAT, without self loops": (lambda: GATConv(5, 6, add_self_loops=False, edge_dim=2), False, True),
    "transformer": (lambda: TransformerConv(5, 3, heads=2, edge_dim=2), False, True),
    "EdgeConv": (lambda: EdgeConv(nn.Sequential(nn.Linear(10, 6), nn.Tanh())), False, False),
    "EdgeConv, pair of nodes": (lambda: EdgeConv(nn.Linear(10, 6), aggr="mean"), True, False),
    "SAGE, pair of nodes": (lambda: SAGEConv((5, 5), 6), True, False),
    "GATv2, pair of nodes": (lambda: GATv2Conv((5, 5), 6, add_self_loops=False), True, False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_edge_ig_on_edges_of_the_user(events: Events, kind: str) -> None:
    make, bipartite, attributes = KINDS[kind]
    net = One(make(), bipartite=bipartite, attributes=attributes)
    attribution = assert_by_hand(wrapped(net, edges=near), events, "conv")
    assert len(attribution.values) == np.minimum(events.counts - 1, 3).clip(0) @ events.counts
    assert np.abs(attribution.residual).max() < 5e-3


@pytest.mark.parametrize("kind", [k for k in KINDS if "GAT" in k or k == "transformer"])
def test_attention_is_what_the_layer_returns(events: Events, kind: str) -> None:
    make, bipartite, attributes = KINDS[kind]
    net = One(make(), bipartite=bipartite, attributes=attributes)
    attribution = explain(wrapped(net, edges=near), events, "attention")
    loops = attribution.self_loops
    seen = 0
    for e, (first, last) in enumerate(pairwise(events.offsets.tolist())):
        batch = events[[e]].graph()
        edges, attr = near(batch)
        x = batch.x / 50
        given = (edges, attr) if attributes else (edges,)
        with torch.no_grad():
            _, (index, alpha) = net.conv((x, x) if bipartite else x, *given, return_attention_weights=True)
        expected = {
            (first + s, first + d): a for (s, d), a in zip(index.T.tolist(), alpha.tolist(), strict=True)
        }
        for s in range(first, last):
            for d in range(first, last):
                if s != d:
                    (row,) = np.flatnonzero((attribution.pairs.src == s) & (attribution.pairs.dst == d))
                    mine = attribution.values[row, 0]
                else:
                    mine = np.zeros(alpha.shape[1]) if loops is None else loops.values[s, 0]
                np.testing.assert_allclose(mine, expected.get((s, d), 0.0), rtol=1e-5, atol=1e-7)
                seen += (s, d) in expected
    assert seen > events.n_particles
    assert attribution.checks["max_row_deviation"] < 1e-5


def test_call_may_build_the_batch(events: Events) -> None:
    conv = GATv2Conv(5, 6, edge_dim=2)

    def call(module: nn.Module, batch: Batch) -> Tensor:
        edges, attr = near(batch)
        return module(Batch(x=batch.x, edge_index=edges, edge_attr=attr, batch=batch.batch, ptr=batch.ptr))

    net = One(conv, attributes=True)
    for method in ("edge_ig", "attention"):
        built, given = (
            explain(m, events, method) for m in (wrapped(net, call=call), wrapped(net, edges=near))
        )
        assert built.values.size
        np.testing.assert_array_equal(built.values, given.values)


BAD_EDGES = {
    "edges returned int; edge_index, int64": lambda _: 1,
    r"edges returned torch.float32 \(2, 3\); edge_index": lambda _: torch.zeros(2, 3),
    r"edges returned torch.int64 \(3, 2\); edge_index": lambda _: torch.zeros(3, 2, dtype=torch.int64),
    r"edges returned particles 0 to \d+ in a batch of": lambda b: torch.tensor([[0], [len(b.x)]]),
    "edges returned 2 rows of edge_attr for 1 edges": lambda _: (torch.tensor([[0], [1]]), torch.zeros(2, 1)),
}


@pytest.mark.parametrize("match", BAD_EDGES)
def test_bad_edges(events: Events, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        wrapped(One(SAGEConv(5, 6)), edges=BAD_EDGES[match]).logits(events)


def test_edges_between_events_are_refused(events: Events) -> None:
    model = wrapped(One(SAGEConv(5, 6)), edges=lambda b: torch.tensor([[0], [len(b.x) - 1]]))
    with pytest.raises(ValueError, match="depends on the other events of its batch"):
        explain(model, events, "edge_ig")


def test_user_edges_travel_with_single_events(events: Events) -> None:
    class Apart(One):
        def forward(self, batch: Batch) -> Tensor:
            parts = [Batch.from_data_list([g]) for g in batch.to_data_list()]
            return torch.cat([super(Apart, self).forward(p) for p in parts])

    conv = GATv2Conv(5, 6, edge_dim=2)
    whole, apart = (wrapped(c(conv, attributes=True), edges=near) for c in (One, Apart))
    np.testing.assert_allclose(apart.logits(events), whole.logits(events), rtol=1e-5, atol=1e-6)


# --- a layer called twice --------------------------------------------------------------------------


class Twice(Net):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__(5)
        self.conv = conv

    def convolve(self, x: Tensor, batch: Batch) -> Tensor:
        return self.conv(torch.tanh(self.conv(x, batch.edge_index)), batch.edge_index)


@pytest.mark.parametrize("number", [0, 1])
def test_one_call_of_a_layer_that_is_called_twice(events: Events, number: int) -> None:
    model = wrapped(Twice(GATConv(5, 5, add_self_loops=False)))
    assert_by_hand(model, events, f"conv#{number + 1}", number=number)
    both = explain(model, events, "attention")
    assert both.labels["layer"] == ("conv#1", "conv#2")
    batch, conv = events.graph(), model.module.conv
    x = batch.x / 50
    with torch.no_grad():
        x = torch.tanh(conv(x, batch.edge_index)) if number else x
        _, (_, alpha) = conv(x, batch.edge_index, return_attention_weights=True)
    np.testing.assert_allclose(both.values[:, number], alpha, rtol=1e-5, atol=1e-7)
    one = explain(model, events, "attention", layer=f"conv#{number + 1}")
    np.testing.assert_array_equal(one.values[:, 0], both.values[:, number])


def test_hops_are_calls(events: Events) -> None:
    model = wrapped(Twice(TAGConv(5, 5, K=2)))
    found = [explain(model, events, "edge_ig", layer=f"conv#{i}", steps=4).values for i in (1, 2, 3, 4)]
    assert all(not np.allclose(a, b) for a, b in pairwise(found))


def test_a_call_must_be_chosen(events: Events) -> None:
    model = wrapped(Twice(SAGEConv(5, 5)))
    for layer, match in {
        "conv": r"sends messages 2 times .*choose one with layer= \(conv#1, conv#2\)",
        "conv#3": "no call 3 for a batch; choose one of conv#1, conv#2",
        "conv#0": "numbered conv#1, conv#2",
        "conv#x": "numbered conv#1, conv#2",
    }.items():
        with pytest.raises(ValueError, match=match):
            explain(model, events, "edge_ig", layer=layer)
    with pytest.raises(KeyError, match="no layer 'other#1'; edges can be weighted in conv"):
        explain(model, events, "edge_ig", layer="other#1")
    explain(model, events, "edge_ig", layer="conv#2", steps=2)  # the remedy


# --- virtual nodes ---------------------------------------------------------------------------------


class Hub(Net):
    """One virtual node per event, linked to all its particles in both directions."""

    def __init__(self, conv: nn.Module, order: str) -> None:
        super().__init__()
        self.conv, self.two, self.order = conv, GraphConv(6, 6, aggr="mean"), order

    def forward(self, batch: Batch) -> Tensor:
        particles, events = len(batch.x), batch.num_graphs
        start = {
            "behind all particles": torch.arange(particles),
            "before all particles": events + torch.arange(particles),
            "last of its event": torch.arange(particles) + batch.batch,
            "first of its event": torch.arange(particles) + batch.batch + 1,
        }[self.order]
        free = torch.ones(particles + events, dtype=torch.bool).index_fill(0, start, False)
        hub = free.nonzero().flatten()
        x = batch.x.new_full((particles + events, INPUTS), 0.3).index_copy(0, start, batch.x / 50)
        links = torch.stack([start, hub[batch.batch]])
        edges = torch.cat([start[batch.edge_index], links, links.flip(0)], dim=1)
        x = torch.tanh(self.conv(x, edges))[start]
        x = torch.tanh(self.two(x, batch.edge_index))
        return self.last(global_mean_pool(x, batch.batch, events))


CONVS = {
    "sum": lambda: GraphConv(5, 6),
    "maximum": lambda: SAGEConv(5, 6, aggr="max"),
    "attention": lambda: GATConv(5, 6, add_self_loops=False),
    "attention, self loops": lambda: GATv2Conv(5, 3, heads=2),
}


@virtual
@pytest.mark.parametrize("kind", CONVS)
def test_messages_of_virtual_nodes_keep_their_weight(events: Events, kind: str) -> None:
    """Behind the particles of a single event the virtual node is the last one, as `by_hand` expects."""
    torch.manual_seed(2)
    conv = CONVS[kind]()
    found = {o: explain(wrapped(Hub(conv, o)), events, "edge_ig", layer="conv", steps=STEPS) for o in VIRTUAL}
    first = assert_by_hand(wrapped(Hub(conv, "behind all particles")), events, "conv")
    for order, other in found.items():
        np.testing.assert_array_equal(other.pairs.src, first.pairs.src, err_msg=order)
        np.testing.assert_allclose(other.values, first.values, atol=1e-6, err_msg=order)
        assert other.checks["virtual_messages"] == pytest.approx(first.checks["virtual_messages"])
    assert first.checks["median_residual"] < (5e-2 if kind == "maximum" else 5e-3)  # kinks, 6 steps
    loops = events.n_particles + len(events) if "loops" in kind else 0
    pairs = (events.counts * (events.counts - 1)).sum() + (events.n_particles if loops else 0)
    messages = (events.counts * (events.counts - 1)).sum() + 2 * events.n_particles + loops
    assert first.checks["virtual_messages"] == pytest.approx(1 - pairs / messages)


def test_virtual_nodes_are_said(events: Events) -> None:
    model = wrapped(Hub(CONVS["attention"](), "last of its event"))
    with pytest.warns(CheckWarning, match=r"\d+ % of the messages come from or go to virtual nodes"):
        explain(model, events, "edge_ig", layer="conv")
    with pytest.warns(CheckWarning, match=r"\d+ % of the attention goes to virtual nodes"):
        attribution = explain(model, events, "attention")
    assert attribution.concerns


@virtual
@pytest.mark.parametrize("order", VIRTUAL)
def test_attention_beside_virtual_nodes(events: Events, order: str) -> None:
    net = Hub(CONVS["attention"](), order)
    found, rest = explain(wrapped(net), events, "attention"), []
    for e, (first, last) in enumerate(pairwise(events.offsets.tolist())):
        size, seen = last - first, []
        handle = net.conv.register_propagate_forward_pre_hook(lambda _, i, seen=seen: seen.append(i))
        with torch.no_grad():
            net(events[[e]].graph())
        handle.remove()
        edges, alpha = seen[0][0].T.tolist(), seen[0][2]["alpha"][:, 0].tolist()
        shift = 1 if order in ("before all particles", "first of its event") else 0
        for (s, d), a in zip(edges, alpha, strict=True):
            s, d = s - shift, d - shift
            if 0 <= s < size and 0 <= d < size:
                (row,) = np.flatnonzero((found.pairs.src == first + s) & (found.pairs.dst == first + d))
                assert found.values[row, 0, 0] == pytest.approx(a, rel=1e-5)
            elif 0 <= d < size:
                rest.append(a)
    assert len(rest) == events.n_particles
    assert found.checks["virtual_attention"] == pytest.approx(np.mean(rest), rel=1e-4)


def test_other_numbers_of_nodes_are_refused(events: Events) -> None:
    class Double(Net):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SAGEConv(5, 6)

        def convolve(self, x: Tensor, batch: Batch) -> Tensor:
            return self.conv(
                torch.cat([x, x]), torch.cat([batch.edge_index, batch.edge_index + len(x)], dim=1)
            )

    model = wrapped(Double())
    match = r"layer conv: it has \d+ nodes for \d+ particles of 6 events: .*one virtual node per event"
    with pytest.raises(ValueError, match=match):
        explain(model, events, "edge_ig")
    explain(model, events, "node_ig", steps=2, baseline="zero")  # the remedy


# --- pooling ---------------------------------------------------------------------------------------


class Pooled(Net):
    """A layer on the particles that two poolings leave, in the order of their scores."""

    def __init__(self, pool: Callable[..., nn.Module], *, branch: bool = False) -> None:
        super().__init__()
        self.one, self.branch = GraphConv(5, 6, aggr="mean"), branch
        self.first, self.second = pool(6, 0.8), pool(6, 0.7)
        self.two = GATConv(6, 6, add_self_loops=False)

    def forward(self, batch: Batch) -> Tensor:
        x = before = torch.tanh(self.one(batch.x / 50, batch.edge_index))
        x, edges, _, rows, *_ = self.first(x, batch.edge_index, batch=batch.batch)
        if self.branch:
            x, edges, rows = before, batch.edge_index, batch.batch
        x, edges, _, rows, *_ = self.second(x, edges, batch=rows)
        return self.last(global_mean_pool(torch.tanh(self.two(x, edges)), rows, batch.num_graphs))


@pytest.mark.parametrize("pool", [TopKPooling, SAGPooling])
def test_particles_that_poolings_leave(events: Events, pool: Callable[..., nn.Module]) -> None:
    net = Pooled(pool)
    model, expected = wrapped(net), {}
    attribution = explain(model, events, "edge_ig", layer="two", steps=STEPS)
    attention = explain(model, events, "attention", layer="two")
    for e, first in enumerate(events.offsets[:-1].tolist()):
        kept: list[Tensor] = []
        handles = [
            p.select.register_forward_hook(lambda _, __, o, kept=kept: kept.append(o.node_index))
            for p in (net.first, net.second)
        ]
        with torch.no_grad():
            net.eval()(events[[e]].graph())
        for handle in handles:
            handle.remove()
        rows = kept[0][kept[1]].tolist()
        only = by_hand(model, events[[e]], "two", particle=lambda _, rows=rows: lambda node: rows[node])
        expected |= {(first + s, first + d): v for (s, d), v in only.items()}
    mine = pair_values(attribution)
    assert mine.keys() == expected.keys()
    assert len(mine) > 20
    for pair, value in expected.items():
        assert mine[pair] == pytest.approx(value, abs=2e-6)
    ends = set(
        zip(
            *(a[attention.values[:, 0, 0] > 0] for a in (attention.pairs.src, attention.pairs.dst)),
            strict=True,
        )
    )
    assert {(int(s), int(d)) for s, d in ends} == expected.keys()


def test_poolings_beside_each_other_are_refused(events: Events) -> None:
    with pytest.raises(ValueError, match=r"layer two: it has \d+ nodes for \d+ particles"):
        explain(wrapped(Pooled(TopKPooling, branch=True)), events, "edge_ig", layer="two")


# --- wrapped modules -------------------------------------------------------------------------------


class LightningModule(nn.Module):
    """What a LightningModule adds to a module, as far as scoring sees it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.trainer, self.hparams = net, None, {"lr": 0.1}

    def forward(self, batch: Batch) -> Tensor:
        return self.net(batch)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return F.binary_cross_entropy_with_logits(self(batch)[:, 0], batch.y.float())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


def test_lightning_and_compiled_modules(events: Events) -> None:
    net = One(GATConv(5, 6), bipartite=False)
    plain, lightning = wrapped(net), wrapped(LightningModule(net))
    compiled = wrapped(torch.compile(LightningModule(net), backend="eager"))
    assert lightning.edge_layers == compiled.edge_layers == ("net.conv", "net.two")
    assert type(compiled.module) is LightningModule
    expected = explain(plain, events, "edge_ig", layer="conv", steps=4)
    for model in (lightning, compiled):
        attribution = explain(model, events, "edge_ig", layer="net.conv", steps=4)
        np.testing.assert_array_equal(attribution.values, expected.values)
        np.testing.assert_array_equal(
            explain(model, events, "attention").values, explain(plain, events, "attention").values
        )
