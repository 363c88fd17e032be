"""The package's own model: storage, refusal of foreign events, nothing changed by scoring."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hepxai.core.files import write_tensors
from hepxai.events import Events
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel, evaluating
from hepxai.models.protocols import Differentiable, HasAttention, HasEdgeWeights, Model

CARD = ModelCard.model_validate(
    {
        "convolutions": [
            {"kind": "transformer", "width": 8, "heads": 2},
            {"kind": "dynamic_edge", "width": 8, "neighbours": 3},
        ],
        "dense": [8],
    }
)

FIRST_SCHEMA = (
    "features",
    "units",
    "types",
    "classes",
    "globals",
    "global_units",
    "pair_features",
    "collections",
)


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(25)


@pytest.fixture
def model(events: Events) -> NetworkModel:
    torch.manual_seed(0)
    made = NetworkModel.build(CARD, events.schema)
    made.network.standardise.fit(torch.as_tensor(events.particles))
    return made


def test_one_line_says_what_it_is(model: NetworkModel, events: Events) -> None:
    size = f"{sum(p.numel() for p in model.network.parameters()):,}"
    assert repr(model) == f"<ParticleGNNModel: signal of {', '.join(events.schema.features)}, {size} weights>"
    dense = NetworkModel.build(ModelCard.model_validate({"kind": "dense", "widths": [4]}), events.schema)
    size = sum(p.numel() for p in dense.network.parameters())
    assert repr(dense) == f"<DenseModel: signal of {', '.join(events.schema.globals)}, {size} weights>"


def test_round_trip(model: NetworkModel, events: Events, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    before = torch.random.get_rng_state()
    found = NetworkModel.load(tmp_path / "model.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found.card == model.card
    assert found.schema == model.schema
    assert found.outputs == ("signal",)
    for name, value in model.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value), name
    assert np.array_equal(found.logits(events), model.logits(events))


def test_files_of_the_first_version(model: NetworkModel, events: Events, tmp_path: Path) -> None:
    """Their headers know fewer keys."""
    card = model.card.model_dump(mode="json")
    del card["training"]["loss"]
    schema = {k: v for k, v in json.loads(model.schema.to_json()).items() if k in FIRST_SCHEMA}
    state = {k: v.numpy() for k, v in model.network.state_dict().items()}
    write_tensors(tmp_path / "old", state, {"card": json.dumps(card), "schema": json.dumps(schema)})
    found = NetworkModel.load(tmp_path / "old")
    assert found.schema == model.schema
    assert np.array_equal(found.logits(events), model.logits(events))


def test_load_is_ready_to_score(model: NetworkModel, events: Events, tmp_path: Path) -> None:
    """Whatever mode it is in, scoring and explaining are in evaluation mode."""
    model.network.train()
    noisy = model.logits(events)
    model.network.eval()
    assert np.array_equal(noisy, model.logits(events))


def test_load_needs_the_card(model: NetworkModel, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = {k: v.numpy() for k, v in model.network.state_dict().items()}
    write_tensors(path, state, {})
    with pytest.raises(ValueError, match="no hepxai model card in its header"):
        NetworkModel.load(path)


def test_load_refuses_a_card_that_does_not_fit(model: NetworkModel, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    other = CARD.model_copy(update={"dense": (9,)})
    state = {k: v.numpy() for k, v in model.network.state_dict().items()}
    schema = json.dumps(dataclasses.asdict(model.schema))
    write_tensors(path, state, {"card": other.model_dump_json(), "schema": schema})
    with pytest.raises(RuntimeError, match="size mismatch"):
        NetworkModel.load(path)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("features", ("energy", "eta", "phi", "charge", "btag")),
        ("types", ("electron", "muon", "tau", "met")),
        ("units", ("MeV", "", "rad", "", "")),
        ("pair_features", ("delta_r",)),
    ],
)
def test_foreign_events_are_refused(
    model: NetworkModel, events: Events, what: str, value: tuple[str, ...]
) -> None:
    foreign = events.replace(schema=dataclasses.replace(events.schema, **{what: value}))
    with pytest.raises(ValueError, match=rf"trained on {what} .*data-set card of the training"):
        model.logits(foreign)


def test_more_classes_more_logits(toy: Callable[..., Events]) -> None:
    events = toy(10)
    three = dataclasses.replace(events.schema, classes=("ttZ", "ttH", "HpHm"))
    model = NetworkModel.build(CARD, three)
    assert model.outputs == three.classes
    assert model.logits(events.replace(schema=three)).shape == (10, 3)


def test_rescaled_outputs(model: NetworkModel, events: Events) -> None:
    before = model.logits(events)
    model.rescale(torch.tensor([2.0]), torch.tensor([-3.0]))
    np.testing.assert_allclose(model.logits(events), 2 * before - 3, rtol=1e-5, atol=1e-6)


def test_protocols(model: NetworkModel) -> None:
    for ability in (Model, Differentiable, HasAttention, HasEdgeWeights):
        assert isinstance(model, ability)


def test_scoring_leaves_no_state(model: NetworkModel, events: Events) -> None:
    model.network.train()
    model.network.head.eval()  # a mixed state must come back as it was
    modes = [m.training for m in model.network.modules()]
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    model.logits(events)
    assert [m.training for m in model.network.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.network.parameters())


def test_evaluating_restores_after_an_error() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Linear(2, 2).eval())
    with pytest.raises(RuntimeError, match="shapes"), evaluating(network):
        network(torch.zeros(3, 7))
    assert [m.training for m in network.modules()] == [True, True, False]
