"""Saliency: the gradient of the score with respect to the pixels, also capped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers.base import Chunked, Explainer, register
from hepxai.explainers.image.images import gradient, image_map
from hepxai.models.protocols import DifferentiableImage
from hepxai.models.target import Target


@register("saliency")
@dataclass(frozen=True, kw_only=True)
class Saliency(Explainer):
    """``|∂F/∂x_p|`` at the image of the event [Simonyan et al., arXiv:1312.6034].

    Channels are added up, after the absolute value has been taken.

    Attributes
    ----------
    signed : bool
        Keep the sign: ``∂F/∂x_p``, positive where more light would raise the score.
    """

    needs = DifferentiableImage
    signed: bool = False

    def attribute(self, model: DifferentiableImage, events: Events, target: str) -> Attribution:
        """Gradient of every pixel, axes ("event", "row", "column")."""
        chunked, output = Chunked.of_images(events), Target.of(model.outputs, target)
        values = np.empty((len(events), *events.image_layout().shape[1:]), dtype=np.float32)
        images = chunked.images(self.name, progress=self.progress)
        for rows, x in zip(chunked.chunks, images, strict=True):
            values[rows] = self.shown(gradient(model, x, output)).numpy()
        return image_map(self, events, target, values)

    def shown(self, slope: Tensor) -> Tensor:
        """Map ``[B, R, C]`` of gradients ``[B, T, R, C]``."""
        return (slope if self.signed else slope.abs()).sum(1)


@register("capped_saliency")
@dataclass(frozen=True, kw_only=True)
class CappedSaliency(Saliency):
    """Saliency without its largest values: each map is cut off at a quantile of its own absolute values.

    A few pixels with huge gradients else leave the rest of a map without contrast. The order of the others
    is that of `Saliency`.

    Attributes
    ----------
    signed : bool
        As for `Saliency`; both signs are cut off at the same absolute value.
    quantile : float
        Share of the pixels of an image that are not cut off.
    """

    quantile: float = 0.99

    def __post_init__(self) -> None:
        quantile: Any = self.quantile
        if not (isinstance(quantile, int | float) and 0 < quantile <= 1):
            raise ValueError(f"quantile={quantile!r}; a number above 0 and up to 1 is needed")

    def shown(self, slope: Tensor) -> Tensor:
        """Map with its largest values cut off."""
        found = super().shown(slope)
        cap = found.abs().flatten(1).quantile(self.quantile, dim=1).view(-1, 1, 1)
        return found.clamp(-cap, cap)
