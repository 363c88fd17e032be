"""Training of boosted trees in steps, scored on both splits; the best number of trees is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hepxai.events import Events
from hepxai.models.card import BoostedTreesCard
from hepxai.models.schemas import need_columns
from hepxai.models.table import boosted_trees as trees_of
from hepxai.models.table.boosted_trees import BoostedTreesModel
from hepxai.models.table.rows import finite_columns, warn_of_constants
from hepxai.models.wrappers.table import SklearnModel
from hepxai.training.checkpoint import CHECKPOINT, Checkpoint, training_key
from hepxai.training.history import (
    History,
    errors,
    mean_loss,
    monitored,
    refuse_divergence,
    scores,
    train_to_the_end,
)
from hepxai.training.predictions import Classes, check_recording, predicted_class, write_predictions
from hepxai.training.samples import loss_weights, used_events

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Split:
    """Table, labels or target values, signed weights and weights in the loss of one split."""

    x: NDArray[np.float32]
    label: NDArray[Any]
    weight: Array
    loss_weight: Array
    targets: tuple[str, ...]

    @staticmethod
    def of(events: Events, split: str, card: BoostedTreesCard) -> _Split:
        regression = card.training.regression
        used = used_events(events, split, card.training)
        weight = loss_weights(used, card.training, balance=not regression)
        if split == "train" and (weight < 0).any() and card.training.loss == "mae":
            raise ValueError(
                f"{(weight < 0).sum()} training events have negative weights, and trees with loss mae take "
                "medians, which have none: say training.loss: mse, or training.negative_weights: drop or abs"
            )
        if split == "train" and (weight < 0).any() and card.algorithm != "hist_gradient_boosting":
            raise ValueError(
                f"{(weight < 0).sum()} training events have negative weights; {card.algorithm} takes "
                "none: say training.negative_weights: drop or abs, or algorithm: hist_gradient_boosting"
            )
        label = used.targets[:, 0].astype(np.float64) if regression else used.label
        if regression and split == "train" and not np.ptp(label):
            raise ValueError(f"{used.schema.targets[0]} has one value in the train split: nothing to learn")
        table = np.ascontiguousarray(used.table()[0])
        return _Split(table, label, used.weight, weight, used.schema.targets)


@dataclass
class _State:
    """State of a training, as in its checkpoint: the trees, and the sums of their scores on both splits."""

    card: BoostedTreesCard
    estimator: Any
    sums: dict[str, Array]
    history: History = field(default_factory=list)
    predicted: list[Classes] = field(default_factory=list)

    @property
    def length(self) -> int:
        return int(self.history[-1]["trees"]) if self.history else 0

    @property
    def best(self) -> int:
        """Number of trees of the best row; all of a forest, which more trees do not overtrain."""
        if self.card.algorithm == "random_forest":
            return self.length
        monitor = self.card.training.monitor
        return int(max(self.history, key=lambda row: monitored(row, monitor))["trees"])

    @property
    def exhausted(self) -> bool:
        training = self.card.training
        if not self.history or training.early_stopping is None:
            return self.length >= training.trees
        return self.length >= training.trees or self.length - self.best >= training.early_stopping


def fit_trees(
    card: BoostedTreesCard,
    events: Events,
    *,
    folder: Path | None,
    targets: NDArray[np.floating] | None,
    device: str,
    progress: bool,
    after_epoch: Callable[[History], None] | None,
) -> tuple[BoostedTreesModel, History]:
    """Train boosted trees; see `hepxai.training.fit`. A row of the history is a step of the card."""
    if targets is not None:
        raise ValueError("boosted trees learn the labels or targets of the events; others are for networks")
    if torch.device(device).type != "cpu":
        raise ValueError(f"device {device!r}: boosted trees are trained on the CPU; use cpu")
    need_columns(events.schema)
    finite_columns(events)
    data = {name: _Split.of(events, name, card) for name in ("train", "valid")}
    warn_of_constants(events.where("train"))
    everything = events.table()[0] if check_recording(card.training, folder, targets) else None
    checkpoint = Checkpoint(folder and folder / CHECKPOINT, training_key(card, events, None))
    state = _start(card, len(events.schema.globals), checkpoint)

    def step() -> None:
        before = state.length
        _step(state, data)
        if everything is not None:
            scores_now = _accumulated(state, "all", before, everything)
            state.predicted.append(predicted_class(scores_now))
        if checkpoint.path is not None and (state.exhausted or checkpoint.due):
            arrays: dict[str, NDArray[Any]] = {"estimator": trees_of.dumped(state.estimator)}
            arrays |= state.sums
            arrays |= {"predicted": np.stack(state.predicted)} if state.predicted else {}
            checkpoint.write(arrays, {"history": state.history})

    with threadpool_limits(torch.get_num_threads()):
        total = card.training.trees
        train_to_the_end(state, step, "tree", total, progress=progress, after_epoch=after_epoch)
    estimator = trees_of.first_trees(state.estimator, state.best)
    if folder is not None and everything is not None:
        write_predictions(folder, events, np.stack(state.predicted))
    return BoostedTreesModel(estimator, card, events.schema), state.history


def _step(state: _State, data: dict[str, _Split]) -> None:
    start, before, training = time.perf_counter(), state.length, state.card.training
    after = min(before + training.step, training.trees)
    train = data["train"]
    trees_of.set_number_of_trees(state.estimator, after)
    with trees_of.unweighted_bins(state.estimator):
        state.estimator.fit(train.x, train.label, sample_weight=train.loss_weight)
    row = {"trees": float(after)}
    figures: dict[str, float] = {}
    for name, split in data.items():
        outputs = _accumulated(state, name, before, split.x)
        if training.regression:
            difference = np.abs(outputs - split.label[:, None])
            power = 1 if training.loss == "mae" else 2
            losses = (difference[:, 0] / np.std(train.label)) ** power
            row[f"{name}_loss"] = float(np.mean(split.loss_weight * losses))
            figures |= errors(difference, split.weight, split.targets, name)
        else:
            row[f"{name}_loss"] = mean_loss(outputs, split.label, split.loss_weight)
            figures |= scores(outputs, split.label, split.weight, name)
    state.history.append(row | figures | {"seconds": time.perf_counter() - start})
    refuse_divergence(row["train_loss"], f"with {after} trees")


def _accumulated(state: _State, name: str, before: int, x: NDArray[np.float32]) -> Array:
    """Outputs ``[E, O]`` of rows, from the sums of the trees before and the share of the others."""
    share = trees_of.share_of_trees(state.estimator, before, x)
    state.sums[name] = state.sums[name] + share if before else share
    return trees_of.scores_of(state.estimator, state.sums[name], SklearnModel.clip)


def _start(card: BoostedTreesCard, columns: int, checkpoint: Checkpoint) -> _State:
    """State of a new training, or of the checkpoint."""
    if (contents := checkpoint.read()) is None:
        return _State(card, trees_of.estimator_of(card), {})
    arrays, stored = contents
    estimator = trees_of.restored(arrays.pop("estimator"), card, columns)
    predicted = list(arrays.pop("predicted", ()))
    return _State(card, estimator, arrays, stored["history"], predicted)
