"""Training of a network: the best epoch is kept, and calibrated at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.core.chunks import chunk_rows
from hepxai.events import Events
from hepxai.models.card import NetworkCard, Training
from hepxai.models.graph.cloud import Cloud
from hepxai.models.losses import cross_entropy, distance
from hepxai.models.network import Inputs, NetworkModel
from hepxai.training.checkpoint import CHECKPOINT, Checkpoint, State, keep, resume, save, training_key
from hepxai.training.history import History, errors, monitored, refuse_divergence, scores, train_to_the_end
from hepxai.training.predictions import check_recording, predicted_class, write_predictions
from hepxai.training.samples import Sample
from hepxai.training.symmetries import check_symmetries, transformed


def fit_network(
    card: NetworkCard,
    events: Events,
    *,
    folder: Path | None,
    targets: NDArray[np.floating] | None,
    device: str,
    progress: bool,
    after_epoch: Callable[[History], None] | None,
) -> tuple[NetworkModel, History]:
    """Train a torch model; see `hepxai.training.fit`."""
    training = card.training
    state = _fresh(card, events, device)
    data = {name: Sample.of(state.model, events, name, targets, device) for name in ("train", "valid")}
    scales = _standardise_targets(data) if training.regression else None
    check_symmetries(events.schema.features, training.symmetries)
    everything = (
        state.model.inputs.of(events).to(device) if check_recording(training, folder, targets) else None
    )
    checkpoint = Checkpoint(folder and folder / CHECKPOINT, training_key(card, events, targets))
    resume(state, checkpoint)

    def step() -> None:
        _epoch(state, data, scales)
        if everything is not None:
            state.predicted.append(predicted_class(_outputs(state.model, everything, device).cpu().numpy()))
        if folder is not None and state.length in training.keep_checkpoints:
            keep(state, folder, scales)
        if checkpoint.path is not None:
            save(state, checkpoint)

    train_to_the_end(state, step, "epoch", training.epochs, progress=progress, after_epoch=after_epoch)
    state.model.network.load_state_dict(state.best)
    if scales is not None:
        state.model.rescale(*reversed(scales))
    elif training.calibrate:
        _calibrate(state.model, data["valid"])
    state.model.network.to("cpu").eval()
    if folder is not None and everything is not None:
        write_predictions(folder, events, np.stack(state.predicted))
    return state.model, state.history


def _fresh(card: NetworkCard, events: Events, device: str) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.training.seed)
        model = NetworkModel.build(card, events.schema)
    model.check(events)  # all splits, before the training
    model.adapt(events.where("train"))
    model.network.to(device)
    optimiser = torch.optim.Adam if card.training.optimiser == "adam" else torch.optim.SGD
    return State(model, optimiser(model.network.parameters(), lr=card.training.learning_rate))


def _standardise_targets(data: dict[str, Sample]) -> tuple[Tensor, Tensor]:
    """Shift and scale the targets of both splits with mean and spread of the training split, ``[T]`` each.

    Outputs are then of order 1 during the training, and targets of any unit have the same weight in the loss.
    """
    target = data["train"].target
    mean = target.nanmean(0)
    spread = (target - mean).square().nanmean(0).sqrt()
    spread = torch.where(spread > 1e-6 * mean.abs(), spread, 1.0)
    for sample in data.values():
        sample.target.sub_(mean).div_(spread)
    return mean, spread


def _epoch(state: State, data: dict[str, Sample], scales: tuple[Tensor, Tensor] | None) -> None:
    training, start = state.model.card.training, time.perf_counter()
    train_loss, rate = _train(state, data["train"], training)
    outputs, valid_loss = _evaluate(state.model, data["valid"])
    refuse_divergence(train_loss, f"in epoch {state.length + 1}", finite=bool(np.isfinite(outputs).all()))
    row = {
        "epoch": state.length + 1.0,
        "learning_rate": rate,
        "train_loss": train_loss,
        "valid_loss": valid_loss,
    }
    if scales is None:
        row |= scores(outputs, data["valid"].label, data["valid"].weight)
    else:
        difference = np.abs(outputs - data["valid"].target.cpu().numpy()) * scales[1].cpu().numpy()
        row |= errors(difference, data["valid"].weight, state.model.outputs)
    state.enter(row | {"seconds": time.perf_counter() - start}, monitored(row, training.monitor))


def _train(state: State, sample: Sample, training: Training) -> tuple[float, float]:
    """One pass. Random numbers depend on seed and epoch only, so a resumed run repeats them."""
    devices = [sample.target.device] if sample.target.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(training.seed * 1_000_003 + state.length)
        batches = _batches(len(sample.target), training, state.length, sample.target.device)
        rates = learning_rates(training, state.length, len(batches))
        state.model.network.train()
        total = 0.0
        for rows, rate in zip(batches, rates, strict=True):
            state.optimiser.param_groups[0]["lr"] = rate
            batch = sample.inputs.take(rows)
            if isinstance(batch, Cloud):
                batch = transformed(batch, state.model.schema.features, training.symmetries)
            outputs, penalty = state.model.training_pass(batch)
            loss = _loss(outputs, sample.target[rows], sample.loss_weight[rows], training).mean() + penalty
            state.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            state.optimiser.step()
            total += loss.item() * len(rows)
    return total / sum(map(len, batches)), rate


def _batches(n: int, training: Training, epoch: int, device: torch.device) -> tuple[Tensor, ...]:
    """Random batches of nearly equal size; at least 2 events each, which the batch norm needs."""
    order = event_order(n, training, epoch).to(device)
    return order.tensor_split(min(math.ceil(len(order) / training.batch_size), len(order) // 2))


def event_order(n: int, training: Training, epoch: int) -> Tensor:
    """Events of an epoch, shuffled; with ``epoch_events``, its part of an order shuffled once for a pass."""
    parts = math.ceil(n / training.epoch_events) if training.epoch_events else 1
    if parts == 1:
        return torch.randperm(n)
    seed = training.seed * 1_000_003 + epoch // parts
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order.tensor_split(min(parts, n // 2))[epoch % min(parts, n // 2)]


def learning_rates(training: Training, epoch: int, steps: int) -> Iterator[float]:
    """Triangular cycle (Smith, arXiv:1506.01186), a pure function of the step."""
    schedule, top = training.schedule, training.learning_rate
    for step in range(steps):
        phase = (epoch + step / steps) / schedule.period % 1.0
        height = 1 - abs(2 * phase - 1) if schedule.kind == "cyclic" else 1.0
        yield top * (schedule.lowest + (1 - schedule.lowest) * height)


# --- losses and figures of merit -------------------------------------------------------------


def _loss(outputs: Tensor, target: Tensor, weight: Tensor, training: Training) -> Tensor:
    """Loss of every event times its weight, ``[B]``."""
    if training.regression:
        return weight * distance(outputs, target, training.loss)
    return weight * cross_entropy(outputs, target)


def _evaluate(model: NetworkModel, sample: Sample) -> tuple[NDArray[np.float64], float]:
    outputs = _outputs(model, sample.inputs, sample.target.device)
    with torch.inference_mode():
        loss = _loss(outputs, sample.target, sample.loss_weight, model.card.training).mean().item()
    return outputs.double().cpu().numpy(), loss


def _outputs(model: NetworkModel, inputs: Inputs, device: str | torch.device) -> Tensor:
    """Outputs ``[E, O]`` in evaluation mode."""
    model.network.eval()
    outputs = torch.empty(len(inputs.counts), len(model.outputs), device=device)
    with torch.inference_mode():
        for chunk in chunk_rows(inputs.counts.cpu().numpy()):
            rows = torch.as_tensor(chunk, device=outputs.device)
            outputs[rows] = model.network(inputs.take(rows))
    return outputs


def _calibrate(model: NetworkModel, sample: Sample) -> None:
    """Calibrate the last layer: scale and shifts of the logits that fit the validation split best.

    Platt scaling (Platt 1999; Guo et al., arXiv:1706.04599): the ranking stays, the logits become log-odds
    under the weights of the loss. Targets stay 1 / (N + 2) away from 0 and 1, as Platt's do, so that
    a perfect separation has a solution too.
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
        value = (weight * cross_entropy(fitted, target, smoothing=doubt)).mean()
        value.backward()
        return value.detach()

    optimiser.step(loss)
    model.rescale(log_scale.detach().clamp(-3, 3).exp(), shift.detach())
