"""Influence of training images through the last layer: ours against captum's TracInCPFast and TracInCP."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from captum.influence import TracInCP, TracInCPFast
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks import images
from benchmarks.common import cpu_seconds, show
from hepxai.events import Events
from hepxai.influence.tracin import tracin
from hepxai.models.wrappers.image import ImageModel

TRAIN, ASKED = 2000, 50
RATES = (0.05, 0.04, 0.03, 0.02, 0.01)
FEW = 100
"""Training images on which TracInCP, slow and exact, judges the others."""


def sample(events: int, seed: int) -> Events:
    """Images with two targets to learn."""
    population = images.image_events()[np.random.default_rng(seed).integers(images.EVENTS, size=events)]
    hits = np.random.default_rng(seed + 1).permuted(population.particles, axis=0)
    schema = dataclasses.replace(population.schema, targets=("pt", "eta"), target_units=("GeV", ""))
    values = np.random.default_rng(seed + 2).normal(size=(events, 2)).astype(np.float32)
    return population.replace(schema=schema, particles=hits, targets=values)


def networks() -> list[nn.Sequential]:
    """The net of the image benchmark after steps in random directions."""
    nets = [images.convolutional() for _ in RATES]
    for number, net in enumerate(nets):
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return nets


def loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of every event."""
    return (outputs - target).abs().mean(1)


loss.reduction = "none"  # type: ignore[attr-defined]


def summed(outputs: Tensor, target: Tensor) -> Tensor:
    """The same, added up, as TracInCPFast wants it."""
    return loss(outputs, target).sum()


summed.reduction = "sum"  # type: ignore[attr-defined]


def dataset(events: Events) -> TensorDataset:
    """Dense images and targets, as captum wants them."""
    return TensorDataset(torch.as_tensor(events.image()), torch.as_tensor(events.targets))


def by_captum(nets: list[nn.Sequential], data: TensorDataset, batch: int, *, fast: bool) -> TracInCP:
    """Captum's object; it loads the checkpoints by number."""

    def load(model: nn.Module, number: str) -> float:
        model.load_state_dict(nets[int(number)].state_dict())
        return RATES[int(number)]

    net, names = copy.deepcopy(nets[0]), [str(i) for i in range(len(nets))]
    if fast:
        return TracInCPFast(net, net[-1], data, names, load, loss_fn=summed, batch_size=batch)
    return TracInCP(net, data, names, load, layers=[str(len(net) - 1)], loss_fn=loss, batch_size=batch)


def main() -> None:
    """Print CPU seconds, ratios, and the largest difference from TracInCP."""
    nets, train, test = networks(), sample(TRAIN, 0), sample(ASKED, 9)
    states = [
        (ImageModel(net, ("pt", "eta"), train.schema, loss="mae"), rate)
        for net, rate in zip(nets, RATES, strict=True)
    ]
    inputs, few = dataset(test).tensors, train[:FEW]
    reference = by_captum(nets, dataset(few), FEW, fast=False).influence(inputs).numpy()
    rows = [_row("hepxai tracin", lambda: tracin(states, train, test), _all(states, few, test), reference)]
    mine = float(rows[0][1])
    for batch in (16, 64, 256):
        peer = by_captum(nets, dataset(train), batch, fast=True)
        influence = by_captum(nets, dataset(few), batch, fast=True).influence(inputs).numpy()
        name = f"captum TracInCPFast, batch_size={batch}"
        rows.append(_row(name, lambda peer=peer: peer.influence(inputs, k=3), influence, reference))
    cells = [(*row[:2], f"{float(row[1]) / mine:.2f}", row[2]) for row in rows]
    title = f"{TRAIN:,} training images of 9 x 384, {ASKED} asked, {len(RATES)} checkpoints, one thread"
    show(title, ("", "CPU s", "times ours", "largest difference from TracInCP / largest"), cells)


def _row(
    name: str, work: Callable[[], object], influence: np.ndarray, reference: np.ndarray
) -> tuple[str, str, str]:
    off = np.abs(influence - reference).max() / np.abs(reference).max()
    return name, f"{cpu_seconds(work, repeats=2):.2f}", f"{off:.1e}"


def _all(states: list[tuple[ImageModel, float]], train: Events, test: Events) -> np.ndarray:
    """Influence of all training images, ``[E, E_train]``."""
    influence = tracin(states, train, test, k=len(train) // 2)
    # Of values that are equal in the middle some are in no list.
    table = np.repeat(influence.values[:, 0, -1:], len(train), axis=1)
    for side in (0, 1):
        np.put_along_axis(table, influence.rows[:, side], influence.values[:, side], axis=1)
    return table
