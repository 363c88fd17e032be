"""Hard processes of one slice: those that survive the veto as full events, and the cross section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.simulate.generator import EventRecord, configured_pythia, start
from hepxai.simulate.multijet.settings import SlicedSample, Veto
from hepxai.simulate.multijet.veto import hooks

_PB_PER_MB = 1e9


@dataclass(frozen=True)
class Generated:
    """Outcome of the hard processes of one chunk.

    Attributes
    ----------
    record : EventRecord
        Hadron-level events that no veto stopped.
    place : ndarray of int64, shape [E]
        Number of each event's hard process in the chunk, from 0.
    generated : int
        Hard processes, vetoed ones included.
    numbers : dict of str to float
        ``failures``: events that no veto stopped and that Pythia could not finish; they are lost.
        ``cross_section``, ``error``: of the slice, before any veto, with the statistical error of this chunk;
        pb. NaN where no event survived: Pythia counts only those.
    """

    record: EventRecord
    place: IntArray
    generated: int
    numbers: dict[str, float]


def generate_slice(sample: SlicedSample, number: int, seed: int, veto: Veto) -> Generated:
    """Generate the hard processes of a slice and keep the events that may be selected.

    Parameters
    ----------
    sample : SlicedSample
    number : int
        Position in ``sample.slices``.
    seed : int
    veto : Veto

    Raises
    ------
    CardError
        If Pythia does not know a setting or cannot start with the settings.
    """
    part = sample.slices[number]
    # A veto ends the call to Pythia, so that every call is one hard process and they can be counted.
    abort_on_veto = "Check:abortIfVeto = on"
    pythia = configured_pythia(sample, f"slice {part.name!r}", part, seed, abort_on_veto)
    callback = hooks(pythia, veto)
    pythia.setUserHooksPtr(callback)
    start(pythia, sample, part)
    return _survivors(pythia, part.events, callback)


def _survivors(pythia: Any, events: int, callback: Any) -> Generated:
    import awkward as ak

    batch = pythia.nextBatch(events, "none")
    place = np.flatnonzero(~ak.to_numpy(ak.is_none(batch)))
    info = pythia.infoPython()
    value, error = _cross_section(info)
    numbers = {"failures": callback.passed - info.nAccepted(), "cross_section": value, "error": error}
    # The batch has no fields if every event was vetoed.
    whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
    record = EventRecord(whole, whole, whole, whole, real, real, real, real, real)
    record = EventRecord.of(ak.drop_none(batch)) if len(place) else record
    return Generated(record, place, info.nSelected(), numbers)


def _cross_section(info: Any) -> tuple[float, float]:
    """Cross section before the veto, and its error; pb."""
    passed, tried = info.nAccepted(), info.nSelected()
    if passed == 0:
        return np.nan, np.nan
    value = info.sigmaGen() * tried / passed
    # Pythia adds the binomial error of the accepted fraction; the fraction is not wanted here.
    relative = (info.sigmaErr() / info.sigmaGen()) ** 2 - (1 - passed / tried) / passed
    return value * _PB_PER_MB, float(value * np.sqrt(max(relative, 0.0)) * _PB_PER_MB)
