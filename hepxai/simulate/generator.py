"""Hadron-level events from Pythia, as flat columns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from hepxai.core.jagged import IntArray, offsets_from_counts, parents
from hepxai.simulate.collection import FloatArray
from hepxai.simulate.config import ConfigError, Sample

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
    failures : int
        Hard processes that Pythia could not turn into an event and replaced by others.
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
    failures: int

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.weight)


def chunk_seed(seed: int, sample: str, index: int) -> int:
    """Pythia's seed of one chunk.

    Chunks of a sample count up from a hashed start: within a sample seeds never collide, and samples made
    with neighbouring seeds share no events.
    """
    start = int.from_bytes(hashlib.sha256(f"{seed}/{sample}".encode()).digest()[:8])
    return (start + index) % _LARGEST_SEED + 1


def generate(sample: Sample, name: str, channel: int, seed: int, events: int) -> EventRecord:
    """Generate hadron-level events of one decay channel.

    Parameters
    ----------
    sample : Sample
    name : str
        The sample's name, for messages.
    channel : int
        Position in ``sample.channels``.
    seed : int
        1 to 900,000,000.
    events : int
        Number of events that Pythia accepts.

    Raises
    ------
    ConfigError
        If Pythia does not know a setting or cannot start with the settings.
    """
    pythia = _pythia()
    _configure(pythia, sample.cmnd, sample.commands.splitlines())
    _configure(
        pythia, f"samples.{name}.channels.{channel} of simulate.yaml", sample.channels[channel].settings
    )
    _configure(pythia, "the seed", ["Random:setSeed = on", f"Random:seed = {seed}"])
    if not pythia.init():
        raise ConfigError(
            f"Pythia cannot start with {sample.cmnd} and channel {sample.channels[channel].name!r}"
        )
    batch = pythia.nextBatch(events, _TRIES_PER_EVENT)
    info = pythia.infoPython()
    return _record(batch, info.nSelected() - info.nAccepted())


def _pythia() -> Any:
    pythia = import_generator("pythia8mc").Pythia("", False)
    pythia.readString("Print:quiet = on")
    return pythia


def _configure(pythia: Any, origin: str, lines: list[str] | tuple[str, ...]) -> None:
    for number, line in enumerate(lines, start=1):
        if not pythia.readString(line):
            raise ConfigError(f"{origin}, line {number}: Pythia does not know this setting: {line.strip()!r}")


def _record(batch: Any, failures: int) -> EventRecord:
    import awkward as ak

    particles = ak.flatten(batch.prt)
    offsets = offsets_from_counts(ak.to_numpy(ak.num(batch.prt)))
    event = parents(offsets)
    columns = {k: ak.to_numpy(particles[k]).astype(np.int64) for k in ("id", "status", "mother1")}
    return EventRecord(
        event=event,
        id=columns["id"],
        status=columns["status"],
        mother=columns["mother1"] + offsets[event],
        px=ak.to_numpy(particles.p.px),
        py=ak.to_numpy(particles.p.py),
        pz=ak.to_numpy(particles.p.pz),
        energy=ak.to_numpy(particles.p.e),
        weight=ak.to_numpy(batch.info.weights[:, 0]),
        failures=failures,
    )
