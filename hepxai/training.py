"""Train a network: signed weights, class balance, cyclic learning rate, checkpoint after every epoch."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.arguments import require
from hepxai.chunks import chunk_rows
from hepxai.estimate import ratio_mean
from hepxai.events import SPLITS, Events
from hepxai.files import read_tensors, write_tensors
from hepxai.metrics import accuracy, auc, both_classes
from hepxai.models.card import ModelCard, Training
from hepxai.models.cloud import Cloud
from hepxai.models.network import NetworkModel
from hepxai.models.symmetries import check_symmetries, transformed
from hepxai.progress import say, track

History = list[dict[str, float]]


@dataclass
class _State:
    """What a checkpoint holds."""

    model: NetworkModel
    optimiser: torch.optim.Adam
    history: History = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_figure: float = -math.inf
    best_epoch: int = -1

    @property
    def epoch(self) -> int:
        return len(self.history)

    def exhausted(self, training: Training) -> bool:
        """Whether the epochs, or the patience of early stopping, are used up."""
        patience = training.early_stopping or training.epochs
        return self.epoch >= training.epochs or self.epoch - 1 - self.best_epoch >= patience


def fit(
    card: ModelCard,
    events: Events,
    *,
    folder: str | Path | None = None,
    targets: NDArray[np.floating] | None = None,
    device: str = "cpu",
    progress: bool = False,
    after_epoch: Callable[[History], None] | None = None,
) -> tuple[NetworkModel, History]:
    """Train on the "train" split, validate on "valid" after every epoch, return the best epoch's network.

    Parameters
    ----------
    card : ModelCard
    events : Events
        With both splits.
    folder : path, optional
        Where ``checkpoint.safetensors`` is kept. Training continues from there, with the numbers of an
        uninterrupted run.
    targets : ndarray, shape [E], optional
        Probabilities of the second class to learn instead of the labels (a surrogate's relabelling);
        classes are then not balanced.
    device : str
        Torch device of the network and the events.
    progress : bool
        Show a progress bar.
    after_epoch : callable, optional
        Told the history so far whenever another epoch is to follow, also on resuming. What it raises
        stops the training, which can be continued from its checkpoint.

    Returns
    -------
    model : NetworkModel
        Weights of the best epoch by the card's ``monitor``, calibrated where the card says so, on the CPU.
    history : list of dict
        Per epoch: ``epoch, learning_rate, train_loss, valid_loss, valid_accuracy, valid_auc, seconds``, all
        before the calibration.
    """
    require(card, ModelCard, "fit(card, events)", "first", "hepxai.ModelCard.find(name) gives one")
    require(events, Events, "fit(card, events)", "second", "hepxai.read(card).events has them")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: torch sees no CUDA device here; use cpu")
    training = card.training
    data = {name: _Sample.of(events, name, training, targets, device) for name in ("train", "valid")}
    check_symmetries(events.schema.features, training.symmetries)
    state = _fresh(card, events, device)
    checkpoint = None if folder is None else Path(folder) / "checkpoint.safetensors"
    key = _fingerprint(card, events, targets)
    if checkpoint is not None and checkpoint.exists():
        _resume(state, checkpoint, key)
        if progress and not state.exhausted(training):
            say(f"training goes on from epoch {state.epoch + 1} of {training.epochs}")
    with track("training", training.epochs, show=progress, done=state.epoch) as advance:
        while not state.exhausted(training):
            if after_epoch is not None and state.history:
                after_epoch(state.history)
            _epoch(state, data, training)
            if checkpoint is not None:
                _save(state, checkpoint, key)
            advance(1, _status(state.history[-1]))
    state.model.network.load_state_dict(state.best)
    if training.calibrate:
        _calibrate(state.model, data["valid"])
    state.model.network.to("cpu").eval()
    return state.model, state.history


@dataclass(frozen=True)
class _Sample:
    """One split on the device: particles, targets, loss weights; labels and signed weights for metrics."""

    cloud: Cloud
    target: Tensor
    loss_weight: Tensor
    label: NDArray[np.int64]
    weight: NDArray[np.float64]

    @staticmethod
    def of(
        events: Events, split: str, training: Training, targets: NDArray[np.floating] | None, device: str
    ) -> _Sample:
        used = events.split == SPLITS.index(split)
        if split == "train" and training.negative_weights == "drop":
            used &= events.weight >= 0
        own = events[used]
        if len(own) < 2:
            raise ValueError(f"the {split} split has {len(own)} events to use; training needs at least 2")
        if targets is None:
            _need_every_class(own, split)
        weight = loss_weights(own, training, balance=training.class_balance and targets is None)
        return _Sample(
            Cloud.of(own).to(device),
            torch.as_tensor(own.label if targets is None else targets[used], device=device),
            torch.as_tensor(weight, dtype=torch.float32, device=device),
            own.label if targets is None else (targets[used] > 0.5).astype(np.int64),
            own.weight,
        )


def _need_every_class(events: Events, split: str) -> None:
    classes = events.schema.classes
    missing = [c for i, c in enumerate(classes) if not (events.label == i).any()]
    if missing:
        raise ValueError(
            f"class {missing[0]!r} has no events in the {split} split; there is nothing to tell apart"
        )


def loss_weights(events: Events, training: Training, *, balance: bool) -> NDArray[np.float64]:
    """Weights in the loss under the card's policy, scaled to a mean magnitude of 1.

    Raises
    ------
    ValueError
        If the weights of a class sum to zero or less where classes are balanced, if all weights are zero, or
        if there are negative weights and the policy is "error".
    """
    weight = events.weight.copy()
    if (weight < 0).any():
        if training.negative_weights == "error":
            raise ValueError(
                f"{(weight < 0).sum()} events have negative weights and the model card says "
                "training.negative_weights: error; choose keep, drop or abs"
            )
        weight = {"keep": weight, "drop": weight.clip(min=0), "abs": abs(weight)}[training.negative_weights]
    if balance:
        classes = events.schema.classes
        total = np.bincount(events.label, weights=weight, minlength=len(classes))
        if (total <= 0).any():
            empty = classes[int(np.argmax(total <= 0))]
            raise ValueError(f"class {empty!r} has no positive total weight: the classes cannot be balanced")
        weight = weight / total[events.label]
    if not weight.any():
        raise ValueError("all weights are zero: there is nothing to learn from")
    return np.asarray(weight / np.abs(weight).mean())


def _fresh(card: ModelCard, events: Events, device: str) -> _State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.training.seed)
        model = NetworkModel.build(card, events.schema)
    model.network.standardise.fit(torch.as_tensor(events.where("train").particles))
    model.network.to(device)
    return _State(model, torch.optim.Adam(model.network.parameters(), lr=card.training.learning_rate))


def _epoch(state: _State, data: dict[str, _Sample], training: Training) -> None:
    start = time.perf_counter()
    train_loss, rate = _train(state, data["train"], training)
    logits, valid_loss = _evaluate(state.model, data["valid"])
    row = {
        "epoch": state.epoch + 1.0,
        "learning_rate": rate,
        "train_loss": train_loss,
        "valid_loss": valid_loss,
    }
    row |= _scores(logits, data["valid"])
    figure = row["valid_auc"] if training.monitor == "auc" and "valid_auc" in row else -valid_loss
    if figure > state.best_figure or not state.best:
        state.best = copy.deepcopy(state.model.network.state_dict())
        state.best_figure, state.best_epoch = figure, state.epoch
    state.history.append(row | {"seconds": time.perf_counter() - start})
    if not math.isfinite(train_loss):
        raise FloatingPointError(
            f"the training loss is {train_loss} in epoch {state.epoch}: lower training.learning_rate, or "
            "training.negative_weights: abs if negative weights make the loss unbounded"
        )


def _train(state: _State, sample: _Sample, training: Training) -> tuple[float, float]:
    """One pass. The random numbers hang on seed and epoch alone, so a resumed run repeats them."""
    devices = [sample.target.device] if sample.target.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(training.seed * 1_000_003 + state.epoch)
        batches = _batches(len(sample.target), training.batch_size, sample.target.device)
        rates = _learning_rates(training, state.epoch, len(batches))
        state.model.network.train()
        total = 0.0
        for rows, rate in zip(batches, rates, strict=True):
            state.optimiser.param_groups[0]["lr"] = rate
            cloud = transformed(sample.cloud.take(rows), state.model.schema.features, training.symmetries)
            logits = state.model.network(cloud)
            loss = _loss(logits, sample.target[rows], sample.loss_weight[rows]).mean()
            state.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            state.optimiser.step()
            total += loss.item() * len(rows)
    return total / len(sample.target), rate


def _batches(n: int, size: int, device: torch.device) -> tuple[Tensor, ...]:
    """Random batches of nearly equal size; at least 2 events each, which the batch norm needs."""
    return torch.randperm(n).to(device).tensor_split(min(math.ceil(n / size), n // 2))


def _learning_rates(training: Training, epoch: int, steps: int) -> Iterator[float]:
    """Triangular cycle (Smith, arXiv:1506.01186), a pure function of the step."""
    schedule, top = training.schedule, training.learning_rate
    for step in range(steps):
        phase = (epoch + step / steps) / schedule.period % 1.0
        height = 1 - abs(2 * phase - 1) if schedule.kind == "cyclic" else 1.0
        yield top * (schedule.lowest + (1 - schedule.lowest) * height)


def _loss(logits: Tensor, target: Tensor, weight: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every event times its weight, ``[B]``."""
    if logits.shape[1] > 1:
        return weight * F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
    soft = smoothing + (1 - 2 * smoothing) * target.to(logits.dtype)
    return weight * F.binary_cross_entropy_with_logits(logits[:, 0], soft, reduction="none")


def _evaluate(model: NetworkModel, sample: _Sample) -> tuple[NDArray[np.float64], float]:
    model.network.eval()
    logits = torch.empty(len(sample.target), len(model.outputs), device=sample.target.device)
    with torch.inference_mode():
        for chunk in chunk_rows(sample.cloud.counts.cpu().numpy()):
            rows = torch.as_tensor(chunk, device=logits.device)
            logits[rows] = model.network(sample.cloud.take(rows))
        loss = _loss(logits, sample.target, sample.loss_weight).mean().item()
    return logits.double().cpu().numpy(), loss


def validation_loss(logits: NDArray[np.floating], events: Events, training: Training) -> float:
    """Loss on the "valid" split, as in the history, of the logits ``[E, O]`` of all events."""
    own = events.split == SPLITS.index("valid")
    weight = loss_weights(events[own], training, balance=training.class_balance)
    given, label = torch.as_tensor(np.asarray(logits)[own]), torch.as_tensor(events.label[own])
    return float(_loss(given, label, torch.as_tensor(weight)).mean())


def _calibrate(model: NetworkModel, sample: _Sample) -> None:
    """Fold the scale and shifts of the logits that fit the validation split best into the last layer.

    Platt scaling (Platt 1999; Guo et al., arXiv:1706.04599): the ranking stays, the logits become log-odds
    under the weights of the loss. Targets keep a distance of 1 / (N + 2) from certainty, as Platt's do, so
    that a perfect separation has an answer too.
    """
    logits = torch.as_tensor(_evaluate(model, sample)[0])
    target, weight = sample.target.cpu(), sample.loss_weight.double().cpu()
    doubt = 1 / (len(target) + 2)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_scale, shift], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        fitted = log_scale.clamp(-3, 3).exp() * logits + shift
        found = _loss(fitted, target, weight, smoothing=doubt).mean()
        found.backward()
        return found.detach()

    optimiser.step(loss)
    last = cast(nn.Linear, model.network.head[-1])
    with torch.no_grad():
        scale = log_scale.clamp(-3, 3).exp().to(last.weight)
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(shift.to(last.bias))


def _scores(logits: NDArray[np.float64], sample: _Sample) -> dict[str, float]:
    if logits.shape[1] > 1:
        right = (logits.argmax(1) == sample.label).astype(np.float64)
        return {"valid_accuracy": float(ratio_mean(right, np.ones(len(right)), sample.weight).value)}
    score, signal = logits[:, 0], sample.label == 1
    found = {"valid_accuracy": float(accuracy(score, signal, sample.weight).value)}
    if both_classes(signal, sample.weight):
        found["valid_auc"] = float(auc(score, signal, sample.weight).value)
    return found


def _status(row: dict[str, float]) -> str:
    shown = {"loss": "train_loss", "valid": "valid_loss", "AUC": "valid_auc"}
    return "  ".join(f"{name} {row[key]:.4f}" for name, key in shown.items() if key in row)


# --- checkpoints -----------------------------------------------------------------------------


def _fingerprint(card: ModelCard, events: Events, targets: NDArray[np.floating] | None) -> str:
    """Hash of all that a training depends on; the number of epochs may be raised on resuming."""
    shown = card.model_dump(mode="json")
    shown["training"].pop("epochs")
    digest = hashlib.sha256(json.dumps([shown, str(events.schema)], sort_keys=True).encode())
    columns = [events.particles, events.p4, events.offsets, events.label, events.weight, events.split]
    for column in [*columns, *([] if targets is None else [targets])]:
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def _save(state: _State, path: Path, key: str) -> None:
    moments = state.optimiser.state_dict()["state"]
    tensors = {f"network.{k}": v for k, v in state.model.network.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    tensors |= {f"adam.{i}.{k}": v for i, found in moments.items() for k, v in found.items()}
    kept: dict[str, Any] = {"history": state.history, "key": key}
    kept |= {"best_figure": state.best_figure, "best_epoch": state.best_epoch}
    arrays = {k: v.detach().cpu().numpy() for k, v in tensors.items()}
    write_tensors(path, arrays, {"training": json.dumps(kept)})


def _resume(state: _State, path: Path, key: str) -> None:
    tensors, metadata = read_tensors(path)
    kept = json.loads(metadata["training"])
    if kept["key"] != key:
        raise ValueError(
            f"{path} belongs to another training (card, events, weights or split differ); "
            "choose another folder or remove the file to start afresh"
        )
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


def _load_moments(optimiser: torch.optim.Adam, flat: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        number, _, rest = name.partition(".")
        # Adam keeps its step counter on the CPU.
        moments.setdefault(int(number), {})[rest] = value.cpu() if rest == "step" else value
    whole = optimiser.state_dict()
    optimiser.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})
