"""From the particles of each type to the columns of `Events`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, offsets_from_counts, take_rows
from hepxai.datasets.card import FEATURE_UNITS, NANOAOD, NODE_FEATURES, DatasetCard
from hepxai.datasets.columns import ReadError
from hepxai.datasets.hits import refuse_outside
from hepxai.datasets.particles import Particles, collection_name
from hepxai.datasets.scope import ExpressionContext
from hepxai.events import P4, Schema

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
        classes=card.classes,
        globals=tuple(card.globals),
        global_units=tuple(g.units for g in card.globals.values()),
        pair_features=card.pair_features,
        collections=tuple(collection_name(p, n) for n, p in card.particles.items()),
        targets=tuple(card.targets),
        target_units=tuple(t.units for t in card.targets.values()),
        image=card.image_layout,
        identity=tuple(card.identity.branches.get(number, "") for number in NANOAOD),
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


def assemble(scope: ExpressionContext) -> Assembled:
    """Particles of all types of every event, in the order of the card."""
    card = scope.card
    types = [scope.particles(name) for name in card.particles]
    order, rows = _interleaved(types, len(scope))
    for particles, name in product((t for t in types if t.moving), P4):
        with scope.at("particles", particles.name, "branches"):
            particles.flat(name)  # asked for again and again
    p4 = _block(types, P4)  # before what follows from it: errors name the cause
    for particles in types:
        refuse_outside(particles)
    truth_names = dict.fromkeys(n for p in card.particles.values() for n in p.truth)
    return Assembled(
        offsets=np.ascontiguousarray(rows[:: len(types)]),
        particles=np.take(_block(types, card.node_features), order, axis=0),
        p4=np.take(p4, order, axis=0),
        type=np.repeat(np.tile(np.arange(len(types)), len(scope)), np.diff(rows)),
        index=np.concatenate([t.once("index") for t in types])[order],
        truth={n: np.concatenate([_truth(t, n) for t in types])[order] for n in truth_names},
    )


def _interleaved(types: list[Particles], events: int) -> tuple[IntArray, IntArray]:
    """Where each particle of the events is in type after type, and offsets of every (event, type)."""
    by_type = offsets_from_counts(np.concatenate([np.diff(t.offsets) for t in types]))
    event_first = np.arange(len(types) * events).reshape(len(types), events).T
    return take_rows(by_type, event_first.ravel())


def _truth(particles: Particles, name: str) -> NDArray[np.bool_]:
    known = name in particles.card.truth
    return particles.once(name) != 0 if known else np.zeros(particles.n, dtype=np.bool_)


def _block(types: list[Particles], names: tuple[str, ...]) -> FloatArray:
    """Columns of all types, one after the other, ``[N, len(names)]``; 0 where a type has no such feature."""
    block = np.zeros((sum(t.n for t in types), len(names)), dtype=np.float32)
    start = 0
    for particles in types:
        own = block[start : start + particles.n]
        for i, name in enumerate(names):
            if name == f"is_{particles.name}":
                own[:, i] = 1
            elif (particles.moving and name in NODE_FEATURES) or name in particles.card.features:
                own[:, i] = particles.once(name)
        if not np.isfinite(own.sum()):  # one cheap look; where it is, is only asked when something is there
            _refuse(particles, names, own)
        start += particles.n
    return block


def _refuse(particles: Particles, names: tuple[str, ...], block: FloatArray) -> None:
    bad = np.argwhere(~np.isfinite(block))
    if not len(bad):
        return
    row, column = bad[0]
    event = int(np.searchsorted(particles.offsets, row, side="right") - 1)
    name, value = names[column], float(block[row, column])
    raise ReadError(
        f"{particles.place(event)}: {name} of {particles.name} is {value} ({len(bad)} such in this chunk); "
        f"{_remedy(particles, name, value)}"
    )


def _remedy(particles: Particles, name: str, value: float) -> str:
    """Entries of the card that help; each has been tried."""
    selected = f"selection: isfinite({particles.name}.{name})"
    cut = selected if particles.one_each else f"cuts: isfinite({name}) for {particles.name}"
    origin = particles.origin(name)
    if len(origin) == 1 and origin[0] in particles.names.all_names:
        text = ".nan" if np.isnan(value) else ".inf" if value > 0 else "-.inf"
        known = f"say what stands for it with missing: {{{origin[0]}: {{values: [{text}], replace: 0}}}}"
    elif name in particles.card.features:
        known = f"write where(isfinite(x), x, 0) with {origin[0]} as x"
    else:
        known = f"correct {', '.join(origin)}, which it follows from"
    return f"cut such particles away with {cut}, or {known}"
