"""A training that was stopped goes on from its checkpoint, with the numbers of an uninterrupted one."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.core.files import read_tensors
from hepxai.core.fingerprint import fingerprint
from hepxai.core.resume import StateFile
from hepxai.events import Events
from hepxai.models.card import ModelCard, Training
from hepxai.models.network import NetworkModel

History = list[dict[str, float]]

CHECKPOINT = "checkpoint.safetensors"
KEPT = "epoch_{:0>4}.safetensors"
_THREADS = ", threads "


@dataclass
class State:
    """What a checkpoint holds."""

    model: NetworkModel
    optimiser: torch.optim.Optimizer
    history: History = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_figure: float = -math.inf
    best_epoch: int = -1

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    def exhausted(self, training: Training) -> bool:
        """Whether the epochs, or the patience of early stopping, are used up."""
        patience = training.early_stopping or training.epochs
        return self.epoch >= training.epochs or self.epoch - 1 - self.best_epoch >= patience

    def enter(self, row: dict[str, float], figure: float) -> None:
        """Add an epoch to the history, and keep its weights if its figure is the highest."""
        if figure > self.best_figure or not self.best:
            self.best = copy.deepcopy(self.model.network.state_dict())
            self.best_figure, self.best_epoch = figure, self.epoch
        self.history.append(row)


def training_key(card: ModelCard, events: Events, targets: NDArray[np.floating] | None) -> str:
    """Hash of all that a training depends on, and threads; its length can be changed on resuming."""
    shown = card.model_dump(mode="json")
    for length in ("epochs", "trees"):
        shown["training"].pop(length, None)
    seen = ("globals",) if card.view == "table" else ("particles", "p4", "offsets")
    columns = [getattr(events, name) for name in (*seen, "label", "weight", "split", "targets")]
    columns += [] if targets is None else [targets]
    key = fingerprint([shown, events.schema.to_json()], *columns)
    return f"{key}{_THREADS}{torch.get_num_threads()}"


class Checkpoint(StateFile):
    """State of a training; see `training_key`."""

    def refuse(self, key: str) -> NoReturn:
        """Refuse the checkpoint of another training, or of another number of threads."""
        (inputs, _, before), (same, _, now) = key.partition(_THREADS), self.key.partition(_THREADS)
        if inputs == same and before:
            raise ValueError(
                f"{self.path} is of a training with {before} torch threads, not {now}, and sums in another "
                f"order are other numbers; resume with `hepxai --threads {before}` or "
                f"torch.set_num_threads({before}), or remove the file to start afresh"
            )
        raise ValueError(
            f"{self.path} belongs to another training (card, events, weights, split or version of hepxai "
            "differ); choose another folder or remove the file to start afresh"
        )


def save(state: State, checkpoint: Checkpoint) -> None:
    """Write a checkpoint."""
    moments = state.optimiser.state_dict()["state"]
    tensors = {f"network.{k}": v for k, v in state.model.network.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    tensors |= {f"adam.{i}.{k}": v for i, found in moments.items() for k, v in found.items()}
    kept: dict[str, Any] = {"history": state.history}
    kept |= {"best_figure": state.best_figure, "best_epoch": state.best_epoch}
    arrays = {k: v.detach().cpu().numpy() for k, v in tensors.items()}
    checkpoint.write(arrays, kept)


def keep(state: State, folder: Path, scales: tuple[Tensor, Tensor] | None) -> None:
    """Write the model as it is after this epoch, to stay; outputs of a regression in the targets' units."""
    model = dataclasses.replace(state.model, network=copy.deepcopy(state.model.network))
    if scales is not None:
        model.rescale(*reversed(scales))
    model.network.to("cpu").eval()
    model.save(folder / KEPT.format(state.epoch))


def kept_checkpoints(folder: str | Path) -> list[tuple[NetworkModel, float]]:
    """Models that a training kept (``training.keep_checkpoints``), and the learning rate of each, by epoch.

    Raises
    ------
    ValueError
        If there are none, or the training that kept them is not there.
    """
    paths = sorted(Path(folder).glob("epoch_*.safetensors"))
    checkpoint = Path(folder) / CHECKPOINT
    if not paths or not checkpoint.is_file():
        raise ValueError(
            f"{folder} has no kept checkpoints; train with training.keep_checkpoints: [5, 15, 25] on the "
            "model card, and give the folder of the training"
        )
    history = json.loads(read_tensors(checkpoint)[1]["state"])["history"]
    rates = {int(row["epoch"]): float(row["learning_rate"]) for row in history}
    return [(NetworkModel.load(path), rates[int(path.stem.rpartition("_")[2])]) for path in paths]


def resume(state: State, checkpoint: Checkpoint) -> None:
    """Take up a checkpoint, if there is one; refuse one of another training."""
    if (stored := checkpoint.read()) is None:
        return
    tensors, kept = stored
    device = next(state.model.network.parameters()).device
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "adam": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = torch.as_tensor(value, device=device)
    state.model.network.load_state_dict(groups["network"])
    state.best = groups["best"]
    state.history, state.best_epoch = kept["history"], kept["best_epoch"]
    state.best_figure = kept["best_figure"]
    _load_moments(state.optimiser, groups["adam"])


def _load_moments(optimiser: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        number, _, rest = name.partition(".")
        # Adam keeps its step counter on the CPU.
        moments.setdefault(int(number), {})[rest] = value.cpu() if rest == "step" else value
    whole = optimiser.state_dict()
    optimiser.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})
