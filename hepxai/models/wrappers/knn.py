"""Edges to the nearest particles for torch_geometric modules of users, which explainers can freeze."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.data import Data

from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.neighbours import Neighbours, nearest_neighbours, squared_distances

MOMENTUM = ("pt", "eta", "phi", "mass")


@dataclass
class Searches:
    """Neighbour searches of one forward pass, by the order of their calls.

    Attributes
    ----------
    frozen : mapping of str to Neighbours
        Results that are used again instead of a search.
    results : dict of str to Neighbours
    """

    frozen: Mapping[str, Neighbours]
    results: dict[str, Neighbours] = field(default_factory=dict)

    def next(self, size: int) -> tuple[str, Neighbours | None]:
        """Name of the next search, and its frozen result for ``size`` particles."""
        name = f"knn_{len(self.results) + 1}"
        near = self.frozen.get(name)
        return name, near if near is not None and len(near.index) == size else None


_SEARCHES: ContextVar[Searches | None] = ContextVar("searches", default=None)


@contextmanager
def searching(frozen: Mapping[str, Neighbours] | None = None) -> Iterator[Searches]:
    """Record the searches of `knn_edges`, and use frozen results instead of new ones."""
    searches = Searches(frozen or {})
    token = _SEARCHES.set(searches)
    try:
        yield searches
    finally:
        _SEARCHES.reset(token)


def knn_edges(
    batch: Data | Tensor, k: int, coordinates: Sequence[str] | Tensor = ("eta", "phi"), *, loop: bool = False
) -> Tensor:
    """Edges from the k nearest particles of the same event to each particle.

    Plain torch, for use inside the ``forward`` of a module or as the ``edges`` of `hepxai.PygModel`. Searches
    of this function, unlike those of other libraries, can be frozen by explainers: node_ig, and edge_ig for
    the layers behind the explained one, keep the neighbours of the event along the integration path.

    Parameters
    ----------
    batch : Batch or Tensor
        Batch of events as `hepxai.PygModel` gives it; or, with a tensor as ``coordinates``, its vector
        ``batch.batch``: the event of each particle, ascending.
    k : int
        Number of neighbours; an event with fewer other particles has fewer edges.
    coordinates : sequence of str or Tensor of shape [N, D]
        Space of the squared Euclidean distance: names out of "pt" (GeV), "eta", "phi" (rad, with its period)
        and "mass" (GeV), taken from ``batch.p4``; or any states of the particles.
    loop : bool
        Count a particle as its own nearest neighbour.

    Returns
    -------
    Tensor of int64, shape [2, P]
        Sender and receiver of each edge, by receiver, nearest sender first.

    Raises
    ------
    ValueError
        If k is not positive, a coordinate is unknown, or the sizes differ.
    """
    cloud = _cloud(batch, coordinates)
    if k < 1:
        raise ValueError(f"knn_edges: k={k}; at least 1 neighbour is needed")
    searches = _SEARCHES.get()
    name, near = searches.next(len(cloud.x)) if searches else ("", None)
    if near is None:
        near = _search(cloud, k, coordinates, loop)
    if searches:
        searches.results[name] = near
    receiver = torch.arange(len(cloud.x))[:, None].expand_as(near.index)
    return torch.stack([near.index[near.valid], receiver[near.valid]])


def _cloud(batch: Data | Tensor, coordinates: Sequence[str] | Tensor) -> Cloud:
    states = coordinates if isinstance(coordinates, Tensor) else None
    vector = batch if isinstance(batch, Tensor) else batch.batch
    if states is not None and len(states) != len(vector):
        raise ValueError(f"knn_edges: {len(states)} rows of coordinates for {len(vector)} particles")
    if isinstance(batch, Tensor):
        if states is None:
            raise ValueError(
                "knn_edges: coordinates by name need the batch itself, not its vector batch.batch"
            )
        if bool((vector.diff() < 0).any()):
            raise ValueError("knn_edges: the batch vector is not ascending; sort the nodes by event")
        ptr = torch.cat([vector.new_zeros(1), torch.bincount(vector).cumsum(0)])
        return Cloud(states, states[:, :0], ptr)
    return Cloud(batch.x, batch.p4, batch.ptr)


def _search(cloud: Cloud, k: int, coordinates: Sequence[str] | Tensor, loop: bool) -> Neighbours:
    with torch.no_grad():
        if isinstance(coordinates, Tensor):
            distance = squared_distances(coordinates.detach().flatten(1), cloud)
        else:
            distance = _momentum_distances(cloud, coordinates)
        same = torch.eye(cloud.longest, dtype=torch.bool)
        if loop:
            distance = distance.masked_fill(same, -math.inf)
        allowed = cloud.pair_mask | (cloud.mask[:, :, None] & same & loop)
        return nearest_neighbours(distance, allowed, k, cloud)


def _momentum_distances(cloud: Cloud, names: Sequence[str]) -> Tensor:
    """Squared distances ``[B, longest, longest]`` in some of pt, η, φ and mass."""
    if isinstance(names, str) or not names or not set(names) <= set(MOMENTUM):
        raise ValueError(f"knn_edges: coordinates={names!r}; some of {MOMENTUM} or a tensor are needed")
    if not cloud.p4.shape[1]:
        raise ValueError("knn_edges: the events have no p4; give the coordinates as a tensor")
    padded = cloud.pad(cloud.p4)
    distance = padded.new_zeros(len(cloud), cloud.longest, cloud.longest)
    for name in names:
        column = padded[:, :, MOMENTUM.index(name)]
        difference = column[:, :, None] - column[:, None, :]
        if name == "phi":
            difference = torch.remainder(difference + math.pi, 2 * math.pi) - math.pi
        distance += difference**2
    return distance
