"""Hadron-level events from Pythia, as flat columns, in parts: decay channels or slices of the phase space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hepxai.cards import CardError
from hepxai.core.jagged import IntArray, offsets_from_counts, parents
from hepxai.simulate.chunk import Chunk, ProductionT, Simulation
from hepxai.simulate.collection import FloatArray
from hepxai.simulate.settings import Part, PythiaSample

# Pythia accepts seeds up to this number; equal seeds would repeat events.
_LARGEST_SEED = 900_000_000
# Give up when Pythia fails this many times as often as it succeeds.
_TRIES_PER_EVENT = 10.0


class MissingExtraError(ImportError):
    """An optional package that the simulation needs is not installed."""


def import_generator(name: str) -> ModuleType:
    """Import an optional package of the ``simulate`` extra."""
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingExtraError(
            f"simulating events needs {name} ({error}): pip install hepxai[simulate]"
        ) from error


@dataclass(frozen=True)
class EventRecord:
    """Full event records, flat over particles.

    Attributes
    ----------
    event : ndarray of int64, shape [N]
        Event of every particle.
    id, status, mother : ndarray of int64, shape [N]
        PDG number, Pythia's status (positive: stable), position of the first mother in these arrays.
    px, py, pz, energy : ndarray, shape [N]
        GeV.
    weight : ndarray, shape [E]
        Signed generator weight.
    """

    event: IntArray
    id: IntArray
    status: IntArray
    mother: IntArray
    px: FloatArray
    py: FloatArray
    pz: FloatArray
    energy: FloatArray
    weight: FloatArray

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.weight)

    @staticmethod
    def of(batch: Any) -> EventRecord:
        """Records of a batch of events as Pythia returns it."""
        import awkward as ak

        particles = ak.flatten(batch.prt)
        offsets = offsets_from_counts(ak.to_numpy(ak.num(batch.prt)))
        event = parents(offsets)
        names = ("id", "status", "mother1")
        pdg, status, mother = (ak.to_numpy(particles[k]).astype(np.int64) for k in names)
        px, py, pz, energy = (ak.to_numpy(particles.p[k]) for k in ("px", "py", "pz", "e"))
        weight = ak.to_numpy(batch.info.weights[:, 0])
        return EventRecord(event, pdg, status, mother + offsets[event], px, py, pz, energy, weight)


class PythiaSimulation(Simulation[ProductionT]):
    """Events of the parts of a sample, over which the chunks cycle."""

    packages = ("pythia8mc", "fastjet", "awkward", "numpy", "scipy")

    @property
    def details(self) -> PythiaSample:
        """Settings of the sample."""
        sample: PythiaSample = self.settings.samples[self.sample]
        return sample

    @property
    def cycle(self) -> int:
        """Number of parts."""
        return len(self.details.parts)

    def seed(self, index: int) -> int:
        """Pythia's seed of a chunk."""
        return chunk_seed(self.settings.seed, self.sample, index)

    def detector_stream(self, index: int) -> np.random.Generator:
        """Random numbers of the detector: its draws never touch those of the generator."""
        return np.random.default_rng([self.seed(index), self.details.run])

    def describe(self, index: int) -> str:
        """Sample, chunk, part and seed, for messages."""
        part = f"{self.details.part_name} {self.details.parts[index % self.cycle].name!r}"
        return f"sample {self.sample!r}, chunk {index} ({part}, Pythia seed {self.seed(index)})"

    def generate(self, index: int, events: int) -> tuple[EventRecord, int]:
        """Generate hadron-level events of the part of a chunk.

        Returns
        -------
        record : EventRecord
        failures : int
            Hard processes that Pythia could not turn into an event and replaced by others.

        Raises
        ------
        CardError
            If Pythia does not know a setting or cannot start with the settings.
        """
        sample = self.details
        number = index % self.cycle
        origin = f"samples.{self.sample}.{sample.part_name}s.{number}"
        pythia = configured_pythia(sample, origin, sample.parts[number], self.seed(index))
        start(pythia, sample, sample.parts[number])
        batch = pythia.nextBatch(events, _TRIES_PER_EVENT)
        info = pythia.infoPython()
        return EventRecord.of(batch), info.nSelected() - info.nAccepted()

    def assemble(self, files: Sequence[Path], events: int) -> tuple[Iterable[Chunk], dict[str, Any]]:
        """All chunks, and the seeds of the first and the last."""
        seeds = [self.seed(0), self.seed(len(files) - 1)]
        return super().assemble(files, events)[0], {"pythia_seeds": seeds}


def chunk_seed(seed: int, sample: str, index: int) -> int:
    """Pythia's seed of one chunk, 1 to 900,000,000.

    Chunks of a sample count up from a hashed start: within a sample seeds never collide, and samples made
    with neighbouring seeds share no events.
    """
    start = int.from_bytes(hashlib.sha256(f"{seed}/{sample}".encode()).digest()[:8])
    return (start + index) % _LARGEST_SEED + 1


def configured_pythia(sample: PythiaSample, origin: str, part: Part, seed: int, *commands: str) -> Any:
    """Pythia with the settings of a part of a sample, a seed, and further ``commands``.

    Raises
    ------
    CardError
        If Pythia does not know a setting; the message names its origin.
    """
    pythia = import_generator("pythia8mc").Pythia("", False)
    pythia.readString("Print:quiet = on")
    ours = [*commands, "Random:setSeed = on", f"Random:seed = {seed}"]
    settings = {sample.cmnd: sample.commands.splitlines(), f"{origin} of simulate.yaml": part.settings}
    for place, lines in {**settings, "the seed": ours}.items():
        for number, line in enumerate(lines, start=1):
            if not pythia.readString(line):
                text = f"Pythia does not know this setting: {line.strip()!r}"
                raise CardError(f"{place}, line {number}: {text}")
    return pythia


def start(pythia: Any, sample: PythiaSample, part: Part) -> None:
    """Initialise Pythia.

    Raises
    ------
    CardError
        If it cannot start with the settings.
    """
    if not pythia.init():
        raise CardError(f"Pythia cannot start with {sample.cmnd} and {part.name!r}")
