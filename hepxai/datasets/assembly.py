"""From the particles of each type to the columns of `Events`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.datasets.card import FEATURE_UNITS, NODE_FEATURES, DatasetCard
from hepxai.datasets.columns import ReadError
from hepxai.datasets.particles import Particles, collection_name
from hepxai.datasets.scope import Scope
from hepxai.events import P4, Schema
from hepxai.jagged import IntArray, offsets_from_counts

FloatArray = NDArray[np.float32]


def schema_of(card: DatasetCard) -> Schema:
    """Names, units and types that a card declares."""
    units = dict(FEATURE_UNITS)
    for particle in card.particles.values():
        units.update({n: f.units for n, f in particle.features.items()})
    return Schema(
        features=card.node_features,
        units=tuple(units.get(n, "") for n in card.node_features),
        types=tuple(card.particles),
        classes=tuple(card.labels),
        globals=tuple(card.globals),
        global_units=tuple(g.units for g in card.globals.values()),
        pair_features=card.pair_features,
        collections=tuple(collection_name(p, n) for n, p in card.particles.items()),
    )


@dataclass(frozen=True)
class Assembled:
    """Particle columns of a chunk, in the order of `Events`."""

    offsets: IntArray
    particles: FloatArray
    p4: FloatArray
    type: IntArray
    index: IntArray
    truth: dict[str, NDArray[np.bool_]]


def assemble(scope: Scope) -> Assembled:
    """Particles of all types of every event, in the order of the card."""
    card = scope.card
    types = [scope.particles(name) for name in card.particles]
    counts = np.stack([np.diff(t.offsets) for t in types])
    offsets = offsets_from_counts(counts.sum(axis=0))
    starts = offsets[:-1] + np.cumsum(counts, axis=0) - counts
    size = int(offsets[-1])
    truth_names = dict.fromkeys(n for p in card.particles.values() for n in p.truth)
    out = Assembled(
        offsets=offsets,
        particles=np.empty((size, len(card.node_features)), dtype=np.float32),
        p4=np.empty((size, len(P4)), dtype=np.float32),
        type=np.empty(size, dtype=np.int64),
        index=np.empty(size, dtype=np.int64),
        truth={n: np.zeros(size, dtype=np.bool_) for n in truth_names},
    )
    for code, (particles, start) in enumerate(zip(types, starts, strict=True)):
        _place(out, code, particles, start, card)
    return out


def _place(out: Assembled, code: int, particles: Particles, start: IntArray, card: DatasetCard) -> None:
    rows = np.repeat(start - particles.offsets[:-1], np.diff(particles.offsets)) + np.arange(particles.n)
    out.p4[rows] = _block(particles, P4, card)
    out.particles[rows] = _block(particles, card.node_features, card)
    out.type[rows] = code
    out.index[rows] = particles.flat("index")
    for name in particles.card.truth:
        out.truth[name][rows] = particles.flat(name) != 0


def _block(particles: Particles, names: tuple[str, ...], card: DatasetCard) -> FloatArray:
    """Columns of one type, ``[n, len(names)]``; 0 for features that the type does not have."""
    block = np.zeros((particles.n, len(names)), dtype=np.float32)
    for i, name in enumerate(names):
        if name == f"is_{particles.name}":
            block[:, i] = 1
        elif name in NODE_FEATURES or name in P4 or name in particles.card.features:
            block[:, i] = particles.flat(name)
    if not np.isfinite(block.sum()):  # one cheap look; which one is only asked when something is there
        _refuse(particles, names, block)
    return block


def _refuse(particles: Particles, names: tuple[str, ...], block: FloatArray) -> None:
    bad = np.argwhere(~np.isfinite(block))
    if not len(bad):
        return
    row, column = bad[0]
    event = int(np.searchsorted(particles.offsets, row, side="right") - 1)
    scope, name, value = particles.names, names[column], float(block[row, column])
    entry = scope.entry(event if particles.events is None else int(particles.events[event]))
    raise ReadError(
        f"{scope.where}: entry {entry}: {name} of {particles.name} is {value} ({len(bad)} such in this "
        f"chunk); {_remedy(particles.origin(name), value)}, or cut such particles away"
    )


def _remedy(branches: tuple[str, ...], value: float) -> str:
    if len(branches) > 1:
        return f"it follows from {', '.join(branches)}"
    text = ".nan" if np.isnan(value) else ".inf" if value > 0 else "-.inf"
    return f"say what stands for it with missing: {{{branches[0]}: {{values: [{text}], replace: 0}}}}"
