"""Regression Activation Maps: contribution of each place of the last feature maps to the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError, Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.images import MapExplainer
from hepxai.explainers.methods import register
from hepxai.models.protocols import HasFeatureMaps, HasLinearReadout
from hepxai.models.target import Target


class Readout(NamedTuple):
    """Weight ``[K]`` of each map, and the bias added to the pooled maps."""

    weight: Tensor
    bias: float


@dataclass(frozen=True, kw_only=True)
class PreparedMap(Prepared):
    """Activation map of a layer.

    Attributes
    ----------
    layer : str
    readout : Readout, optional
        Of a linear head; None takes the slope of the head.
    """

    layer: str
    readout: Readout | None

    def settings(self) -> dict[str, Any]:
        """Settings with the layer, the kind of head and its bias."""
        head = {"head": "gradient"} if self.readout is None else {"head": "linear", "bias": self.readout.bias}
        return super().settings() | {"layer": self.layer} | head


@register("ram")
class RegressionActivationMap(MapExplainer):
    """Weighted sum of the feature maps before the pooling, in the units of the output.

    ``R(p) = Σ_k w_k A_k(p)`` [Wang and Yang, arXiv:1703.10757] where a linear layer with weights w and bias b
    follows the average over the pixels: the mean of R over the map, plus b, **is** the output. This is
    checked for every event: ``output_change`` is the output less b, times the number of pixels, and
    ``residual`` is the difference of the sum of the pixels from it.

    A head that is not linear has no such weights. ``P ∂F/∂A_k(p)`` takes the place of w_k, with
    the number P of pixels of the map [gradient-weighted, element by element: Draelos and Carin,
    arXiv:2011.08891]. For a linear head that is the same; for others it is the slope of the head at this
    event, nothing adds up to the output, and there is no residual.

    Attributes
    ----------
    head : {"auto", "linear", "gradient"}
        "linear": exact; refused for a model whose head is not linear. "gradient": the slope of the head.
        "auto" is "linear" if possible; the settings of the result have the choice.
    layer : str, optional
        Layer whose maps are shown, the last of ``feature_layers`` by default; another is "gradient" always.
    upsample : bool
        Show the map in the pixels of the image (bilinear, shifted by a constant so that its mean stays the
        same), or in its own.
    """

    title = "regression activation map (RAM)"
    short_title = "RAM"
    default_for = "image"
    needs = HasFeatureMaps
    head: Literal["auto", "linear", "gradient"] = "auto"
    layer: str | None = None
    upsample: bool = True

    def check_run(self, model: Any) -> None:
        """Refuse maps that are not in the pixels of the image."""
        if not self.upsample:
            raise ValueError(f"a run keeps maps in the pixels of the image; leave out {self.name}.upsample")

    def prepare(self, model: HasFeatureMaps, events: Events, target: str) -> PreparedMap:
        """Choose the layer, and test the head for linearity."""
        layers = model.feature_layers
        layer = self.layer or (layers[-1] if layers else "")
        if layer not in layers:
            raise ValueError(
                f"the model has no layer {layer!r} with maps; it has {', '.join(layers) or 'none'}"
            )
        readout = self._readout(model, layer, Target.of(model.outputs, target))
        return PreparedMap(explainer=self, model=model, target=target, layer=layer, readout=readout)

    def _readout(self, model: HasFeatureMaps, layer: str, output: Target) -> Readout | None:
        """Linear readout of a layer; None where the slope of the head takes its place."""
        if self.head == "gradient":
            return None
        problem: Exception | None = None
        if layer != model.feature_layers[-1]:
            reason = f"a linear readout is known of {model.feature_layers[-1]}, not of {layer}"
        elif not isinstance(model, HasLinearReadout):
            reason = f"{type(model).__name__} has no readout_weights"
        else:
            try:
                weight, bias = model.readout_weights()
            except ValueError as error:
                reason, problem = str(error), error
            else:
                return Readout(output(weight.T).detach(), float(output(bias)))
        if self.head == "auto":
            return None
        raise CannotExplainError(f"ram with head='linear': {reason}; head='gradient' works") from problem

    def attribute_batch(self, prepared: PreparedMap, batch: Batch[Tensor]) -> Part:
        """Signed map of every event."""
        x, readout = batch.x, prepared.readout
        outputs, maps = _map(prepared.model, x, prepared.layer, prepared.output, readout)
        values = upsampled(maps, (x.shape[2], x.shape[3])) if self.upsample else maps
        if readout is None:
            return Part(values=values)
        pixels = float(values.shape[1] * values.shape[2])
        return Part(values=values, output_change=(outputs.double() - readout.bias) * pixels)


def _map(
    model: HasFeatureMaps, x: Tensor, layer: str, output: Target, readout: Readout | None
) -> tuple[Tensor, Tensor]:
    """Output ``[B]`` and map ``[B, r, c]``."""
    if readout is not None:
        with torch.no_grad():
            logits, maps = model.forward_maps(x, layer)
        return output(logits), torch.einsum("bkrc,k->brc", maps.detach(), readout.weight)
    with torch.enable_grad():
        # The image requires a gradient, so that the maps are connected with the outputs.
        logits, maps = model.forward_maps(x.detach().requires_grad_(True), layer)
        (slope,) = torch.autograd.grad(output(logits).sum(), maps)
    pixels = maps.shape[2] * maps.shape[3]
    return output(logits).detach(), pixels * (slope * maps.detach()).sum(1)


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps ``[B, r, c]`` in the pixels ``[B, R, C]`` of the image, bilinear, with the same mean.

    Interpolation alone changes the mean a little, since pixels at the edges count differently; the difference
    is added to all pixels.
    """
    pixels = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return pixels + (maps.mean((1, 2)) - pixels.mean((1, 2)))[:, None, None]
