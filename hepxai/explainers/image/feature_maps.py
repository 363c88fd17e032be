"""Weighted sums of the maps of a convolutional layer: choice of the layer, slopes, interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hepxai.events import Events
from hepxai.explainers.base import Prepared
from hepxai.explainers.image.images import MapExplainer
from hepxai.models.protocols import HasFeatureMaps
from hepxai.models.target import Target


@dataclass(frozen=True, kw_only=True)
class PreparedMap(Prepared):
    """Method on the maps of a layer.

    Attributes
    ----------
    layer : str
    """

    layer: str

    def settings(self) -> dict[str, Any]:
        """Settings with the layer."""
        return super().settings() | {"layer": self.layer}


class FeatureMapExplainer(MapExplainer):
    """Weighted sum of the maps of a convolutional layer.

    Attributes
    ----------
    layer : str, optional
        Layer whose maps are shown, by default the last of the model's ``feature_layers``.
    upsample : bool
        Show the map in the pixels of the image (bilinear, shifted by a constant so that its mean stays the
        same), or in its own.
    """

    needs: ClassVar[type] = HasFeatureMaps
    layer: str | None = None
    upsample: bool = True

    def check_run(self, model: Any) -> None:
        """Refuse maps that are not in the pixels of the image."""
        if not self.upsample:
            raise ValueError(f"a run keeps maps in the pixels of the image; leave out {self.name}.upsample")

    def prepare(self, model: Any, events: Events, target: str) -> PreparedMap:
        """Choose the layer."""
        return PreparedMap(explainer=self, model=model, target=target, layer=self.chosen_layer(model))

    def chosen_layer(self, model: HasFeatureMaps) -> str:
        """Layer of the settings or the last one; a ValueError if the model has no maps of it."""
        layers = model.feature_layers
        layer = self.layer or (layers[-1] if layers else "")
        if layer not in layers:
            raise ValueError(
                f"the model has no layer {layer!r} with maps; it has {', '.join(layers) or 'none'}. Name "
                "other layers of a torch module with [event, map, row, column] by ImageModel(…, maps=(…))"
            )
        return layer

    def in_pixels(self, maps: Tensor, x: Tensor) -> Tensor:
        """Map in the pixels of the images ``x [B, T, R, C]``, if ``upsample``."""
        return upsampled(maps, (x.shape[2], x.shape[3])) if self.upsample else maps


class SignedMapExplainer(FeatureMapExplainer):
    """Weighted sum of maps whose negative part may be cut off.

    Attributes
    ----------
    relu : bool
        Set negative values of the map to 0, as for a picture of the evidence *for* a class. By default they
        stay: a contrast or a regression has evidence of both signs.
    layer, upsample
        See `FeatureMapExplainer`.
    """

    relu: bool = False

    def sign_of_result(self) -> Literal["both", "positive"]:
        """No negative values if ``relu``."""
        return "positive" if self.relu else "both"

    def in_pixels(self, maps: Tensor, x: Tensor) -> Tensor:
        """Map in the pixels of the images, without negative values if ``relu``."""
        if not self.relu:
            return super().in_pixels(maps, x)
        return super().in_pixels(maps.relu(), x).relu()  # the shift of the mean may be negative


def slopes(model: HasFeatureMaps, x: Tensor, layer: str, output: Target) -> tuple[Tensor, Tensor, Tensor]:
    """Output ``[B]``, the maps A ``[B, K, r, c]`` of a layer, and the output's slope ∂F/∂A."""
    with torch.enable_grad():
        # The image requires a gradient, so that the maps are connected with the outputs.
        logits, maps = model.forward_maps(x.detach().requires_grad_(True), layer)
        value = output(logits)
        (slope,) = torch.autograd.grad(value.sum(), maps)
    return value.detach(), maps.detach(), slope


def lit(x: Tensor) -> Tensor:
    """True for images ``[B, T, R, C]`` with a pixel that is not 0, ``[B]``."""
    return (x != 0).flatten(1).any(1)


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps ``[B, r, c]`` in the pixels ``[B, R, C]`` of the image, bilinear, with the same mean.

    Interpolation alone changes the mean a little, since pixels at the edges count differently; the difference
    is added to all pixels.
    """
    pixels = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return pixels + (maps.mean((1, 2)) - pixels.mean((1, 2)))[:, None, None]
