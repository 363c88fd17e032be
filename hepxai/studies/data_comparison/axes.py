"""Numbers of an event that data and simulation are compared in: inputs, and sums of attributions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import (
    labels_of,
    layers,
    pairs_of,
    pt_rank,
    relative_to_uniform,
    short_name,
    sums_to_one,
)
from hepxai.core.estimate import Array
from hepxai.core.jagged import IntArray, parents
from hepxai.events import Events
from hepxai.metrics.two_sample import EventTable

LEADING = 2
"""Particles of each type whose features are axes of their own."""
RANKS = 4
"""Groups by pT rank where all particles are of one type; the last one has all further particles."""
MOST = 64
"""Rows of a map that can be axes."""
Columns = Iterator[tuple[str, Array]]


def table_of(columns: dict[str, Array], weight: Array) -> EventTable:
    """Table of named columns ``[E]``."""
    values = np.stack([*columns.values()], axis=1) if columns else np.zeros((len(weight), 0))
    return EventTable(tuple(columns), values.astype(np.float64), weight)


def input_table(events: Events) -> EventTable:
    """Inputs of a model: globals, number of particles of each type, mean and leading values of features.

    The features are those of the model, with pt [GeV] and η where the particles have momenta; the leading
    particles are those of highest pt.
    """
    columns = dict(zip(events.schema.globals, events.globals.T, strict=True))
    values = events.particles.astype(np.float64)
    features = dict(zip(events.schema.features, values.T, strict=True))
    features |= {"pt": events.p4[:, 0], "eta": events.p4[:, 1]} if events.p4.any() else {}
    for code, name in enumerate(events.schema.types):
        columns |= dict(_inputs_of_type(events, name, events.type == code, features))
    return table_of(columns, events.weight)


def _inputs_of_type(
    events: Events, name: str, chosen: NDArray[np.bool_], features: dict[str, Array]
) -> Columns:
    parent, size = events.parent[chosen], len(events)
    number = np.bincount(parent, minlength=size)
    yield f"number of {name}s", number.astype(np.float64)
    rank = _rank_within(events, chosen)
    for feature, values in features.items():
        total = np.bincount(parent, weights=values[chosen], minlength=size)
        yield f"mean {name} {feature}", total / np.where(number > 0, number, np.nan)
        for place in range(LEADING):
            column = np.full(size, np.nan)
            column[parent[rank == place]] = values[chosen][rank == place]
            yield f"{name} {place + 1} {feature}", column


def _rank_within(events: Events, chosen: NDArray[np.bool_]) -> IntArray:
    """Place by falling pt among the chosen particles of the event, from 0."""
    order = np.lexsort((pt_rank(events)[chosen], events.parent[chosen]))
    parent = events.parent[chosen][order]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(parent, parent)
    return rank


def attribution_columns(attribution: Attribution) -> dict[str, Array]:
    """Sums of an attribution in every event, by particle type, pair of types, or column ``[E]``.

    Heads and trainings are averaged, layers stay apart. Types without a particle in the event have the sum
    0. Attention adds up to one for every particle: it is relative to uniform attention and averaged instead,
    NaN without a pair.

    Raises
    ------
    ValueError
        If the attribution has too many rows or columns for a test of each.
    """
    name = short_name(attribution)
    if attribution.axes[0] == "event":
        return {f"{name}: {label}": v for label, v in _event_columns(attribution)}
    parts = layers(attribution) if attribution.axes[0] == "pair" else {"": attribution}
    return {
        f"{name}{f' {layer}' if layer else ''}: {label}": v
        for layer, part in parts.items()
        for label, v in (_pair_columns(part) if part.axes[0] == "pair" else _particle_columns(part))
    }


def _event_columns(attribution: Attribution) -> Columns:
    part = attribution
    for axis in attribution.axes[1:]:
        if axis in ("column", "channel"):
            part = part.sum(axis)
        elif axis not in ("feature", "row", "neuron"):
            part = part.mean(axis)
    if part.values.ndim != 2 or part.values.shape[1] > MOST:
        raise ValueError(
            f"{attribution.method} has {' x '.join(map(str, part.values.shape[1:]))} values per event, and "
            f"at most {MOST} are compared; sum or select first, as in attribution.select(feature=…)"
        )
    axis = part.axes[1]
    names = labels_of(part, axis)
    prefix = "" if axis == "feature" or axis not in attribution.labels else f"{axis} "
    yield from ((f"{prefix}{n}", v) for n, v in zip(names, part.values.T, strict=True))


def _groups(events: Events) -> tuple[tuple[str, ...], IntArray]:
    """Particle types, or pT ranks where there is one type; group of every particle ``[N]``."""
    types = events.schema.types
    if len(types) > 1:
        return types, events.type
    names = [f"{types[0]} {rank}" for rank in range(1, RANKS + 1)]
    return (*names, f"{types[0]} {RANKS + 1}+"), np.minimum(pt_rank(events), RANKS)


def _particle_columns(attribution: Attribution) -> Columns:
    for axis in attribution.axes[1:]:
        attribution = attribution if axis == "feature" else attribution.mean(axis)
    names, group = _groups(attribution.events)
    yield from _sums(
        attribution, attribution.values.reshape(len(group), -1).sum(axis=1, dtype=np.float64), names, group
    )
    if "feature" in attribution.axes:
        for feature, values in zip(labels_of(attribution, "feature"), attribution.values.T, strict=True):
            labels = tuple(f"{name} {feature}" for name in names)
            yield from _sums(attribution, values, labels, group)


def _pair_columns(attribution: Attribution) -> Columns:
    mean = sums_to_one(attribution)
    part = relative_to_uniform(attribution) if mean else attribution
    names, group = _groups(part.events)
    pairs, size = pairs_of(part), len(names)
    low, high = np.sort([group[pairs.src], group[pairs.dst]], axis=0)
    both = [(i, j) for i in range(size) for j in range(i, size)]
    code = np.zeros((size, size), dtype=np.int64)
    code[tuple(np.transpose(both))] = np.arange(len(both))
    labels = tuple(f"{names[i]}–{names[j]}" for i, j in both)
    yield from _sums(part, part.values, labels, code[low, high], mean=mean)


def _sums(
    attribution: Attribution,
    values: NDArray[np.floating],
    names: tuple[str, ...],
    group: IntArray,
    *,
    mean: bool = False,
) -> Columns:
    """Sum or mean of each group in every event."""
    shape = len(attribution.events), len(names)
    place = parents(attribution.offsets) * len(names) + group
    total, number = (
        np.bincount(place, weights=w, minlength=shape[0] * shape[1]).reshape(shape)
        for w in (values, np.ones(len(place)))
    )
    columns = total / np.where(number > 0, number, np.nan) if mean else total
    yield from zip(names, columns.T, strict=True)
