"""One chunk: identity, weights, selection, and what is left as `Events`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.cards import Place
from hepxai.core.jagged import IntArray
from hepxai.datasets.assembly import assemble, schema_of
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.columns import ReadError
from hepxai.datasets.cutflow import ALL, CutFlow
from hepxai.datasets.expressions import ExpressionError
from hepxai.datasets.gathering import kind_of
from hepxai.datasets.quality import MomentumCounts
from hepxai.datasets.scope import ExpressionContext
from hepxai.datasets.sources import FileInfo
from hepxai.datasets.splits import assign_split, event_hash, text_hash
from hepxai.events import Events

IDENTITY = ("run", "luminosity_block", "event")


class EventBuilder:
    """Applies a card to chunks, one after the other."""

    def __init__(self, card: DatasetCard, files: tuple[FileInfo, ...], cutflow: CutFlow) -> None:
        self.card, self.files, self.cutflow = card, files, cutflow
        self.schema, self.momenta = schema_of(card), MomentumCounts()
        self.samples = {s.name: (i, s) for i, s in enumerate(card.samples)}
        self._hashes: dict[str, list[tuple[int, int, NDArray[np.uint64]]]] = {
            s.name: [] for s in card.samples
        }

    def events(self, scope: ExpressionContext, file: int, identity: Mapping[str, str]) -> Events:
        """Selected events of a chunk of one file."""
        numbers = self._numbers(scope, identity)
        weight = self._weights(scope, self.files[file].sample)
        self._remember(scope, file, numbers)
        rows = self._selected(scope, self.files[file].sample, weight)
        kept = scope if len(rows) == len(scope) else scope.take(rows)
        particles = assemble(kept)
        for name in self.card.particles:
            self.momenta.add(kept.particles(name))
        for cut, counts in scope.cuts.items():
            self.cutflow.add_particles(*cut, *counts)
        own = [n[rows] for n in numbers]
        return Events(
            schema=self.schema,
            **vars(particles),
            label=self._labels(kept, self.files[file].sample),
            weight=weight[rows],
            globals=self._globals(kept),
            run=own[0] if identity else np.zeros_like(own[0]),
            luminosity_block=own[1],
            event=own[2],
            file=np.full(len(rows), file),
            entry=kept.entries,
            split=assign_split(self.card.split, *own),
            files=tuple(map(str, self.files)),
            file_entries=tuple(f.entries for f in self.files),
            targets=self._targets(kept),
            observers={n: self._observed(kept, n) for n in self.card.observers},
        )

    # --- numbers of an event -------------------------------------------------------------------

    def _numbers(self, scope: ExpressionContext, identity: Mapping[str, str]) -> list[IntArray]:
        if identity:
            return [self._number(scope, key, identity.get(key)) for key in IDENTITY]
        name = text_hash(Path(scope.where).name)  # the same wherever the file lies
        return [np.full(len(scope), name), np.zeros(len(scope), dtype=np.int64), scope.entries]

    def _number(self, scope: ExpressionContext, key: str, branch: str | None) -> IntArray:
        if branch is None:
            return np.zeros(len(scope), dtype=np.int64)
        with scope.at("identity", key):
            values = scope.variable(branch) if branch in self.card.new_variables else scope.branch(branch)
            if kind_of(values) == "u":
                row = int(np.argmax(values))
                number = scope.beyond(branch, row, values[row])
                raise ExpressionError(f"{number} as a new variable NAME, and identity: {{{key}: NAME}}")
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu":
            kind = getattr(values, "dtype", "lists")
            raise ReadError(
                f"{scope.where}: branch {branch} holds {kind}; identity: {key} needs whole numbers"
            )
        return values

    def _remember(self, scope: ExpressionContext, file: int, numbers: list[IntArray]) -> None:
        if self.card.duplicates == "refuse" and len(scope):
            sample = self.files[file].sample
            self._hashes[sample].append((file, int(scope.entries[0]), event_hash(*numbers)))

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

    def _weights(self, scope: ExpressionContext, sample: str) -> NDArray[np.float64]:
        i, own = self.samples[sample]
        weight = scope.per_event(self.card.weights, ("weights",))
        weight = weight * scope.per_event(own.weight, ("samples", i, "weight"))
        _require_finite(scope, "the weight", f"{self.card.weights} times {own.weight}", weight)
        return weight

    def _selected(self, scope: ExpressionContext, sample: str, weight: NDArray[np.float64]) -> IntArray:
        self.cutflow.add(sample, ALL, weight)
        passed = np.ones(len(scope), dtype=np.bool_)
        for step, expression in self.card.selection.items():
            passed &= scope.mask(expression, ("selection", step))
            self.cutflow.add(sample, step, weight[passed])
        return np.flatnonzero(passed)

    def _labels(self, scope: ExpressionContext, sample: str) -> IntArray:
        if not self.card.labels:
            return np.zeros(len(scope), dtype=np.int64)
        if self.card.by_sample:
            return np.full(len(scope), list(self.card.labels).index(str(self.samples[sample][1].class_)))
        masks = [scope.mask(str(e), ("labels", n)) for n, e in self.card.labels.items()]
        classes = np.stack(masks).astype(np.int64)
        wrong = classes.sum(axis=0) != 1
        if wrong.any():
            row = int(np.argmax(wrong))
            names = [n for n, m in zip(self.card.labels, masks, strict=True) if m[row]]
            raise self.card.error(
                ("labels",),
                f"{scope.where}: entry {scope.entry(row)} belongs to {' and '.join(names) or 'no class'}; "
                "make the conditions exclude each other and cover all events, or select such events away",
            )
        return np.asarray(classes.argmax(axis=0))

    def _globals(self, scope: ExpressionContext) -> NDArray[np.float32]:
        values = np.zeros((len(scope), len(self.card.globals)), dtype=np.float32)
        for i, (name, quantity) in enumerate(self.card.globals.items()):
            place: Place = ("globals", name, "expression")
            values[:, i] = scope.per_event(quantity.expression, place)
            _require_finite(scope, f"globals: {name}", quantity.expression, values[:, i])
        return values

    def _observed(self, scope: ExpressionContext, name: str) -> NDArray[Any]:
        """Values of an observer: whole numbers as int64, all others as float64."""
        values = scope.numbers(self.card.observers[name], ("observers", name))
        return values.astype(np.int64 if values.dtype.kind == "i" else np.float64)

    def _targets(self, scope: ExpressionContext) -> NDArray[np.float32]:
        """What a regression learns; NaN says that an event has none."""
        values = np.zeros((len(scope), len(self.card.targets)), dtype=np.float32)
        for i, (name, quantity) in enumerate(self.card.targets.items()):
            own = scope.per_event(quantity.expression, ("targets", name, "expression"))
            _require_finite(scope, f"targets: {name}", quantity.expression, np.where(np.isnan(own), 0, own))
            values[:, i] = own
        return values


def _require_finite(scope: ExpressionContext, what: str, expression: str, values: NDArray[Any]) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise ReadError(
            f"{scope.where}: entry {scope.entry(row)}: {what} ({expression}) is {values[row]}, "
            f"{int(bad.sum())} such values in this chunk; say what stands for a missing value with missing: "
            "on the card, use where(), or select such events away"
        )
