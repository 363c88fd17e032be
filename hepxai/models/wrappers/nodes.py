"""Mapping from the nodes of a torch_geometric layer to particles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hepxai.models.graph.cloud import Cloud
from hepxai.models.wrappers.recorded import CLOSE, LayerCall

VIRTUAL: dict[str, Callable[[Cloud], Tensor]] = {
    "behind all particles": lambda cloud: torch.arange(len(cloud.x)),
    "before all particles": lambda cloud: len(cloud) + torch.arange(len(cloud.x)),
    "last of its event": lambda cloud: torch.arange(len(cloud.x)) + cloud.batch,
    "first of its event": lambda cloud: torch.arange(len(cloud.x)) + cloud.batch + 1,
}
"""Orders with one virtual node per event, by its place: node of every particle ``[N]``."""


@dataclass(frozen=True)
class NodeMap:
    """Order of the nodes of a layer.

    Attributes
    ----------
    order : str
        "particles", "pooling 0" … or a key of ``VIRTUAL``.
    particle : Tensor of int64, shape [nodes]
        Flat index of the particle; -1 for a virtual node.
    event : Tensor of int64, shape [nodes]
    """

    order: str
    particle: Tensor
    event: Tensor

    @property
    def has_virtual(self) -> bool:
        """True if there is one virtual node per event."""
        return self.order in VIRTUAL

    def pairs(self, call: LayerCall) -> tuple[Tensor, Tensor, Tensor]:
        """Positions of the messages between particles, by receiver and sender; senders; receivers."""
        src, dst = self.particle[call.edge_index]
        between = ((src >= 0) & (dst >= 0)).nonzero().flatten()
        size = int(self.particle.max()) + 1 if len(self.particle) else 1
        key = dst[between] * size + src[between]
        position = between[key.argsort(stable=True)]
        return position, src[position], dst[position]

    def problem(self, call: LayerCall) -> str | None:
        """Reason why the edges are not pairs of particles of the same event; None if they are."""
        src, dst = call.edge_index
        if bool((self.event[src] != self.event[dst]).any()):
            return (
                "it sends messages between different events: does its neighbour search use the batch vector?"
            )
        if len(torch.unique(dst * len(self.event) + src)) != len(src):
            return "it has several edges between the same two particles: remove duplicates (coalesce)"
        return None

    def by_particle(self, states: Tensor, cloud: Cloud) -> Tensor:
        """States of the nodes, by particle, then by event; NaN where a particle has no node."""
        size = len(cloud.x)
        ordered = states.new_full((size + len(cloud), *states.shape[1:]), torch.nan)
        return ordered.index_copy(0, self.particle.where(self.particle >= 0, size + self.event), states)


def node_maps(call: LayerCall, cloud: Cloud) -> Iterator[NodeMap]:
    """Possible orders of the nodes, by their number."""
    nodes, particles = len(call.total), len(cloud.x)
    if len(call.nodes) != nodes:
        return
    for depth, selected in reversed(list(enumerate(call.selected))):
        if len(selected) == nodes:
            yield NodeMap(f"pooling {depth}", selected, cloud.batch[selected])
    if nodes == particles:
        yield NodeMap("particles", torch.arange(nodes), cloud.batch)
    elif nodes == particles + len(cloud) and not call.selected:
        yield from (_with_virtual(order, cloud) for order in VIRTUAL)


def _with_virtual(order: str, cloud: Cloud) -> NodeMap:
    place, particles, events = VIRTUAL[order](cloud), len(cloud.x), len(cloud)
    particle = torch.full((particles + events,), -1).index_copy(0, place, torch.arange(particles))
    event = torch.empty_like(particle).index_copy(0, place, cloud.batch)
    event[particle < 0] = torch.arange(events)
    return NodeMap(order, particle, event)


def unknown_nodes(call: LayerCall, cloud: Cloud) -> str:
    """Message for a layer whose nodes match no known order."""
    nodes, senders = len(call.total), len(call.nodes)
    count = f"{nodes} nodes" if nodes == senders else f"{senders} senders, {nodes} receivers"
    return (
        f"it has {count} for {len(cloud.x)} particles of {len(cloud)} events: nodes must be the particles, "
        "those that TopKPooling or SAGPooling leaves, or the particles and one virtual node per event; "
        "clustered or duplicated nodes are no particles"
    )


def same_states(first: Tensor, second: Tensor) -> bool:
    """True if two tensors agree; NaN equals NaN, and infinity infinity."""
    size = first[first.isfinite()].abs()
    close = CLOSE * float(size.max()) if size.numel() else 0.0
    return torch.allclose(first, second, rtol=0.0, atol=close, equal_nan=True)
