"""GradientSHAP of images: expected gradients over the pixels."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hepxai.core.chunks import image_rows
from hepxai.explainers.background import PreparedBackground
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.background_images import BackgroundImageExplainer
from hepxai.explainers.image.images import gradient
from hepxai.explainers.libraries import event_seeds
from hepxai.explainers.methods import register


@register("image_gradient_shap")
class ImageGradientShap(BackgroundImageExplainer):
    """Expected gradients over the pixels [Erion et al., arXiv:1906.10670].

    ``φ_p = E_{x', t} (x_p - x'_p) ∂F(x' + t (x - x'))/∂x_p`` over the background images x' and t in [0, 1]:
    Integrated Gradients in the mean over baselines, with one random point of a random path for each sample.
    ``Attribution.error`` has the standard errors. The values and the mean score of the background images add
    up to the score in expectation: within the errors, not better.

    The samples are those of shap's GradientExplainer, which has no error for channels that are added up.

    Attributes
    ----------
    samples : int
        Points for each event.
    sample, size, seed, rows, channels
        See `hepxai.explainers.image.background_images.BackgroundImageExplainer`.
    """

    title = "expected gradients over pixels (image GradientSHAP)"
    short_title = "image GradientSHAP"
    has_errors = True
    wanted_residual = 0.2  # of a sample; the mean over events is complete
    samples: int = Field(default=200, ge=2)

    def attribute_batch(self, prepared: PreparedBackground, batch: Batch[Tensor]) -> Part:
        """Signed values with errors."""
        seeds = event_seeds(batch.events, self.seed)[:, 0]
        # One stream for each event, whatever else is in the batch; gradients take far longer than the loop.
        maps = [self._maps(prepared, x, int(seed)) for x, seed in zip(batch.x, seeds, strict=True)]
        error = torch.stack([m.std(0) for m in maps]) / np.sqrt(self.samples)
        return Part(values=torch.stack([m.mean(0) for m in maps]), error=error)

    def _maps(self, prepared: PreparedBackground, x: Tensor, seed: int) -> Tensor:
        """Change from the background image times gradient, for each sample of an event."""
        assert prepared.rows is not None
        draw, maps = np.random.default_rng(seed), []
        images = draw.integers(len(prepared.rows), size=self.samples)
        share = torch.as_tensor(draw.random((self.samples, 1, 1, 1), dtype=np.float32))
        for rows in image_rows(self.samples, tuple(x.shape)):
            start = torch.as_tensor(prepared.rows[images[rows]])
            point = torch.lerp(start, x[None], share[rows]).contiguous(memory_format=torch.channels_last)
            maps.append(self.reduced((x - start) * gradient(prepared.model, point, prepared.output)).double())
        return torch.cat(maps)
