"""Neighbour lists as index arithmetic, and the mean over neighbours of EdgeConv."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hepxai.models.graph.cloud import Cloud


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Edges of a layer that searches for neighbours; derived quantities are computed once.

    Attributes
    ----------
    index : Tensor of int64, shape [N, K]
        Flat index of each particle's neighbours, nearest first; -1 where there is none.
    """

    index: Tensor
    _spare: list[Tensor] = field(default_factory=list, init=False, repr=False)

    @cached_property
    def valid(self) -> Tensor:
        """Mask of the entries that are neighbours, ``[N, K]``."""
        return self.index >= 0

    @cached_property
    def complete(self) -> bool:
        """True if every entry is a neighbour."""
        return bool(self.valid.all())

    @cached_property
    def count(self) -> Tensor:
        """Neighbours of each particle, ``[N, 1]``."""
        return self.valid.sum(1, keepdim=True)

    @cached_property
    def divisor(self) -> int | Tensor:
        """Divisor of the mean over a particle's edges: one number, or ``[N, 1]``."""
        return self.index.shape[1] if self.complete else self.count.clamp(min=1)

    @cached_property
    def sender(self) -> Tensor:
        """Sender of every edge ``[K N]``, rank by rank; N, a dummy particle, for a missing edge.

        All first neighbours, then all second ones: the summand of the receivers is then one contiguous
        array per rank.
        """
        return self.index.where(self.valid, len(self.index)).t().flatten()

    @cached_property
    def by_sender(self) -> tuple[Tensor, Tensor]:
        """Edges ``[P]`` sorted by sender, and the first one of each sender ``[N]``."""
        edges = int(self.count.sum())
        sent = torch.bincount(self.sender, minlength=len(self.index) + 1)[:-1]
        return self.sender.argsort(stable=True)[:edges], sent.cumsum(0) - sent

    def arriving(self, sender: Tensor) -> Tensor:
        """State of the sender on every edge, ``[K, N, D]``; ``sender [N+1, D]`` ends with the dummy."""
        shape = (*reversed(self.index.shape), sender.shape[1])
        fits = self._spare and self._spare[-1].shape == shape and self._spare[-1].dtype == sender.dtype
        edges = self._spare.pop() if fits else sender.new_empty(shape)
        torch.index_select(sender, 0, self.sender, out=edges.flatten(0, 1))
        return edges

    def reuse(self, edges: Tensor) -> None:
        """Keep a result of `arriving` for the next call: new memory costs more than a pass over it."""
        self._spare.append(edges)

    def sum_by_sender(self, edges: Tensor) -> Tensor:
        """Sum of ``edges [K, N, D]`` over those of each sender, ``[N, D]``."""
        order, start = self.by_sender
        # Sorted by sender, every sum is written once; index_add would read and write it for every edge.
        return F.embedding_bag(order, edges.flatten(0, 1), start, mode="sum")


def squared_distances(x: Tensor, cloud: Cloud) -> Tensor:
    """Squared distances ``[B, longest, longest]`` within each event, in the space of ``x [N, D]``."""
    # Centred, so that far-away clouds lose no digits in the expanded square.
    centred = cloud.pad(x) - cloud.event_mean(x)[:, None]
    square = (centred**2).sum(-1)
    return torch.baddbmm(square[:, None, :], centred, centred.transpose(1, 2), alpha=-2)


def nearest_neighbours(distance: Tensor, allowed: Tensor, k: int, cloud: Cloud) -> Neighbours:
    """Senders at the smallest distances from each particle; fewer than k where the event is smaller.

    Parameters
    ----------
    distance : Tensor, shape [B, longest, longest]
        Up to a constant for each receiver; changed in place.
    allowed : Tensor of bool, shape [B, longest, longest]
        Pairs (receiver, sender) that may be neighbours.
    k : int
    cloud : Cloud
    """
    distance.masked_fill_(~allowed, math.inf)
    nearest, local = distance.topk(min(k, cloud.longest), largest=False)
    flat = (local + cloud.ptr[:-1, None, None]).masked_fill(nearest == math.inf, -1)
    return Neighbours(cloud.flatten(flat))


def edge_mean(x: Tensor, first: nn.Linear, second: nn.Linear, near: Neighbours) -> Tensor:
    """Mean of ``second(relu(first([x_i, x_j - x_i])))`` over the neighbours j of i, ``[N, D]``.

    For a particle without neighbours, the bias of ``second``.
    """
    weights = (first.weight, first.bias, second.weight, second.bias)
    mean: Tensor = _EdgeMean.apply(x, *weights, near)  # type: ignore[no-untyped-call]
    return mean


class _EdgeMean(torch.autograd.Function):
    """Derivatives written out, because autograd would store and read more arrays of ``[K, N, D]``.

    Both linear maps are applied once per particle: ``[x_i, x_j - x_i] W = x_i (W_a - W_b) + x_j W_b``, and a
    mean commutes with the second one.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, second: Tensor, shift: Tensor, near: Neighbours
    ) -> Tensor:
        self_part, other = weight.chunk(2, dim=1)
        receive = self_part - other
        receiver = torch.addmm(bias, x, receive.t())
        sender = receiver.new_empty(receiver.shape[0] + 1, receiver.shape[1])
        torch.mm(x, other.t(), out=sender[:-1])
        # The dummy sends -inf, for which the ReLU and its derivative are 0.
        sender[-1] = -math.inf
        hidden = near.arriving(sender).add_(receiver).clamp_min_(0)
        mean = hidden.sum(0).div_(near.divisor)
        ctx.save_for_backward(x, receive, other, second, hidden, mean)
        ctx.save_for_forward(x, receive, other, second, hidden, mean)
        ctx.near = near
        return torch.addmm(shift, mean, second.t())

    @staticmethod
    def jvp(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, second: Tensor, shift: Tensor, _near: None
    ) -> Tensor:
        """Directional derivative."""
        at, receive, other, outer, hidden, mean = ctx.saved_tensors
        self_part, others = weight.chunk(2, dim=1)
        receiver = torch.addmm(bias, x, receive.t()).addmm_(at, (self_part - others).t())
        sender = F.pad((x @ other.t()).addmm_(at, others.t()), (0, 0, 0, 1))
        moved = (sender[ctx.near.sender].view_as(hidden) + receiver) * (hidden > 0)
        moved_mean = moved.sum(0).div_(ctx.near.divisor)
        return torch.addmm(shift, moved_mean, outer.t()).addmm_(mean, second.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, receive, other, second, hidden, mean = ctx.saved_tensors
        near: Neighbours = ctx.near
        pulled = (gradient @ second).div_(near.divisor).expand_as(hidden)
        # In place: the saved tensor is not needed again, since autograd refuses a second backward pass.
        passed = torch.ops.aten.threshold_backward.grad_input(pulled, hidden, 0, grad_input=hidden)
        received, sent = passed.sum(0), near.sum_by_sender(passed)
        near.reuse(hidden)
        back = torch.addmm(received @ receive, sent, other)
        if not any(ctx.needs_input_grad[1:]):
            return back, None, None, None, None, None
        weight = torch.cat([received.t() @ x, (sent - received).t() @ x], dim=1)
        return back, weight, received.sum(0), gradient.t() @ mean, gradient.sum(0), None
