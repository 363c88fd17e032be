"""Training of a detector of objects: the epoch with the best boxes is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from hepxai.events import SPLITS, Events
from hepxai.events.boxes import Boxes
from hepxai.metrics.detection import Detection
from hepxai.models.image.detection.card import DetectorCard
from hepxai.models.image.detection.model import DetectorModel
from hepxai.models.image.detection.network import LEAST_SCORE, DetectorNetwork, Targets
from hepxai.models.image.network import PIECE
from hepxai.models.image.pixels import Pixels
from hepxai.models.network import NetworkModel, evaluating
from hepxai.training.checkpoint import CHECKPOINT, Checkpoint, State, keep, resume, save, training_key
from hepxai.training.history import History, refuse_divergence, train_to_the_end
from hepxai.training.loop import event_order, learning_rates


def fit_detector(
    card: DetectorCard,
    events: Events,
    *,
    folder: Path | None,
    progress: bool,
    after_epoch: Callable[[History], None] | None,
) -> tuple[DetectorModel, History]:
    """Train a detector on the CPU; see `hepxai.training.fit`."""
    state = _fresh(card, events)
    splits = {name: _events_of(events, name) for name in ("train", "valid")}
    if not len(cast(DetectorModel, state.model).true_boxes(splits["valid"])):
        raise ValueError(
            "the valid split has no true box: no epoch has an average precision there; take more events, or "
            "check boxes: on the model card"
        )
    checkpoint = Checkpoint(folder and folder / CHECKPOINT, training_key(card, events, None))
    resume(state, checkpoint)

    def step() -> None:
        _epoch(state, splits["train"], splits["valid"])
        if folder is not None and state.length in card.training.keep_checkpoints:
            keep(state, folder, None)
        if checkpoint.path is not None:
            save(state, checkpoint)

    train_to_the_end(state, step, "epoch", card.training.epochs, progress=progress, after_epoch=after_epoch)
    state.model.network.load_state_dict(state.best)
    state.model.network.eval()
    return cast(DetectorModel, state.model), state.history


def _fresh(card: DetectorCard, events: Events) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.training.seed)
        model = NetworkModel.build(card, events.schema)
    model.check(events)
    optimiser = torch.optim.Adam if card.training.optimiser == "adam" else torch.optim.SGD
    return State(model, optimiser(model.network.parameters(), lr=card.training.learning_rate))


def _events_of(events: Events, split: str) -> Events:
    part = events[events.split == SPLITS.index(split)]
    if len(part) < 2:
        raise ValueError(f"the {split} split has {len(part)} events to use; training needs at least 2")
    if split == "train" and np.ptp(part.weight) > 0:
        raise ValueError(
            "the losses of a detector have no weights of events, and those of the train split differ; take "
            "events of equal weight, as in events.replace(weight=np.ones(len(events)))"
        )
    return part


def _epoch(state: State, train: Events, valid: Events) -> None:
    start, model = time.perf_counter(), cast(DetectorModel, state.model)
    train_loss, rate = _train(state, model, train)
    valid_loss = _loss_of(model, valid)
    refuse_divergence(train_loss, f"in epoch {state.length + 1}", finite=math.isfinite(valid_loss))
    detected = model.detect(valid, score=LEAST_SCORE)
    precision = Detection.of(detected, model.true_boxes(valid), valid.weight).average_precision()
    row = {
        "epoch": state.length + 1.0,
        "learning_rate": rate,
        "train_loss": train_loss,
        "valid_loss": valid_loss,
        "valid_average_precision": float(precision.value),
    }
    figure = float(precision.value) if model.card.training.monitor == "auc" else -valid_loss
    state.enter(row | {"seconds": time.perf_counter() - start}, figure)


def _train(state: State, model: DetectorModel, events: Events) -> tuple[float, float]:
    """One pass; random numbers depend on seed and epoch only."""
    training, inputs, boxes = model.card.training, Pixels.of(events), model.true_boxes(events)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed * 1_000_003 + state.length)
        order = event_order(len(events), training, state.length)
        batches = order.tensor_split(math.ceil(len(order) / training.batch_size))
        rates = learning_rates(training, state.length, len(batches))
        model.network.train()
        total = 0.0
        for rows, rate in zip(batches, rates, strict=True):
            state.optimiser.param_groups[0]["lr"] = rate
            loss = model.network.losses(inputs.take(rows), targets(boxes, rows))
            state.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            state.optimiser.step()
            total += loss.item() * len(rows)
    return total / len(order), rate


def targets(boxes: Boxes, rows: Tensor) -> Targets:
    """True boxes of some events, as torchvision takes them: classes count from 1."""
    result = []
    for row in rows.tolist():
        rows_of = slice(boxes.offsets[row], boxes.offsets[row + 1])
        result.append(
            {
                "boxes": torch.as_tensor(boxes.edges[rows_of]),
                "labels": torch.as_tensor(boxes.label[rows_of]) + 1,
            }
        )
    return result


def _loss_of(model: DetectorModel, events: Events) -> float:
    """Mean loss with the statistics of the batch norm frozen, for proposals drawn with a fixed seed."""
    inputs, boxes, total = Pixels.of(events), model.true_boxes(events), 0.0
    network: DetectorNetwork = model.network
    with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluating(network):
        torch.manual_seed(0)
        network.rpn.training = network.roi_heads.training = True  # its modules stay in evaluation
        for rows in torch.arange(len(events)).split(PIECE):
            total += float(network.losses(inputs.take(rows), targets(boxes, rows))) * len(rows)
        network.rpn.training = network.roi_heads.training = False
    return total / len(events)
