"""SmoothGrad: a map averaged over noisy copies of the image."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from hepxai.core.chunks import image_rows
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.events.splits import event_hash
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.coalitions import IDENTITY
from hepxai.explainers.image.images import ImageExplainer, PreparedImage, gradient
from hepxai.explainers.methods import register

PROBED_COPIES = 4
"""Copies of an event on which the steps of "image_ig" are chosen."""


@register("smoothgrad")
class SmoothGrad(ImageExplainer):
    """``(1/n) Σ_s M(x + noise_s)``: the mean map M of n noisy copies [Smilkov et al., arXiv:1706.03825].

    The noise is a function of the seed and of the event's own numbers: an event alone gets the noise that it
    gets among others. ``Attribution.error`` is the standard error of each mean.

    Attributes
    ----------
    base : {"gradient", "image_ig"}
        The map M: ``∂F/∂x_p`` with its sign, or the values of `ImageIG`. The mean
        of those adds up to the mean change of the score of the noisy copies.
    noise : {"gaussian", "salt"}
        "gaussian" is added to every pixel. "salt" lights random pixels; values of 0 and 1 stay so.
    level : float
        Standard deviation of the Gaussian, in the units of the pixels (a lit one is 1); or the share of
        pixels that are sprinkled with salt.
    samples : int
        Noisy copies n, at least 2.
    seed : int
    baseline, blur, steps, tolerance
        Of "image_ig"; see `hepxai.explainers.image.images.ImageExplainer`. Steps are chosen on noisy copies.
    """

    title = "mean map of noisy copies (SmoothGrad)"
    short_title = "SmoothGrad"
    complete = False  # but with base="image_ig"
    has_errors = True
    probed: ClassVar[int] = 16
    base: Literal["gradient", "image_ig"] = "gradient"
    noise: Literal["gaussian", "salt"] = "gaussian"
    level: float = Field(default=0.1, ge=0)
    samples: int = Field(default=50, ge=2)
    seed: int = Field(default=0, ge=0)

    @field_validator("level")
    @classmethod
    def _is_share(cls, level: float, info: ValidationInfo) -> float:
        if info.data.get("noise") == "salt" and level > 1:
            raise ValueError("should be a number from 0 to 1 for noise='salt'")
        return level

    @property
    def integrates(self) -> bool:
        """True for maps of "image_ig"."""
        return self.base == "image_ig"

    def prepare(self, model: Any, events: Events, target: str) -> PreparedImage:
        """Compute baseline and steps of "image_ig"."""
        if self.noise == "salt" and (quantity := events.image_layout().quantity):
            raise ValueError(
                f"noise='salt' lights pixels of 0 or 1, and those of this image are sums of {quantity}; take "
                f"noise='gaussian' with a level in the units of {quantity}"
            )
        return super().prepare(model, events, target)

    def trial(self, prepared: PreparedImage) -> PreparedImage:
        """Steps are chosen on few copies."""
        few = prepared.explainer.model_copy(update={"samples": min(self.samples, PROBED_COPIES)})
        return dataclasses.replace(prepared, explainer=few)

    def batch_rows(self, events: Events) -> list[IntArray]:
        """Events whose copies fit into memory together."""
        return image_rows(len(events), (self.samples, *events.image_layout().shape))

    def attribute_batch(self, prepared: PreparedImage, batch: Batch[Tensor]) -> Part:
        """Mean map with its error."""
        maps, changes = self._maps(prepared, self.noisy(batch.x, batch.events))
        maps = maps.view(len(batch.rows), self.samples, *maps.shape[1:])
        mean_change = changes.view(len(batch.rows), -1).mean(1) if self.integrates else None
        error = (maps.std(1).numpy() / np.sqrt(self.samples)).astype(np.float32)
        return Part(values=maps.mean(1), error=error, output_change=mean_change)

    def noisy(self, x: Tensor, events: Events) -> Tensor:
        """Copies ``[E * samples, T, R, C]`` of images ``[E, T, R, C]``, those of one event in a row."""
        keys = event_hash(*(getattr(events, name) for name in IDENTITY), seed=self.seed)
        shape = (self.samples, *x.shape[1:])
        # One stream for each event, whatever else is in the chunk; the map takes far longer than this loop.
        noise = [self._noise(np.random.Generator(np.random.Philox(key=int(k))), shape) for k in keys]
        copies = x[:, None] + torch.as_tensor(np.stack(noise))
        flat = copies.clamp_(max=1) if self.noise == "salt" else copies
        flat = flat.flatten(0, 1)
        return torch.empty(flat.shape, memory_format=torch.channels_last).copy_(flat)

    def _noise(self, draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if self.noise == "salt":
            return (draw.random(shape, dtype=np.float32) < self.level).astype(np.float32)
        return draw.standard_normal(shape, dtype=np.float32) * np.float32(self.level)

    def _maps(self, prepared: PreparedImage, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map of each copy, and the change of the score that it adds up to; 0 for gradients."""
        maps, changes = [], []
        for rows in image_rows(len(x), tuple(x.shape[1:])):
            copies = x[rows[0] : rows[-1] + 1]
            if self.integrates:
                part = prepared.from_baseline(copies)
                maps.append(self.reduced(torch.as_tensor(part.values)))
                changes.append(torch.as_tensor(part.output_change).double())
            else:
                maps.append(self.reduced(gradient(prepared.model, copies, prepared.output)))
        return torch.cat(maps), torch.cat(changes) if changes else torch.zeros(len(x))
