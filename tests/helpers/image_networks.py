"""Real-valued images of two channels, and small networks of three classes on them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.models.wrappers.image import ImageModel
from hepxai.models.wrappers.modules import call_module

SHAPE = (2, 4, 6)
CLASSES = ("g", "q", "t")


def energy_images(
    n: int = 12,
    seed: int = 0,
    lit: float = 0.25,
    shape: tuple[int, ...] = SHAPE,
    *,
    classes: tuple[str, ...] = CLASSES,
    empty: int = 1,
) -> Events:
    """Images with energies in a share of the pixels, the first ones ``empty``."""
    rng = np.random.default_rng(seed)
    images = rng.exponential(1, (n, *shape)) * (rng.random((n, *shape)) < lit)
    images[:empty] = 0
    return Events.from_images(images.astype(np.float32), label=np.arange(n) % len(classes), classes=classes)


def pooling_network() -> nn.Sequential:
    """Convolution, batch norm, ReLU, maximum, dropout and dense layers."""
    torch.manual_seed(3)
    first = (nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2))
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))


def energy_model(net: nn.Module, events: Events) -> ImageModel:
    return ImageModel(net, CLASSES, events.schema)


def opaque(model: ImageModel) -> ImageModel:
    """The same model, of whose layers nothing is known."""
    return dataclasses.replace(model, call=lambda m, x: call_module(m, x))


class Shifted(nn.Module):
    """A network with the same function of the image added to all of its logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.shift = net, nn.Linear(int(np.prod(SHAPE)), 1)

    def forward(self, x: Tensor) -> Any:
        return self.net(x) + self.shift(x.flatten(1))
