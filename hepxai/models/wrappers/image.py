"""Wrapper for torch modules that score detector images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.core.chunks import image_rows
from hepxai.events import Events, Schema
from hepxai.events.images import LIT
from hepxai.models.hooks import capture_activations, last_layer_of_chunks, last_linear
from hepxai.models.image.local import LocalPart, local_part
from hepxai.models.losses import Loss, known_loss, loss_of_outputs
from hepxai.models.network import constant, evaluating
from hepxai.models.schemas import checked_outputs, image_size, layout_of, same_image
from hepxai.models.wrappers.layer_cut import forget_stale, forward_behind
from hepxai.models.wrappers.modules import (
    as_logits,
    call_module,
    cast_like,
    check_layers,
    naming_inputs,
    plain_module,
)

CLOSE = 1e-4
"""Relative difference up to which a head in single precision counts as linear."""


def _need_value(schema: Schema) -> None:
    """Refuse a card that leaves open the content of a pixel."""
    image = layout_of(schema)
    axes = (image.rows.feature, image.columns.feature)
    more = [f for f in schema.features if f not in axes and not f.startswith("is_")]
    if image.value is None and more:
        raise ValueError(
            f"the image does not say what a pixel holds, and particles have {', '.join(more)}: write value: "
            f"{more[0]} under image: of the card, if the module was trained on its sum in each pixel, or "
            f"value: {LIT}, if it was trained on 0 and 1"
        )


@dataclass(frozen=True)
class ImageModel:
    """A torch module that scores detector images, as a `hepxai` model.

    Attributes
    ----------
    module : nn.Module
        Takes images ``[B, T, R, C]``, returns ``[B, O]``, or ``[B]`` for one output: logits, or values in the
        units of the target. It is called in evaluation mode and never changed. A compiled or parallel one is
        unwrapped; it must be on the CPU.
    outputs : tuple of str, length O
    schema : Schema
        Of the events that it was trained on (``events.schema``). Events with other images are refused.
    maps : str or tuple of str, optional
        Names of the submodules whose outputs ``[B, K, r, c]`` are feature maps, the default one last; for an
        exact Regression Activation Map the last is that whose maps are pooled, behind the last activation
        function. By default all ``nn.Conv2d``.
    loss : str
        Of the training, for TracIn; see `hepxai.models.losses.event_loss`.
    call : callable
        ``(module, x) -> outputs``; give one if ``forward`` returns more than the outputs, e.g.
        ``lambda m, x: m(x)[0]``.

    Raises
    ------
    TypeError
        If the module is no torch module.
    ValueError
        If the schema has no image, the module has no such layer, there is no such loss, or the module is on
        another device.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    schema: Schema
    maps: str | tuple[str, ...] | None = None
    loss: Loss = "cross_entropy"
    call: Callable[[nn.Module, Tensor], Tensor] = call_module
    view: str = field(default="image", init=False)

    def __post_init__(self) -> None:
        checked_outputs(self.outputs)
        object.__setattr__(self, "module", plain_module(self.module))
        same_image(self.schema, self.schema)
        _need_value(self.schema)
        known_loss(self.loss)
        check_layers(self.module, () if self.maps is None else self.feature_layers)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers with feature maps."""
        if self.maps is not None:
            return (self.maps,) if isinstance(self.maps, str) else tuple(self.maps)
        return tuple(n for n, m in self.module.named_modules() if isinstance(m, nn.Conv2d))

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Outputs ``[E, O]``, in chunks of flat memory."""
        same_image(self.schema, events.schema)
        scores = np.empty((len(events), len(self.outputs)))
        for rows in image_rows(len(events), self._shape):
            scores[rows] = self.score_image(events[rows].image())
        return scores

    def score_image(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Outputs ``[E, O]`` of images."""
        scores = np.empty((len(x), len(self.outputs)))
        with torch.no_grad():
            for rows in image_rows(len(x), self._shape):
                part = np.require(x[rows], np.float32, requirements=("C", "W"))
                scores[rows] = self.forward_image(torch.as_tensor(part)).double().numpy()
        return scores

    def forward_image(self, x: Tensor) -> Tensor:
        """Outputs ``[B, O]``, differentiable, in evaluation mode."""
        self._check_images(x)
        with constant(self.module):
            return self._outputs(x)

    def _check_images(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self._shape:
            raise ValueError(f"images {tuple(x.shape)} for a model of {image_size(self._shape)}")

    def _check_layer(self, layer: str) -> None:
        if layer not in self.feature_layers:
            raise ValueError(f"no maps of layer {layer!r}; there are {', '.join(self.feature_layers)}")

    def _outputs(self, x: Tensor) -> Tensor:
        with naming_inputs(f"images of {image_size(self._shape)}"):
            outputs = self.call(self.module, cast_like(x, self.module))
        return as_logits(outputs, len(x), self.outputs)

    def forward_maps(self, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        """Outputs ``[B, O]`` and the maps ``[B, K, r, c]`` of a layer."""
        self._check_layer(layer)
        with capture_activations(self.module, (layer,), 4, "maps are [event, map, row, column]") as maps:
            outputs = self.forward_image(x)
        if layer not in maps:
            raise ValueError(f"the module does not call its layer {layer}; name one that it calls, by `maps`")
        with constant(self.module):
            forget_stale(self.module, self.call, layer, maps[layer], x, outputs)
        return outputs, maps[layer]

    def forward_after(self, maps: Tensor, layer: str, x: Tensor) -> Tensor:
        """Outputs ``[B, O]`` with the maps ``[B, K, r, c]`` of a layer replaced.

        Only what follows the layer runs, if possible; see
        `hepxai.models.wrappers.layer_cut.forward_behind`.
        """
        self._check_images(x)
        self._check_layer(layer)
        with constant(self.module), naming_inputs(f"images of {image_size(self._shape)}"):
            outputs = forward_behind(self.module, self.call, layer, maps, x)
        return as_logits(outputs, len(x), self.outputs)

    def local_part(self) -> LocalPart | None:
        """Local layers of an ``nn.Sequential`` that is called as it is; None for other modules."""
        return local_part(self.module) if self.call is call_module else None

    def readout_weights(self) -> tuple[Tensor, Tensor]:
        """Weight ``[O, K]`` and bias ``[O]`` of the last ``nn.Linear``.

        Tested on random images: the outputs must be this linear function of the pooled maps.

        Raises
        ------
        ValueError
            If they are not, so that no Regression Activation Map is exact.
        """
        layer, last = self.feature_layers[-1], last_linear(self.module)
        x = torch.rand((4, *self._shape), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            outputs, maps = self.forward_maps(x, layer)
        weight = last.weight.detach()
        stored: Tensor | None = last.bias  # torch declares it as never None
        bias = torch.zeros(len(weight)) if stored is None else stored.detach()
        if tuple(weight.shape) == (outputs.shape[1], maps.shape[1]):
            expected = maps.mean((2, 3)) @ weight.T + bias
            if (expected - outputs).abs().max() <= CLOSE * outputs.abs().max():
                return weight, bias
        raise ValueError(
            f"the outputs of the module are not linear in the pooled maps of layer {layer}: its last "
            f"nn.Linear {tuple(weight.shape)} does not give them. Name the layer whose maps are pooled, as "
            "in ImageModel(net, outputs, schema, maps='7'), if a linear layer follows the pooling; else no "
            "Regression Activation Map is exact"
        )

    def last_layer(self, events: Events) -> tuple[Tensor, Tensor]:
        """Output ``[E, O]`` and input ``[E, H]`` of the last ``nn.Linear``; the module must end there."""
        same_image(self.schema, events.schema)

        def run(rows: NDArray[np.int64]) -> Tensor:
            x = torch.as_tensor(events[rows].image()).contiguous(memory_format=torch.channels_last)
            return self._outputs(x)

        with evaluating(self.module):
            chunks = image_rows(len(events), self._shape)
            return last_layer_of_chunks(last_linear(self.module), run, chunks)

    def training_loss(self, z: Tensor, events: Events) -> Tensor:
        """Loss of every event, ``[E]``."""
        return loss_of_outputs(self.loss, self.outputs, z, events)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return layout_of(self.schema).shape
