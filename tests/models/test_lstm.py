"""The recurrent network: order of the particles, any number of them, equality with a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepxai
from hepxai.core.jagged import parents
from hepxai.events import Events
from hepxai.explainers import CannotExplainError
from hepxai.models import Differentiable, HasAttention, HasEdgeWeights, LstmModel, Model, NetworkModel
from hepxai.models.card import LstmCard, ModelCard
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.lstm import time_order
from hepxai.training import fit

ToyEvents = Callable[..., Events]


def make_card(**keys: Any) -> LstmCard:
    training = {"epochs": 4, "batch_size": 64, "learning_rate": 0.01} | keys.pop("training", {})
    card = ModelCard.model_validate({"kind": "lstm", "width": 8, "dense": [6], "training": training} | keys)
    assert isinstance(card, LstmCard)
    return card


def learnable(events: Events) -> Events:
    """Signal particles have a larger b-tag score."""
    particles = events.particles.copy()
    particles[:, 4] += 0.5 * events.label[parents(events.offsets)]
    return events.replace(particles=particles)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return toy(40, seed=5)


def build(events: Events, **keys: Any) -> LstmModel:
    torch.manual_seed(3)
    model = NetworkModel.build(make_card(**keys), events.schema)
    model.adapt(events)
    assert isinstance(model, LstmModel)
    return model


@pytest.fixture(params=[1, 2])
def model(request: pytest.FixtureRequest, events: Events) -> LstmModel:
    return build(events, layers=request.param, dropout=0.3)


def shuffled(events: Events, seed: int = 0) -> tuple[Events, np.ndarray]:
    """Particles in another order inside each event, and where each came from."""
    order = np.lexsort([np.random.default_rng(seed).random(events.n_particles), events.parent])
    columns = {n: getattr(events, n)[order] for n in ("particles", "p4", "type", "index")}
    return events.replace(truth={k: v[order] for k, v in events.truth.items()}, **columns), order


def test_protocols(model: LstmModel) -> None:
    assert isinstance(model, Model)
    assert isinstance(model, Differentiable)
    assert not isinstance(model, HasAttention)
    assert not isinstance(model, HasEdgeWeights)
    assert (model.view, model.outputs) == ("graph", ("signal",))


def slow_logit(model: LstmModel, x: np.ndarray, pt: np.ndarray) -> float:
    """Hochreiter & Schmidhuber, one particle and one layer at a time, with numpy."""
    weights = {k: v.double().numpy() for k, v in model.network.state_dict().items()}
    x = (x - weights["standardise.mean"]) / weights["standardise.scale"]
    width, layers = model.card.width, model.card.layers
    h, c = np.zeros((layers, width)), np.zeros((layers, width))

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    for particle in np.argsort(-pt, kind="stable"):
        below = x[particle]
        for layer in range(layers):
            z = weights[f"lstm.weight_ih_l{layer}"] @ below + weights[f"lstm.bias_ih_l{layer}"]
            z += weights[f"lstm.weight_hh_l{layer}"] @ h[layer] + weights[f"lstm.bias_hh_l{layer}"]
            i, f, g, o = np.split(z, 4)
            c[layer] = sigmoid(f) * c[layer] + sigmoid(i) * np.tanh(g)
            h[layer] = below = sigmoid(o) * np.tanh(c[layer])
    hidden = np.maximum(weights["head.1.weight"] @ h[-1] + weights["head.1.bias"], 0)
    return float((weights["head.3.weight"] @ hidden + weights["head.3.bias"])[0])


def test_equals_the_slow_reference(model: LstmModel, events: Events) -> None:
    """Events without any particle and with one among them."""
    assert {0, 1} <= set(events.counts)
    spans = zip(events.offsets, events.offsets[1:], strict=False)
    slow = [slow_logit(model, events.particles[a:b], events.p4[a:b, 0]) for a, b in spans]
    np.testing.assert_allclose(model.logits(events)[:, 0], slow, rtol=1e-4, atol=1e-5)


def test_order_of_particles(model: LstmModel, events: Events) -> None:
    other, _ = shuffled(events)
    assert not np.array_equal(other.particles, events.particles)
    assert np.array_equal(model.logits(other), model.logits(events))


def test_time_order(toy: ToyEvents) -> None:
    """Same pT: as in the columns."""
    events = toy(20, seed=1)
    p4 = events.p4.copy()
    p4[::2, 0] = 50
    cloud = Cloud.of(events.replace(p4=p4))
    expected = np.lexsort([np.arange(events.n_particles), -p4[:, 0], events.parent])
    assert np.array_equal(time_order(cloud).numpy(), expected)


def test_alone_as_in_the_batch(model: LstmModel, events: Events) -> None:
    alone = np.concatenate([model.logits(events[[i]]) for i in range(len(events))])
    np.testing.assert_allclose(alone, model.logits(events), rtol=1e-5, atol=1e-6)


def test_no_particles_at_all(model: LstmModel, events: Events) -> None:
    empty = events[events.counts == 0]
    found = model.logits(empty)
    assert np.isfinite(found).all()
    assert np.allclose(found, found[0])
    assert model.logits(events[:0]).shape == (0, 1)


def test_the_order_matters_to_the_network(events: Events) -> None:
    """It is no sum over particles: another order of pT gives another score."""
    model = build(events)
    turned = events.p4.copy()
    turned[:, 0] = 1 / turned[:, 0]
    assert not np.allclose(model.logits(events.replace(p4=turned)), model.logits(events))


# --- explained ---------------------------------------------------------------------------------------


def test_node_ig_is_complete_and_follows_the_particles(model: LstmModel, events: Events) -> None:
    found = hepxai.explain(model, events, "node_ig", baseline="zero", steps=64)
    assert found.axes == ("particle", "feature")
    assert found.output_change is not None
    np.testing.assert_allclose(found.residual, 0, atol=0.01 * np.abs(found.output_change).max())
    other, order = shuffled(events)
    again = hepxai.explain(model, other, "node_ig", baseline="zero", steps=64)
    np.testing.assert_allclose(again.values, found.values[order], rtol=1e-4, atol=1e-6)


def test_edges_cannot_be_asked(model: LstmModel, events: Events) -> None:
    with pytest.raises(CannotExplainError, match=r"LstmModel has no edge_layers.*work on it: .*node_ig"):
        hepxai.explain(model, events, "edge_ig")


def test_no_state_is_left(model: LstmModel, events: Events) -> None:
    model.network.train()
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    model.logits(events)
    hepxai.explain(model, events, "node_ig", baseline="zero", steps=2)
    assert all(m.training for m in model.network.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.network.parameters())


# --- training ----------------------------------------------------------------------------------------


def test_learns(toy: ToyEvents, tmp_path: Path) -> None:
    events = learnable(toy(300))
    card = make_card(dropout=0.1, layers=2, training={"epochs": 15})
    model, history = fit(card, events)
    assert max(row["valid_auc"] for row in history) > 0.85
    model.save(tmp_path / "model.safetensors")
    found = NetworkModel.load(tmp_path / "model.safetensors")
    assert type(found) is LstmModel
    assert np.array_equal(found.logits(events), model.logits(events))


def test_resumes(toy: ToyEvents, tmp_path: Path) -> None:
    events = learnable(toy(300))
    card = {"dropout": 0.2, "layers": 2}
    whole, _ = fit(make_card(**card), events)
    fit(make_card(**card, training={"epochs": 2}), events, folder=tmp_path)
    model, _ = fit(make_card(**card), events, folder=tmp_path)
    assert np.array_equal(model.logits(events), whole.logits(events))


def test_symmetries(toy: ToyEvents) -> None:
    """It reads particles, so that they may be turned."""
    plain, turned = (
        fit(make_card(training={"symmetries": s}), toy(300, smallest=1))[0] for s in ([], ["rotation"])
    )
    assert not np.array_equal(plain.logits(toy(9)), turned.logits(toy(9)))
