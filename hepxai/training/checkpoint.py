"""Checkpoints of trainings: a resumed training gives the numbers of an uninterrupted one."""

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
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.training.history import History

CHECKPOINT = "checkpoint.safetensors"
KEPT = "epoch_{:0>4}.safetensors"
_THREADS = ", threads "


@dataclass
class State:
    """State of a network's training, as in its checkpoint."""

    model: NetworkModel
    optimiser: torch.optim.Optimizer
    history: History = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_figure: float = -math.inf
    best_epoch: int = -1
    predicted: list[NDArray[np.int16]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Epochs so far."""
        return len(self.history)

    @property
    def exhausted(self) -> bool:
        """True after the last epoch, or at the end of the patience of early stopping."""
        training = self.model.card.training
        patience = training.early_stopping or training.epochs
        return self.length >= training.epochs or self.length - 1 - self.best_epoch >= patience

    def enter(self, row: dict[str, float], figure: float) -> None:
        """Add an epoch to the history, and keep its weights if its figure is the highest.

        Raises
        ------
        ValueError
            If the figure is not a number.
        """
        if math.isnan(figure):
            raise ValueError(
                f"the figure of merit of epoch {self.length + 1} on the valid split is not a number: no "
                "epoch can be chosen; look at the events of this split, or monitor another figure"
            )
        if figure > self.best_figure or not self.best:
            self.best = copy.deepcopy(self.model.network.state_dict())
            self.best_figure, self.best_epoch = figure, self.length
        self.history.append(row)


def training_key(card: ModelCard, events: Events, targets: NDArray[np.floating] | None) -> str:
    """Hash of everything that a training depends on, and threads; its length may change on resuming."""
    settings = card.model_dump(mode="json")
    for length in ("epochs", "trees"):
        settings["training"].pop(length, None)
    inputs = ("globals",) if card.view == "table" else ("particles", "p4", "offsets")
    columns = [getattr(events, name) for name in (*inputs, "label", "weight", "split", "targets")]
    columns += [] if targets is None else [targets]
    key = fingerprint([settings, events.schema.to_json()], *columns)
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
    tensors |= {f"adam.{i}.{k}": v for i, moment in moments.items() for k, v in moment.items()}
    tensors |= {"predicted.all": torch.as_tensor(np.stack(state.predicted))} if state.predicted else {}
    values: dict[str, Any] = {"history": state.history}
    values |= {"best_figure": state.best_figure, "best_epoch": state.best_epoch}
    checkpoint.write({k: v.detach().cpu().numpy() for k, v in tensors.items()}, values)


def keep(state: State, folder: Path, scales: tuple[Tensor, Tensor] | None) -> None:
    """Write the model after this epoch to a file of its own; a regression gives target units."""
    model = dataclasses.replace(state.model, network=copy.deepcopy(state.model.network))
    if scales is not None:
        model.rescale(*reversed(scales))
    model.network.to("cpu").eval()
    model.save(folder / KEPT.format(state.length))


def kept_checkpoints(folder: str | Path) -> list[tuple[NetworkModel, float]]:
    """Models of the epochs in ``training.keep_checkpoints``, each with its learning rate.

    Raises
    ------
    ValueError
        If there are none, or their training's checkpoint is missing.
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
    """Load a checkpoint, if there is one; refuse one of another training."""
    if (contents := checkpoint.read()) is None:
        return
    tensors, stored = contents
    device = next(state.model.network.parameters()).device
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "adam": {}, "predicted": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = torch.as_tensor(value, device=device)
    state.model.network.load_state_dict(groups["network"])
    state.best = groups["best"]
    state.predicted = [p for part in groups["predicted"].values() for p in part.cpu().numpy()]
    state.history, state.best_epoch = stored["history"], stored["best_epoch"]
    state.best_figure = stored["best_figure"]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, moment in groups["adam"].items():
        number, _, rest = name.partition(".")
        # Adam keeps its step counter on the CPU.
        moments.setdefault(int(number), {})[rest] = moment.cpu() if rest == "step" else moment
    settings = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": settings})
