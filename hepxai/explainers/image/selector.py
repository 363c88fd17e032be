"""Networks of L2X: a selector of patches, and the network that predicts from the selected ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepxai.core.console import Advance
from hepxai.events import Events

WIDTH, HIDDEN, CELLS = 16, 64, 32
"""Channels of the convolutions, neurons of the dense layer, and most cells along rows and columns for it."""
BATCH, LEARNING_RATE, PLACE_RATE = 32, 3e-3, 3e-2
"""Events of a step; step sizes of the networks, and of the logits of the places, of which each is alone."""


@dataclass(frozen=True)
class Patches:
    """Rectangles of pixels that an image is divided into.

    Attributes
    ----------
    shape : tuple of int
        Channels, rows and columns of the images.
    patch : tuple of int
        Rows and columns of a patch.
    """

    shape: tuple[int, int, int]
    patch: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; those at the end may be smaller."""
        return math.ceil(self.shape[1] / self.patch[0]), math.ceil(self.shape[2] / self.patch[1])

    @property
    def number(self) -> int:
        """Number of patches P of an image."""
        return math.prod(self.grid)

    def means(self, maps: Tensor) -> Tensor:
        """Mean ``[B, K, *grid]`` of maps ``[B, K, R, C]`` in each patch."""
        return F.avg_pool2d(maps, self.patch, ceil_mode=True)

    def pixels(self, values: Tensor) -> Tensor:
        """Map ``[B, R, C]`` in which every pixel has the value ``[B, P]`` of its patch."""
        rows, columns = self.shape[1:]
        wide = values.view(-1, *self.grid).repeat_interleave(self.patch[0], 1)[:, :rows]
        return wide.repeat_interleave(self.patch[1], 2)[:, :, :columns]


class Selector(nn.Module):
    """Logit of each patch, from the maps in it, the mean maps of the image, and its place."""

    def __init__(self, patches: Patches) -> None:
        super().__init__()
        self.patches = patches
        self.maps = _convolutions(patches.shape[0])
        self.head = nn.Sequential(nn.Conv2d(2 * WIDTH, WIDTH, 1), nn.ReLU(), nn.Conv2d(WIDTH, 1, 1))
        self.place = nn.Parameter(torch.zeros(patches.number))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, P]`` of images ``[B, T, R, C]``."""
        maps = self.maps(x)
        means = self.patches.means(maps)
        whole = maps.mean((2, 3), keepdim=True).expand_as(means)
        logits: Tensor = self.head(torch.cat([means, whole], 1)).flatten(1) + self.place
        return logits


class Predictor(nn.Module):
    """Outputs from an image of which only the selected patches are left."""

    def __init__(self, patches: Patches, outputs: int) -> None:
        super().__init__()
        cells = (min(patches.grid[0], CELLS), min(patches.grid[1], CELLS))
        self.maps = _convolutions(patches.shape[0])
        dense = nn.Linear(WIDTH * math.prod(cells), HIDDEN)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(cells), nn.Flatten(), dense, nn.ReLU(), nn.Linear(HIDDEN, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[B, O]`` of images ``[B, T, R, C]``."""
        return cast(Tensor, self.head(self.maps(x)))


def _convolutions(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU()
    )


def relaxed_selection(logits: Tensor, k: int, temperature: float) -> Tensor:
    """Continuous k-hot vectors ``[B, P]``: largest of k Gumbel-softmax samples, patch by patch.

    ``V_i = max_j softmax_i((log p + g_j) / τ)`` with Gumbel numbers g [Chen et al., arXiv:1802.07814, eq. 7].
    """
    uniform = torch.rand((k, *logits.shape)).clamp_(1e-20, 1 - 1e-7)
    noisy = (logits.log_softmax(1) - (-uniform.log()).log()) / temperature
    return noisy.softmax(2).amax(0)


def train_selector(
    events: Events,
    answers: Tensor,
    patches: Patches,
    *,
    scale: float,
    k: int,
    epochs: int,
    temperature: float,
    seed: int,
    advance: Advance,
) -> Selector:
    """Train a selector and a predictor together, so that k patches predict the answers of a model.

    Parameters
    ----------
    events : Events
    answers : Tensor
        Probabilities ``[E, O]`` of the classes (cross-entropy), or values ``[E]`` (squared error).
    scale : float
        Size of a pixel, by which images are divided.
    """
    torch.manual_seed(seed)
    selector = Selector(patches)
    predictor = Predictor(patches, answers.shape[1] if answers.ndim == 2 else 1)
    networks = [p for net in (selector, predictor) for p in net.parameters() if p is not selector.place]
    groups: list[dict[str, Any]] = [{"params": networks}, {"params": [selector.place], "lr": PLACE_RATE}]
    optimiser = torch.optim.Adam(groups, LEARNING_RATE)
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(events)).split(BATCH):
            x = torch.as_tensor(events[rows.numpy()].image()) / scale
            chosen = patches.pixels(relaxed_selection(selector(x), k, temperature))
            loss = _loss(predictor(x * chosen[:, None]), answers[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        advance(1, f"loss {total / len(events):.4g}")
    return selector.eval().requires_grad_(False)


def _loss(outputs: Tensor, answers: Tensor) -> Tensor:
    if answers.ndim == 2:
        return F.cross_entropy(outputs, answers)
    return F.mse_loss(outputs[:, 0], answers)
