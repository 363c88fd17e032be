"""Common part of the networks on detector images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.events import Events
from hepxai.models.image.pixels import Pixels
from hepxai.models.network import NetworkModel, constant, evaluating
from hepxai.models.schemas import layout_of, same_image

PIECE = 32
"""Images in a chunk without gradients, so that their maps fit into caches."""


@dataclass(frozen=True, repr=False)
class ImageNetworkModel(NetworkModel):
    """A network on detector images; outputs of a regression are in the target's units."""

    inputs = Pixels

    def adapt(self, events: Events) -> None:
        """Leave pixels unscaled."""

    def check(self, events: Events) -> None:
        """Refuse events whose images are not those of the training."""
        same_image(self.schema, events.schema)

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Refuse images of another shape than the model's."""
        wanted = layout_of(self.schema).shape
        if len(shape) != 4 or tuple(shape[1:]) != wanted:
            raise ValueError(
                f"images of shape {tuple(shape)}; the model reads [B, {', '.join(map(str, wanted))}]"
            )

    def score_image(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Outputs ``[B, O]`` of images ``x [B, T, R, C]``."""
        self.check_images(x.shape)
        with torch.inference_mode(), evaluating(self.network):
            parts = [self.network(p).double() for p in torch.as_tensor(x).split(PIECE) if len(p)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, len(self.outputs)))

    def forward_image(self, x: Tensor) -> Tensor:
        """Outputs ``[B, O]``, differentiable in ``x [B, T, R, C]``, in evaluation mode."""
        self.check_images(x.shape)
        with constant(self.network):
            outputs: Tensor = self.network(x)
            return outputs
