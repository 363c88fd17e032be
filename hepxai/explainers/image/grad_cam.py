"""Grad-CAM: maps of a layer, weighted with the slope of the output."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.feature_maps import PreparedMap, SignedMapExplainer, slopes
from hepxai.explainers.methods import register


@register("grad_cam")
class GradCam(SignedMapExplainer):
    """``Σ_k α_k A_k(p)``, ``α_k = mean_q ∂F/∂A_k(q)`` [Grad-CAM: Selvaraju et al., arXiv:1610.02391].

    The maps A_k of a convolutional layer, each weighted with the mean slope of the output. With
    ``weights="elementwise"`` every place has its own slope: ``Σ_k ∂F/∂A_k(p) A_k(p)`` [HiResCAM: Draelos and
    Carin, arXiv:2011.08891], the contribution of each place to a first-order change of the output.

    Attributes
    ----------
    weights : {"mean", "elementwise"}
    relu, layer, upsample
        See `hepxai.explainers.image.feature_maps.SignedMapExplainer`. The paper has ``relu=True``.
    """

    title = "gradient-weighted class activation map (Grad-CAM)"
    short_title = "Grad-CAM"
    weights: Literal["mean", "elementwise"] = "mean"

    def attribute_batch(self, prepared: PreparedMap, batch: Batch[Tensor]) -> Part:
        """Map of every event."""
        _, maps, slope = slopes(prepared.model, batch.x, prepared.layer, prepared.output)
        if self.weights == "mean":
            slope = slope.mean((2, 3), keepdim=True)
        return Part(values=self.in_pixels((slope * maps).sum(1), batch.x))
