"""SmoothGrad: a map averaged over noisy copies of the image."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.attribution.residuals import residual_checks
from hepxai.core.chunks import image_rows
from hepxai.datasets.splits import event_hash
from hepxai.events import Events
from hepxai.explainers.base import Chunked, Explainer, register
from hepxai.explainers.coalitions import IDENTITY
from hepxai.explainers.image.image_ig import ImageIG
from hepxai.explainers.image.images import Baseline, as_setting, gradient, image_map
from hepxai.explainers.path import fewest_steps, probe
from hepxai.models.protocols import DifferentiableImage
from hepxai.models.target import Target

PROBED = (16, 4)
"""Events, and copies of each, on which the steps of "image_ig" are chosen."""
BASES = ("gradient", "image_ig")
NOISES = ("gaussian", "salt")


@register("smoothgrad")
@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Explainer):
    """``(1/n) Σ_s M(x + noise_s)``: the mean map M of n noisy copies [Smilkov et al., arXiv:1706.03825].

    The noise is a function of the seed and of the event's own numbers: an event alone gets the noise that it
    gets among others. ``Attribution.error`` is the standard error of each mean.

    Attributes
    ----------
    base : {"gradient", "image_ig"}
        The map M: ``∂F/∂x_p`` with its sign, or the values of `ImageIG`. The mean
        of those adds up to the mean change of the score of the noisy copies.
    noise : {"gaussian", "salt"}
        "gaussian" is added to every pixel. "salt" lights pixels by chance; what is 0 or 1 stays so.
    level : float
        Standard deviation of the Gaussian, in the units of the pixels (a lit one is 1); or the share of
        pixels that are sprinkled with salt.
    samples : int
        Noisy copies n, at least 2.
    seed : int
    baseline, blur, steps, tolerance
        Of "image_ig"; the steps are chosen on noisy copies.
    """

    needs = DifferentiableImage
    base: str = "gradient"
    noise: str = "gaussian"
    level: float = 0.1
    samples: int = 50
    seed: int = 0
    baseline: Baseline = 0.0
    blur: float = 4.0
    steps: int | None = None
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        for name, known in (("base", BASES), ("noise", NOISES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; choose one of {', '.join(known)}")
        for name, least in (("samples", 2), ("seed", 0)):
            value: Any = getattr(self, name)  # from a command line it may be anything
            if type(value) is not int or value < least:
                raise ValueError(f"{name}={value!r}; a whole number from {least} is needed")
        level: Any = self.level
        most = 1.0 if self.noise == "salt" else sys.float_info.max
        if not (isinstance(level, int | float) and 0 <= level <= most):
            raise ValueError(f"level={level!r}; a number from 0 {'to 1 ' if most == 1 else ''}is needed")
        self._path()

    def prepare(self, model: DifferentiableImage, events: Events, target: str) -> Self:
        """Settle baseline and steps of "image_ig"."""
        if self.noise == "salt" and (quantity := events.image_layout().quantity):
            raise ValueError(
                f"noise='salt' lights pixels of 0 or 1, and those of this image are sums of {quantity}; take "
                f"noise='gaussian' with a level in the units of {quantity}"
            )
        if self.base == "gradient":
            return self
        settled = dataclasses.replace(self, baseline=as_setting(self.baseline, events))
        if self.steps is not None:
            return settled
        few = dataclasses.replace(settled, samples=min(self.samples, PROBED[1]))
        steps = fewest_steps(few, model, probe(events, PROBED[0]), target, self.tolerance)
        return dataclasses.replace(settled, steps=steps)

    def attribute(self, model: DifferentiableImage, events: Events, target: str) -> Attribution:
        """Mean map with its error, axes ("event", "row", "column")."""
        layout, output = events.image_layout().shape, Target.of(model.outputs, target)
        chunked = Chunked(events, image_rows(len(events), (self.samples, *layout)))
        values, error = (np.empty((len(events), *layout[1:]), dtype=np.float32) for _ in range(2))
        output_change = np.empty(len(events))
        images = chunked.images(self.name, progress=self.progress)
        for rows, x in zip(chunked.chunks, images, strict=True):
            maps, spans = self._maps(model, self.noisy(x, events[rows]), output)
            maps = maps.view(len(rows), self.samples, *maps.shape[1:])
            values[rows] = maps.mean(1).numpy()
            error[rows] = maps.std(1).numpy() / np.sqrt(self.samples)
            output_change[rows] = spans.view(len(rows), -1).mean(1).numpy()
        complete = output_change if self.base == "image_ig" else None
        return image_map(self, events, target, values, output_change=complete, error=error.astype(np.float64))

    def checks(self, found: Attribution) -> dict[str, float]:
        """Completeness, where it is promised."""
        return {} if found.residual is None else residual_checks(found)

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

    def _maps(self, model: DifferentiableImage, x: Tensor, output: Target) -> tuple[Tensor, Tensor]:
        """Map ``[B, R, C]`` of each copy, and the change of the score that it adds up to; 0 of gradients."""
        path, maps, spans = self._path(), [], []
        for rows in image_rows(len(x), tuple(x.shape[1:])):
            part = x[rows[0] : rows[-1] + 1]
            if self.base == "gradient":
                maps.append(gradient(model, part, output).sum(1))
            else:
                found = path.integral(model, part, output)
                maps.append(found.gradient.sum(1))
                spans.append(found.output_change)
        return torch.cat(maps), torch.cat(spans).double() if spans else torch.zeros(len(x))

    def _path(self) -> ImageIG:
        return ImageIG(baseline=self.baseline, blur=self.blur, steps=self.steps, tolerance=self.tolerance)
