"""Models to explain: random weights, and small ones trained once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import nn
from toy_events import make_events

from hepxai.core.jagged import parents
from hepxai.events import Events
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.explainers.graph.surrogate import Surrogate, fit_surrogate
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.image import ImageModel
from hepxai.models.wrappers.table import SklearnModel, TableModel
from hepxai.training import fit

ToyEvents = Callable[..., Events]
IMAGE = ImageLayout(
    ImageAxis("eta", (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)),
    ImageAxis("phi", (-3.2, -2.0, -1.0, 0.0, 1.0, 2.0, 3.2)),
    ("muon", "jet"),
    "lit",
)


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
def toy(toy: ToyEvents) -> ToyEvents:
    """Toy events that have an image."""

    def make(*args: Any, **settings: Any) -> Events:
        events = toy(*args, **settings)
        return events.replace(schema=dataclasses.replace(events.schema, image=IMAGE))

    return make


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


def build_image(events: Events) -> ImageModel:
    """Convolutions, batch norm, dropout and a dense head with random weights, on the event's image."""
    torch.manual_seed(13)
    norm = nn.BatchNorm2d(6)
    norm.running_mean.copy_(torch.randn(6) * 0.1)
    channels = events.image_layout().shape[0]
    first = (nn.Conv2d(channels, 6, 3, padding=1), norm, nn.ReLU(), nn.Dropout(0.3))
    rest = (nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    last = nn.Linear(5, 1)
    nn.init.constant_(last.bias, 3.0)  # no probability, nor in doubt to be one
    return ImageModel(nn.Sequential(*first, *rest, last), ("signal",), events.schema, maps="5")


@pytest.fixture
def image_model(events: Events) -> ImageModel:
    """All abilities of a model of the image."""
    return build_image(events)


@pytest.fixture
def soft_tree_model(events: Events) -> NetworkModel:
    """A soft tree of random weights on the event's image."""
    card = ModelCard.model_validate({"kind": "soft_tree", "channels": [4], "depth": 2})
    torch.manual_seed(14)
    model = NetworkModel.build(card, events.schema)
    nn.init.constant_(model.network.leaves, 3.0)  # no probability, nor in doubt to be one
    return model


@pytest.fixture
def tree_model(events: Events) -> SklearnModel:
    """Boosted trees on the event-level table."""
    trees = HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=4, learning_rate=0.5)
    return SklearnModel(trees.fit(events.globals, events.label), ("signal",), events.schema)


@pytest.fixture
def wide_table(toy: ToyEvents) -> Events:
    """200 events with a table of four columns, the label hangs on three of them."""
    plain = toy(200, seed=6, largest=1)
    x = np.random.default_rng(7).normal(size=(200, 4)).astype(np.float32)
    label = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64)
    names = ("c0", "c1", "c2", "c3")
    schema = dataclasses.replace(plain.schema, globals=names, global_units=("", "", "", ""))
    return plain.replace(schema=schema, globals=x, label=label)


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
def trained() -> Trained:
    return train_once()


@functools.cache
def train_once() -> Trained:
    """One training for all folders: each has a session fixture of its own."""
    training = {"epochs": 15, "batch_size": 64, "learning_rate": 0.01}
    first = {"kind": "transformer", "width": 8}
    rest = [{"kind": "dynamic_edge", "width": 8, "neighbours": 3}]
    common = {"dense": [8], "alpha_dropout": 0.1, "training": training}
    card = ModelCard.model_validate({"convolutions": [first, *rest]} | common)
    simple = ModelCard.model_validate({"convolutions": [{"kind": "graph", "width": 8}, *rest]} | common)
    events = learnable(make_events(400, seed=5))
    model, _ = fit(card, events)
    return Trained(model, events, fit_surrogate(model, events, card=simple), simple)
