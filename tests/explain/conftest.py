"""Models to explain: random weights, and small ones trained once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hepxai.events import Events
from hepxai.explain.surrogate import Surrogate, fit_surrogate
from hepxai.jagged import parents
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.table import TableModel
from hepxai.training import fit

ToyEvents = Callable[..., Events]


def build(events: Events, *convolutions: dict[str, Any], dense: tuple[int, ...] = (8,)) -> NetworkModel:
    """A network with random weights and random batch statistics, as after training."""
    card = ModelCard.model_validate({"convolutions": convolutions, "dense": dense, "edge_dropout": 0.2})
    torch.manual_seed(11)
    model = NetworkModel.build(card, events.schema)
    norm = model.network.head[0]
    norm.running_mean.copy_(torch.randn_like(norm.running_mean) * 0.1)
    norm.running_var.copy_(torch.rand_like(norm.running_var) * 0.4 + 0.05)
    model.network.standardise.fit(torch.as_tensor(events.particles))
    return model


@pytest.fixture(scope="session")
def make_model() -> Callable[..., NetworkModel]:
    return build


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return toy(30, seed=3)


@pytest.fixture
def model(events: Events) -> NetworkModel:
    """All abilities: attention, edge weights, gradients."""
    return build(
        events,
        {"kind": "transformer", "width": 8, "heads": 2},
        {"kind": "dynamic_edge", "width": 8, "neighbours": 3},
        {"kind": "dynamic_edge", "width": 8, "neighbours": 3, "aggregation": "max"},
    )


def build_table(events: Events) -> TableModel:
    """Two hidden layers, dropout and batch norm, random weights, on the event-level table."""
    torch.manual_seed(12)
    size = len(events.schema.globals)
    norm = nn.BatchNorm1d(6)
    norm.running_mean.copy_(torch.randn(6) * 0.1)
    hidden = (nn.Linear(size, 6), nn.Tanh(), norm, nn.Dropout(0.3), nn.Linear(6, 5), nn.Softplus())
    last = nn.Linear(5, 1)
    nn.init.constant_(last.bias, 3.0)  # no probability, nor in doubt to be one
    return TableModel(nn.Sequential(*hidden, last), ("signal",), events.schema)


@pytest.fixture
def table_model(events: Events) -> TableModel:
    """All abilities of a model of the table."""
    return build_table(events)


def learnable(events: Events) -> Events:
    """Signal particles have a larger b-tag score."""
    particles = events.particles.copy()
    particles[:, 4] += 0.5 * events.label[parents(events.offsets)]
    return events.replace(particles=particles, weight=np.abs(events.weight))


@dataclasses.dataclass(frozen=True)
class Trained:
    """What `hepxai` explains in earnest: a trained model, its events and a surrogate."""

    model: NetworkModel
    events: Events
    surrogate: Surrogate
    surrogate_card: ModelCard


@pytest.fixture(scope="session")
def trained(pytestconfig: pytest.Config) -> Trained:
    shared = pytestconfig.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    training = {"epochs": 15, "batch_size": 64, "learning_rate": 0.01}
    first = {"kind": "transformer", "width": 8}
    rest = [{"kind": "dynamic_edge", "width": 8, "neighbours": 3}]
    common = {"dense": [8], "alpha_dropout": 0.1, "training": training}
    card = ModelCard.model_validate({"convolutions": [first, *rest]} | common)
    simple = ModelCard.model_validate({"convolutions": [{"kind": "graph", "width": 8}, *rest]} | common)
    events = learnable(shared.make_events(400, seed=5))
    model, _ = fit(card, events)
    return Trained(model, events, fit_surrogate(model, events, card=simple), simple)
