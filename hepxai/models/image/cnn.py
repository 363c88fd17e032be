"""Convolutional networks with batch norm, pooling and dropout, of modules only."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from hepxai.events import Schema
from hepxai.models.image.cards import CnnCard, ConvolutionBlock
from hepxai.models.image.layers import LayeredImageModel, LayeredNetwork
from hepxai.models.image.local import LocalPart, local_part
from hepxai.models.network import output_names
from hepxai.models.schemas import layout_of

Steps = OrderedDict[str, nn.Module]


class CnnNetwork(LayeredNetwork):
    """(Convolution → batch norm → ReLU → maximum → dropout)* → (dense → ReLU → dropout)* → outputs.

    Every step is a module that is called once, as methods that change the backward pass need it: guided
    backpropagation, layer-wise relevance propagation, DeepLIFT.
    """

    def __init__(self, card: CnnCard, shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        channels, rows, columns = shape
        steps: Steps = OrderedDict()
        for number, block in enumerate(card.blocks, start=1):
            steps |= _block(channels, block, number)
            channels, rows, columns = block.channels, rows // block.pool[0], columns // block.pool[1]
        if not rows * columns:
            raise ValueError(
                f"images of {shape[1]} x {shape[2]} pixels: the pools of {len(card.blocks)} blocks leave "
                "no pixel; make them smaller, pool: [1, 1] keeps all"
            )
        self.features = nn.Sequential(steps).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = nn.Sequential(_head(card, channels, rows * columns, outputs))
        self.layer_names = tuple(f"conv_{i + 1}" for i in range(len(card.blocks)))
        # Steps up to and including the ReLU of each layer.
        self.cuts = [i + 1 for i, name in enumerate(steps) if name.startswith("relu")]
        self.reduced = card.precision == "bfloat16"

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[B, O]`` of images ``[B, T, R, C]``."""
        return self._outputs(x, self.features)

    def maps_of(self, x: Tensor, layer: int) -> Tensor:
        """Maps ``[B, K, r, c]`` of a layer."""
        maps: Tensor = self.features[: self.cuts[layer - 1]](x)
        return maps

    def outputs_after(self, maps: Tensor, layer: int) -> Tensor:
        """Outputs ``[B, O]`` from the maps of a layer."""
        return self._outputs(maps, self.features[self.cuts[layer - 1] :])

    def _outputs(self, x: Tensor, features: nn.Module) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.reduced and self.training):
            maps = features(x.contiguous(memory_format=torch.channels_last))
        outputs: Tensor = self.head(maps.float())
        return outputs


def _block(channels: int, block: ConvolutionBlock, number: int) -> Steps:
    padding = (block.kernel[0] // 2, block.kernel[1] // 2)
    # Without a bias, which the batch norm would remove.
    convolution = nn.Conv2d(channels, block.channels, block.kernel, padding=padding, bias=False)
    steps: Steps = OrderedDict(conv=convolution, norm=nn.BatchNorm2d(block.channels), relu=nn.ReLU())
    if block.pool != (1, 1):
        steps["pool"] = nn.MaxPool2d(block.pool)
    if block.dropout:
        steps["dropout"] = nn.Dropout(block.dropout)
    return OrderedDict((f"{name}_{number}", step) for name, step in steps.items())


def _head(card: CnnCard, channels: int, pixels: int, outputs: int) -> Steps:
    steps: Steps = OrderedDict()
    if card.reduce == "mean":
        steps["mean"] = nn.AdaptiveAvgPool2d(1)
        pixels = 1
    steps["flatten"] = nn.Flatten()
    inputs = channels * pixels
    for number, width in enumerate(card.dense, start=1):
        steps |= {f"dense_{number}": nn.Linear(inputs, width), f"relu_{number}": nn.ReLU()}
        if card.dropout:
            steps[f"dropout_{number}"] = nn.Dropout(card.dropout)
        inputs = width
    steps["output"] = nn.Linear(inputs, outputs)
    return steps


@dataclass(frozen=True, repr=False)
class CnnModel(LayeredImageModel):
    """A convolutional network with pooling."""

    network: CnnNetwork
    card: CnnCard

    @classmethod
    def fresh(cls, card: CnnCard, schema: Schema) -> Self:
        """Fresh network."""
        size = len(output_names(card, schema))
        return cls(CnnNetwork(card, layout_of(schema).shape, size), card, schema)

    # --- for explainers -----------------------------------------------------------------------

    def local_part(self) -> LocalPart | None:
        """Blocks, and the head."""
        return local_part(nn.Sequential(self.network.features, self.network.head))
