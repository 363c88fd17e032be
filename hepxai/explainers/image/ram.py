"""Regression Activation Maps: how much each place of the last feature maps adds to the output."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.attribution.residuals import residual_checks
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError, Chunked, Explainer, register
from hepxai.explainers.image.images import image_map
from hepxai.models.protocols import HasFeatureMaps, HasLinearReadout
from hepxai.models.target import Target

HEADS = ("auto", "linear", "gradient")


class Readout(NamedTuple):
    """Weight ``[K]`` of each map, and what is added to the pooled maps."""

    weight: Tensor
    bias: float


@register("ram")
@dataclass(frozen=True, kw_only=True)
class RegressionActivationMap(Explainer):
    """Weighted sum of the feature maps before the pooling, in the units of the output.

    ``R(p) = Σ_k w_k A_k(p)`` [Wang and Yang, arXiv:1703.10757] where a linear layer with weights w and bias b
    follows the average over the pixels: the mean of R over the map, plus b, **is** the output. This is
    checked for every event: ``output_change`` is the output less b, times the number of pixels, and
    ``residual`` is what the sum of the pixels misses.

    Where the head is not linear, there are no such weights. ``P ∂F/∂A_k(p)`` takes the place of w_k, with
    the number P of pixels of the map [gradient-weighted, element by element: Draelos and Carin,
    arXiv:2011.08891]. For a linear head that is the same; for others it is the slope of the head at this
    event, nothing adds up to the output, and there is no residual.

    Attributes
    ----------
    head : {"auto", "linear", "gradient"}
        "linear": exact; refused for a model whose head is not linear. "gradient": the slope of the head.
        "auto" becomes "linear" where that is possible, and the settings of the result say what it was.
    layer : str, optional
        Layer whose maps are shown, the last of ``feature_layers`` by default; another is "gradient" always.
    upsample : bool
        Show the map in the pixels of the image (bilinear, shifted by a constant so that its mean stays the
        same), or in its own.
    """

    needs = HasFeatureMaps
    head: str = "auto"
    layer: str | None = None
    upsample: bool = True

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f"head={self.head!r}; choose one of {', '.join(HEADS)}")

    def prepare(self, model: HasFeatureMaps, events: Events, target: str) -> Self:
        """Settle the layer, and whether the head is linear."""
        layers = model.feature_layers
        layer = self.layer or (layers[-1] if layers else "")
        if layer not in layers:
            raise ValueError(
                f"the model has no layer {layer!r} with maps; it has {', '.join(layers) or 'none'}"
            )
        return dataclasses.replace(self, layer=layer, head=self._head(model, layer))

    def _head(self, model: HasFeatureMaps, layer: str) -> str:
        if self.head == "gradient":
            return self.head
        problem: Exception | None = None
        if layer != model.feature_layers[-1]:
            reason = f"a linear readout is known of {model.feature_layers[-1]}, not of {layer}"
        elif not isinstance(model, HasLinearReadout):
            reason = f"{type(model).__name__} has no readout_weights"
        else:
            try:
                model.readout_weights()
            except ValueError as error:
                reason, problem = str(error), error
            else:
                return "linear"
        if self.head == "auto":
            return "gradient"
        raise CannotExplainError(f"ram with head='linear': {reason}; head='gradient' works") from problem

    def attribute(self, model: HasFeatureMaps, events: Events, target: str) -> Attribution:
        """Signed map of every event, axes ("event", "row", "column")."""
        if self.layer is None or self.head == "auto":
            raise ValueError("layer and head are not settled; call prepare or explain")
        chunked, output = Chunked.of_images(events), Target.of(model.outputs, target)
        readout = self._readout(model, output)
        maps, outputs = [], []
        for x in chunked.images(self.name, progress=self.progress):
            logits, found = _map(model, x, self.layer, output, readout)
            maps.append(self._shown(found, x))
            outputs.append(logits)
        values = _joined(maps, (0, *events.image_layout().shape[1:]))
        change = None if readout is None else chunked.per_event(outputs) - readout.bias
        output_change = None if change is None else change * float(np.prod(values.shape[1:]))
        bias = {} if readout is None else {"bias": readout.bias}
        return image_map(self, events, target, values, output_change=output_change, found=bias)

    def checks(self, found: Attribution) -> dict[str, float]:
        """Completeness, where it is promised."""
        return {} if found.residual is None else residual_checks(found)

    def _readout(self, model: HasFeatureMaps, output: Target) -> Readout | None:
        if self.head == "gradient":
            return None
        assert isinstance(model, HasLinearReadout)
        weight, bias = model.readout_weights()
        return Readout(output(weight.T).detach(), float(output(bias)))

    def _shown(self, found: Tensor, x: Tensor) -> Tensor:
        return upsampled(found, (x.shape[2], x.shape[3])) if self.upsample else found


def _map(
    model: HasFeatureMaps, x: Tensor, layer: str, output: Target, readout: Readout | None
) -> tuple[Tensor, Tensor]:
    """Output ``[B]`` and map ``[B, r, c]``."""
    if readout is not None:
        with torch.no_grad():
            logits, maps = model.forward_maps(x, layer)
        return output(logits), torch.einsum("bkrc,k->brc", maps.detach(), readout.weight)
    with torch.enable_grad():
        # Where the image itself is asked to have a gradient, the maps hang together with the outputs.
        logits, maps = model.forward_maps(x.detach().requires_grad_(True), layer)
        (slope,) = torch.autograd.grad(output(logits).sum(), maps)
    pixels = maps.shape[2] * maps.shape[3]
    return output(logits).detach(), pixels * (slope * maps.detach()).sum(1)


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps ``[B, r, c]`` in the pixels ``[B, R, C]`` of the image, bilinear, with the same mean.

    Interpolation alone changes the mean a little, since pixels at the edges count differently; the difference
    is added to all pixels.
    """
    found = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return found + (maps.mean((1, 2)) - found.mean((1, 2)))[:, None, None]


def _joined(parts: list[Tensor], empty: tuple[int, ...]) -> np.ndarray:
    return torch.cat(parts).numpy() if parts else np.zeros(empty, dtype=np.float32)
