"""Graph networks on particle clouds: convolutions, mean over particles, dense layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from hepxai.events import Schema
from hepxai.models.card import Convolution, ParticleGNNCard
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.layers import DynamicEdge, Graph, Transformer
from hepxai.models.graph.neighbours import Neighbours
from hepxai.models.graph.network import ParticleNetworkModel
from hepxai.models.network import constant, evaluating, output_names
from hepxai.models.protocols import EdgePath
from hepxai.models.scaling import Standardise, dense_layers

Layer = Transformer | Graph | DynamicEdge


class _Step(NamedTuple):
    """One convolution of a pass: its input ``x [N, F]``, and its neighbours if it searches for them."""

    name: str
    layer: Layer
    x: Tensor
    neighbours: Neighbours | None


class ParticleGNN(nn.Module):
    """Convolutions → mean over particles → batch norm → (alpha dropout → dense → SELU)* → logits.

    Accepts a :class:`Cloud` or a PyG ``Batch``. States pass a ReLU after each convolution.
    """

    def __init__(
        self, card: ParticleGNNCard, inputs: int, outputs: int, pair_names: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.standardise = Standardise(inputs)
        widths = [inputs, *(c.width for c in card.convolutions)]
        self.convolutions = nn.ModuleList(
            _layer(c, size, card.edge_dropout, pair_names)
            for c, size in zip(card.convolutions, widths, strict=False)
        )
        dropout = partial(nn.AlphaDropout, card.alpha_dropout)
        layers = dense_layers(widths[-1], card.dense, outputs, (dropout,), nn.SELU)
        self.head = nn.Sequential(nn.BatchNorm1d(widths[-1]), *layers)
        self.layer_names = tuple(f"{c.kind}_{i + 1}" for i, c in enumerate(card.convolutions))

    def forward(self, events: Cloud | Data, neighbours: dict[str, Neighbours] | None = None) -> Tensor:
        """Logits ``[B, O]``."""
        cloud = events if isinstance(events, Cloud) else Cloud.of_batch(events)
        return self._from(0, self.standardise(cloud.x), cloud, neighbours)

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Neighbours that each dynamic layer finds, by layer name."""
        return {s.name: s.neighbours for s in self._trace(cloud) if s.neighbours is not None}

    def attention(self, cloud: Cloud) -> dict[str, Tensor]:
        """α_ij ``[P, heads]`` of each attention layer."""
        steps = ((s.name, s.layer, s.x) for s in self._trace(cloud))
        return {n: layer.attention(x, cloud) for n, layer, x in steps if isinstance(layer, Transformer)}

    def edge_path(self, cloud: Cloud, layer: str) -> EdgePath:
        """Cut the network open at the edges of a named convolution."""
        position = self.layer_names.index(layer)
        cut = next(islice(self._trace(cloud), position, None))
        messages = cut.layer.messages(cut.x, cloud, cut.neighbours)
        x, lists = torch.relu(messages.base + messages.total), {}
        for name, later in self._layers()[position + 1 :]:
            near = later.neighbours(x, cloud)
            if near is not None:
                lists[name] = near
            x = torch.relu(later(x, cloud, near))

        def after(state: Tensor, frozen: bool) -> Tensor:
            return self._from(position + 1, torch.relu(state), cloud, lists if frozen else None)

        return EdgePath(messages, self._readout(x, cloud), after)

    def _layers(self) -> list[tuple[str, Layer]]:
        return list(zip(self.layer_names, cast("list[Layer]", self.convolutions), strict=True))

    def _trace(self, cloud: Cloud) -> Iterator[_Step]:
        """Input and neighbours of each convolution, without the output of the last one."""
        x = self.standardise(cloud.x)
        for name, layer in self._layers():
            near = layer.neighbours(x, cloud)
            yield _Step(name, layer, x, near)
            if name != self.layer_names[-1]:
                x = torch.relu(layer(x, cloud, near))

    def _from(self, first: int, x: Tensor, cloud: Cloud, neighbours: dict[str, Neighbours] | None) -> Tensor:
        for name, layer in self._layers()[first:]:
            x = torch.relu(layer(x, cloud, None if neighbours is None else neighbours.get(name)))
        return self._readout(x, cloud)

    def _readout(self, x: Tensor, cloud: Cloud) -> Tensor:
        logits: Tensor = self.head(cloud.event_mean(x))
        return logits


def _layer(card: Convolution, inputs: int, edge_dropout: float, pair_names: tuple[str, ...]) -> Layer:
    sizes = (inputs, card.width)
    if card.kind == "graph":
        return Graph(*sizes)
    if card.kind == "transformer":
        return Transformer(*sizes, heads=card.heads, edge_dropout=edge_dropout, pair_names=pair_names)
    neighbours, aggregation = card.neighbours, card.aggregation
    return DynamicEdge(*sizes, neighbours=neighbours, aggregation=aggregation, edge_dropout=edge_dropout)


@dataclass(frozen=True, repr=False)
class ParticleGNNModel(ParticleNetworkModel):
    """A graph network on particles, with attention, edge weights and gradients."""

    network: ParticleGNN
    card: ParticleGNNCard

    @classmethod
    def fresh(cls, card: ParticleGNNCard, schema: Schema) -> Self:
        """Fresh network."""
        size = len(output_names(card, schema))
        return cls(ParticleGNN(card, len(schema.features), size, schema.pair_features), card, schema)

    @property
    def edge_layers(self) -> tuple[str, ...]:
        """Layers whose edges can be weighted."""
        return self.network.layer_names

    def forward_cloud(self, cloud: Cloud, neighbours: dict[str, Neighbours] | None = None) -> Tensor:
        """Logits ``[B, O]``, differentiable, in evaluation mode."""
        with constant(self.network):
            logits: Tensor = self.network(cloud, neighbours)
            return logits

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Neighbours of each dynamic layer."""
        with torch.no_grad(), evaluating(self.network):
            return self.network.neighbour_lists(cloud)

    def attention(self, cloud: Cloud) -> dict[str, Tensor]:
        """α_ij of each attention layer, ``[P, heads]``."""
        with torch.no_grad(), evaluating(self.network):
            return self.network.attention(cloud)

    @contextmanager
    def edge_path(self, cloud: Cloud, layer: str) -> Iterator[EdgePath]:
        """Cut the network open at the edges of a layer."""
        with constant(self.network):
            yield self.network.edge_path(cloud, layer)
