"""Common part of the networks on particles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hepxai.events import Events
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.neighbours import Neighbours
from hepxai.models.network import NetworkModel, constant


@dataclass(frozen=True, repr=False)
class ParticleNetworkModel(NetworkModel):
    """A network of a `Cloud` with a `hepxai.models.scaling.Standardise` named ``standardise``."""

    def adapt(self, events: Events) -> None:
        """Standardise the particle features with their mean and spread."""
        self.network.standardise.fit(torch.as_tensor(events.particles))  # type: ignore[operator,union-attr]

    def forward_cloud(self, cloud: Cloud, neighbours: dict[str, Neighbours] | None = None) -> Tensor:
        """Outputs ``[B, O]``, differentiable in ``cloud.x``, in evaluation mode."""
        with constant(self.network):
            outputs: Tensor = self.network(cloud)
            return outputs

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Neighbours of each layer that searches for them: none."""
        return {}
