"""Regression Activation Maps: contribution of each place of the last feature maps to the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.feature_maps import FeatureMapExplainer, PreparedMap, slopes
from hepxai.explainers.methods import register
from hepxai.models.protocols import HasFeatureMaps, HasLinearReadout
from hepxai.models.target import Target


class Readout(NamedTuple):
    """Weight ``[K]`` of each map, and the bias added to the pooled maps."""

    weight: Tensor
    bias: float


@dataclass(frozen=True, kw_only=True)
class PreparedRam(PreparedMap):
    """Activation map of a layer.

    Attributes
    ----------
    readout : Readout, optional
        Of a linear head; None takes the slope of the head.
    """

    readout: Readout | None

    def settings(self) -> dict[str, Any]:
        """Settings with the kind of head and its bias."""
        head = {"head": "gradient"} if self.readout is None else {"head": "linear", "bias": self.readout.bias}
        return super().settings() | head


@register("ram")
class RegressionActivationMap(FeatureMapExplainer):
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
    layer, upsample
        See `hepxai.explainers.image.feature_maps.FeatureMapExplainer`; with another layer than the last the
        head is "gradient" always.
    """

    title = "regression activation map (RAM)"
    short_title = "RAM"
    default_for = "image"
    head: Literal["auto", "linear", "gradient"] = "auto"

    def prepare(self, model: HasFeatureMaps, events: Events, target: str) -> PreparedRam:
        """Choose the layer, and test the head for linearity."""
        layer = self.chosen_layer(model)
        readout = self._readout(model, layer, Target.of(model.outputs, target))
        return PreparedRam(explainer=self, model=model, target=target, layer=layer, readout=readout)

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

    def attribute_batch(self, prepared: PreparedRam, batch: Batch[Tensor]) -> Part:
        """Signed map of every event."""
        x, readout = batch.x, prepared.readout
        outputs, maps = _map(prepared.model, x, prepared.layer, prepared.output, readout)
        values = self.in_pixels(maps, x)
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
    outputs, maps, slope = slopes(model, x, layer, output)
    return outputs, maps.shape[2] * maps.shape[3] * (slope * maps).sum(1)
