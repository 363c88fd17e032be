"""Integrated Gradients over the pixels of detector images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.chunks import image_rows
from hepxai.events import Events
from hepxai.explainers.base import Chunked, register
from hepxai.explainers.image.images import Baseline, as_setting, image_map, start_of
from hepxai.explainers.path import PathExplainer, PathIntegral, integrate
from hepxai.models.protocols import DifferentiableImage
from hepxai.models.target import Target

PATHS = ("straight", "lighting")


@register("image_ig")
@dataclass(frozen=True, kw_only=True)
class ImageIG(PathExplainer):
    """Integrated Gradients from a baseline image to the image of the event, on the logit or the target.

    ``IG_p = (x_p - x'_p) ∫_0^1 ∂F(x' + t (x - x'))/∂x_p dt`` [Sundararajan et al., arXiv:1703.01365].
    Channels are added up.

    ``path="lighting"`` is another path between the same ends: the pixels that differ from the baseline go
    from x'_p to x_p one after the other, row by row. On each piece of it only one pixel changes, so that its
    integral is the change of the score, without quadrature. A pixel that is lit early meets an emptier image
    than one that is lit late: the mean of the order and of its reverse is given, which are Shapley's values
    where no more than two pixels act together.

    Attributes
    ----------
    baseline : float, str, array or Events
        Value of all pixels (0: nothing lit; 0.5), "blurred": the image itself washed out, an image
        ``[T, R, C]`` (``[R, C]`` for one channel), or events whose weighted mean image is taken.
    blur : float
        σ of the Gaussian for "blurred", in pixels, along rows and columns.
    path : {"straight", "lighting"}
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`; nothing to "lighting".
    """

    needs = DifferentiableImage
    probed: ClassVar[int] = 32
    baseline: Baseline = 0.0
    blur: float = 4.0
    path: str = "straight"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path not in PATHS:
            raise ValueError(f"path={self.path!r}; choose one of {', '.join(PATHS)}")
        blur: Any = self.blur
        if not (isinstance(blur, int | float) and 0 < blur < np.inf):
            raise ValueError(f"blur={blur!r}; a positive number of pixels is needed")

    def prepare(self, model: DifferentiableImage, events: Events, target: str) -> Self:
        """Settle the baseline and the number of steps."""
        settled = dataclasses.replace(self, baseline=as_setting(self.baseline, events))
        return settled if self.path == "lighting" else settled.with_steps(model, events, target)

    def attribute(self, model: DifferentiableImage, events: Events, target: str) -> Attribution:
        """Signed attribution of every pixel, axes ("event", "row", "column")."""
        chunked, output = Chunked.of_images(events), Target.of(model.outputs, target)
        values = np.empty((len(events), *events.image_layout().shape[1:]), dtype=np.float32)
        spans = []
        images = chunked.images(self.name, progress=self.progress)
        for rows, x in zip(chunked.chunks, images, strict=True):
            found = self.integral(model, x, output)
            values[rows] = found.gradient.sum(1).numpy()
            spans.append(found.output_change)
        output_change = chunked.per_event(spans)
        return image_map(self, events, target, values, output_change=output_change)

    def integral(self, model: DifferentiableImage, x: Tensor, output: Target) -> PathIntegral:
        """Attribution ``[B, T, R, C]`` of some images, and the change of the score."""
        start = start_of(self.baseline, x, self.blur)
        if self.path == "lighting":
            return _lit(model, start, x, output)
        change = x - start
        found = integrate(lambda s: output(model.forward_image(s)), start, change, self.nodes())
        return PathIntegral(change * found.gradient, found.output_change)


def _lit(model: DifferentiableImage, start: Tensor, x: Tensor, output: Target) -> PathIntegral:
    """Change of the score when each pixel is lit; mean of an order and its reverse."""
    differs = (x != start).flatten(1)
    turn = torch.where(differs, differs.cumsum(1) - 1, -1)  # of each pixel, in the order of the rows
    number = differs.sum(1)
    reverse = torch.where(differs, number[:, None] - 1 - turn, -1)
    parts = [_in_order(model, start, x, t, number, output) for t in (turn, reverse)]
    return PathIntegral((parts[0][0] + parts[1][0]) / 2, parts[0][1])


def _in_order(
    model: DifferentiableImage, start: Tensor, x: Tensor, turn: Tensor, number: Tensor, output: Target
) -> tuple[Tensor, Tensor]:
    """Attribution ``[B, T, R, C]`` and span of one order; ``turn [B, P]`` is -1 for pixels that stay."""
    event = torch.repeat_interleave(torch.arange(len(x)), number + 1)
    first = torch.cumsum(number + 1, 0) - (number + 1)
    lit = torch.arange(len(event)) - first[event]  # so many pixels are lit in each image
    score = torch.empty(len(event), dtype=torch.float64)
    with torch.no_grad():
        for rows in map(torch.as_tensor, image_rows(len(event), tuple(x.shape[1:]))):
            e = event[rows]
            on = (turn[e] < lit[rows, None]).view(-1, *x.shape[1:])  # those that stay are the same in both
            score[rows] = output(model.forward_image(torch.where(on, x[e], start[e]))).double()
    gain = torch.cat([score[1:] - score[:-1], score[:1]])  # of the pixel that comes next
    at = first[:, None] + turn.clamp(min=0)
    found = torch.where(turn >= 0, gain[at], 0.0).view(x.shape)
    return found, score[first + number] - score[first]
