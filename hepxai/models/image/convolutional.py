"""Convolutional networks on detector images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn

from hepxai.events import Events, Schema
from hepxai.models.hooks import last_linear
from hepxai.models.image.cards import ConvolutionalCard
from hepxai.models.image.layers import LayeredImageModel, LayeredNetwork
from hepxai.models.image.local import LocalPart
from hepxai.models.image.pixels import Pixels
from hepxai.models.image.skip_empty_columns import column_mean
from hepxai.models.network import constant, output_names
from hepxai.models.scaling import dense_layers
from hepxai.models.schemas import layout_of

SAMPLE = 256
"""Training images that determine the scale of the first weights."""


class ConvolutionalNetwork(LayeredNetwork):
    """(Convolution → ReLU)* → mean over the pixels → (dense → ReLU)* → outputs."""

    def __init__(self, card: ConvolutionalCard, channels: int, outputs: int) -> None:
        super().__init__()
        widths = (channels, *card.channels)
        self.convolutions = nn.ModuleList(
            _convolution(a, b, card.kernel) for a, b in zip(widths, card.channels, strict=False)
        )
        self.activations = nn.ModuleList(nn.ReLU() for _ in card.channels)
        self.head = nn.Sequential(*dense_layers(widths[-1], card.dense, outputs, (), nn.ReLU))
        self.reach = len(card.channels) * (card.kernel // 2)
        self.reduced = card.precision == "bfloat16"
        self.layer_names = tuple(f"conv_{i + 1}" for i in range(len(card.channels)))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[B, O]`` of images ``[B, T, R, C]``."""
        outputs: Tensor = self.head(self.pooled(x))
        return outputs

    def pooled(self, x: Tensor) -> Tensor:
        """Mean of the last maps over the pixels, ``[B, K]``."""
        if x.requires_grad:  # empty pixels have a gradient, too
            return self.maps(x).float().mean((2, 3))
        return column_mean(x, self.maps, self.reach)

    def maps(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Maps after the convolutions from ``first`` to before ``last``, all by default, ``[B, K, R, C]``."""
        x = x.contiguous(memory_format=torch.channels_last)
        reduced = self.reduced and self.training
        with torch.autocast(x.device.type, torch.bfloat16, enabled=reduced):
            for layer in list(zip(self.convolutions, self.activations, strict=True))[first:last]:
                for step in layer:
                    x = step(x)
        return x

    def maps_of(self, x: Tensor, layer: int) -> Tensor:
        """Maps ``[B, K, R, C]`` of a layer."""
        return self.maps(x, 0, layer)

    def outputs_after(self, maps: Tensor, layer: int) -> Tensor:
        """Outputs ``[B, O]`` from the maps of a layer."""
        outputs: Tensor = self.head(self.maps(maps, layer).mean((2, 3)))
        return outputs


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True, repr=False)
class ConvolutionalModel(LayeredImageModel):
    """A convolutional network, with its maps, and its readout if that is linear."""

    network: ConvolutionalNetwork
    card: ConvolutionalCard

    @classmethod
    def fresh(cls, card: ConvolutionalCard, schema: Schema) -> Self:
        """Fresh network."""
        channels = layout_of(schema).shape[0]
        return cls(ConvolutionalNetwork(card, channels, len(output_names(card, schema))), card, schema)

    def adapt(self, events: Events) -> None:
        """Scale the first weights so that the means over the pixels are of order 1.

        Otherwise a mean over thousands of pixels, nearly all of them dark, is tiny, and so are the gradients.
        Every convolution gets the same share of the factor; they are homogeneous, because biases are still 0.
        """
        x = Pixels.of(events[:SAMPLE]).take(torch.arange(min(SAMPLE, len(events))))
        with torch.no_grad(), constant(self.network):
            size = float(self.network.pooled(x).square().mean().sqrt())
            for convolution in self.network.convolutions if size > 0 else ():
                cast(nn.Conv2d, convolution).weight.mul_(size ** (-1 / len(self.network.convolutions)))

    # --- for explainers -----------------------------------------------------------------------

    def local_part(self) -> LocalPart:
        """Convolutions, and the head behind the mean over the pixels."""
        network = self.network
        pairs = zip(network.convolutions, network.activations, strict=True)
        layers = tuple(module for pair in pairs for module in pair)
        return LocalPart(network, layers, lambda pooled: network.head(pooled.flatten(1)), mean=True)

    def readout_weights(self) -> tuple[Tensor, Tensor]:
        """Weight ``[O, K]`` and bias ``[O]`` of the mean over the pixels of the last maps.

        Raises
        ------
        ValueError
            If there are dense layers between the mean and the outputs.
        """
        if self.card.dense:
            raise ValueError(
                f"{len(self.card.dense)} dense layers lie between the mean over the pixels and the outputs, "
                "which are not linear in it; a card with dense: [] has a linear readout"
            )
        last = last_linear(self.network.head)
        return last.weight.detach(), last.bias.detach()
