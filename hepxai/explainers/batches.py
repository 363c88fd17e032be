"""Batches of a population in the view that a method reads, and their results in the order of the events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.attribution import Pairs
from hepxai.core.chunks import chunk_rows, image_rows, jagged_in_order
from hepxai.core.jagged import IntArray, offsets_from_counts, parents
from hepxai.events import Events
from hepxai.models.graph.cloud import Cloud

View = Literal["graph", "table", "image"]
Input = TypeVar("Input", Cloud, Tensor)
Values = Tensor | NDArray[np.floating]
AnyArray = NDArray[np.floating]


@dataclass(frozen=True)
class Batch(Generic[Input]):
    """Some events of a population.

    Attributes
    ----------
    x : Cloud or Tensor
        Particles as a `Cloud`, rows of the table ``[B, G]`` or images ``[B, T, R, C]``.
    population : Events
    rows : ndarray of int64, shape [B]
        Positions in the population.
    """

    x: Input
    population: Events
    rows: IntArray

    @cached_property
    def events(self) -> Events:
        """The events of the batch."""
        return self.population[self.rows]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Attribution of a batch.

    Attributes
    ----------
    values : Tensor or ndarray, shape [B, ...], [N, ...] or [P, ...]
        For events, particles or pairs; the first axis is that of the method's ``axes``.
    output_change : Tensor or ndarray, shape [B], optional
        Change of the output that the values of an event add up to.
    error : Tensor or ndarray, shape of ``values``, optional
    edges : tuple of Tensor, optional
        Sender and receiver of each value, flat indices, those of one receiver after the other. Edges from a
        particle to itself become ``self_values``. By default all pairs of different particles.
    self_values : Tensor, shape [N, ...], optional
        Values of edges from a particle to itself, where there are no ``edges``.
    event_columns : mapping of str to Tensor or ndarray, shape [B]
        Further numbers about each event, stored with the result.
    checks : mapping of str to float or ndarray, shape [B]
        Figures of merit whose mean over the events is one of the population. NaN leaves an event out, such as
        an image that is its baseline.
    """

    values: Values
    output_change: Values | None = None
    error: Values | None = None
    edges: tuple[Tensor, Tensor] | None = None
    self_values: Tensor | None = None
    event_columns: Mapping[str, Values] = field(default_factory=dict)
    checks: Mapping[str, float | AnyArray] = field(default_factory=dict)


def default_rows(view: View, events: Events) -> list[IntArray]:
    """Positions of each batch: a bounded number of pairs, table rows or pixels, so that memory stays flat."""
    if view == "image":
        return image_rows(len(events), events.image_layout().shape)
    return chunk_rows(events.counts if view == "graph" else np.zeros(len(events), dtype=np.int64))


def batches(view: View, events: Events, rows: Sequence[IntArray]) -> Iterator[Batch[Any]]:
    """Batches of the given positions; the channel of images is innermost in memory, best for convolutions."""
    if view == "graph":
        cloud = Cloud.of(events)
        yield from (Batch(cloud.take(torch.as_tensor(r)), events, r) for r in rows)
    elif view == "table":
        table, _ = events.table()
        yield from (Batch(torch.as_tensor(table[r]), events, r) for r in rows)
    else:
        for r in rows:
            image = torch.as_tensor(events[r].image())
            yield Batch(torch.empty(image.shape, memory_format=torch.channels_last).copy_(image), events, r)


@dataclass(frozen=True)
class Parts:
    """Parts of all batches, to be joined in the order of the events.

    Attributes
    ----------
    events : Events
        The population.
    rows : list of ndarray
        Positions of the events of each part.
    parts : list of Part
    kind : str
        First axis of the values: "event", "particle" or "pair".
    empty : tuple of int
        Shape of the regular axes, for a population without events.
    """

    events: Events
    rows: list[IntArray]
    parts: list[Part]
    kind: str
    empty: tuple[int, ...]

    def values(self) -> tuple[AnyArray, Pairs | None, AnyArray | None]:
        """Values, pairs and values of self loops."""
        if self.kind != "pair":
            return self.column("values"), None, None
        if self.parts and self.parts[0].edges is not None:
            return self._on_edges()
        loops = [p.self_values for p in self.parts if p.self_values is not None]
        return self.column("values"), Pairs.complete(self.events), self._particles(loops) if loops else None

    def column(self, name: str) -> AnyArray:
        """Join a column of the parts with one row for each entry of the first axis."""
        if not self.parts:
            return np.zeros((0, *self.empty))
        if self.kind == "event":
            return self.per_event(name)
        offsets = self.events.offsets if self.kind == "particle" else Pairs.complete(self.events).offsets
        return jagged_in_order([np.asarray(getattr(p, name)) for p in self.parts], self.rows, offsets)

    def per_event(self, name: str) -> AnyArray:
        """Join a column of the parts with one row for each event."""
        return self._in_order([getattr(p, name) for p in self.parts])

    def event_columns(self) -> dict[str, AnyArray]:
        """Further numbers about each event."""
        names = self.parts[0].event_columns if self.parts else ()
        return {n: self._in_order([p.event_columns[n] for p in self.parts]) for n in names}

    def _in_order(self, columns: Sequence[Values]) -> AnyArray:
        if not columns:
            return np.zeros(0)
        joined = np.concatenate([np.asarray(c) for c in columns])
        order = np.concatenate(self.rows)
        in_order = np.array_equal(order, np.arange(len(order)))  # large maps are not copied again
        return joined if in_order else joined[np.argsort(order, kind="stable")]

    def checks(self) -> dict[str, float]:
        """Mean of the checks over the events that have them."""
        means = {}
        for name in self.parts[0].checks if self.parts else ():
            columns = (
                np.broadcast_to(p.checks[name], len(r)) for p, r in zip(self.parts, self.rows, strict=True)
            )
            values = np.concatenate(list(columns))
            if len(values := values[~np.isnan(values)]):
                means[name] = float(values.mean())
        return means

    def _particles(self, columns: Sequence[Tensor]) -> AnyArray:
        return jagged_in_order([c.numpy() for c in columns], self.rows, self.events.offsets)

    def _on_edges(self) -> tuple[AnyArray, Pairs, AnyArray]:
        """Values of edges between different particles, and of those from a particle to itself."""
        ends: tuple[list[IntArray], list[IntArray]] = ([], [])
        counts, values, loops = [], [], []
        for rows, part in zip(self.rows, self.parts, strict=True):
            assert part.edges is not None
            (src, dst), value = part.edges, torch.as_tensor(part.values)
            first = offsets_from_counts(self.events.counts[rows])
            loop = src == dst
            loops.append(value.new_zeros(int(first[-1])).index_add(0, dst[loop], value[loop]))
            event = parents(first)[dst[~loop].numpy()]
            counts.append(np.bincount(event, minlength=len(rows)))
            values.append(value[~loop].numpy())
            for column, end in zip(ends, (src, dst), strict=True):
                column.append(end[~loop].numpy() - first[event])
        offsets = offsets_from_counts(np.concatenate(counts)[np.argsort(np.concatenate(self.rows))])
        start = self.events.offsets[parents(offsets)]
        flat = (jagged_in_order(cast(Any, e), self.rows, offsets) for e in ends)
        source, receiver = (e.astype(np.int64) + start for e in flat)
        pairs = Pairs(source, receiver, offsets)
        return jagged_in_order(values, self.rows, offsets), pairs, self._particles(loops)
