"""Training on images: parts of a sample as epochs, kept checkpoints, penalties, distillation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_events import make_images

from hepxai.events import Events
from hepxai.models.card import ModelCard, Training
from hepxai.training import fit, kept_checkpoints
from hepxai.training.loop import event_order


def make_card(kind: str = "convolutional", **training: Any) -> ModelCard:
    own: dict[str, Any] = {"convolutional": {"channels": [4, 6], "kernel": 3, "dense": [16]}}.get(
        kind, {"channels": [6, 4], "depth": 2}
    )
    given = {"loss": "mae", "epochs": 3, "batch_size": 20, "learning_rate": 0.005, "class_balance": False}
    return ModelCard.model_validate({"kind": kind, "training": given | training} | own)


@pytest.fixture(scope="module")
def events() -> Events:
    return make_images(300, noise=0.3)


@pytest.mark.parametrize("kind", ["convolutional", "soft_tree"])
def test_learns_from_images(events: Events, kind: str) -> None:
    model, history = fit(make_card(kind, epochs=15, learning_rate=0.02), events)
    valid = (events.split == 1) & np.isfinite(events.targets).all(1)
    error = np.abs(model.logits(events) - events.targets)[valid].mean(0)
    guess = np.abs(events.targets[valid] - np.nanmean(events.targets, axis=0)).mean(0)
    assert error[0] < 0.8 * guess[0]
    best = min(history, key=lambda row: row["valid_loss"])
    assert best["valid_mae_pt"] == pytest.approx(error[0], rel=1e-3)
    if kind == "soft_tree":  # a mean over all pixels forgets where they are, a tree does not
        assert error[1] < 0.8 * guess[1]


def test_parts_of_the_sample_are_a_pass() -> None:
    training = Training(epoch_events=30)
    parts = [event_order(100, training, epoch) for epoch in range(8)]
    for first in (0, 4):
        assert sorted(torch.cat(parts[first : first + 4]).tolist()) == list(range(100))
    assert parts[0].tolist() != parts[4].tolist()
    assert torch.equal(event_order(100, training, 6), parts[6])
    assert all(len(p) == 25 for p in parts)
    assert not torch.equal(event_order(100, Training(epoch_events=30, seed=2), 0), parts[0])


def test_an_epoch_of_all_events_is_as_before() -> None:
    for epoch_events in (None, 100, 500):
        torch.manual_seed(5)
        found = event_order(100, Training(epoch_events=epoch_events), 3)
        torch.manual_seed(5)
        assert torch.equal(found, torch.randperm(100))


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_parts_go_on_where_they_stopped(events: Events, tmp_path: Path, optimiser: str) -> None:
    def card(epochs: int) -> ModelCard:
        return make_card(epochs=epochs, epoch_events=40, optimiser=optimiser)

    whole, _ = fit(card(5), events, folder=tmp_path / "whole")
    fit(card(2), events, folder=tmp_path / "stopped")
    again, history = fit(card(5), events, folder=tmp_path / "stopped")
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(again.logits(events), whole.logits(events))


def test_sgd_steps_down_the_gradient(events: Events) -> None:
    """One batch of everything: weights move by the learning rate times the gradient of the loss."""
    train = events[(events.split != 2) & np.isfinite(events.targets).all(1)]
    schedule = {"kind": "constant"}
    card = make_card(epochs=1, batch_size=1000, optimiser="sgd", schedule=schedule, learning_rate=0.1)
    model, _ = fit(card, train)
    own = train.where("train")
    with torch.random.fork_rng():
        torch.manual_seed(card.training.seed)
        fresh = type(model).fresh(card, train.schema)
    fresh.adapt(own)
    mean = own.targets.mean(0)
    spread = np.sqrt(((own.targets - mean) ** 2).mean(0))
    outputs = fresh.network(torch.as_tensor(own.image()))
    loss = (outputs - torch.as_tensor((own.targets - mean) / spread)).abs().mean()
    gradients = torch.autograd.grad(loss, list(fresh.network.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(fresh.network.parameters(), gradients, strict=True):
            parameter.sub_(0.1 * gradient)
    expected = fresh.logits(train) * spread + mean
    np.testing.assert_allclose(model.logits(train), expected, rtol=1e-3, atol=1e-3)


def test_checkpoints_are_kept(events: Events, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"keep_checkpoints": [1, 3], "schedule": {"period": 4}}
    seen = {}
    for epochs in (1, 3):
        card = make_card(epochs=epochs, **keys)
        model, history = fit(card, events, folder=tmp_path)
        seen[epochs] = copy.deepcopy(model), history[-1]
    fit(make_card(epochs=4, **keys), events, folder=tmp_path)
    found = kept_checkpoints(tmp_path)
    assert [rate for _, rate in found] == [seen[n][1]["learning_rate"] for n in (1, 3)]
    first, last = found[0][0], seen[1][0]
    np.testing.assert_allclose(first.logits(events), last.logits(events), rtol=1e-6)  # targets' units, too
    assert not np.allclose(found[1][0].logits(events), first.logits(events))


def test_no_checkpoints_were_kept(events: Events, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no kept checkpoints; train with training.keep_checkpoints"):
        kept_checkpoints(tmp_path)
    fit(make_card(epochs=1), events, folder=tmp_path)
    with pytest.raises(ValueError, match="has no kept checkpoints"):
        kept_checkpoints(tmp_path)


def test_the_penalty_is_in_the_loss(events: Events) -> None:
    balance = {}
    for penalty in (0.0, 5.0):
        card = make_card("soft_tree", epochs=8).model_copy(update={"penalty": penalty})
        model, _ = fit(card, events)
        balance[penalty] = float(model.forward_tree(torch.as_tensor(events.image())).imbalance())
    assert balance[5.0] < 0.5 * balance[0.0]


def test_a_tree_learns_what_another_model_says(events: Events) -> None:
    teacher, _ = fit(make_card(epochs=3), events)
    said = teacher.logits(events)
    pupil, history = fit(make_card("soft_tree", epochs=10, learning_rate=0.02), events, targets=said)
    best = min(history, key=lambda row: row["valid_loss"])
    valid = events.split == 1  # those without a target of their own, too
    error = np.abs(pupil.logits(events) - said)[valid].mean(0)
    assert error[0] == pytest.approx(best["valid_mae_pt"], rel=1e-3)
    assert error[0] < np.abs(said - said.mean(0))[valid].mean(0)[0]


def test_images_of_another_layout_are_refused_at_once(events: Events) -> None:
    model, _ = fit(make_card(epochs=1), events)
    with pytest.raises(ValueError, match="trained on images of"):
        model.logits(make_images(10, columns=41))
