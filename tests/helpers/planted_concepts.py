"""Images with horizontal and vertical bars, and a network whose channels are known to see them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.models.wrappers.image import ImageModel

ROWS, COLUMNS, CHANNELS = 8, 12, 6
CLASSES = ("empty", "horizontal", "vertical")


def bar_events(n: int = 90, seed: int = 0, *, weight: np.ndarray | None = None) -> Events:
    """Noise, and in two of three classes a bar of three pixels."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    images = (rng.random((n, 1, ROWS, COLUMNS)) < 0.03) * rng.uniform(0.2, 1.0, (n, 1, ROWS, COLUMNS))
    for e, (r, c) in enumerate(
        zip(rng.integers(0, ROWS - 2, n), rng.integers(0, COLUMNS - 2, n), strict=True)
    ):
        if label[e] == 1:
            images[e, 0, r, c : c + 3] = 1
        elif label[e] == 2:
            images[e, 0, r : r + 3, c] = 1
    return Events.from_images(images, label=label, classes=CLASSES, weight=weight)


class BarNetwork(nn.Module):
    """Channels 0 and 1 fire at horizontal bars, 2 and 3 at vertical ones, 4 and 5 at any lit pixel.

    The outputs are a constant and the sums of the first and of the second pair; lit pixels have no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, CHANNELS, 3, padding=1), nn.ReLU()
        weight, bias = torch.zeros(CHANNELS, 1, 3, 3), torch.zeros(CHANNELS)
        weight[0, 0, 1], weight[1, 0, 1], weight[2, 0, :, 1], weight[3, 0, :, 1] = 1.0, 0.5, 0.8, 1.2
        weight[4, 0, 1, 1], weight[5, 0, 1, 1] = 1.0, 0.7
        bias[:4] = torch.tensor([-2.0, -1.0, -1.6, -2.4])
        with torch.no_grad():
            self.conv.weight.copy_(weight)
            self.conv.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.relu(self.conv(x)).sum((2, 3))
        constant = torch.full_like(pooled[:, 0], 0.3)
        return torch.stack([constant, pooled[:, :2].sum(1), pooled[:, 2:4].sum(1)], 1)


def bar_model(events: Events, **settings: object) -> ImageModel:
    """Model of the bars, with the maps behind the ReLU."""
    return ImageModel(BarNetwork(), CLASSES, events.schema, **{"maps": "relu"} | settings)
