"""Saliency: the gradient of the score with respect to the pixels, also capped."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from hepxai.explainers.base import Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.images import PixelExplainer, gradient
from hepxai.explainers.methods import register
from hepxai.models.protocols import DifferentiableImage


@register("saliency")
class Saliency(PixelExplainer):
    """``|∂F/∂x_p|`` at the image of the event [Simonyan et al., arXiv:1312.6034].

    Channels are added up, after the absolute value has been taken.

    Attributes
    ----------
    signed : bool
        Keep the sign: ``∂F/∂x_p``, positive where more light would raise the score.
    channels
        See `hepxai.explainers.image.images.PixelExplainer`.
    """

    title = "gradient of pixels (saliency)"
    short_title = "saliency"
    sign = "positive"
    needs = DifferentiableImage
    signed: bool = False

    def sign_of_result(self) -> Literal["both", "positive"]:
        """Both signs if ``signed``."""
        return "both" if self.signed else "positive"

    def attribute_batch(self, prepared: Prepared, batch: Batch[Tensor]) -> Part:
        """Gradient of every pixel."""
        return Part(values=self.reduced(gradient(prepared.model, batch.x, prepared.output)))

    def reduced(self, slope: Tensor) -> Tensor:
        """Map ``[B, R, C]``, or ``[B, T, R, C]``, of gradients ``[B, T, R, C]``."""
        return super().reduced(slope if self.signed else slope.abs())


@register("capped_saliency")
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

    title = "capped gradient of pixels (capped saliency)"
    short_title = "capped saliency"
    quantile: float = Field(default=0.99, gt=0, le=1)

    def reduced(self, slope: Tensor) -> Tensor:
        """Map with its largest values cut off."""
        values = super().reduced(slope)
        cap = values.abs().flatten(1).quantile(self.quantile, dim=1)
        cap = cap.view(-1, *(1,) * (values.ndim - 1))
        return values.clamp(-cap, cap)
