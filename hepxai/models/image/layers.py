"""Convolutional networks that can be cut at each of their layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from hepxai.models.image.network import ImageNetworkModel
from hepxai.models.network import constant


class LayeredNetwork(nn.Module, ABC):
    """A network with named convolutional layers; ``layer_names`` are numbered from 1."""

    layer_names: tuple[str, ...]

    @abstractmethod
    def maps_of(self, x: Tensor, layer: int) -> Tensor:
        """Maps ``[B, K, r, c]`` of a layer for images ``[B, T, R, C]``."""

    @abstractmethod
    def outputs_after(self, maps: Tensor, layer: int) -> Tensor:
        """Outputs ``[B, O]`` from the maps of a layer."""


@dataclass(frozen=True, repr=False)
class LayeredImageModel(ImageNetworkModel):
    """A network on detector images, with the maps of its convolutional layers."""

    network: LayeredNetwork

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """``conv_1``, ``conv_2``, …: maps after the ReLU."""
        return self.network.layer_names

    def forward_maps(self, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        """Outputs ``[B, O]``, and the maps ``[B, K, r, c]`` of a layer from which they were computed."""
        self.check_images(x.shape)
        number = self._number_of(layer)
        with constant(self.network):
            maps = self.network.maps_of(x, number)
        if not maps.requires_grad:
            maps.requires_grad_(True)
        return self.forward_after(maps, layer, x), maps

    def forward_after(self, maps: Tensor, layer: str, x: Tensor) -> Tensor:
        """Outputs ``[B, O]`` with the maps ``[B, K, r, c]`` of a layer replaced."""
        with constant(self.network):
            return self.network.outputs_after(maps, self._number_of(layer))

    def _number_of(self, layer: str) -> int:
        if layer not in self.feature_layers:
            raise ValueError(f"no layer {layer!r}; there are {', '.join(self.feature_layers)}")
        return self.feature_layers.index(layer) + 1
