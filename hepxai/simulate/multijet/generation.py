"""Hard processes of one slice: those that survive the veto as full events, and the cross section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hepxai.core.jagged import IntArray

# Private to that module and never to be renamed: its bytes are part of the recipe of finished samples.
from hepxai.simulate.config import ConfigError
from hepxai.simulate.generator import EventRecord, _configure, _pythia, _record
from hepxai.simulate.multijet.config import Sample, Veto
from hepxai.simulate.multijet.veto import hooks

_PB_PER_MB = 1e9


@dataclass(frozen=True)
class Generated:
    """What became of the hard processes of one chunk.

    Attributes
    ----------
    record : EventRecord
        Hadron-level events that no veto stopped.
    place : ndarray of int64, shape [E]
        Number of each event's hard process in the chunk, from 0.
    generated : int
        Hard processes that were tried, vetoed ones too.
    failures : int
        Events that no veto stopped and that Pythia could not finish; they are lost.
    cross_section, error : float
        Of the slice, before any veto, with the statistical error of this chunk; pb. NaN where no event
        survived: Pythia counts only those.
    """

    record: EventRecord
    place: IntArray
    generated: int
    failures: int
    cross_section: float
    error: float


def generate_slice(sample: Sample, number: int, seed: int, veto: Veto) -> Generated:
    """Generate the hard processes of a slice and keep the events that may be selected.

    Parameters
    ----------
    sample : Sample
    number : int
        Position in ``sample.slices``.
    seed : int
        1 to 900,000,000.
    veto : Veto

    Raises
    ------
    ConfigError
        If Pythia does not know a setting or cannot start with the settings.
    """
    part = sample.slices[number]
    pythia = _pythia()
    _configure(pythia, sample.cmnd, sample.commands.splitlines())
    _configure(pythia, f"slice {part.name!r} of simulate.yaml", part.settings)
    # A veto ends the call to Pythia, so that every call is one hard process and they can be counted.
    own = ["Check:abortIfVeto = on", "Random:setSeed = on", f"Random:seed = {seed}"]
    _configure(pythia, "the veto and the seed", own)
    callback = hooks(pythia, veto)
    pythia.setUserHooksPtr(callback)
    if not pythia.init():
        raise ConfigError(f"Pythia cannot start with {sample.cmnd} and slice {part.name!r}")
    return _survivors(pythia, part.events, callback)


def _survivors(pythia: Any, events: int, callback: Any) -> Generated:
    import awkward as ak

    batch = pythia.nextBatch(events, "none")
    place = np.flatnonzero(~ak.to_numpy(ak.is_none(batch)))
    info = pythia.infoPython()
    value, error = _cross_section(info)
    failures = callback.passed - info.nAccepted()
    # Where all was vetoed the batch does not know what an event looks like.
    record = _record(ak.drop_none(batch), 0) if len(place) else _nothing()
    return Generated(record, place, info.nSelected(), failures, value, error)


def _nothing() -> EventRecord:
    whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
    return EventRecord(whole, whole, whole, whole, real, real, real, real, real, 0)


def _cross_section(info: Any) -> tuple[float, float]:
    """Cross section before the veto, and its error; pb."""
    passed, tried = info.nAccepted(), info.nSelected()
    if passed == 0:
        return np.nan, np.nan
    value = info.sigmaGen() * tried / passed
    # Pythia adds the binomial error of the accepted fraction; the fraction is not wanted here.
    relative = (info.sigmaErr() / info.sigmaGen()) ** 2 - (1 - passed / tried) / passed
    return value * _PB_PER_MB, value * np.sqrt(max(relative, 0.0)) * _PB_PER_MB
