"""Particle clouds in torch: a batch of events as flat particles, padded where that is faster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from hepxai.events import Events


@dataclass(frozen=True)
class Cloud:
    """Flat particles of a batch of events, with the index arithmetic for layers.

    Attributes
    ----------
    x : Tensor, shape [N, F]
        Particle features, physical values.
    p4 : Tensor, shape [N, 4]
        pt [GeV], eta, phi, mass [GeV]; shape [N, 0] if they are not known.
    ptr : Tensor of int64, shape [B+1]
        Event ``b`` owns the particles ``ptr[b]:ptr[b+1]``.
    """

    x: Tensor
    p4: Tensor
    ptr: Tensor

    @staticmethod
    def of(events: Events) -> Cloud:
        """Share the arrays of events; read-only arrays are copied, because torch has no read-only tensors."""
        arrays = (events.particles, events.p4, events.offsets)
        return Cloud(*(torch.as_tensor(np.require(a, requirements=("C", "W"))) for a in arrays))

    @staticmethod
    def of_batch(batch: Data) -> Cloud:
        """Read a PyG ``Batch``, or a single graph.

        Raises
        ------
        ValueError
            If not every ordered pair of particles of an event is an edge: all pairs would be used.
        """
        p4 = batch.p4 if "p4" in batch else batch.x[:, :0]
        ptr = batch.ptr if "ptr" in batch else torch.tensor([0, len(batch.x)], device=batch.x.device)
        cloud = Cloud(batch.x, p4, ptr)
        pairs = int((cloud.counts * (cloud.counts - 1)).sum())
        if batch.edge_index is not None and batch.edge_index.shape[1] != pairs:
            raise ValueError(
                f"the graphs have {batch.edge_index.shape[1]} edges, not {pairs}: every ordered pair of "
                "different particles of an event must be one"
            )
        return cloud

    def take(self, rows: Tensor) -> Cloud:
        """Cloud of some of the events, in the given order."""
        counts = self.counts[rows]
        ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        flat = torch.repeat_interleave(self.ptr[rows] - ptr[:-1], counts) + torch.arange(
            int(ptr[-1]), device=ptr.device
        )
        return Cloud(self.x[flat], self.p4[flat], ptr)

    def regroup(self, members: Tensor) -> Cloud:
        """Events of the same size from particles ``members [B, n]``, flat indices; one may be in many."""
        flat = members.flatten()
        ptr = torch.arange(len(members) + 1, device=flat.device) * members.shape[1]
        return Cloud(self.x.index_select(0, flat), self.p4.index_select(0, flat), ptr)

    def with_features(self, x: Tensor) -> Cloud:
        """Same particles, other features."""
        return replace(self, x=x)

    def to(self, device: str | torch.device) -> Cloud:
        """Move to a device."""
        return Cloud(self.x.to(device), self.p4.to(device), self.ptr.to(device))

    # --- layout ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @cached_property
    def counts(self) -> Tensor:
        """Particles per event, ``[B]``."""
        return self.ptr[1:] - self.ptr[:-1]

    @cached_property
    def longest(self) -> int:
        """Particles in the largest event, at least 1 so that empty batches keep a shape."""
        return max(int(self.counts.max()) if len(self) else 0, 1)

    @cached_property
    def batch(self) -> Tensor:
        """Event of every particle, ``[N]``."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.ptr.device), self.counts)

    @cached_property
    def slot(self) -> Tensor:
        """Row of every particle in a padded ``[B * longest]`` array, ``[N]``."""
        start = torch.arange(len(self), device=self.ptr.device) * self.longest - self.ptr[:-1]
        return torch.arange(len(self.x), device=self.ptr.device) + start[self.batch]

    @cached_property
    def is_regular(self) -> bool:
        """True if all events have the same number of particles: padding is then a view."""
        return len(self.x) == len(self) * self.longest

    @cached_property
    def mask(self) -> Tensor:
        """Real particles of the padded arrays, ``[B, longest]``."""
        return torch.arange(self.longest, device=self.ptr.device) < self.counts[:, None]

    @cached_property
    def pair_mask(self) -> Tensor:
        """Ordered pairs of different real particles ``[B, longest, longest]`` (receiver, sender)."""
        different = ~torch.eye(self.longest, dtype=torch.bool, device=self.ptr.device)
        return self.mask[:, :, None] & self.mask[:, None, :] & different

    def pad(self, flat: Tensor) -> Tensor:
        """``[N, D]`` to ``[B, longest, D]``, zeros where there is no particle."""
        shape = (len(self), self.longest, flat.shape[1])
        if self.is_regular:
            return flat.reshape(shape)
        padded = flat.new_zeros(shape[0] * shape[1], shape[2])
        return padded.index_copy(0, self.slot, flat).view(shape)

    def flatten(self, padded: Tensor) -> Tensor:
        """``[B, longest, D]`` back to ``[N, D]``."""
        flat = padded.flatten(0, 1)
        return flat if self.is_regular else flat.index_select(0, self.slot)

    def event_sum(self, flat: Tensor) -> Tensor:
        """Sum over the particles of each event, ``[B, D]``."""
        if self.is_regular:
            return flat.view(len(self), self.longest, flat.shape[1]).sum(1)
        return flat.new_zeros(len(self), flat.shape[1]).index_add(0, self.batch, flat)

    def event_mean(self, flat: Tensor) -> Tensor:
        """Mean over the particles of each event, ``[B, D]``; 0 for an event without any."""
        return self.event_sum(flat) / self.counts.clamp(min=1)[:, None].to(flat.dtype)
