"""Maps over toy events, and the same map with its particles in another order."""

from __future__ import annotations

import numpy as np

from hepxai.attribution import Attribution, Pairs
from hepxai.core.jagged import parents
from hepxai.events import Events


def make_map(
    events: Events, seed: int = 0, *, ties: bool = False, heads: int | None = None, method: str = "edge_ig"
) -> Attribution:
    """Random signed values on all ordered pairs; of one layer, if a number of heads is given."""
    pairs = Pairs.complete(events)
    shape, axes = (len(pairs.src),), ("pair",)
    if heads is not None:
        shape, axes = (*shape, 1, heads), ("pair", "layer", "head")
    values = np.random.default_rng(seed).normal(size=shape)
    return Attribution(np.round(values) if ties else values, axes, events, method, "signal", pairs=pairs)


def make_attention(events: Events, seed: int = 0, *, heads: int = 2) -> Attribution:
    """Random values of one layer that add up to one for each receiver."""
    pairs = Pairs.complete(events)
    raw = np.random.default_rng(seed).exponential(size=(len(pairs.src), 1, heads))
    total = np.zeros((events.n_particles, 1, heads))
    np.add.at(total, pairs.dst, raw)
    axes = ("pair", "layer", "head")
    return Attribution(raw / total[pairs.dst], axes, events, "attention", "signal", pairs=pairs, unit="")


def particle_map(events: Events, seed: int = 0, *, ties: bool = False) -> Attribution:
    """Random signed values on all particles."""
    values = np.random.default_rng(seed).normal(size=events.n_particles)
    return Attribution(np.round(values) if ties else values, ("particle",), events, "node_ig", "signal")


def shuffled(attribution: Attribution, seed: int = 0) -> Attribution:
    """The same map of the same events, whose particles come in another order; so do the pairs."""
    events, rng = attribution.events, np.random.default_rng(seed)
    order = np.lexsort((rng.random(events.n_particles), events.parent))
    own = {n: getattr(events, n)[order] for n in ("particles", "p4", "type", "index")}
    other = events.replace(**own, truth={k: v[order] for k, v in events.truth.items()})
    if attribution.pairs is None:
        return attribution.replace(values=attribution.values[order], events=other)
    new = np.argsort(order)
    pairs = attribution.pairs
    edge = np.lexsort((rng.random(len(pairs.src)), parents(pairs.offsets)))
    moved = Pairs(new[pairs.src[edge]], new[pairs.dst[edge]], pairs.offsets)
    return attribution.replace(values=attribution.values[edge], events=other, pairs=moved)


def sparse(attribution: Attribution, seed: int = 0) -> Attribution:
    """Part of the edges, as of a layer with few neighbours; an event may lose all."""
    pairs = attribution.pairs
    assert pairs is not None
    kept = np.random.default_rng(seed).random(len(pairs.src)) < 0.5
    counts = np.bincount(parents(pairs.offsets)[kept], minlength=len(attribution.events))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return attribution.replace(
        values=attribution.values[kept], pairs=Pairs(pairs.src[kept], pairs.dst[kept], offsets)
    )
