"""Networks that physicists bring, trained for a moment: ParticleNet, GATv2, deep sets, by every method."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import networks
import numpy as np
import pytest
import torch
from slow_shapley import game, slow_interaction, slow_value
from torch import Tensor, nn
from torch_geometric.data import Batch

from hepxai.attribution import Attribution
from hepxai.datasets import DatasetCard, read
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.explainers.graph.surrogate import fit_surrogate
from hepxai.models import PygModel, knn_edges
from hepxai.models.card import ModelCard
from hepxai.models.graph.cloud import Cloud

GRAPHS = ("ParticleNet", "GATv2")
NETWORKS = (*GRAPHS, "DeepSets")
STEPS = 24


def near(batch: Batch) -> tuple[Tensor, Tensor]:
    src, dst = edges = knn_edges(batch, 4)
    return edges, batch.p4[src, 1:3] - batch.p4[dst, 1:3]


@pytest.fixture(scope="module")
def events() -> Events:
    return read(DatasetCard.find("charged_higgs")).events[::40]


@pytest.fixture(scope="module")
def models(events: Events) -> dict[str, PygModel]:
    """Each after eight epochs on the whole batch."""
    return {name: trained(name, events.where("train")) for name in NETWORKS}


def trained(name: str, events: Events) -> PygModel:
    batch = events.graph()
    batch.edge_index, batch.edge_attr = near(batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = getattr(networks, name)(batch.x)
        adam = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(8):
            adam.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(
                net(batch)[:, 0], batch.y.float(), weight=batch.weight.float()
            )
            loss.backward()
            adam.step()
    edges = near if name == "GATv2" else None
    return PygModel(net, ("signal",), schema=events.schema, edges=edges)


@pytest.fixture
def few(events: Events) -> Events:
    return events.where("test")[:6]


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_module(models: dict[str, PygModel], few: Events, name: str) -> None:
    model, batch = models[name], few.graph()
    batch.edge_index, batch.edge_attr = near(batch)
    with torch.no_grad():
        expected = model.module.eval()(batch)
    np.testing.assert_allclose(model.logits(few), expected, rtol=1e-4, atol=1e-5)
    assert np.std(model.logits(few)) > 0.05


def test_the_page_shows_these_networks() -> None:
    page = Path(__file__).parents[2] / "docs" / "add_a_model.md"
    assert Path(networks.__file__).read_text(encoding="utf-8") in page.read_text(encoding="utf-8")


# --- edges -----------------------------------------------------------------------------------------


class Weighted(nn.Module):
    """ParticleNet written out: a weight on each message of one block, neighbours given."""

    def __init__(self, net: nn.Module, block: str, edges: dict[str, Tensor]) -> None:
        super().__init__()
        self.net, self.block, self.edges = net, block, edges

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        x = self.net.standardise(x)
        for name in ("first", "second"):
            part, (src, dst) = self.net.get_submodule(name), self.edges[name]
            message = (
                part.conv.nn(torch.cat([x[dst], x[src] - x[dst]], dim=1)) if len(src) else x.new_zeros(0, 16)
            )
            message = message * weight[:, None] if name == self.block else message
            total = x.new_zeros(len(x), message.shape[1]).index_add(0, dst, message)
            count = torch.bincount(dst, minlength=len(x)).clamp(min=1)[:, None]
            x = torch.relu(total / count + part.shortcut(x))
        return self.net.head(x.mean(0, keepdim=True))[0, 0]


def edges_of(model: PygModel, event: Events) -> dict[str, Tensor]:
    lists = model.neighbour_lists(Cloud.of(event))
    receivers = torch.arange(event.n_particles)[:, None]
    index = [lists[f"knn_{i}"] for i in (1, 2)]
    pairs = (torch.stack([n.index[n.valid], receivers.expand_as(n.index)[n.valid]]) for n in index)
    return dict(zip(("first", "second"), pairs, strict=True))


def nodes_of_path(steps: int = STEPS) -> Iterator[tuple[float, float]]:
    yield from (((t + 1) / 2, w / 2) for t, w in zip(*np.polynomial.legendre.leggauss(steps), strict=True))


def by_pair(found: Attribution) -> dict[tuple[int, int], float]:
    return dict(
        zip(zip(found.pairs.src.tolist(), found.pairs.dst.tolist(), strict=True), found.values, strict=True)
    )


@pytest.mark.parametrize("block", ["first", "second"])
def test_edge_ig_of_particle_net(models: dict[str, PygModel], few: Events, block: str) -> None:
    """Event by event, each message of a block weighted by hand, neighbours those of the unweighted event."""
    model = models["ParticleNet"]
    attribution = explain(model, few, "edge_ig", layer=f"{block}.conv", steps=STEPS)
    mine, seen = by_pair(attribution), 0
    for e, (first, last) in enumerate(pairwise(few.offsets.tolist())):
        edges = edges_of(model, few[[e]])
        weighted = Weighted(model.module.eval(), block, edges)
        x, total = torch.as_tensor(few.particles[first:last].copy()), 0.0
        for t, share in nodes_of_path():
            weight = torch.full((edges[block].shape[1],), t, requires_grad=True)
            (gradient,) = torch.autograd.grad(weighted(x, weight), weight)
            total = total + share * gradient
        for (s, d), value in zip(edges[block].T.tolist(), total.tolist(), strict=True):
            assert mine[first + s, first + d] == pytest.approx(value, abs=1e-5)
            seen += 1
    assert seen == len(mine)
    assert np.abs(attribution.values).max() > 0.01
    assert attribution.checks["median_residual"] < 0.01
    assert attribution.checks["p90_residual"] < 0.05


def test_frozen_neighbours_improve_the_residual(models: dict[str, PygModel], few: Events) -> None:
    frozen, dynamic = (
        explain(models["ParticleNet"], few, "edge_ig", layer="first.conv", steps=STEPS, neighbours=n)
        for n in ("frozen", "dynamic")
    )
    assert np.abs(frozen.residual).mean() < 0.5 * np.abs(dynamic.residual).mean()


@pytest.mark.parametrize("layer", ["concat", "mean"])
def test_edge_ig_of_gatv2_is_complete(models: dict[str, PygModel], few: Events, layer: str) -> None:
    attribution = explain(models["GATv2"], few, "edge_ig", layer=layer, steps=STEPS)
    assert attribution.self_loops is not None
    assert attribution.checks["median_residual"] < 0.02  # kinks of ReLU and LeakyReLU


def test_attention_of_gatv2(models: dict[str, PygModel], few: Events) -> None:
    attribution = explain(models["GATv2"], few, "attention")
    assert attribution.labels["head"] == ("concat 0", "concat 1", "concat 2", "concat 3", "mean 0", "mean 1")
    net, batch, mine = models["GATv2"].module.eval(), few.graph(), {}
    edges, attributes = near(batch)
    with torch.no_grad():
        x = net.standardise(batch.x)
        x, (index, alpha) = net.concat(x, edges, attributes, return_attention_weights=True)
        _, (second, beta) = net.mean(torch.relu(x), edges, attributes, return_attention_weights=True)
    assert torch.equal(index, second)
    both = torch.cat([alpha, beta], dim=1).numpy()
    mine = by_pair(attribution) | dict(enumerate(attribution.self_loops.values))
    for (s, d), expected in zip(index.T.tolist(), both, strict=True):
        np.testing.assert_allclose(mine[d if s == d else (s, d)], expected, rtol=1e-4, atol=1e-6)
    assert np.count_nonzero(attribution.values.any(axis=1)) == edges.shape[1]


@pytest.mark.parametrize("method", ["attention", "edge_ig"])
def test_methods_of_edges_refuse_deep_sets(models: dict[str, PygModel], few: Events, method: str) -> None:
    works = "these methods work on it: counterfactual, node_ig, shapley, shapley_interaction, surrogate"
    with pytest.raises(CannotExplainError, match=works):
        explain(models["DeepSets"], few, method)


def test_attention_refuses_particle_net(models: dict[str, PygModel], few: Events) -> None:
    with pytest.raises(
        CannotExplainError,
        match=r"no attention layer .*work on it: counterfactual, edge_ig, node_ig, shapley",
    ):
        explain(models["ParticleNet"], few, "attention")


# --- particles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_node_ig(models: dict[str, PygModel], few: Events, name: str) -> None:
    """Event by event from zero, with the neighbours of the event."""
    model = models[name]
    attribution = explain(model, few, "node_ig", baseline="zero", steps=8)
    for e, (first, last) in enumerate(pairwise(few.offsets.tolist())):
        cloud, total = Cloud.of(few[[e]]), 0.0
        lists = model.neighbour_lists(cloud)
        for t, share in nodes_of_path(8):
            x = (t * cloud.x).requires_grad_()
            (gradient,) = torch.autograd.grad(model.forward_cloud(cloud.with_features(x), lists).sum(), x)
            total = total + share * gradient
        np.testing.assert_allclose(attribution.values[first:last], cloud.x * total, rtol=1e-3, atol=2e-5)
    better = explain(model, few, "node_ig", baseline="zero", steps=48)
    assert better.checks["median_residual"] < 0.02


@pytest.mark.parametrize("name", NETWORKS)
def test_shapley_from_the_definition(models: dict[str, PygModel], events: Events, name: str) -> None:
    small = events[events.counts == 5][:2]
    values = explain(models[name], small, "shapley", quiet=True)
    pairs = explain(models[name], small, "shapley_interaction", quiet=True)
    interactions = by_pair(pairs)
    for e in range(len(small)):
        scores = game(models[name], small[[e]])
        expected = [slow_value(scores, 5, i) for i in range(5)]
        np.testing.assert_allclose(values.values[5 * e : 5 * e + 5], expected, rtol=1e-3, atol=2e-6)
        index = slow_interaction(scores, 5, 1, 3)
        both = interactions[5 * e + 1, 5 * e + 3] + interactions[5 * e + 3, 5 * e + 1]
        assert both == pytest.approx(index, rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_deletion_of_the_leading_particle(models: dict[str, PygModel], few: Events, name: str) -> None:
    """The score changes more without the particle of the largest |node IG| than without the last one."""
    model, cloud = models[name], Cloud.of(few)
    attribution = explain(model, few, "node_ig", baseline="zero", steps=16)
    size = np.abs(attribution.values.sum(1))
    change = {np.argmax: [], np.argmin: []}
    score = model.forward_cloud(cloud).detach()[:, 0]
    for e, (first, last) in enumerate(pairwise(few.offsets.tolist())):
        for pick, changes in change.items():
            rest = torch.tensor([[n for n in range(first, last) if n != first + pick(size[first:last])]])
            changes.append(abs(float(model.forward_cloud(cloud.regroup(rest)).detach() - score[e])))
    leading, last_one = (np.mean(c) for c in change.values())
    assert leading > 1.3 * last_one


@pytest.mark.parametrize("name", NETWORKS)
def test_surrogate(models: dict[str, PygModel], events: Events, name: str) -> None:
    card = {
        "kind": "particle_gnn",
        "convolutions": [{"kind": "graph", "width": 8}],
        "dense": [8],
        "alpha_dropout": 0.0,
    }
    quick = ModelCard.model_validate(
        card | {"training": {"epochs": 5, "batch_size": 32, "learning_rate": 0.01}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        surrogate = fit_surrogate(models[name], events, card=quick)
    held_out = surrogate.held_out
    assert held_out["logit_correlation"].value > 0.2
    assert ("map_agreement" in held_out) == (name in GRAPHS)
