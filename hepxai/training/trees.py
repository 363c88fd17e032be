"""Train boosted trees: in steps, each looked at on both splits, the best number of trees kept."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hepxai.core.console import say, track
from hepxai.core.files import read_tensors, write_tensors
from hepxai.events import Events
from hepxai.models.card import BoostedTreesCard
from hepxai.models.losses import cross_entropy
from hepxai.models.table import boosted_trees as trees_of
from hepxai.models.table.boosted_trees import BoostedTreesModel
from hepxai.models.table.rows import finite_columns, warn_of_constants
from hepxai.models.wrappers.table import SklearnModel, need_columns
from hepxai.training.checkpoint import CHECKPOINT, History, fingerprint, refuse_another_training
from hepxai.training.loop import scores, status
from hepxai.training.samples import loss_weights, need_every_class, need_two, used_rows

SECONDS = 20.0
"""Between two checkpoints at least: large forests take a while to write. The last step is always written."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Split:
    """Table, labels, signed weights and weights in the loss of one split."""

    x: NDArray[np.float32]
    label: NDArray[np.int64]
    weight: Array
    loss_weight: Array

    @staticmethod
    def of(events: Events, split: str, card: BoostedTreesCard) -> _Split:
        own = events[used_rows(events, split, card.training)]
        need_two(own, split)
        need_every_class(own, split)
        weight = loss_weights(own, card.training, balance=card.training.class_balance)
        if split == "train" and (weight < 0).any() and card.algorithm != "hist_gradient_boosting":
            raise ValueError(
                f"{(weight < 0).sum()} training events have negative weights; {card.algorithm} takes "
                "none: say training.negative_weights: drop or abs, or algorithm: hist_gradient_boosting"
            )
        return _Split(np.ascontiguousarray(own.table()[0]), own.label, own.weight, weight)


@dataclass
class _State:
    """What a checkpoint holds: the trees, and what they add up to so far on both splits."""

    estimator: Any
    shares: dict[str, Array]
    history: History = field(default_factory=list)
    saved: float = 0.0

    @property
    def trees(self) -> int:
        return int(self.history[-1]["trees"]) if self.history else 0

    def best(self, card: BoostedTreesCard) -> int:
        """Number of trees of the best row; all of a forest, which more trees do not overtrain."""
        if card.algorithm == "random_forest":
            return self.trees
        return int(max(self.history, key=lambda row: _figure(row, card.training.monitor))["trees"])

    def exhausted(self, card: BoostedTreesCard) -> bool:
        """Whether the trees, or the patience of early stopping, are used up."""
        training = card.training
        if not self.history or training.early_stopping is None:
            return self.trees >= training.trees
        return self.trees >= training.trees or self.trees - self.best(card) >= training.early_stopping


def _figure(row: dict[str, float], monitor: str) -> float:
    return row["valid_auc"] if monitor == "auc" and "valid_auc" in row else -row["valid_loss"]


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
        raise ValueError("boosted trees learn the labels; given targets are for networks")
    if torch.device(device).type != "cpu":
        raise ValueError(f"device {device!r}: boosted trees are trained on the CPU; use cpu")
    need_columns(events.schema)
    finite_columns(events)
    data = {name: _Split.of(events, name, card) for name in ("train", "valid")}
    warn_of_constants(events.where("train"))
    key = fingerprint(card, events, None)
    checkpoint = None if folder is None else folder / CHECKPOINT
    state = _begun(card, len(events.schema.globals), checkpoint, key, progress=progress)
    total = card.training.trees
    with (
        threadpool_limits(torch.get_num_threads()),
        track("training", total, show=progress, done=state.trees) as advance,
    ):
        while not state.exhausted(card):
            if after_epoch is not None and state.history:
                after_epoch(state.history)
            before = state.trees
            _step(state, data, card)
            if checkpoint is not None and (state.exhausted(card) or time.monotonic() > state.saved + SECONDS):
                _save(state, checkpoint, key)
            advance(state.trees - before, status(state.history[-1]))
    estimator = trees_of.first_trees(state.estimator, state.best(card))
    return BoostedTreesModel(estimator, card, events.schema), state.history


def _step(state: _State, data: dict[str, _Split], card: BoostedTreesCard) -> None:
    start, before = time.perf_counter(), state.trees
    after = min(before + card.training.step, card.training.trees)
    train = data["train"]
    trees_of.set_number_of_trees(state.estimator, after)
    with trees_of.unweighted_bins(state.estimator):
        state.estimator.fit(train.x, train.label, sample_weight=train.loss_weight)
    row = {"trees": float(after)}
    found: dict[str, float] = {}
    for name, split in data.items():
        share = trees_of.share_of_trees(state.estimator, before, split.x)
        state.shares[name] = state.shares[name] + share if before else share
        logits = trees_of.scores_of(state.estimator, state.shares[name], SklearnModel.clip)
        row[f"{name}_loss"] = _loss(logits, split)
        found |= scores(logits, split.label, split.weight, name)
    state.history.append(row | found | {"seconds": time.perf_counter() - start})
    if not math.isfinite(row["train_loss"]):
        raise FloatingPointError(
            f"the training loss is {row['train_loss']} with {after} trees: lower training.learning_rate, or "
            "training.negative_weights: abs if negative weights make the loss unbounded"
        )


def _loss(logits: Array, split: _Split) -> float:
    given, label = torch.as_tensor(logits), torch.as_tensor(split.label)
    return float((torch.as_tensor(split.loss_weight) * cross_entropy(given, label)).mean())


# --- checkpoints -----------------------------------------------------------------------------


def _begun(
    card: BoostedTreesCard, columns: int, checkpoint: Path | None, key: str, *, progress: bool
) -> _State:
    """A training at its start, or where its checkpoint has it."""
    if checkpoint is None or not checkpoint.exists():
        return _State(trees_of.estimator_of(card), {}, saved=time.monotonic())
    arrays, metadata = read_tensors(checkpoint)
    kept = json.loads(metadata["training"])
    refuse_another_training(checkpoint, kept["key"], key)
    estimator = trees_of.restored(arrays.pop("estimator"), card, columns)
    state = _State(estimator, arrays, kept["history"], time.monotonic())
    if progress and not state.exhausted(card):
        say(f"training resumes at tree {state.trees + 1} of {card.training.trees}")
    return state


def _save(state: _State, path: Path, key: str) -> None:
    arrays = {"estimator": trees_of.dumped(state.estimator)} | state.shares
    write_tensors(path, arrays, {"training": json.dumps({"history": state.history, "key": key})})
    state.saved = time.monotonic()
