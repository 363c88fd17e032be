"""Training on numbers instead of classes: units, missing targets, distillation, errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.explainers.guards import check_scores
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.table import TableModel
from hepxai.training import fit
from hepxai.training.samples import Sample

ToyEvents = Callable[..., Events]


def make_card(loss: str = "mae", kind: str = "dense", **keys: Any) -> ModelCard:
    training = {"loss": loss, "epochs": 30, "learning_rate": 0.02, "batch_size": 64} | keys
    graph = {"convolutions": [{"kind": "graph", "width": 8}], "dense": [8], "alpha_dropout": 0.0}
    own = graph if kind == "particle_gnn" else {"widths": [16]}
    return ModelCard.model_validate({"kind": kind, "training": training} | own)


def with_targets(events: Events) -> Events:
    """A momentum of about 1e4 and a small angle, both simple functions of the table; some have none."""
    schema = dataclasses.replace(events.schema, targets=("pt", "eta"), target_units=("MeV", ""))
    pt = 1e4 + 3e3 * events.globals[:, 0]
    eta = 0.01 * events.globals[:, 1] - 0.02 * events.globals[:, 0]
    targets = np.column_stack([pt, eta]).astype(np.float32)
    targets[::10] = np.nan
    targets[1::10, 1] = np.nan
    return events.replace(schema=schema, targets=targets)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return with_targets(toy(400, smallest=1))


@pytest.mark.parametrize("loss", ["mae", "mse"])
def test_learns_both_targets_in_their_units(events: Events, loss: str) -> None:
    model, history = fit(make_card(loss, negative_weights="abs"), events)
    assert model.outputs == ("pt", "eta")
    found = model.logits(events)
    valid = (events.split == 1) & np.isfinite(events.targets).all(1)
    spread = np.nanstd(events.targets[events.split == 0], axis=0)
    error = np.abs(found - events.targets)[valid].mean(0)
    assert (error < 0.3 * spread).all()
    best = min(history, key=lambda row: row["valid_loss"])
    assert list(best)[4:] == ["valid_mae_pt", "valid_mae_eta", "seconds"]
    for column, name in enumerate(("pt", "eta")):
        own = (events.split == 1) & np.isfinite(events.targets[:, column])
        by_hand = np.average(np.abs(found - events.targets)[own, column], weights=events.weight[own])
        assert best[f"valid_mae_{name}"] == pytest.approx(by_hand, rel=1e-3)


def test_the_loss_by_hand(events: Events) -> None:
    """In units of the spread in the training split; the mean over the targets that an event has."""
    card = make_card("mae", epochs=1, batch_size=1000)
    _, history = fit(card, events)
    torch.manual_seed(card.training.seed)
    model = NetworkModel.build(card, events.schema)
    model.adapt(events.where("train"))
    train = events.where("train")
    mean, spread = np.nanmean(train.targets, axis=0), np.nanstd(train.targets, axis=0)
    used = train[np.isfinite(train.targets).any(1)]
    distance = np.abs(model.logits(used) - (used.targets - mean) / spread)
    weight = used.weight / np.abs(used.weight).mean()
    assert history[0]["train_loss"] == pytest.approx(np.mean(weight * np.nanmean(distance, axis=1)), rel=1e-4)


def test_events_without_a_target_are_left_out(events: Events) -> None:
    sample = Sample.of(NetworkModel.build(make_card(), events.schema), events, "train")
    assert len(sample.inputs) == np.isfinite(events.targets[events.split == 0]).any(1).sum()


def test_a_graph_learns_numbers_too(events: Events) -> None:
    model, history = fit(make_card(kind="particle_gnn", epochs=3), events)
    assert model.logits(events).shape == (400, 2)
    assert "valid_auc" not in history[0]


def test_stopped_and_resumed(events: Events, tmp_path: Path) -> None:
    whole, _ = fit(make_card(epochs=6), events)
    fit(make_card(epochs=2), events, folder=tmp_path)
    resumed, _ = fit(make_card(epochs=6), events, folder=tmp_path)
    assert np.array_equal(whole.logits(events), resumed.logits(events))
    with pytest.raises(ValueError, match="belongs to another training"):
        fit(make_card(epochs=6), events.replace(targets=2 * events.targets), folder=tmp_path)


def test_distillation(events: Events) -> None:
    """Given numbers take the place of the targets, also for events that have none."""
    given = np.column_stack([events.globals.sum(1), events.globals[:, 0]]).astype(np.float32)
    model, _ = fit(make_card(negative_weights="abs"), events, targets=given)
    test = events.split == 2
    assert np.abs(model.logits(events) - given)[test].mean() < 0.3


def test_one_class_is_enough(events: Events) -> None:
    fit(make_card(epochs=1), events.replace(label=np.zeros(400, dtype=np.int64)))


def test_a_constant_target(events: Events) -> None:
    targets = events.targets.copy()
    targets[:, 1] = 7
    model, _ = fit(make_card(epochs=10), events.replace(targets=targets))
    assert np.abs(model.logits(events)[:, 1] - 7).max() < 2


def test_no_targets(events: Events, toy: ToyEvents) -> None:
    with pytest.raises(ValueError, match=r"no targets: declare `targets` .* training.loss: cross_entropy"):
        fit(make_card(), toy(50))
    nothing = events.replace(targets=np.full((400, 2), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="the train split has 0 events to use"):
        fit(make_card(), nothing)


# --- the columns of the events -----------------------------------------------------------------------


def test_targets_follow_the_events(events: Events) -> None:
    np.testing.assert_array_equal(events[[3, 1]].targets, events.targets[[3, 1]])
    joined = Events.concatenate([events[:5], events[5:]])
    np.testing.assert_array_equal(joined.targets, events.targets)
    with pytest.raises(ValueError, match="targets has shape"):
        events.replace(targets=events.targets[:, :1])
    with pytest.raises(ValueError, match="targets has 399 rows for 400 events"):
        events.replace(targets=events.targets[1:])
    with pytest.raises(ValueError, match="1 targets but 0 units"):
        dataclasses.replace(events.schema, targets=("pt",), target_units=())


def test_events_without_targets(toy: ToyEvents) -> None:
    assert toy(7).targets.shape == (7, 0)
    assert toy(7)[:3].targets.shape == (3, 0)


def of_one_class(events: Events) -> Events:
    schema = dataclasses.replace(events.schema, classes=("events",))
    return events.replace(schema=schema, label=np.zeros_like(events.label))


def test_classes_to_learn_where_there_are_only_targets(events: Events) -> None:
    for kind in ("dense", "particle_gnn"):
        with pytest.raises(ValueError, match=r"learns classes.*training\.loss: mae, which learns pt, eta"):
            fit(make_card("cross_entropy", kind), of_one_class(events))


@pytest.mark.parametrize("kind", ["dense", "particle_gnn", "boosted_trees", "wrapped"])
def test_a_regression_of_events_with_classes_only_and_the_reverse(
    events: Events, toy: ToyEvents, kind: str
) -> None:
    """Refused with both remedies; events with both, and recorded data with neither, are explained."""
    classes_only, targets_only = toy(20, smallest=1), of_one_class(events)[:20]
    recorded = of_one_class(classes_only)
    method = "node_ig" if kind == "particle_gnn" else "lime"
    for loss, other, remedy in (
        ("mse", classes_only, r"predicts numbers \(.*pt.*\), these .*no targets: declare `targets` pt"),
        ("cross_entropy", targets_only, "tells classes apart .* targets pt.* no classes .*give .* `labels`"),
    ):
        model = trained(kind, loss, events)
        with pytest.raises(ValueError, match=remedy):
            explain(model, other, method, target=model.outputs[0])
        for accepted in (events[:20], recorded):
            check_scores(model, accepted)


def trained(kind: str, loss: str, events: Events) -> Any:
    if kind == "wrapped":
        outputs = ("pt",) if loss == "mse" else ("signal",)
        return TableModel(torch.nn.Linear(len(events.schema.globals), 1), outputs, events.schema)
    if kind == "boosted_trees":
        schema = dataclasses.replace(events.schema, targets=("pt",), target_units=("",))
        events = events.replace(schema=schema, targets=events.targets[:, :1], weight=np.ones(len(events)))
        card = {"kind": kind, "training": {"loss": loss, "trees": 2, "step": 1}}
        return fit(ModelCard.model_validate(card), events)[0]
    return NetworkModel.build(make_card(loss, kind), events.schema)
