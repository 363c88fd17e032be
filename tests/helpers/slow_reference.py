"""Explanations straight from their formulas: event by event, edge by edge, in plain loops."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events
from hepxai.events.pair_features import pair_features
from hepxai.models.card import Convolution
from hepxai.models.network import NetworkModel

Edges = list[tuple[int, int]]
"""(sender, receiver), receiver by receiver."""


def all_pairs(n: int) -> Edges:
    return [(j, i) for i in range(n) for j in range(n) if i != j]


def nearest(x: Tensor, k: int) -> Edges:
    edges, x = [], x.detach()
    for i in range(len(x)):
        others = sorted((float(((x[i] - x[j]) ** 2).sum()), j) for j in range(len(x)) if j != i)
        edges += [(j, i) for _, j in others[:k]]
    return edges


def convolve(card: Convolution, layer: nn.Module, x: Tensor, p4: Tensor, edges: Edges, e: Tensor) -> Tensor:
    """States after one layer with explicit weights ``e`` on its finished messages."""
    rows = []
    for i in range(len(x)):
        mine = [(n, j) for n, (j, receiver) in enumerate(edges) if receiver == i]
        messages = [e[n] * m for (n, _), m in zip(mine, _messages(card, layer, x, p4, i, mine), strict=True)]
        rows.append(_update(card, layer, x[i], messages))
    return torch.stack(rows) if rows else x.new_zeros(0, card.width)


def _messages(
    card: Convolution, layer: nn.Module, x: Tensor, p4: Tensor, i: int, mine: list[tuple[int, int]]
) -> list[Tensor]:
    conv = layer.conv
    if card.kind == "graph":
        return [x[j] for _, j in mine]
    if card.kind == "dynamic_edge":
        return [conv.nn(torch.cat([x[i], x[j] - x[i]])) for _, j in mine]
    width = card.width // card.heads
    embedded = [
        conv.lin_edge(pair_features(p4[i], p4[j], layer.pair_names).to(x.dtype)) if layer.pair_names else 0.0
        for _, j in mine
    ]
    heads = []
    for h in range(card.heads):
        own = slice(h * width, (h + 1) * width)
        logit = [
            (conv.lin_query(x[i])[own] @ (conv.lin_key(x[j]) + b)[own]) / math.sqrt(width)
            for (_, j), b in zip(mine, embedded, strict=True)
        ]
        largest = max(logit, default=None)
        norm = sum(torch.exp(z - largest) for z in logit)
        heads.append(
            [
                torch.exp(z - largest) / norm * (conv.lin_value(x[j]) + b)[own]
                for z, (_, j), b in zip(logit, mine, embedded, strict=True)
            ]
        )
    return [torch.cat(parts) for parts in zip(*heads, strict=True)]


def _update(card: Convolution, layer: nn.Module, own: Tensor, messages: list[Tensor]) -> Tensor:
    conv = layer.conv
    if card.kind == "transformer":
        return sum(messages, conv.lin_skip(own))
    if card.kind == "graph":
        return conv.lin_root(own) + conv.lin_rel(sum(messages, torch.zeros_like(own)))
    if not messages:
        return own.new_zeros(card.width)
    if card.aggregation == "max":
        return torch.stack(messages).max(0).values
    return sum(messages) / len(messages)


class SlowNetwork:
    """One event through the network of a model, with weights on the edges of a named layer."""

    def __init__(self, model: NetworkModel, event: Events) -> None:
        network = model.network
        dtype = network.standardise.mean.dtype
        self.cards, self.layers = model.card.convolutions, network.convolutions
        self.head = copy.deepcopy(network.head).eval()
        self.names = network.layer_names
        self.mean, self.scale = network.standardise.mean, network.standardise.scale
        self.x = torch.as_tensor(event.particles).to(dtype)
        self.p4 = torch.as_tensor(event.p4)
        self.lists = self.search()

    def search(self) -> dict[str, Edges]:
        """Edges of every layer for the unweighted event."""
        found: dict[str, Edges] = {}
        with torch.no_grad():
            self.logits(found=found)
        return found

    def logits(
        self,
        *,
        layer: str | None = None,
        weight: Tensor | None = None,
        lists: dict[str, Edges] | None = None,
        found: dict[str, Edges] | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Logits ``[O]``; edges are searched by each layer unless ``lists`` are given."""
        state = ((self.x if x is None else x) - self.mean) / self.scale
        for name, card, module in zip(self.names, self.cards, self.layers, strict=True):
            if lists is not None:
                edges = lists[name]
            elif card.kind == "dynamic_edge":
                edges = nearest(state, card.neighbours)
            else:
                edges = all_pairs(len(state))
            if found is not None:
                found[name] = edges
            e = weight if name == layer else torch.ones(len(edges), dtype=state.dtype)
            state = torch.relu(convolve(card, module, state, self.p4, edges, e))
        pooled = state.sum(0) / max(len(state), 1)
        return self.head(pooled[None])[0]

    def edge_ig(self, layer: str, output: int, steps: int, *, frozen: bool) -> tuple[Edges, Tensor, float]:
        """∫ ∂F(t·1)/∂e dt by Gauss and Legendre, and F(1) - F(0)."""
        edges = self.lists[layer]
        lists = self.lists if frozen else None
        total = torch.zeros(len(edges), dtype=self.x.dtype)
        for node, share in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
            e = torch.full((len(edges),), (node + 1) / 2, dtype=self.x.dtype, requires_grad=True)
            logit = self.logits(layer=layer, weight=e, lists=lists)[output]
            (gradient,) = torch.autograd.grad(logit, e, materialize_grads=True)
            total += share / 2 * gradient
        with torch.no_grad():
            ends = [
                self.logits(layer=layer, weight=torch.full_like(total, t), lists=lists)[output]
                for t in (1.0, 0.0)
            ]
        return edges, total, float(ends[0] - ends[1])


def shuffle(events: Events, seed: int = 0) -> tuple[Events, np.ndarray]:
    """The same events with the particles of each in another order, and the old place of every particle."""
    rng = np.random.default_rng(seed)
    ends = zip(events.offsets[:-1], events.offsets[1:], strict=True)
    old = np.concatenate([a + rng.permutation(b - a) for a, b in ends]).astype(np.int64)
    columns = {name: getattr(events, name)[old] for name in ("particles", "p4", "type", "index")}
    return events.replace(truth={k: v[old] for k, v in events.truth.items()}, **columns), old


def double(events: Events) -> Events:
    """Particles in double precision, for comparisons to the last digits."""
    return events.replace(particles=events.particles.astype(np.float64), p4=events.p4.astype(np.float64))


def with_counts(events: Events, counts: list[int]) -> Events:
    """Events of exactly these multiplicities, from the particles of larger ones."""
    rows = [int(np.flatnonzero(events.counts >= n)[k % 3]) for k, n in enumerate(counts)]
    chosen = events[np.array(rows)]
    keep = np.concatenate(
        [a + np.arange(n) for a, n in zip(chosen.offsets[:-1], counts, strict=True)]
    ).astype(np.int64)
    columns = {name: getattr(chosen, name)[keep] for name in ("particles", "p4", "type", "index")}
    return chosen.replace(
        offsets=offsets_from_counts(np.array(counts)),
        truth={k: v[keep] for k, v in chosen.truth.items()},
        **columns,
    )
