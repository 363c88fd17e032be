"""Eigen-CAM: first principal component of the maps of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.feature_maps import FeatureMapExplainer, PreparedMap, lit
from hepxai.explainers.methods import register

SHARE = "explained_share"
LEAST_SHARE = 0.3
"""Share of the variance below which one component is no summary of the maps."""

ROUNDING = 1e-12
"""Variance relative to the mean square below which maps are constant: rounding in single precision."""


@register("eigen_cam")
class EigenCam(FeatureMapExplainer):
    """``Σ_k v_k A_k(p)``: projection of a layer's maps on their first principal component v.

    The places p of an image are the samples, its maps A_k the variables [Muhammad and Yeasin,
    arXiv:2008.00299]; no output enters, so that the map is the same for every class. A singular vector has
    no sign: here the map has a positive covariance with the mean of all maps. The check ``explained_share``
    is the component's share of the variance of the maps, mean over the events with lit pixels; 1 for maps
    without variance, which give 0 everywhere.

    Attributes
    ----------
    centred : bool
        Subtract from every map its mean over the image first, as a principal component needs. With False, the
        singular vector of the maps themselves, as in the paper: of images that are mostly dark it is the
        response to dark pixels.
    layer, upsample
        See `hepxai.explainers.image.feature_maps.FeatureMapExplainer`.
    """

    title = "first principal component of the maps (Eigen-CAM)"
    short_title = "Eigen-CAM"
    unit = "activation"
    tells_outputs_apart = False
    centred: bool = True

    def settings(self) -> dict[str, Any]:
        """Settings with the unit."""
        return super().settings() | {"unit": self.unit}

    def attribute_batch(self, prepared: PreparedMap, batch: Batch[Tensor]) -> Part:
        """Map of every event."""
        with torch.no_grad():
            _, maps = prepared.model.forward_maps(batch.x, prepared.layer)
        values, share = first_component(maps.detach(), centred=self.centred)
        values = self.in_pixels(values.to(batch.x), batch.x)
        share = share.masked_fill(~lit(batch.x), torch.nan)
        return Part(values=values, checks={SHARE: share.numpy()})

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Mean share of the variance."""
        return dict(attribution.checks)

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Faithfulness, and a component that has little of the variance."""
        share = checks.get(SHARE, 1.0)
        if share >= LEAST_SHARE:
            return super().concerns(checks)
        little = f"the first component has only {100 * share:.0f} % of the variance of the maps"
        return (*super().concerns(checks), little)


def first_component(maps: Tensor, *, centred: bool = True) -> tuple[Tensor, Tensor]:
    """Projection ``[B, r, c]`` of maps ``[B, K, r, c]`` on their first principal component, and its share.

    From the eigenvectors of the smaller one of A Aᵀ and Aᵀ A, in double precision.
    """
    flat = maps.double().flatten(2)
    mean, whole = flat.mean(1), flat.square().sum((1, 2))
    if centred:
        flat = flat - flat.mean(2, keepdim=True)
    if flat.shape[1] <= flat.shape[2]:
        size, vectors = torch.linalg.eigh(flat @ flat.mT)
        values = (vectors[..., -1:].mT @ flat)[:, 0]
    else:
        size, vectors = torch.linalg.eigh(flat.mT @ flat)
        values = vectors[..., -1] * size[:, -1:].clamp(min=0).sqrt()
    total = flat.square().sum((1, 2))
    varies = total > ROUNDING * whole
    sign = torch.where((values * mean).sum(1) < 0, -1.0, 1.0) * varies
    share = torch.where(varies, size[:, -1] / total, 1.0)
    return (sign[:, None] * values).view(len(maps), *maps.shape[2:]), share
