"""Message passing inside events, with the weights of PyG's own layers.

Each layer owns a plain PyG convolution (its parameters, its definition) and evaluates it on a
`Cloud` without materialising the complete graph. The tests compare the two.

Every layer has the form ``h_i = base_i + A_j(e_ji m_ji)`` with ``A`` a sum, mean or maximum over the senders
j, so that along the path where all edge weights equal t the state is simply ``base + t * A(m)``. The class
:class:`Messages` holds these parts for `hepxai.explainers.graph.edge_ig`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import EdgeConv, GraphConv
from torch_geometric.nn import TransformerConv as PygTransformerConv

from hepxai.events.pair_features import pair_features
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.neighbours import (
    Neighbours,
    edge_mean,
    nearest_neighbours,
    squared_distances,
)


@dataclass(frozen=True)
class Messages:
    """Decomposition of a layer by its edges, for one batch.

    Attributes
    ----------
    src, dst : Tensor of int64, shape [P]
        Flat particle indices of the edges, ordered by event, receiver, sender (or neighbour rank).
    base : Tensor, shape [N, D]
        Particle states with every edge weight 0.
    total : Tensor, shape [N, D]
        Contribution of the messages with every edge weight 1.
    contract : callable
        ``[N, D] -> [P]``: the inner product of a gradient at the receiver with the edge's share of ``total``,
        that is ∂F/∂e_ji given ∂F/∂h.
    """

    src: Tensor
    dst: Tensor
    base: Tensor
    total: Tensor
    contract: Callable[[Tensor], Tensor]


def complete_edges(cloud: Cloud) -> tuple[Tensor, Tensor]:
    """All ordered pairs ``(src, dst)``, in the order of `hepxai.core.jagged.all_pairs`."""
    event, dst, src = cloud.pair_mask.nonzero(as_tuple=True)
    return cloud.ptr[event] + src, cloud.ptr[event] + dst


class Transformer(nn.Module):
    """Attention over all other particles of the event (Shi et al., arXiv:2009.03509).

    ``h_i = W1 x_i + Σ_j α_ij W2 x_j``, ``α = softmax_j((W3 x_i)·(W4 x_j) / √d)``.
    """

    def __init__(
        self, inputs: int, width: int, *, heads: int, edge_dropout: float, pair_names: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be shared by {heads} heads")
        edge_dim = len(pair_names) or None
        self.conv = PygTransformerConv(
            inputs, width // heads, heads=heads, dropout=edge_dropout, edge_dim=edge_dim
        )
        self.pair_names = tuple(pair_names)

    def neighbours(self, x: Tensor, cloud: Cloud) -> None:
        """No search: every other particle is a neighbour."""

    def forward(self, x: Tensor, cloud: Cloud, neighbours: Neighbours | None = None) -> Tensor:
        """Particle states ``[N, width]``."""
        alpha, value = self._alpha_and_value(x, cloud)
        alpha = F.dropout(alpha, self.conv.dropout, self.training)
        return self.conv.lin_skip(x) + self._gather(alpha, value, cloud)

    def attention(self, x: Tensor, cloud: Cloud) -> Tensor:
        """α for the edges of `complete_edges`, ``[P, heads]``."""
        alpha, _ = self._alpha_and_value(x, cloud)
        return alpha.permute(0, 2, 3, 1)[cloud.pair_mask]

    def messages(self, x: Tensor, cloud: Cloud, neighbours: Neighbours | None = None) -> Messages:
        """Decompose the layer by its edges."""
        alpha, value = self._alpha_and_value(x, cloud)

        def contract(gradient: Tensor) -> Tensor:
            heads = self._heads(gradient, cloud)
            if value.dim() == 4:
                pulled = heads @ value.transpose(-1, -2)
            else:
                pulled = torch.einsum("bhic,bhijc->bhij", heads, value)
            return (alpha * pulled).sum(1)[cloud.pair_mask]

        src, dst = complete_edges(cloud)
        return Messages(src, dst, self.conv.lin_skip(x), self._gather(alpha, value, cloud), contract)

    def _heads(self, flat: Tensor, cloud: Cloud) -> Tensor:
        """``[N, H C]`` to ``[B, H, n, C]``."""
        return cloud.pad(flat).unflatten(-1, (self.conv.heads, self.conv.out_channels)).transpose(1, 2)

    def _alpha_and_value(self, x: Tensor, cloud: Cloud) -> tuple[Tensor, Tensor]:
        conv = self.conv
        query, key, value = (
            self._heads(lin(x), cloud) for lin in (conv.lin_query, conv.lin_key, conv.lin_value)
        )
        logit = query @ key.transpose(-1, -2)
        if self.pair_names:
            edge = self._edge(cloud)
            logit = logit + torch.einsum("bhic,bhijc->bhij", query, edge)
            value = value[:, :, None] + edge
        mask = cloud.pair_mask[:, None]
        # Finite, because a row without any other particle would be NaN.
        lowest = torch.finfo(logit.dtype).min
        alpha = (logit / math.sqrt(conv.out_channels)).masked_fill(~mask, lowest).softmax(-1)
        return alpha * mask, value

    def _edge(self, cloud: Cloud) -> Tensor:
        """Embedded pair features, ``[B, H, n, n, C]``."""
        if not cloud.p4.shape[1]:
            raise ValueError("pair features need the momenta of the particles: give the graphs a p4 [N, 4]")
        p4 = cloud.pad(cloud.p4)
        features = pair_features(p4[:, :, None], p4[:, None, :], self.pair_names)
        features = features.masked_fill(~cloud.pair_mask[..., None], 0.0)
        embedded = self.conv.lin_edge(features)
        return embedded.unflatten(-1, (self.conv.heads, self.conv.out_channels)).permute(0, 3, 1, 2, 4)

    def _gather(self, alpha: Tensor, value: Tensor, cloud: Cloud) -> Tensor:
        out = alpha @ value if value.dim() == 4 else torch.einsum("bhij,bhijc->bhic", alpha, value)
        return cloud.flatten(out.transpose(1, 2).flatten(2))


class Graph(nn.Module):
    """Sum over all other particles (Morris et al., arXiv:1810.02244): ``h_i = W1 x_i + W2 Σ_j e_ji x_j``."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = GraphConv(inputs, width)

    def neighbours(self, x: Tensor, cloud: Cloud) -> None:
        """No search: every other particle is a neighbour."""

    def forward(self, x: Tensor, cloud: Cloud, neighbours: Neighbours | None = None) -> Tensor:
        """Particle states ``[N, width]``."""
        return self.conv.lin_root(x) + self._total(x, cloud)

    def messages(self, x: Tensor, cloud: Cloud, neighbours: Neighbours | None = None) -> Messages:
        """Decompose the layer by its edges."""

        def contract(gradient: Tensor) -> Tensor:
            pulled = cloud.pad(gradient @ self.conv.lin_rel.weight)
            return (pulled @ cloud.pad(x).transpose(-1, -2))[cloud.pair_mask]

        src, dst = complete_edges(cloud)
        # The bias of lin_rel depends on no edge: it belongs to the base.
        bias = self.conv.lin_rel.bias
        return Messages(src, dst, self.conv.lin_root(x) + bias, self._total(x, cloud) - bias, contract)

    def _total(self, x: Tensor, cloud: Cloud) -> Tensor:
        others = cloud.event_sum(x)[cloud.batch] - x
        return self.conv.lin_rel(others)


class DynamicEdge(nn.Module):
    """EdgeConv over the k nearest particles in the space of its input (Wang et al., arXiv:1801.07829).

    ``h_i = A_{j in kNN(i)} MLP([x_i, x_j - x_i])`` with ``A`` the mean or the maximum and the MLP
    linear, ReLU, linear. The particle itself is not its own neighbour.
    """

    def __init__(
        self, inputs: int, width: int, *, neighbours: int, aggregation: str, edge_dropout: float
    ) -> None:
        super().__init__()
        mlp = nn.Sequential(nn.Linear(2 * inputs, width), nn.ReLU(), nn.Linear(width, width))
        self.conv = EdgeConv(mlp, aggr=aggregation)
        self.k = neighbours
        self.aggregation = aggregation
        self.edge_dropout = edge_dropout

    def neighbours(self, x: Tensor, cloud: Cloud) -> Neighbours:
        """Nearest other particles by squared distance; fewer than k where the event is smaller."""
        with torch.no_grad():
            k = min(self.k, max(cloud.longest - 1, 1))
            return nearest_neighbours(squared_distances(x, cloud), cloud.pair_mask, k, cloud)

    def forward(self, x: Tensor, cloud: Cloud, neighbours: Neighbours | None = None) -> Tensor:
        """Particle states ``[N, width]``; neighbours are searched unless given."""
        near = neighbours or self.neighbours(x, cloud)
        if self.training and self.edge_dropout > 0:
            dropped = torch.rand(near.index.shape, device=x.device) < self.edge_dropout
            near = Neighbours(near.index.masked_fill(dropped, -1))
        return self._aggregate(x, near)

    def messages(self, x: Tensor, cloud: Cloud, neighbours: Neighbours | None = None) -> Messages:
        """Decompose the layer by its edges."""
        near = neighbours or self.neighbours(x, cloud)
        valid = near.valid
        total = self._aggregate(x, near)
        message = self._edge_messages(x, near)

        def contract(gradient: Tensor) -> Tensor:
            if self.aggregation == "max":
                best = message.masked_fill(~valid[..., None], -math.inf).argmax(1, keepdim=True)
                share = torch.zeros_like(message).scatter(1, best, 1.0) * message
            else:
                share = message / near.count.clamp(min=1)[..., None]
            return (share * gradient[:, None]).sum(-1)[valid]

        dst = torch.arange(len(x), device=x.device)[:, None].expand_as(near.index)
        return Messages(near.index[valid], dst[valid], torch.zeros_like(total), total, contract)

    def _edge_messages(self, x: Tensor, near: Neighbours) -> Tensor:
        """MLP on every edge, ``[N, K, width]``; arbitrary for missing neighbours."""
        first, _, second = self.conv.nn
        self_part, other = first.weight.chunk(2, dim=1)
        receiver, sender = F.linear(x, self_part - other, first.bias), F.linear(x, other)
        return second(F.relu(receiver[:, None] + sender[near.index.clamp(min=0)]))

    def _aggregate(self, x: Tensor, near: Neighbours) -> Tensor:
        if self.aggregation == "max":
            message = self._edge_messages(x, near).masked_fill(~near.valid[..., None], -math.inf)
            return torch.where(near.count > 0, message.amax(1), 0.0)
        mean = edge_mean(x, self.conv.nn[0], self.conv.nn[2], near)
        return mean if near.complete else torch.where(near.count > 0, mean, 0.0)
