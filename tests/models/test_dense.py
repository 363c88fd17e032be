"""Dense networks of the card: what they compute, what can be asked of them, what they refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hepxai
from hepxai.events import Events
from hepxai.models import DifferentiableTable, HasNeurons, Model, Tabular
from hepxai.models.card import DenseCard, ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.table.dense import DenseModel
from hepxai.training import fit

ToyEvents = Callable[..., Events]


def make_card(**keys: Any) -> DenseCard:
    training = {"epochs": 4, "batch_size": 64, "learning_rate": 0.01} | keys.pop("training", {})
    card = ModelCard.model_validate({"kind": "dense", "widths": [8, 5], "training": training} | keys)
    assert isinstance(card, DenseCard)
    return card


def learnable(events: Events) -> Events:
    """The first column, in GeV, says what the class is; the second one knows nothing."""
    table = events.globals.copy()
    table[:, 0] = 500 + 100 * (table[:, 0] + 3 * events.label)
    return events.replace(globals=table)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return learnable(toy(300))


@pytest.fixture
def model(events: Events) -> DenseModel:
    torch.manual_seed(1)
    made = NetworkModel.build(make_card(dropout=0.3), events.schema)
    made.adapt(events)
    assert isinstance(made, DenseModel)
    return made


def test_protocols(model: DenseModel) -> None:
    for ability in (Model, Tabular, DifferentiableTable, HasNeurons):
        assert isinstance(model, ability)
    assert (model.view, model.outputs, model.hidden_layers) == ("table", ("signal",), ("dense_1", "dense_2"))


def test_what_it_computes(model: DenseModel, events: Events) -> None:
    """Standardise, dense, ReLU, dense, ReLU, linear: written out."""
    x = (events.globals - events.globals.mean(0)) / events.globals.std(0)
    weights = {k: v.numpy() for k, v in model.network.state_dict().items()}
    for name in model.hidden_layers:
        x = np.maximum(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"], 0)
    expected = x @ weights["readout.weight"].T + weights["readout.bias"]
    np.testing.assert_allclose(model.logits(events), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.score_table(events.globals), expected, rtol=1e-4, atol=1e-5)
    rows = torch.as_tensor(events.globals)
    logits, hidden = model.forward_hidden(rows)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert [h.shape[1] for h in hidden.values()] == [8, 5]
    assert torch.equal(logits, model.forward_table(rows))


def test_one_event_alone(model: DenseModel, events: Events) -> None:
    alone = np.concatenate([model.logits(events[[i]]) for i in range(9)])
    np.testing.assert_allclose(alone, model.logits(events)[:9], rtol=1e-5, atol=1e-6)
    assert model.logits(events[:0]).shape == (0, 1)


def test_selu_keeps_the_scale() -> None:
    """With LeCun's initialisation the variance of many layers stays near 1."""
    torch.manual_seed(0)
    card = make_card(widths=[256] * 6, activation="selu", dropout=0.1)
    network = NetworkModel.build(card, hepxai_schema(256)).network
    assert sum(isinstance(m, nn.AlphaDropout) for m in network) == 6
    with torch.no_grad():
        found = network.eval()[:-1](torch.randn(2000, 256))
    assert abs(float(found.mean())) < 0.1
    assert float(found.var()) == pytest.approx(1, abs=0.2)


def hepxai_schema(size: int) -> Any:
    from hepxai.events import Schema

    names = tuple(f"x{i}" for i in range(size))
    return Schema(("pt",), ("GeV",), ("jet",), ("background", "signal"), names, ("",) * size)


def test_scoring_and_explaining_leave_no_state(model: DenseModel, events: Events) -> None:
    model.network.train()
    modes = [m.training for m in model.network.modules()]
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    model.logits(events)
    for method in ("feature_ig", "conductance"):
        hepxai.explain(model, events, method)
    assert [m.training for m in model.network.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.network.parameters())
    assert not any(m._forward_hooks for m in model.network.modules())


def test_round_trip(model: DenseModel, events: Events, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    found = NetworkModel.load(tmp_path / "model.safetensors")
    assert type(found) is DenseModel
    assert (found.card, found.schema) == (model.card, model.schema)
    assert np.array_equal(found.logits(events), model.logits(events))


# --- training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "selu"])
def test_learns(events: Events, activation: str) -> None:
    card = make_card(activation=activation, dropout=0.1, training={"epochs": 15})
    model, history = fit(card, events)
    assert max(row["valid_auc"] for row in history) > 0.9
    found = hepxai.explain(model, events.where("test"), "feature_ig")
    assert found.axes == ("event", "feature")
    ht, njet = np.abs(found.values).mean(0)
    assert ht > 2 * njet


def test_logistic_regression(events: Events) -> None:
    """No hidden layer."""
    model, history = fit(make_card(widths=[], training={"epochs": 20, "learning_rate": 0.05}), events)
    assert model.hidden_layers == ()
    assert max(row["valid_auc"] for row in history) > 0.9


def test_particles_are_not_looked_at(events: Events, toy: ToyEvents) -> None:
    other = toy(300, seed=9)
    swapped = other.replace(**{n: getattr(events, n) for n in ("globals", "label", "weight", "split")})
    one, two = (fit(make_card(), e)[0] for e in (events, swapped))
    assert np.array_equal(one.score_table(events.globals), two.score_table(events.globals))


def test_resumes_and_refuses_another_table(events: Events, tmp_path: Path) -> None:
    whole, _ = fit(make_card(dropout=0.2), events)
    fit(make_card(dropout=0.2, training={"epochs": 2}), events, folder=tmp_path)
    model, _ = fit(make_card(dropout=0.2), events, folder=tmp_path)
    assert np.array_equal(model.logits(events), whole.logits(events))
    with pytest.raises(ValueError, match="belongs to another training"):
        fit(make_card(dropout=0.2), events.replace(globals=events.globals * 2), folder=tmp_path)


# --- columns -----------------------------------------------------------------------------------------


def test_a_constant_column_is_nothing(events: Events) -> None:
    table = events.globals.copy()
    table[:, 1] = 13_000
    with pytest.warns(UserWarning, match="constant in the training split: njet; the model learns nothing"):
        model, history = fit(make_card(training={"epochs": 10}), events.replace(globals=table))
    assert max(row["valid_auc"] for row in history) > 0.9
    standardised = model.network.standardise(torch.as_tensor(table))
    assert not standardised[:, 1].any()


def test_columns_of_any_scale(events: Events) -> None:
    """A column of 1e-9 is no constant."""
    table = events.globals.copy()
    table[:, 0] *= 1e-12
    model = NetworkModel.build(make_card(), events.schema)
    model.adapt(events.replace(globals=table))
    found = model.network.standardise(torch.as_tensor(table)).numpy()
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), 1, rtol=1e-4)


def test_flags_stay(events: Events) -> None:
    table = events.globals.copy()
    table[:, 1] = np.arange(300) % 2
    model = NetworkModel.build(make_card(), events.schema)
    model.adapt(events.replace(globals=table))
    found = model.network.standardise(torch.as_tensor(table)).numpy()
    assert np.array_equal(found[:, 1], table[:, 1])


@pytest.mark.parametrize(("value", "rows"), [(np.nan, slice(None)), (np.nan, [5]), (np.inf, [5, 7])])
def test_values_that_are_not_finite(events: Events, value: float, rows: Any) -> None:
    table = events.globals.copy()
    table[rows, 1] = value
    bad = events.replace(globals=table)
    with pytest.raises(ValueError, match=r"not finite: njet in \d+ of 300 events; give them a number"):
        fit(make_card(), bad)
    model = NetworkModel.build(make_card(), events.schema)
    with pytest.raises(ValueError, match="not finite: njet in"):
        model.logits(bad)


def test_no_table(events: Events) -> None:
    schema = dataclasses.replace(events.schema, globals=(), global_units=())
    with pytest.raises(ValueError, match="the data-set card declares no `globals`"):
        fit(make_card(), events.replace(schema=schema, globals=events.globals[:, :0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"globals": ("njet", "ht")}, "these events have them in another order: njet, ht"),
        ({"globals": ("ht", "met")}, "these events lack njet, they have beside met"),
        ({"global_units": ("MeV", "")}, r"these events have \('MeV', ''\)"),
    ],
)
def test_other_tables_are_refused(
    model: DenseModel, events: Events, changes: dict[str, Any], message: str
) -> None:
    other = events.replace(schema=dataclasses.replace(events.schema, **changes))
    with pytest.raises(ValueError, match=message):
        model.logits(other)
