"""Every layer equals PyG's own on explicit edges: outputs, gradients, and gradients by edge weight."""

from __future__ import annotations

import pytest
import torch
from plain_pyg import RAGGED, complete, make_cloud, nearest, pair_attributes, weighted
from torch import Tensor, nn
from torch_geometric.nn import EdgeConv, GraphConv, MessagePassing, TransformerConv

from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.layers import DynamicEdge, Graph, Transformer, complete_edges

INPUTS, WIDTH = 5, 8
PAIRS = ("delta_r", "log_mass")
EVENTS = {"ragged": RAGGED, "regular": (4, 4, 4), "alone": (6,), "single": (1, 1), "empty": (0, 0)}
LAYERS = {
    "transformer": lambda: Transformer(INPUTS, WIDTH, heads=1, edge_dropout=0.3),
    "transformer, 4 heads": lambda: Transformer(INPUTS, WIDTH, heads=4, edge_dropout=0.3),
    "transformer, pairs": lambda: Transformer(INPUTS, WIDTH, heads=1, edge_dropout=0.3, pair_names=PAIRS),
    "transformer, 4 heads, pairs": lambda: Transformer(
        INPUTS, WIDTH, heads=4, edge_dropout=0.3, pair_names=PAIRS
    ),
    "graph": lambda: Graph(INPUTS, WIDTH),
    "mean": lambda: DynamicEdge(INPUTS, WIDTH, neighbours=3, aggregation="mean", edge_dropout=0.3),
    "max": lambda: DynamicEdge(INPUTS, WIDTH, neighbours=3, aggregation="max", edge_dropout=0.3),
    "mean, all": lambda: DynamicEdge(INPUTS, WIDTH, neighbours=20, aggregation="mean", edge_dropout=0.3),
    "max, all": lambda: DynamicEdge(INPUTS, WIDTH, neighbours=20, aggregation="max", edge_dropout=0.3),
}
Layer = Transformer | Graph | DynamicEdge


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Layer:
    torch.manual_seed(7)
    return LAYERS[request.param]().double().eval()


@pytest.fixture(params=EVENTS)
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return make_cloud(EVENTS[request.param], INPUTS)


def plain_layer(layer: Layer) -> MessagePassing:
    """A freshly built PyG layer with the weights of ours."""
    fresh: MessagePassing
    if isinstance(layer, Transformer):
        heads = layer.conv.heads
        edge = {"edge_dim": len(layer.pair_names)} if layer.pair_names else {}
        fresh = TransformerConv(INPUTS, WIDTH // heads, heads=heads, **edge)
    elif isinstance(layer, Graph):
        fresh = GraphConv(INPUTS, WIDTH)
    else:
        mlp = nn.Sequential(nn.Linear(2 * INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        fresh = EdgeConv(mlp, aggr=layer.aggregation)
    fresh.double().load_state_dict(layer.conv.state_dict())
    return fresh.eval()


def edges_of(layer: Layer, cloud: Cloud) -> Tensor:
    return nearest(cloud.x, cloud.ptr, layer.k) if isinstance(layer, DynamicEdge) else complete(cloud.ptr)


def plain_output(plain: MessagePassing, layer: Layer, x: Tensor, cloud: Cloud, edges: Tensor) -> Tensor:
    attributes = pair_attributes(cloud.p4, edges, getattr(layer, "pair_names", ()))
    return plain(x, edges) if attributes is None else plain(x, edges, attributes)


def test_outputs_equal_pyg(layer: Layer, cloud: Cloud) -> None:
    expected = plain_output(plain_layer(layer), layer, cloud.x, cloud, edges_of(layer, cloud))
    torch.testing.assert_close(layer(cloud.x, cloud), expected, rtol=1e-10, atol=1e-12)


def test_gradients_equal_pyg(layer: Layer, cloud: Cloud) -> None:
    """With respect to the particles and to every parameter."""
    plain = plain_layer(layer)
    x, y = (cloud.x.clone().requires_grad_() for _ in range(2))
    torch.manual_seed(0)
    pull = torch.randn(len(x), WIDTH, dtype=x.dtype)
    (layer(x, cloud) * pull).sum().backward()
    (plain_output(plain, layer, y, cloud, edges_of(layer, cloud)) * pull).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-10, atol=1e-12)
    for (name, ours), theirs in zip(layer.conv.named_parameters(), plain.parameters(), strict=True):
        wanted = torch.zeros_like(ours) if theirs.grad is None else theirs.grad
        torch.testing.assert_close(ours.grad, wanted, rtol=1e-10, atol=1e-11, msg=name)


def test_neighbours_are_the_nearest(cloud: Cloud) -> None:
    for k in (1, 3, 20):
        layer = DynamicEdge(INPUTS, WIDTH, neighbours=k, aggregation="mean", edge_dropout=0.0)
        found = layer.neighbours(cloud.x, cloud).index
        receiver = torch.arange(len(cloud.x))[:, None].expand_as(found)[found >= 0]
        assert torch.equal(torch.stack([found[found >= 0], receiver]), nearest(cloud.x, cloud.ptr, k))


def test_neighbours_of_far_away_clouds_in_single_precision() -> None:
    """Expanding (a - b)² without centring would lose every digit here."""
    cloud = make_cloud((8,) * 5, INPUTS)
    shifted = (cloud.x + 1000).float()
    layer = DynamicEdge(INPUTS, WIDTH, neighbours=4, aggregation="mean", edge_dropout=0.0)
    found = layer.neighbours(shifted, cloud).index
    receiver = torch.arange(len(shifted))[:, None].expand_as(found)
    expected = nearest(shifted.double(), cloud.ptr, 4)
    assert torch.equal(torch.stack([found.flatten(), receiver.flatten()]), expected)


def test_given_neighbours_are_used(cloud: Cloud) -> None:
    layer = DynamicEdge(INPUTS, WIDTH, neighbours=2, aggregation="mean", edge_dropout=0.0).double()
    lists = layer.neighbours(cloud.x.flip(1), cloud)
    moved = cloud.x * torch.tensor([1.0, -2.0, 3.0, 0.1, 5.0], dtype=cloud.x.dtype)
    found, valid = lists.index, lists.valid
    receiver = torch.arange(len(moved))[:, None].expand_as(found)[valid]
    expected = plain_layer(layer)(moved, torch.stack([found[valid], receiver]))
    torch.testing.assert_close(layer(moved, cloud, lists), expected, rtol=1e-10, atol=1e-12)


def test_complete_edges(cloud: Cloud) -> None:
    assert torch.equal(torch.stack(complete_edges(cloud)), complete(cloud.ptr))


def test_base_and_total_make_the_layer(layer: Layer, cloud: Cloud) -> None:
    found = layer.messages(cloud.x, cloud)
    torch.testing.assert_close(found.base + found.total, layer(cloud.x, cloud), rtol=1e-10, atol=1e-12)
    assert torch.equal(torch.stack([found.src, found.dst]), edges_of(layer, cloud))


@pytest.mark.parametrize("t", [0.25, 1.0])
def test_contract_is_the_derivative_by_edge_weight(layer: Layer, cloud: Cloud, t: float) -> None:
    """PyG multiplies the finished messages with explicit weights; autograd differentiates there."""
    plain, edges = plain_layer(layer), edges_of(layer, cloud)
    torch.manual_seed(1)
    pull = torch.randn(len(cloud.x), WIDTH, dtype=cloud.x.dtype)
    weight = torch.full((edges.shape[1],), t, dtype=cloud.x.dtype, requires_grad=True)
    with weighted(plain, weight, edges):
        state = plain_output(plain, layer, cloud.x, cloud, edges)
    found = layer.messages(cloud.x, cloud)
    torch.testing.assert_close(found.base + t * found.total, state, rtol=1e-10, atol=1e-12)
    (expected,) = torch.autograd.grad((state * pull).sum(), weight)
    torch.testing.assert_close(found.contract(pull), expected, rtol=1e-10, atol=1e-12)


def test_attention_is_pygs() -> None:
    cloud = make_cloud(RAGGED, INPUTS)
    for heads in (1, 4):
        torch.manual_seed(3)
        layer = Transformer(INPUTS, WIDTH, heads=heads, edge_dropout=0.0, pair_names=PAIRS).double()
        edges = complete(cloud.ptr)
        attributes = pair_attributes(cloud.p4, edges, PAIRS)
        _, (index, alpha) = plain_layer(layer)(cloud.x, edges, attributes, return_attention_weights=True)
        assert torch.equal(index, edges)
        torch.testing.assert_close(layer.attention(cloud.x, cloud), alpha, rtol=1e-10, atol=1e-12)


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="width 8 cannot be shared by 3 heads"):
        Transformer(INPUTS, WIDTH, heads=3, edge_dropout=0.0)


# --- dropping edges in training ----------------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_edge_dropout_is_pyg_on_the_edges_that_stay(aggregation: str) -> None:
    cloud = make_cloud(RAGGED, INPUTS)
    layer = DynamicEdge(INPUTS, WIDTH, neighbours=3, aggregation=aggregation, edge_dropout=0.5).double()
    found = layer.neighbours(cloud.x, cloud).index
    torch.manual_seed(5)
    stays = (torch.rand(found.shape) >= 0.5) & (found >= 0)
    receiver = torch.arange(len(cloud.x))[:, None].expand_as(found)
    expected = plain_layer(layer)(cloud.x, torch.stack([found[stays], receiver[stays]]))
    torch.manual_seed(5)
    torch.testing.assert_close(layer.train()(cloud.x, cloud), expected, rtol=1e-10, atol=1e-12)


def test_attention_dropout_acts_in_training_only_and_keeps_the_mean() -> None:
    cloud = make_cloud((5, 3), INPUTS)
    torch.manual_seed(2)
    layer = Transformer(INPUTS, WIDTH, heads=2, edge_dropout=0.3).double()
    quiet = layer.eval()(cloud.x, cloud)
    assert torch.equal(quiet, layer(cloud.x, cloud))
    layer.train()
    draws = torch.stack([layer(cloud.x, cloud).detach() for _ in range(600)])
    error = draws.std(0) / len(draws) ** 0.5
    pull = (draws.mean(0) - quiet.detach()) / error
    assert (error > 0).all()
    assert pull.abs().max() < 4.5
    assert 0.7 < pull.std() < 1.4


def test_gradients_are_finite_where_all_edges_are_dropped() -> None:
    cloud = make_cloud(RAGGED, INPUTS)
    x = cloud.x.clone().requires_grad_()
    for aggregation in ("mean", "max"):
        layer = DynamicEdge(INPUTS, WIDTH, neighbours=3, aggregation=aggregation, edge_dropout=0.999)
        out = layer.double().train()(x, cloud)
        out.sum().backward()
        assert torch.isfinite(out).all()
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("size", [1e5, 1e9, 1e11])
def test_attention_at_extreme_logits(size: float) -> None:
    """All logits of an event far below a mask of -1e9; and a particle that is alone in its event."""
    torch.manual_seed(1)
    cloud = make_cloud((4, 1, 6), INPUTS)
    layer = Transformer(INPUTS, WIDTH, heads=1, edge_dropout=0.0).double().eval()
    with torch.no_grad():
        for linear, sign in ((layer.conv.lin_query, 1), (layer.conv.lin_key, -1)):
            linear.weight.zero_()
            linear.bias.fill_(sign * size**0.5)
        layer.conv.lin_key.weight[:, 0] = size**-0.5
    x = cloud.x.double().requires_grad_()
    own = layer(x, cloud)
    plain = plain_layer(layer)(x, complete(cloud.ptr))
    torch.testing.assert_close(own, plain, rtol=1e-3, atol=1e-4)  # of logits of 1e11
    alpha = layer.attention(x, cloud).detach()
    counts = torch.tensor([4, 6])
    assert float(alpha.sum()) == pytest.approx(float(counts.sum()))
    assert torch.autograd.grad(own.sum(), x)[0].isfinite().all()
