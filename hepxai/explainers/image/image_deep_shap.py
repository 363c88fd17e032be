"""DeepSHAP of images: DeepLIFT against background images."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hepxai.explainers.background import PreparedBackground
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.background_images import BackgroundImageExplainer
from hepxai.explainers.methods import register
from hepxai.explainers.table.deep_shap import DeepShap


@register("image_deep_shap")
class ImageDeepShap(BackgroundImageExplainer, DeepShap):
    """DeepLIFT multipliers of the pixels in the mean over background images, by shap's DeepExplainer.

    As `hepxai.explainers.table.deep_shap.DeepShap`: the change of every activation is shared out among its
    inputs in proportion to their changes, layer by layer from the score to the pixels; that of a maximum goes
    to the pixels that are largest in the image and in the background image. The values and the mean score of
    the background images add up to the score, which is checked for every event: a function such as
    ``torch.relu(x)`` is no torch module, its rule is missed, and the values would be wrong without a warning.

    One event costs a forward and a backward pass of ``2 * size`` images.

    Attributes
    ----------
    tolerance : float
        Largest |residual| of an event, as a share of Σ_p |φ_p| or of the change of the score.
    sample, size, seed, rows, channels
        See `hepxai.explainers.image.background_images.BackgroundImageExplainer`.
    """

    title = "Shapley values of pixels, by DeepLIFT (image DeepSHAP)"
    short_title = "image DeepSHAP"
    advice: ClassVar[str] = (
        "DeepSHAP sees activations and pooling only that are modules of their own (nn.ReLU(), each used "
        "once), not functions (torch.relu); take image_ig, or image_kernel_shap"
    )
    size: int = Field(default=30, ge=1)

    def attribute_batch(self, prepared: PreparedBackground, batch: Batch[Tensor]) -> Part:
        """Signed values."""
        part = super().attribute_batch(prepared, batch)
        return Part(values=self.reduced(torch.as_tensor(part.values)))
