"""The graph network written with nothing but PyG and plain loops: slow, and right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import EdgeConv, GraphConv, MessagePassing, TransformerConv, global_mean_pool

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events
from hepxai.events.pair_features import pair_features
from hepxai.models.card import ModelCard
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.particle_gnn import ParticleGNN

RAGGED = (0, 1, 2, 5, 3, 9, 0, 1, 7)


def make_cloud(counts: Sequence[int], width: int = 5, seed: int = 0) -> Cloud:
    """Random particles in double precision."""
    rng = np.random.default_rng(seed)
    size = sum(counts)
    p4 = np.stack([rng.exponential(40, size) + 5, *rng.normal(0, 1, (2, size)), rng.random(size)], axis=1)
    ptr = torch.as_tensor(offsets_from_counts(np.array(counts, dtype=np.int64)))
    return Cloud(torch.as_tensor(rng.normal(size=(size, width))), torch.as_tensor(p4), ptr)


def complete(ptr: Tensor) -> Tensor:
    """Every ordered pair, event by event, receiver by receiver: ``edge_index [2, P]``."""
    edges = [
        (j, i)
        for first, last in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)
        for i in range(first, last)
        for j in range(first, last)
        if i != j
    ]
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T


def nearest(x: Tensor, ptr: Tensor, k: int) -> Tensor:
    """The k nearest others of every particle, by brute force: ``edge_index [2, P]``."""
    edges, x = [], x.detach()
    for first, last in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
        for i in range(first, last):
            others = [j for j in range(first, last) if j != i]
            others.sort(key=lambda j: float(((x[i] - x[j]) ** 2).sum()))
            edges += [(j, i) for j in others[:k]]
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T


def pair_attributes(p4: Tensor, edge_index: Tensor, names: Sequence[str]) -> Tensor | None:
    """Edge features for PyG, one edge after the other."""
    if not names:
        return None
    rows = [pair_features(p4[i], p4[j], names) for j, i in edge_index.T.tolist()]
    return torch.stack(rows) if rows else p4.new_zeros(0, len(names))


@contextmanager
def weighted(conv: MessagePassing, weight: Tensor, edge_index: Tensor) -> Iterator[None]:
    """Multiply the finished messages of a PyG layer with explicit edge weights, by PyG's own means."""
    conv.explain, conv._edge_mask, conv._apply_sigmoid = True, weight, False
    conv._loop_mask = edge_index[0] != edge_index[1]
    try:
        yield
    finally:
        conv.explain, conv._edge_mask, conv._loop_mask, conv._apply_sigmoid = None, None, None, True


class PlainGNN(nn.Module):
    """The architecture of a model card in PyG's layers; weights come from the fast network."""

    def __init__(self, card: ModelCard, fast: ParticleGNN, pair_names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.card, self.pair_names = card, pair_names
        self.mean, self.scale = fast.standardise.mean, fast.standardise.scale
        convolutions: list[nn.Module] = []
        size = len(self.mean)
        for c in card.convolutions:
            if c.kind == "transformer":
                edge = {"edge_dim": len(pair_names)} if pair_names else {}
                convolutions.append(TransformerConv(size, c.width // c.heads, heads=c.heads, **edge))
            elif c.kind == "graph":
                convolutions.append(GraphConv(size, c.width))
            else:
                mlp = nn.Sequential(nn.Linear(2 * size, c.width), nn.ReLU(), nn.Linear(c.width, c.width))
                convolutions.append(EdgeConv(mlp, aggr=c.aggregation))
            size = c.width
        self.convolutions = nn.ModuleList(convolutions)
        self.norm = nn.BatchNorm1d(size)
        self.dense = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip((size, *card.dense), card.dense, strict=False)
        )
        self.last = nn.Linear((size, *card.dense)[-1], fast.head[-1].out_features)
        self.to(self.mean.dtype)
        for mine, theirs in zip(self.convolutions, fast.convolutions, strict=True):
            mine.load_state_dict(theirs.conv.state_dict())
        linear = [m for m in fast.head if isinstance(m, nn.Linear)]
        for mine, theirs in zip([self.norm, *self.dense, self.last], [fast.head[0], *linear], strict=True):
            mine.load_state_dict(theirs.state_dict())
        self.eval()

    def forward(self, x: Tensor, p4: Tensor, ptr: Tensor) -> Tensor:
        """Logits ``[B, O]``."""
        x = (x - self.mean) / self.scale
        pairs = complete(ptr)
        for c, conv in zip(self.card.convolutions, self.convolutions, strict=True):
            if c.kind == "dynamic_edge":
                x = conv(x, nearest(x, ptr, c.neighbours))
            elif c.kind == "transformer" and self.pair_names:
                x = conv(x, pairs, pair_attributes(p4, pairs, self.pair_names).to(x.dtype))
            else:
                x = conv(x, pairs)
            x = torch.relu(x)
        batch = torch.repeat_interleave(torch.arange(len(ptr) - 1), ptr.diff())
        h = self.norm(global_mean_pool(x, batch, size=len(ptr) - 1))
        for dense in self.dense:
            h = torch.selu(dense(h))
        return self.last(h)


def settle(network: ParticleGNN, events: Events, seed: int = 0) -> ParticleGNN:
    """Random numbers everywhere, as after training: batch statistics, standardisation."""
    generator = torch.Generator().manual_seed(seed)
    norm = network.head[0]
    norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator) * 0.1)
    norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) * 0.5 + 0.1)
    network.standardise.fit(torch.as_tensor(events.particles))
    return network.eval()


def shuffle(events: Events, seed: int = 0) -> tuple[Events, np.ndarray]:
    """The same events with the particles of each in another order, and the old place of every particle."""
    rng = np.random.default_rng(seed)
    old = np.concatenate(
        [a + rng.permutation(b - a) for a, b in zip(events.offsets[:-1], events.offsets[1:], strict=True)]
    ).astype(np.int64)
    columns = {name: getattr(events, name)[old] for name in ("particles", "p4", "type", "index")}
    return events.replace(truth={k: v[old] for k, v in events.truth.items()}, **columns), old
