"""Edges to the nearest particles, against a search in a plain loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import EdgeConv, global_mean_pool

from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models import PygModel, knn_edges
from hepxai.models.graph.cloud import Cloud
from hepxai.models.wrappers.knn import searching

P4 = ("pt", "eta", "phi", "mass")


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(14, seed=5, largest=7)


def slow_edges(values: np.ndarray, offsets: np.ndarray, k: int, periodic: int | None, loop: bool) -> list:
    edges = []
    for a, b in pairwise(offsets):
        for i in range(a, b):
            near = []
            for j in range(a, b):
                difference = [float(v) for v in values[i].astype(float) - values[j].astype(float)]
                if periodic is not None:
                    difference[periodic] = math.remainder(difference[periodic], 2 * math.pi)
                if i != j or loop:
                    near.append((sum(d * d for d in difference), j))
            edges += [(j, i) for _, j in sorted(near)[:k]]
    return edges


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(("names", "periodic"), [(("eta", "phi"), 1), (("pt", "mass", "eta"), None)])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_edges_by_name(
    events: Events, k: int, names: tuple[str, ...], periodic: int | None, loop: bool
) -> None:
    values = events.p4[:, [P4.index(n) for n in names]]
    found = knn_edges(events.graph(), k, names, loop=loop).T.tolist()
    assert [tuple(e) for e in found] == slow_edges(values, events.offsets, k, periodic, loop)


def test_edges_in_the_space_of_states(events: Events) -> None:
    states, batch = torch.randn(events.n_particles, 6), events.graph()
    expected = slow_edges(states.numpy(), events.offsets, 3, None, False)
    for given in (batch, batch.batch):
        assert [tuple(e) for e in knn_edges(given, 3, states).T.tolist()] == expected


def test_no_particles(events: Events) -> None:
    assert knn_edges(events[:0].graph(), 3).shape == (2, 0)
    assert knn_edges(torch.zeros(0, dtype=torch.int64), 3, torch.zeros(0, 2)).shape == (2, 0)
    assert knn_edges(torch.tensor([0, 2]), 3, torch.zeros(2, 2)).shape == (2, 0)


def test_bad_arguments(events: Events) -> None:
    batch = events.graph()
    for match, call in {
        "k=0; at least 1": lambda: knn_edges(batch, 0),
        r"coordinates=\('eta', 'ph'\); some of \('pt', 'eta'": lambda: knn_edges(batch, 2, ("eta", "ph")),
        "coordinates='eta'; some of": lambda: knn_edges(batch, 2, "eta"),
        "3 rows of coordinates for": lambda: knn_edges(batch, 2, torch.zeros(3, 2)),
        "need the batch itself": lambda: knn_edges(batch.batch, 2),
        "not ascending": lambda: knn_edges(torch.tensor([1, 0]), 2, torch.zeros(2, 2)),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()


# --- frozen searches -------------------------------------------------------------------------------


class Dynamic(nn.Module):
    """Two EdgeConvs, the second one on neighbours in the states of the first; or on given edges."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one, self.two = (EdgeConv(nn.Sequential(nn.Linear(10, 5), nn.Tanh()), aggr="mean") for _ in "ab")
        self.last, self.edges = nn.Linear(5, 1), None

    def forward(self, batch: Batch) -> Tensor:
        x = self.one(batch.x / 50, batch.edge_index)
        edges = knn_edges(batch, 2, x) if self.edges is None else self.edges
        return self.last(global_mean_pool(self.two(x, edges), batch.batch, batch.num_graphs))


def test_searches_are_recorded_and_replaced(events: Events) -> None:
    model, cloud = PygModel(Dynamic(), ("signal",)), Cloud.of(events)
    lists = model.neighbour_lists(cloud)
    assert list(lists) == ["knn_1"]
    moved = cloud.with_features(cloud.x * torch.linspace(0.1, 2, len(cloud.x))[:, None])
    assert not torch.equal(model.neighbour_lists(moved)["knn_1"].index, lists["knn_1"].index)
    static = Dynamic()
    near = lists["knn_1"]
    static.edges = torch.stack([near.index, torch.arange(len(cloud.x))[:, None].expand_as(near.index)])[
        :, near.valid
    ]
    frozen = PygModel(static, ("signal",))
    assert torch.equal(model.forward_cloud(moved, lists), frozen.forward_cloud(moved))
    assert not torch.equal(model.forward_cloud(moved), frozen.forward_cloud(moved))
    with searching() as searches:  # outside of a search nothing is recorded
        pass
    assert not searches.results


@pytest.mark.filterwarnings("ignore:the score depends on the order")  # of the static graph
@pytest.mark.parametrize("method", ["edge_ig", "node_ig"])
def test_integration_with_frozen_neighbours_is_that_of_a_static_graph(events: Events, method: str) -> None:
    settings = {"steps": 24} | ({"baseline": "zero"} if method == "node_ig" else {"layer": "one"})
    static, dynamic = PygModel(Dynamic(), ("signal",)), PygModel(Dynamic(), ("signal",))
    residuals = []
    for event in (events[[i]] for i in np.flatnonzero(events.counts > 3)[:4]):
        near = dynamic.neighbour_lists(Cloud.of(event))["knn_1"]
        receiver = torch.arange(len(near.index))[:, None].expand_as(near.index)
        static.module.edges = torch.stack([near.index, receiver])[:, near.valid]
        frozen = explain(dynamic, event, method, **settings)
        np.testing.assert_allclose(
            frozen.values, explain(static, event, method, **settings).values, atol=1e-6
        )
        residuals.append(np.abs(frozen.residual[0] / frozen.output_change[0]))
    assert max(residuals) < 1e-4  # smooth: the integral is exact
