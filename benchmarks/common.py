"""Timing, a table, and the peers' model: the same architecture and weights in plain PyG layers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch_geometric.data import Data

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema
from hepxai.models.card import Convolution, ParticleGNNCard, Training
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.particle_gnn import ParticleGNN
from hepxai.models.network import NetworkModel
from hepxai.training import fit

torch.set_num_threads(1)


def cpu_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Least CPU time of a few repeats: what the machine does besides does not count."""
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def toy_events(n: int, seed: int = 0) -> Events:
    """``n`` random events of 4 to 12 particles (mean 8); signal has a pair of similar direction."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(4, 13, n)
    offsets = offsets_from_counts(counts)
    size = int(offsets[-1])
    label = rng.integers(0, 2, n)
    pt, eta, phi = rng.exponential(40, size) + 10, rng.normal(0, 1.2, size), rng.uniform(-np.pi, np.pi, size)
    first = offsets[:-1][label == 1]
    eta[first + 1], phi[first + 1] = eta[first] + rng.normal(0, 0.1, len(first)), phi[first]
    pt[first + 1] += 30
    p4 = np.stack([pt, eta, phi, np.full(size, 0.1)], axis=1).astype(np.float32)
    particles = np.stack([np.log(pt), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), eta], axis=1)
    blank = np.zeros(n, dtype=np.int64)
    return Events(
        schema=Schema(
            ("log_pt", "px", "py", "pz", "eta"),
            ("", "GeV", "GeV", "GeV", ""),
            ("p",),
            ("background", "signal"),
        ),
        offsets=offsets,
        particles=particles.astype(np.float32),
        p4=p4,
        type=np.zeros(size, dtype=np.int64),
        index=np.arange(size) - np.repeat(offsets[:-1], counts),
        label=label,
        weight=np.ones(n),
        globals=np.zeros((n, 0), dtype=np.float32),
        run=blank,
        luminosity_block=blank,
        event=np.arange(n),
        file=blank,
        entry=np.arange(n),
        split=np.arange(n) % 2,
        files=("toy.root:Events",),
        file_entries=(n,),
    )


def card(neighbours: int, epochs: int = 6) -> ParticleGNNCard:
    """TransformerConv(64) and two EdgeConv(64)."""
    edge = Convolution(kind="dynamic_edge", neighbours=neighbours)
    return ParticleGNNCard(
        convolutions=(Convolution(kind="transformer"), edge, edge),
        edge_dropout=0.2,
        training=Training(epochs=epochs, batch_size=512),
    )


def trained(neighbours: int) -> tuple[NetworkModel, Events]:
    """A network trained for a few epochs, and events to explain."""
    model, _ = fit(card(neighbours), toy_events(8000))
    return model, toy_events(2000, seed=1)


class PlainGNN(nn.Module):
    """The same network in plain PyG layers: messages along explicit edges.

    Neighbours are searched in plain torch too: PyG's own search needs a compiled extension.
    """

    def __init__(self, network: ParticleGNN) -> None:
        super().__init__()
        self.standardise = network.standardise
        self.attend = network.convolutions[0].conv
        self.edges = nn.ModuleList(c.conv for c in list(network.convolutions)[1:])
        self.k = network.convolutions[1].k
        self.head = network.head

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor,
        size: int,
        frozen: Sequence[Tensor] | None = None,
        neighbours: list[Tensor] | None = None,
    ) -> Tensor:
        """Logits ``[B]``; neighbours from ``frozen`` if given; those used are appended to ``neighbours``."""
        h = torch.relu(self.attend(self.standardise(x), edge_index))
        for layer, conv in enumerate(self.edges):
            edges = nearest(h, batch, size, self.k) if frozen is None else frozen[layer]
            if neighbours is not None:
                neighbours.append(edges)
            h = torch.relu(conv(h, edges))
        total = h.new_zeros(size, h.shape[1]).index_add(0, batch, h)
        return self.head(total / torch.bincount(batch, minlength=size)[:, None])[:, 0]


def nearest(x: Tensor, batch: Tensor, size: int, k: int) -> Tensor:
    """Edges from the k nearest other particles of the event to each particle."""
    ptr = torch.cat([batch.new_zeros(1), torch.bincount(batch, minlength=size).cumsum(0)])
    cloud = Cloud(x, x, ptr)
    with torch.no_grad():
        padded = cloud.pad(x)
        distance = ((padded[:, :, None] - padded[:, None]) ** 2).sum(-1)
        distance = distance.masked_fill(~cloud.pair_mask, math.inf)
        nearest_distance, local = distance.topk(min(k, cloud.longest), largest=False)
        flat = cloud.flatten(local + ptr[:-1, None, None])
        valid = cloud.flatten(nearest_distance).isfinite()
    target = torch.arange(len(x))[:, None].expand_as(flat)
    return torch.stack([flat[valid], target[valid]])


def data_list(events: Events) -> list[Data]:
    """One PyG ``Data`` per event, as a user of PyG has them."""
    return events.graph().to_data_list()
