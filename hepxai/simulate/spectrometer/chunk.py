"""One chunk of muon patterns: from a seed to fired strips, kept in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.files import read_tensors, write_tensors
from hepxai.simulate.spectrometer.config import MuonGun, SpectrometerConfig
from hepxai.simulate.spectrometer.digitisation import background_strips, muon_strips, noise_strips, read_out
from hepxai.simulate.spectrometer.propagation import Muons, cross_calorimeter, cross_layers

Columns = dict[str, NDArray[Any]]

EVENT_COLUMNS: dict[str, type[np.generic]] = {
    "run": np.uint32,
    "luminosityBlock": np.uint32,
    "event": np.uint64,
}
COLLECTIONS: dict[str, dict[str, type[np.generic]]] = {
    "Hit": {"layer": np.int16, "strip": np.int16, "fromMuon": np.bool_},
    "Muon": {"pt": np.float32, "eta": np.float32, "charge": np.int32},
}
"""Branches of the output and their types; the names follow NanoAOD."""


@dataclass(frozen=True)
class ChunkTask:
    """What a worker needs to make one chunk."""

    config: SpectrometerConfig
    sample: str
    index: int
    path: Path

    def describe(self) -> str:
        """Sample and chunk, for messages."""
        return f"sample {self.sample!r}, chunk {self.index}"


def make_chunk(task: ChunkTask) -> Columns:
    """Events of one chunk.

    They depend on the settings and the chunk's number alone.

    Returns
    -------
    dict of ndarray
        Event columns by branch name, ``<collection>.counts`` per event and ``<collection>.<column>`` flat.
    """
    config, sample = task.config, task.config.samples[task.sample]
    events = config.chunk_events
    rng = np.random.default_rng([config.seed, sample.run, task.index])
    counts = rng.choice(
        len(sample.fractions), size=events, p=np.array(sample.fractions) / sum(sample.fractions)
    )
    muons = draw_muons(int(counts.sum()), config.muon, rng)
    tracks = cross_calorimeter(muons, config.calorimeter, rng.standard_normal((len(muons.pt), 3)))
    z, reached = cross_layers(tracks, config)
    fired = muon_strips(np.repeat(np.arange(events), counts), z, reached, config.layers, rng)
    others = (
        background_strips(events, config.background, config.layers, rng),
        noise_strips(events, config.noise, config.layers, rng),
    )
    hits, from_muon = read_out(fired, others, config.layers)
    return _typed(
        {
            "run": np.full(events, sample.run),
            "luminosityBlock": np.full(events, task.index + 1),
            "event": task.index * events + np.arange(events) + 1,
            "Hit.layer": hits.layer,
            "Hit.strip": hits.strip,
            "Hit.fromMuon": from_muon,
            "Muon.pt": muons.pt,
            "Muon.eta": muons.eta,
            "Muon.charge": muons.charge,
        }
    ) | {"Hit.counts": np.bincount(hits.event, minlength=events), "Muon.counts": counts}


def draw_muons(number: int, gun: MuonGun, rng: np.random.Generator) -> Muons:
    """Muons at the collision point, flat in pt and eta."""
    pt = rng.uniform(*gun.pt, size=number)
    eta = rng.uniform(*gun.eta, size=number)
    charge = np.where(rng.random(number) < gun.positive, 1, -1)
    return Muons(pt, eta, charge.astype(np.int32))


def _typed(columns: Columns) -> Columns:
    kinds = dict(EVENT_COLUMNS)
    for name, fields in COLLECTIONS.items():
        kinds |= {f"{name}.{key}": kind for key, kind in fields.items()}
    return {name: column.astype(kinds[name]) for name, column in columns.items()}


def store_chunk(task: ChunkTask) -> int:
    """Make one chunk and write its file, complete or not at all; returns its number."""
    write_tensors(task.path, make_chunk(task), {"chunk": task.describe()})
    return task.index


def load_chunk(path: Path, events: int) -> Columns:
    """The first ``events`` events of a chunk's file."""
    columns, _ = read_tensors(path)
    sizes = {name: int(columns[f"{name}.counts"][:events].sum()) for name in COLLECTIONS}
    return {
        name: column[
            : events if name in EVENT_COLUMNS or name.endswith(".counts") else sizes[name.split(".")[0]]
        ]
        for name, column in columns.items()
    }
