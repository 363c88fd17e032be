"""Truth of multijet events: parton flavour of jets, quarks of top decays."""

from __future__ import annotations

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.simulate.collection import Collection, close_pairs, nearest
from hepxai.simulate.generator import EventRecord
from hepxai.simulate.truth import W, ancestor, kinematics

_GLUON, _TOP = 21, 6
# Outgoing partons of the hard process, of multiparton interactions, of initial- and final-state radiation.
_OUTGOING = (23, 33, 43, 44, 51, 52)
_PARTON_PT_MIN = 5.0  # GeV


def parton_flavour(jets: Collection, record: EventRecord, radius: float) -> IntArray:
    """PDG number of the hardest parton of the shower closer than ``radius``; 0 without one.

    Partons are taken at every stage of the shower, so that a jet has the flavour of the parton that started
    it. This is for comparisons; a flavour of partons is not defined beyond leading order.
    """
    parton = (np.abs(record.id) <= 5) & (record.id != 0) | (record.id == _GLUON)
    index = np.flatnonzero(parton & np.isin(np.abs(record.status), _OUTGOING))
    hard = np.hypot(record.px[index], record.py[index]) > _PARTON_PT_MIN
    partons = kinematics(record, index[hard])
    jet, near, _ = close_pairs(jets, partons, radius)
    hardest = nearest(jet, -partons["pt"][near])
    flavour = np.zeros(len(jets), dtype=np.int64)
    flavour[jet[hardest]] = partons["id"][near[hardest]]
    return flavour


def decay_quarks(record: EventRecord) -> IntArray:
    """The b quarks of top decays, and the quarks of the W bosons from them, before they radiate."""
    quark = np.flatnonzero((np.abs(record.id) <= 5) & (record.id != 0))
    mother = record.mother[quark]
    from_top = np.abs(record.id[mother]) == _TOP
    from_w = np.abs(record.id[mother]) == W
    from_w[from_w] = np.abs(record.id[ancestor(record, mother[from_w])]) == _TOP
    return np.asarray(quark[from_top | from_w])
