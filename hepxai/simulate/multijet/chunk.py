"""One chunk: the hard processes of one slice, from a seed to the selected events, kept in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.files import read_tensors, write_tensors
from hepxai.core.jagged import IntArray
from hepxai.simulate.chunk import Chunk
from hepxai.simulate.collection import Collection, FloatArray
from hepxai.simulate.generator import EventRecord, chunk_seed
from hepxai.simulate.jets import measure_jets
from hepxai.simulate.multijet.config import Detector, MultijetConfig, Sample, Selection
from hepxai.simulate.multijet.generation import Generated, generate_slice
from hepxai.simulate.multijet.jets import (
    Constituents,
    energy_fractions,
    find_jets,
    quark_gluon_score,
    substructure,
)
from hepxai.simulate.multijet.truth import parton_flavour, top_quarks_jets
from hepxai.simulate.response import tag_score
from hepxai.simulate.selection import CutFlow

# Branches of the output and their types; the names follow NanoAOD.
EVENT_COLUMNS: dict[str, type[np.generic]] = {
    "run": np.uint32,
    "luminosityBlock": np.uint32,
    "event": np.uint64,
    "genWeight": np.float32,
    "HT": np.float32,
}
COLLECTIONS: dict[str, dict[str, type[np.generic]]] = {
    "Jet": {
        **dict.fromkeys(("pt", "eta", "phi", "mass", "btag", "qgl"), np.float32),
        **dict.fromkeys(("emEF", "hadEF", "muEF"), np.float32),
        "nConstituents": np.int32,
        **dict.fromkeys(("width", "ptD"), np.float32),
        "hadronFlavour": np.int32,
        "partonFlavour": np.int32,
        "fromTop": np.bool_,
    },
}


@dataclass(frozen=True)
class SliceChunk(Chunk):
    """Selected events of one chunk, with Pythia's weights, and the cross section of the slice.

    Attributes
    ----------
    cross_section, error : float
        Before the veto, pb; see `Generated`.
    """

    cross_section: float
    error: float


@dataclass(frozen=True)
class ChunkTask:
    """What a worker needs to make one chunk."""

    config: MultijetConfig
    sample: str
    index: int
    path: Path

    @property
    def settings(self) -> Sample:
        """Settings of the sample."""
        return self.config.samples[self.sample]

    @property
    def slice(self) -> int:
        """Number of the slice: chunks cycle over them."""
        return self.index % len(self.settings.slices)

    @property
    def seed(self) -> int:
        """Pythia's seed."""
        return chunk_seed(self.config.seed, self.sample, self.index)

    @property
    def first_event(self) -> int:
        """Number of the first hard process of the chunk, from 1."""
        sizes = [s.events for s in self.settings.slices]
        cycle = self.index // len(sizes)
        return cycle * sum(sizes) + sum(sizes[: self.slice]) + 1

    def describe(self) -> str:
        """Sample, chunk, slice and seed, for messages."""
        name = self.settings.slices[self.slice].name
        return f"sample {self.sample!r}, chunk {self.index} (slice {name!r}, Pythia seed {self.seed})"


def make_chunk(task: ChunkTask) -> SliceChunk:
    """Generate, reconstruct and select the events of one chunk."""
    config = task.config
    made = generate_slice(task.settings, task.slice, task.seed, config.veto)
    # The detector has a stream of its own: its draws never touch those of the generator.
    rng = np.random.default_rng([task.seed, task.settings.run])
    jets, passed, flow = _select(made, config, rng)
    return SliceChunk(_columns(task, made, jets, passed), flow, made.failures, made.cross_section, made.error)


def _select(
    made: Generated, config: MultijetConfig, rng: np.random.Generator
) -> tuple[Collection, IntArray, CutFlow]:
    """Jets of the selected events, the positions of these events, and the cut flow."""
    record, jet = made.record, config.detector.jet
    found, inside = find_jets(record, jet)
    measured = measure_jets(found, jet, rng)
    measured = measured.adding(
        btag=tag_score(rng, measured["true_pt"], measured["hadronFlavour"], config.detector.btag),
        place=np.arange(len(measured)),
    )
    good = measured.take((measured["pt"] > jet.pt_min) & (np.abs(measured["eta"]) < jet.abs_eta_max))
    passed, flow = select(made, good.counts, scalar_sum(good), config.selection)
    kept = good.take(np.isin(good.event, passed)).pt_ordered()
    details = _details(record, kept, inside.of(kept["place"]), config.detector, rng)
    return details, passed, flow


def scalar_sum(jets: Collection) -> FloatArray:
    """Scalar sum of the jets' pt, per event; GeV."""
    return np.bincount(jets.event, weights=jets["pt"], minlength=jets.n_events).astype(np.float64)


def select(made: Generated, jets: IntArray, ht: FloatArray, selection: Selection) -> tuple[IntArray, CutFlow]:
    """Events that pass every step, and the cut flow, which begins with the vetoed events.

    Parameters
    ----------
    made : Generated
    jets, ht : ndarray, shape [E]
        Number of jets and scalar sum of their pt, of the events that survived the veto.
    selection : Selection
    """
    weight = made.record.weight
    masks = (np.ones(len(weight), dtype=bool), jets >= selection.jets_min, ht > selection.ht_min)
    alive = np.logical_and.accumulate(masks)
    # Pythia's cross section stands for the number of hard processes, whatever their weights.
    sums = [np.concatenate([[made.generated], alive @ w]) for w in (weight, weight**2)]
    counts = np.concatenate([[made.generated], alive.sum(axis=1)])
    return np.flatnonzero(alive[-1]), CutFlow(steps(selection), counts, *sums)


def steps(selection: Selection) -> tuple[str, ...]:
    """Names of the steps, in order."""
    return (
        "generated",
        "not vetoed",
        f"at least {selection.jets_min} jets",
        f"HT > {selection.ht_min:g} GeV",
    )


def _details(
    record: EventRecord, kept: Collection, inside: Constituents, detector: Detector, rng: np.random.Generator
) -> Collection:
    kept = kept.adding(
        **energy_fractions(record, inside, len(kept), detector.fractions, rng),
        **substructure(record, inside, kept, detector.tracks, rng),
        partonFlavour=parton_flavour(kept, record, detector.jet.radius),
        fromTop=top_quarks_jets(kept, record, detector.jet.radius),
    )
    return kept.adding(qgl=quark_gluon_score(kept, detector.quark_gluon))


def _columns(task: ChunkTask, made: Generated, jets: Collection, passed: IntArray) -> dict[str, NDArray[Any]]:
    size = len(passed)
    columns: dict[str, NDArray[Any]] = {
        "run": np.full(size, task.settings.run),
        "luminosityBlock": np.full(size, task.index + 1),
        "event": task.first_event + made.place[passed],
        "genWeight": made.record.weight[passed],
        "HT": scalar_sum(jets)[passed],
    }
    columns = {name: columns[name].astype(kind) for name, kind in EVENT_COLUMNS.items()}
    columns["Jet.counts"] = jets.counts[passed]
    return columns | {f"Jet.{key}": jets[key].astype(kind) for key, kind in COLLECTIONS["Jet"].items()}


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
        "cross_section": np.array([chunk.cross_section, chunk.error]),
    }
    write_tensors(task.path, tensors, {"chunk": task.describe()})
    return chunk.selected


def load_chunk(task: ChunkTask) -> SliceChunk:
    """Read the file of one chunk."""
    columns, _ = read_tensors(task.path)
    flow = [columns.pop(f"cutflow.{key}") for key in ("counts", "sum_weights", "sum_weights2")]
    failures = int(columns.pop("failures")[0])
    value, error = columns.pop("cross_section").tolist()
    cutflow = CutFlow(steps(task.config.selection), *flow)
    return SliceChunk(columns, cutflow, failures, value, error)
