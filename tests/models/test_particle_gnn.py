"""The whole network: equal to PyG's layers put together, and to itself however the events come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_pyg import PlainGNN, settle, shuffle
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from hepxai.events import Events
from hepxai.models.card import ModelCard
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.particle_gnn import ParticleGNN, Standardise
from hepxai.models.network import NetworkModel

EVERYTHING = ModelCard.model_validate(
    {
        "convolutions": [
            {"kind": "transformer", "width": 8, "heads": 2},
            {"kind": "dynamic_edge", "width": 8, "neighbours": 3},
            {"kind": "graph", "width": 6},
            {"kind": "dynamic_edge", "width": 8, "neighbours": 4, "aggregation": "max"},
        ],
        "edge_dropout": 0.2,
        "dense": [7, 5],
    }
)
PAIRS = ("delta_r", "mass")


def make_model(events: Events, card: ModelCard = EVERYTHING) -> NetworkModel:
    torch.manual_seed(4)
    model = NetworkModel.build(card, events.schema)
    settle(model.network, events)
    return model


@pytest.fixture(params=[(), PAIRS], ids=["features only", "pair features"])
def events(request: pytest.FixtureRequest, toy: Callable[..., Events]) -> Events:
    made = toy(30)
    return made.replace(schema=replace(made.schema, pair_features=request.param))


def double(events: Events, network: ParticleGNN) -> Cloud:
    network.double()
    cloud = Cloud.of(events)
    return Cloud(cloud.x.double(), cloud.p4.double(), cloud.ptr)


@pytest.mark.parametrize("outputs", [1, 3])
def test_equals_plain_pyg(events: Events, outputs: int) -> None:
    torch.manual_seed(4)
    pairs = events.schema.pair_features
    network = settle(ParticleGNN(EVERYTHING, 5, outputs, pairs), events)
    cloud = double(events, network)
    with torch.no_grad():
        expected = PlainGNN(EVERYTHING, network, pairs)(cloud.x, cloud.p4, cloud.ptr)
        found = network(cloud)
    assert found.shape == (30, outputs)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_accepts_pyg_batches(events: Events) -> None:
    """A `Batch` of ours, one that PyG collates from single graphs, and a `DataLoader`'s."""
    network = make_model(events).network
    graphs = []
    for e in range(len(events)):
        one = events[[e]]
        src, dst, _ = one.pairs()
        x, p4 = torch.tensor(one.particles), torch.tensor(one.p4)
        graphs.append(Data(x=x, p4=p4, edge_index=torch.tensor(np.stack([src, dst])), num_nodes=len(x)))
    with torch.no_grad():
        expected = network(Cloud.of(events))
        torch.testing.assert_close(network(events.graph()), expected)
        torch.testing.assert_close(network(Batch.from_data_list(graphs)), expected, rtol=1e-5, atol=1e-6)
        parts = [network(batch) for batch in DataLoader(graphs, batch_size=7)]
        torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-5, atol=1e-6)
        parts = [network(b) for b in DataLoader(events.graph().to_data_list(), batch_size=4)]
        torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-5, atol=1e-6)


def test_pair_features_need_momenta(toy: Callable[..., Events]) -> None:
    """A graph without four-momenta must not pass as one of particles at rest."""
    made = toy(5)
    made = made.replace(schema=replace(made.schema, pair_features=PAIRS))
    batch = made.graph()
    del batch.p4
    with pytest.raises(ValueError, match="p4"):
        make_model(made).network(batch)


def test_order_of_particles_does_not_matter(events: Events) -> None:
    model = make_model(events)
    shuffled, _ = shuffle(events)
    np.testing.assert_allclose(model.logits(shuffled), model.logits(events), rtol=1e-5, atol=1e-6)


def test_alone_as_in_the_batch(events: Events) -> None:
    model = make_model(events)
    alone = np.concatenate([model.logits(events[[e]]) for e in range(len(events))])
    np.testing.assert_allclose(alone, model.logits(events), rtol=1e-5, atol=1e-6)


def test_chunks_do_not_matter(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    from hepxai.models import network as module

    model = make_model(events)
    expected = model.logits(events)
    cut = module.chunk_rows
    for budget in (1, 100, 1000):
        monkeypatch.setattr(module, "chunk_rows", lambda counts, b=budget: cut(counts, b))
        np.testing.assert_allclose(model.logits(events), expected, rtol=1e-5, atol=1e-6)


def test_events_without_particles(toy: Callable[..., Events]) -> None:
    empty = toy(20)[:0]
    nothing = toy(6, largest=0)
    some = toy(20)
    model = make_model(some)
    assert model.logits(empty).shape == (0, 1)
    bare = model.logits(nothing)
    assert np.isfinite(bare).all()
    np.testing.assert_allclose(bare, bare[0, 0], rtol=1e-6)
    np.testing.assert_allclose(model.logits(some)[some.counts == 0], bare[0, 0], rtol=1e-6)
    assert np.isfinite(model.logits(toy(20, largest=1))).all()
    with torch.no_grad():
        assert model.network(Cloud.of(empty)).shape == (0, 1)


def test_layer_names_and_lists(toy: Callable[..., Events]) -> None:
    events = toy(10)
    model = make_model(events)
    cloud = Cloud.of(events)
    assert model.edge_layers == ("transformer_1", "dynamic_edge_2", "graph_3", "dynamic_edge_4")
    lists = model.neighbour_lists(cloud)
    assert {n: near.index.shape[1] for n, near in lists.items()} == {"dynamic_edge_2": 3, "dynamic_edge_4": 4}
    assert set(model.attention(cloud)) == {"transformer_1"}
    torch.testing.assert_close(model.forward_cloud(cloud, lists), model.forward_cloud(cloud))


@pytest.mark.parametrize("layer", range(4))
def test_edge_path_ends_at_the_logits(events: Events, layer: int) -> None:
    """Cut open and put together again: every layer, frozen or not."""
    model = make_model(events)
    cloud = Cloud.of(events)
    whole = model.forward_cloud(cloud)
    with model.edge_path(cloud, model.edge_layers[layer]) as path:
        state = path.messages.base + path.messages.total
        torch.testing.assert_close(path.logits, whole, rtol=1e-4, atol=1e-5)
        for frozen in (True, False):
            torch.testing.assert_close(path.after(state, frozen), whole, rtol=1e-4, atol=1e-5)


# --- standardisation ---------------------------------------------------------------------------


def test_standardise_leaves_flags_and_constants() -> None:
    rng = np.random.default_rng(0)
    columns = {
        "pt": rng.exponential(50, 400),
        "charge": rng.choice([-1, 0, 1], 400),
        "is_muon": rng.choice([0, 1], 400),
        "constant": np.full(400, 173.0),
        "large": rng.normal(1e6, 3, 400),
    }
    x = torch.as_tensor(np.stack(list(columns.values()), axis=1).astype(np.float32))
    scaler = Standardise(5)
    scaler.fit(x)
    found = scaler(x)
    assert torch.equal(found[:, 1:4], x[:, 1:4])
    for free in (0, 4):
        assert abs(float(found[:, free].double().mean())) < 1e-2
        assert float(found[:, free].std()) == pytest.approx(1, abs=2e-2)


def test_standardise_without_particles() -> None:
    scaler = Standardise(3)
    scaler.fit(torch.zeros(0, 3))
    assert torch.equal(scaler(torch.ones(2, 3)), torch.ones(2, 3))
