"""Chunks of a simulated sample: a fixed number of generated events each, one file each."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hepxai.core.files import read_tensors, write_tensors
from hepxai.core.jagged import IntArray
from hepxai.simulate.collection import BoolArray, Collection, FloatArray
from hepxai.simulate.settings import Production

Columns = dict[str, NDArray[Any]]
Types = Mapping[str, type[np.generic]]
IDENTITY: Types = {"run": np.uint32, "luminosityBlock": np.uint32, "event": np.uint64}
_SUMS = ("counts", "sum_weights", "sum_weights2")


@dataclass(frozen=True)
class CutFlow:
    """Events that survive each step, counted, weighted, and with the sum of squared weights."""

    steps: tuple[str, ...]
    counts: IntArray
    sum_weights: FloatArray
    sum_weights2: FloatArray

    @staticmethod
    def of(masks: Mapping[str, BoolArray], weight: FloatArray) -> tuple[IntArray, CutFlow]:
        """Positions of the events that pass every step, and the cut flow."""
        alive = np.logical_and.accumulate(list(masks.values()))
        flow = CutFlow(tuple(masks), alive.sum(axis=1), alive @ weight, alive @ weight**2)
        return np.flatnonzero(alive[-1]), flow

    def after(self, step: str, events: int) -> CutFlow:
        """Cut flow with a first step of events of weight one."""
        sums = (np.concatenate([[events], getattr(self, name)]) for name in _SUMS)
        return CutFlow((step, *self.steps), *sums)

    def scaled(self, factor: float) -> CutFlow:
        """Cut flow of events with ``factor`` times the weight."""
        sums = (factor * self.sum_weights, factor**2 * self.sum_weights2)
        return CutFlow(self.steps, self.counts, *sums)

    def __add__(self, other: CutFlow) -> CutFlow:
        """Cut flow of both sets of events."""
        if self.steps != other.steps:
            raise ValueError(f"cut flows of different selections: {self.steps} and {other.steps}")
        return CutFlow(self.steps, *(getattr(self, name) + getattr(other, name) for name in _SUMS))


@dataclass(frozen=True)
class Layout:
    """Branches of a sample and their types: one value per event, and per object of the collections."""

    events: Types
    collections: Mapping[str, Types]

    def columns(self, events: Columns, objects: Mapping[str, Collection]) -> Columns:
        """Columns of a `Chunk` from those of its events and objects."""
        columns = {name: events[name].astype(kind) for name, kind in self.events.items()}
        for name, types in self.collections.items():
            columns[f"{name}.counts"] = objects[name].counts
            columns |= {f"{name}.{key}": objects[name][key].astype(kind) for key, kind in types.items()}
        return columns


@dataclass(frozen=True)
class Chunk:
    """Selected events of one chunk.

    Attributes
    ----------
    columns : dict of ndarray
        Event columns by branch name, ``<collection>.counts`` per event and ``<collection>.<column>`` flat.
    cutflow : CutFlow
    numbers : mapping of str to float
        Results of the generator, such as ``failures``: hard processes that it could not finish.
    """

    columns: Columns
    cutflow: CutFlow
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def generated(self) -> int:
        """Number of generated events."""
        return int(self.cutflow.counts[0])

    @property
    def selected(self) -> int:
        """Number of selected events."""
        return int(self.cutflow.counts[-1])


ProductionT = TypeVar("ProductionT", bound=Production)


@dataclass(frozen=True)
class Simulation(ABC, Generic[ProductionT]):
    """Generator, detector and selection of one sample.

    Attributes
    ----------
    settings : Production
    sample : str
        Name of the sample in the settings.
    """

    settings: ProductionT
    sample: str
    settings_class: ClassVar[type[Production]]
    packages: ClassVar[tuple[str, ...]]
    """Packages that determine the events."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Branches of the sample."""

    @property
    def cycle(self) -> int:
        """Number of chunks that belong together: a sample has whole cycles."""
        return 1

    def number_of_chunks(self, events: int) -> int | None:
        """Number of chunks with ``events`` selected events, if it is known before they are made."""
        return None

    @abstractmethod
    def describe(self, index: int) -> str:
        """Sample and chunk, for messages."""

    @abstractmethod
    def make(self, index: int) -> Chunk:
        """Generate, reconstruct and select the events of a chunk, which depend on settings and index only."""

    def assemble(self, files: Sequence[Path], events: int) -> tuple[Iterable[Chunk], dict[str, Any]]:
        """Chunks to write for a sample of ``events`` events, and entries of its provenance."""
        return map(load_chunk, files), {}

    def columns(
        self, index: int, number: IntArray, events: Columns, objects: Mapping[str, Collection]
    ) -> Columns:
        """Columns of a chunk with the identity of its events, which have these numbers."""
        run, block = self.settings.samples[self.sample].run, index + 1
        identity = {"run": np.full(len(number), run), "luminosityBlock": np.full(len(number), block)}
        return self.layout.columns({**identity, "event": number, **events}, objects)


@dataclass(frozen=True)
class ChunkTask:
    """Chunk to make, and its file."""

    simulation: Simulation[Any]
    index: int
    path: Path

    def describe(self) -> str:
        """Sample and chunk, for messages."""
        return self.simulation.describe(self.index)


def store_chunk(task: ChunkTask) -> int:
    """Make a chunk and write its file, complete or not at all; returns the number of selected events."""
    chunk = task.simulation.make(task.index)
    flow = chunk.cutflow
    tensors = chunk.columns | {f"cutflow.{name}": getattr(flow, name) for name in _SUMS}
    metadata = {"chunk": task.describe(), "steps": json.dumps(flow.steps)}
    write_tensors(task.path, tensors, metadata | {"numbers": json.dumps(dict(chunk.numbers))})
    return chunk.selected


def load_chunk(path: Path) -> Chunk:
    """Read the file of a chunk.

    Raises
    ------
    ValueError, KeyError
        If the file is damaged.
    """
    columns, metadata = read_tensors(path)
    sums = [columns.pop(f"cutflow.{name}") for name in _SUMS]
    flow = CutFlow(tuple(json.loads(metadata["steps"])), *sums)
    return Chunk(columns, flow, json.loads(metadata["numbers"]))
