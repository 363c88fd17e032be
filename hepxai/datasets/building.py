"""Selected events of a chunk as `Events`: identity, weights, selection, labels and particles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.cards import CardError
from hepxai.core.jagged import IntArray, interleave
from hepxai.datasets.card import NANOAOD, DatasetCard
from hepxai.datasets.columns import ExpressionError, ReadError
from hepxai.datasets.context import ExpressionContext
from hepxai.datasets.cutflow import ALL, CutFlow
from hepxai.datasets.particles import Particles
from hepxai.datasets.quality import MomentumCounts
from hepxai.datasets.sources import FileInfo
from hepxai.events import P4, Events, Schema
from hepxai.events.momenta import FEATURE_UNITS
from hepxai.events.schema import DATA, Resolution
from hepxai.events.splits import assign_split, event_hash, text_hash


class EventBuilder:
    """Applies a card to chunks, one after the other."""

    def __init__(self, card: DatasetCard, files: tuple[FileInfo, ...], cutflow: CutFlow) -> None:
        self.card, self.files, self.cutflow = card, files, cutflow
        self.schema, self.momenta = schema_of(card), MomentumCounts()
        self.samples = {s.name: (i, s) for i, s in enumerate(card.samples)}
        self._hashes: dict[str, list[tuple[int, int, NDArray[np.uint64]]]] = {
            s.name: [] for s in card.samples
        }

    def events(self, context: ExpressionContext, file: int, identity: Mapping[str, str]) -> Events:
        """Selected events of a chunk of one file."""
        numbers = self._numbers(context.nominal, identity)  # a variation never changes them
        weight = self._weights(context, self.files[file].sample)
        if self.card.duplicates == "refuse" and len(context):
            hashes = self._hashes[self.files[file].sample]
            hashes.append((file, int(context.entries[0]), event_hash(*numbers)))
        rows = self._selected(context, self.files[file].sample, weight)
        selected = context if len(rows) == len(context) else context.take(rows)
        identifiers = [n[rows] for n in numbers]
        return Events(
            schema=self.schema,
            **self._particles(selected),
            label=self._labels(selected, self.files[file].sample),
            weight=weight[rows],
            globals=self._globals(selected),
            run=identifiers[0] if identity else np.zeros_like(identifiers[0]),
            luminosity_block=identifiers[1],
            event=identifiers[2],
            file=np.full(len(rows), file),
            entry=selected.entries,
            split=assign_split(self.card.split, *identifiers),
            files=tuple(map(str, self.files)),
            file_entries=tuple(f.entries for f in self.files),
            samples=tuple(f.sample for f in self.files),
            targets=self._targets(selected),
            observers={n: self._observed(selected, n) for n in self.card.observers},
        )

    def _particles(self, context: ExpressionContext) -> dict[str, Any]:
        """Particle columns of `Events`: all types of every event, in the order of the card."""
        types = [context.particles(name) for name in self.card.particles]
        order, kind, offsets = interleave([t.offsets for t in types])
        p4 = np.concatenate([self._table(t, P4, cached=True) for t in types])  # errors name the cause
        for particles in types:
            if self.card.image is not None:
                _refuse_outside(particles)
            self.momenta.add(particles)
            for cut, counts in particles.cut_flow.items():
                self.cutflow.add_particles(particles.name, cut, *counts)
        features = np.concatenate([self._table(t, self.schema.features) for t in types])
        truth = dict.fromkeys(n for p in self.card.particles.values() for n in p.truth)
        return {
            "offsets": offsets,
            "particles": np.take(features, order, axis=0),
            "p4": np.take(p4, order, axis=0),
            "type": kind,
            "index": np.concatenate([t.once("index") for t in types])[order],
            "truth": {n: np.concatenate([t.truth(n) for t in types])[order] for n in truth},
        }

    def _table(
        self, particles: Particles, names: tuple[str, ...], *, cached: bool = False
    ) -> NDArray[np.float32]:
        with self.card.at("particles", particles.name, "branches"):
            table = particles.table(names, cached=cached)
        if not np.isfinite(table.sum()):  # one cheap test for all
            _refuse_not_finite(particles, names, table)
        return table

    # --- numbers of an event -------------------------------------------------------------------

    def _numbers(self, context: ExpressionContext, identity: Mapping[str, str]) -> list[IntArray]:
        if identity:
            return [self._number(context, key, identity.get(key)) for key in NANOAOD]
        name = text_hash(Path(context.where).name)  # the same wherever the file lies
        return [np.full(len(context), name), np.zeros(len(context), dtype=np.int64), context.entries]

    def _number(self, context: ExpressionContext, key: str, branch: str | None) -> IntArray:
        if branch is None:
            return np.zeros(len(context), dtype=np.int64)
        with self.card.at("identity", key):
            values = context.variable(branch) if branch in self.card.new_variables else context.branch(branch)
            if isinstance(values, np.ndarray) and values.dtype.kind == "u":
                row = int(np.argmax(values))
                number = context.beyond(branch, row, values[row])
                raise ExpressionError(f"{number} as a new variable NAME, and identity: {{{key}: NAME}}")
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu":
            kind = getattr(values, "dtype", "lists")
            raise ReadError(
                f"{context.where}: branch {branch} holds {kind}; identity: {key} needs whole numbers"
            )
        return values

    def refuse_duplicates(self) -> None:
        """Raise if two entries of a sample have the same numbers."""
        for sample, parts in self._hashes.items():
            mixed = np.concatenate([h for _, _, h in parts]) if parts else np.zeros(0, dtype=np.uint64)
            ordered = np.sort(mixed)
            twice = ordered[1:][ordered[1:] == ordered[:-1]]
            if len(twice):
                first, second = (self._place_of(parts, int(r)) for r in np.flatnonzero(mixed == twice[0])[:2])
                raise ReadError(
                    f"sample {sample!r}: {len(twice)} duplicate event numbers, first {first} and {second}; "
                    "remove the copy, set identity: on the card, or write duplicates: allow"
                )

    def _place_of(self, parts: list[tuple[int, int, NDArray[np.uint64]]], row: int) -> str:
        for file, start, mixed in parts:
            if row < len(mixed):
                return f"{self.files[file]} entry {start + row}"
            row -= len(mixed)
        raise IndexError(row)

    # --- weights, selection, labels ------------------------------------------------------------

    def _weights(self, context: ExpressionContext, sample: str) -> NDArray[np.float64]:
        i, declared = self.samples[sample]
        weight = context.per_event(self.card.weights, ("weights",))
        weight = weight * context.per_event(declared.weight, ("samples", i, "weight"))
        factors = [self.card.weights, declared.weight]
        if context.shift.weight is not None:
            factors.append(context.shift.weight)
            weight = weight * context.per_event(context.shift.weight, (*context.shift.place, "weight"))
        _require_finite(context, "the weight", " times ".join(factors), weight)
        return weight

    def _selected(self, context: ExpressionContext, sample: str, weight: NDArray[np.float64]) -> IntArray:
        self.cutflow.add(sample, ALL, weight)
        passed = np.ones(len(context), dtype=np.bool_)
        for step, expression in self.card.selection.items():
            passed &= context.mask(expression, ("selection", step))
            self.cutflow.add(sample, step, weight[passed])
        return np.flatnonzero(passed)

    def _labels(self, context: ExpressionContext, sample: str) -> IntArray:
        if not self.card.labels:
            return np.zeros(len(context), dtype=np.int64)
        if self.card.by_sample:
            return np.full(len(context), list(self.card.labels).index(str(self.samples[sample][1].class_)))
        masks = [context.mask(str(e), ("labels", n)) for n, e in self.card.labels.items()]
        classes = np.stack(masks).astype(np.int64)
        wrong = classes.sum(axis=0) != 1
        if wrong.any():
            row = int(np.argmax(wrong))
            names = [n for n, m in zip(self.card.labels, masks, strict=True) if m[row]]
            raise self.card.error(
                ("labels",),
                f"{context.place(row)} belongs to {' and '.join(names) or 'no class'}; "
                "make the conditions exclude each other and cover all events, or select such events away",
            )
        return np.asarray(classes.argmax(axis=0))

    def _globals(self, context: ExpressionContext) -> NDArray[np.float32]:
        values = np.zeros((len(context), len(self.card.globals)), dtype=np.float32)
        for i, name in enumerate(self.card.globals):
            expression, place = context.definition("globals", name)
            values[:, i] = context.per_event(expression, place)
            _require_finite(context, f"globals: {name}", expression, values[:, i])
        return values

    def _observed(self, context: ExpressionContext, name: str) -> NDArray[Any]:
        """Values of an observer: whole numbers as int64, all others as float64."""
        try:
            values = context.numbers(self.card.observers[name], ("observers", name))
        except CardError as problem:
            if self.card.classes != (DATA,):
                raise
            raise CardError(
                f"{problem}; if data do not have it, list {name} under simulation_only:"
            ) from problem
        return values.astype(np.int64 if values.dtype.kind == "i" else np.float64)

    def _targets(self, context: ExpressionContext) -> NDArray[np.float32]:
        """Targets of a regression; NaN for events without one."""
        values = np.zeros((len(context), len(self.card.targets)), dtype=np.float32)
        for i, (name, quantity) in enumerate(self.card.targets.items()):
            target = context.per_event(quantity.expression, ("targets", name, "expression"))
            _require_finite(
                context, f"targets: {name}", quantity.expression, np.where(np.isnan(target), 0, target)
            )
            values[:, i] = target
        return values


def _require_finite(context: ExpressionContext, what: str, expression: str, values: NDArray[Any]) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise ReadError(
            f"{context.place(row)}: {what} ({expression}) is {values[row]}, "
            f"{int(bad.sum())} such values in this chunk; say what stands for a missing value with missing: "
            "on the card, use where(), or select such events away"
        )


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
        collections=tuple(p.collection(n) for n, p in card.particles.items()),
        targets=tuple(card.targets),
        target_units=tuple(t.units for t in card.targets.values()),
        image=card.image_layout,
        identity=tuple(card.identity.branches.get(number, "") for number in NANOAOD),
        resolutions=tuple(
            Resolution(n, **r.model_dump()) for n, p in card.particles.items() if (r := p.resolutions)
        ),
    )


# --- refusals: file, entry and remedy --------------------------------------------------------------


def _refuse_outside(particles: Particles) -> None:
    layout = particles.dataset.image_layout
    inside = particles.inside()
    if layout is None or inside.all():
        return
    first = int(np.argmin(inside))
    axes = (layout.rows, layout.columns)
    at = ", ".join(f"{_spelled(particles, a.feature)} = {particles.flat(a.feature)[first]:g}" for a in axes)
    events = np.searchsorted(particles.offsets, np.flatnonzero(~inside), side="right") - 1
    raise ReadError(
        f"{particles.place(int(events[0]))}: a {particles.name} at {at} lies "
        f"outside the image of {layout.rows.size} rows and {layout.columns.size} columns, with "
        f"{len(events)} such in {len(np.unique(events))} events of this chunk; correct the bins of "
        "image:, or write outside: drop there"
    )


def _spelled(particles: Particles, feature: str) -> str:
    """Feature, with the branch that it comes from if that has another name."""
    origin = ", ".join(particles.origin(feature))
    return feature if origin == feature else f"{feature} ({origin})"


def _refuse_not_finite(particles: Particles, names: tuple[str, ...], table: NDArray[np.float32]) -> None:
    bad = np.argwhere(~np.isfinite(table))
    if not len(bad):  # only the sum overflows
        return
    row, column = bad[0]
    event = int(np.searchsorted(particles.offsets, row, side="right") - 1)
    name, value = names[column], float(table[row, column])
    raise ReadError(
        f"{particles.place(event)}: {name} of {particles.name} is {value} ({len(bad)} such in this chunk); "
        f"{_remedy(particles, name, value)}"
    )


def _remedy(particles: Particles, name: str, value: float) -> str:
    """Entries of the card that help."""
    selected = f"selection: isfinite({particles.name}.{name})"
    cut = selected if particles.one_each else f"cuts: isfinite({name}) for {particles.name}"
    origin = particles.origin(name)
    if len(origin) == 1 and origin[0] in particles.columns.all_names:
        text = ".nan" if np.isnan(value) else ".inf" if value > 0 else "-.inf"
        instead = f"say what stands for it with missing: {{{origin[0]}: {{values: [{text}], replace: 0}}}}"
    elif name in particles.card.features:
        instead = f"write where(isfinite(x), x, 0) with {origin[0]} as x"
    else:
        instead = f"correct {', '.join(origin)}, which it follows from"
    return f"cut such particles away with {cut}, or {instead}"
