"""Integrated Gradients over the pixels of detector images."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hepxai.core.chunks import image_rows
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.images import ImageExplainer, PreparedImage
from hepxai.explainers.methods import register
from hepxai.models.protocols import DifferentiableImage
from hepxai.models.target import Target


@register("image_ig")
class ImageIG(ImageExplainer):
    """Integrated Gradients from a baseline image to the image of the event, on the logit or the target.

    ``IG_p = (x_p - x'_p) ∫_0^1 ∂F(x' + t (x - x'))/∂x_p dt`` [Sundararajan et al., arXiv:1703.01365].
    ``path="lighting"`` is another path between the same ends: the pixels that differ from the baseline go
    from x'_p to x_p one after the other, row by row. On each piece of it only one pixel changes, so that its
    integral is the change of the score, without quadrature. A pixel that is lit early meets an emptier image
    than one that is lit late: the mean of the order and of its reverse is given, which are Shapley's values
    where no more than two pixels act together.

    Attributes
    ----------
    path : {"straight", "lighting"}
    baseline, blur, steps, tolerance, channels
        See `hepxai.explainers.image.images.ImageExplainer`; "lighting" has no steps.
    """

    title = "integrated gradients over pixels (image IG)"
    short_title = "image IG"
    default_for = "image"
    probed: ClassVar[int] = 32
    path: Literal["straight", "lighting"] = "straight"

    @property
    def integrates(self) -> bool:
        """True for the straight path."""
        return self.path == "straight"

    def attribute_batch(self, prepared: PreparedImage, batch: Batch[Tensor]) -> Part:
        """Signed attribution of every pixel."""
        x = batch.x
        if self.path == "straight":
            part = prepared.from_baseline(x)
        else:
            part = _lighting(prepared.model, prepared.start(x), x, prepared.output)
        return dataclasses.replace(part, values=self.reduced(torch.as_tensor(part.values)).float())


def _lighting(model: DifferentiableImage, start: Tensor, x: Tensor, output: Target) -> Part:
    """Change of the score when each pixel is lit ``[B, T, R, C]``; mean of an order and its reverse."""
    differs = (x != start).flatten(1)
    turn = torch.where(differs, differs.cumsum(1) - 1, -1)  # of each pixel, in the order of the rows
    number = differs.sum(1)
    reverse = torch.where(differs, number[:, None] - 1 - turn, -1)
    parts = [_in_order(model, start, x, t, number, output) for t in (turn, reverse)]
    return Part(values=(parts[0][0] + parts[1][0]) / 2, output_change=parts[0][1])


def _in_order(
    model: DifferentiableImage, start: Tensor, x: Tensor, turn: Tensor, number: Tensor, output: Target
) -> tuple[Tensor, Tensor]:
    """Attribution ``[B, T, R, C]`` and output change of an order; ``turn [B, P]`` is -1 for equal pixels."""
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
    values = torch.where(turn >= 0, gain[at], 0.0).view(x.shape)
    return values, score[first + number] - score[first]
