"""One chunk: a fixed number of generated events, from a seed to the selected events, kept in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.files import read_tensors, write_tensors
from hepxai.core.jagged import IntArray
from hepxai.simulate.collection import Collection
from hepxai.simulate.config import SimulationConfig
from hepxai.simulate.generator import EventRecord, chunk_seed, generate
from hepxai.simulate.reconstruction import Reconstructed, reconstruct
from hepxai.simulate.selection import CutFlow, select, steps

# Branches of the output and their types; the names follow NanoAOD.
EVENT_COLUMNS: dict[str, type[np.generic]] = {
    "run": np.uint32,
    "luminosityBlock": np.uint32,
    "event": np.uint64,
    "genWeight": np.float32,
    "MET_pt": np.float32,
    "MET_phi": np.float32,
}
_P4: dict[str, type[np.generic]] = dict.fromkeys(("pt", "eta", "phi", "mass"), np.float32)
_LEPTON = {**_P4, "charge": np.int32, "pfRelIso": np.float32}
COLLECTIONS: dict[str, dict[str, type[np.generic]]] = {
    "Electron": {**_LEPTON, "fromHp": np.bool_},
    "Muon": {**_LEPTON, "fromHp": np.bool_, "fromResonance": np.bool_},
    "Jet": {
        **_P4,
        "btag": np.float32,
        "hadronFlavour": np.int32,
        "nConstituents": np.int32,
        "fromHp": np.bool_,
    },
}


@dataclass(frozen=True)
class Chunk:
    """Selected events of one chunk.

    Attributes
    ----------
    columns : dict of ndarray
        Event columns by branch name, ``<collection>.counts`` per event and ``<collection>.<column>`` flat.
    cutflow : CutFlow
    failures : int
        Hard processes that the generator gave up and replaced.
    """

    columns: dict[str, NDArray[Any]]
    cutflow: CutFlow
    failures: int

    @property
    def generated(self) -> int:
        """Number of generated events."""
        return int(self.cutflow.counts[0])

    @property
    def selected(self) -> int:
        """Number of selected events."""
        return int(self.cutflow.counts[-1])


@dataclass(frozen=True)
class ChunkTask:
    """What a worker needs to make one chunk."""

    config: SimulationConfig
    sample: str
    index: int
    path: Path

    @property
    def channel(self) -> int:
        """Decay channel: chunks cycle over them."""
        return self.index % len(self.config.samples[self.sample].channels)

    @property
    def seed(self) -> int:
        """Pythia's seed."""
        return chunk_seed(self.config.seed, self.sample, self.index)

    def describe(self) -> str:
        """Sample, chunk, channel and seed, for messages."""
        channel = self.config.samples[self.sample].channels[self.channel].name
        return f"sample {self.sample!r}, chunk {self.index} (channel {channel!r}, Pythia seed {self.seed})"


def make_chunk(task: ChunkTask) -> Chunk:
    """Generate, reconstruct and select the events of one chunk."""
    config, sample = task.config, task.config.samples[task.sample]
    record = generate(sample, task.sample, task.channel, task.seed, config.chunk_events)
    # The detector has a stream of its own: its draws never touch those of the generator.
    rng = np.random.default_rng([task.seed, sample.run])
    events = reconstruct(record, config.detector, sample.resonance, rng)
    passed, cutflow = select(events, record.weight, config.selection, config.detector.btag.threshold)
    return Chunk(_columns(task, record, events, passed), cutflow, record.failures)


def _columns(
    task: ChunkTask, record: EventRecord, events: Reconstructed, passed: IntArray
) -> dict[str, NDArray[Any]]:
    size = len(passed)
    columns: dict[str, NDArray[Any]] = {
        "run": np.full(size, task.config.samples[task.sample].run),
        "luminosityBlock": np.full(size, task.index + 1),
        "event": task.index * task.config.chunk_events + passed + 1,
        "genWeight": record.weight[passed],
        "MET_pt": events.met_pt[passed],
        "MET_phi": events.met_phi[passed],
    }
    columns = {name: columns[name].astype(kind) for name, kind in EVENT_COLUMNS.items()}
    for name, objects in zip(COLLECTIONS, (events.electrons, events.muons, events.jets), strict=True):
        columns |= _collection(name, objects, passed)
    return columns


def _collection(name: str, objects: Collection, passed: IntArray) -> dict[str, NDArray[Any]]:
    kept = objects.take(np.isin(objects.event, passed))
    columns = {f"{name}.{key}": kept[key].astype(kind) for key, kind in COLLECTIONS[name].items()}
    return {f"{name}.counts": objects.counts[passed], **columns}


def store_chunk(task: ChunkTask) -> int:
    """Make one chunk and write its file, complete or not at all; returns the number of selected events."""
    chunk = make_chunk(task)
    flow = chunk.cutflow
    tensors = {
        **chunk.columns,
        "cutflow.counts": flow.counts,
        "cutflow.sum_weights": flow.sum_weights,
        "cutflow.sum_weights2": flow.sum_weights2,
        "failures": np.array([chunk.failures]),
    }
    write_tensors(task.path, tensors, {"chunk": task.describe()})
    return chunk.selected


def load_chunk(task: ChunkTask) -> Chunk:
    """Read the file of one chunk."""
    columns, _ = read_tensors(task.path)
    flow = [columns.pop(f"cutflow.{key}") for key in ("counts", "sum_weights", "sum_weights2")]
    names = steps(task.config.selection, task.config.detector.btag.threshold)
    failures = int(columns.pop("failures")[0])
    return Chunk(columns, CutFlow(names, *flow), failures)
