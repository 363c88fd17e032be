"""Shapley values and interactions straight from their definitions, and models that are plain functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events
from hepxai.models.graph.cloud import Cloud

Set = tuple[int, ...]


@dataclass(frozen=True)
class Toy:
    """A model that is a plain function of the particles of each event."""

    score: Callable[[Cloud], Tensor]
    view: str = "graph"
    outputs: tuple[str, ...] = ("signal",)

    def forward_cloud(self, cloud: Cloud, neighbours: dict[str, Tensor] | None = None) -> Tensor:
        return self.score(cloud).reshape(len(cloud), len(self.outputs))

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Tensor]:
        return {}

    def logits(self, events: Events) -> np.ndarray:
        return self.forward_cloud(Cloud.of(events)).double().numpy()


def additive(cloud: Cloud) -> Tensor:
    """Every particle by itself."""
    return 0.5 + cloud.event_sum(cloud.x[:, :1])[:, 0]


def rough(cloud: Cloud) -> Tensor:
    """Interactions of all orders; particles with charge 0 do not matter."""
    seen = (cloud.x[:, 3:4] != 0).to(cloud.x.dtype)
    x = seen * torch.stack([cloud.x[:, 0] / 40, cloud.x[:, 1], cloud.x[:, 4]], dim=1)
    total = cloud.event_sum(x)
    return torch.tanh(total[:, 0] - 2) * total[:, 1] + torch.sin(3 * total[:, 2])


# --- from the definitions ------------------------------------------------------------------------


def without_others(event: Events, kept: Set) -> Events:
    """The event with some of its particles only."""
    rows = np.array(kept, dtype=np.int64)
    columns = {name: getattr(event, name)[rows] for name in ("particles", "p4", "type", "index")}
    truth = {k: v[rows] for k, v in event.truth.items()}
    return event.replace(offsets=offsets_from_counts(np.array([len(rows)])), truth=truth, **columns)


def game(model: Any, event: Events) -> dict[Set, float]:
    """Score of every set of the particles of one event."""
    sets = [s for k in range(event.n_particles + 1) for s in combinations(range(event.n_particles), k)]
    return {s: float(model.logits(without_others(event, s))[0, 0]) for s in sets}


def subsets_without(n: int, *players: int) -> Iterator[Set]:
    rest = [p for p in range(n) if p not in players]
    for k in range(len(rest) + 1):
        yield from combinations(rest, k)


def plus(s: Set, *players: int) -> Set:
    return tuple(sorted(s + players))


def slow_value(v: dict[Set, float], n: int, i: int) -> float:
    """Shapley 1953: Σ_S s! (n-s-1)! / n! [v(S ∪ i) - v(S)]."""
    f = math.factorial
    return sum(f(len(s)) * f(n - len(s) - 1) / f(n) * (v[plus(s, i)] - v[s]) for s in subsets_without(n, i))


def slow_interaction(v: dict[Set, float], n: int, i: int, j: int) -> float:
    """Grabisch and Roubens 1999: Σ_S s! (n-s-2)! / (n-1)! [v(S ∪ ij) - v(S ∪ i) - v(S ∪ j) + v(S)]."""
    f = math.factorial
    return sum(
        f(len(s)) * f(n - len(s) - 2) / f(n - 1) * (v[plus(s, i, j)] - v[plus(s, i)] - v[plus(s, j)] + v[s])
        for s in subsets_without(n, i, j)
    )
