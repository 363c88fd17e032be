"""Truth of an event record: ancestry, hadron flavours, visible particles."""

from __future__ import annotations

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.simulate.collection import BoolArray, Collection, FloatArray
from hepxai.simulate.generator import EventRecord
from hepxai.simulate.settings import Constituent

ELECTRON, MUON, PHOTON, W, CHARGED_HIGGS = 11, 13, 22, 24, 37
_NEUTRINOS = (12, 14, 16)


def ancestor(record: EventRecord, index: IntArray) -> IntArray:
    """Nearest ancestor that is another particle: showers list the same particle many times."""
    current = record.mother[index]
    while True:
        copy = record.id[current] == record.id[index]
        if not copy.any():
            return current
        current = np.where(copy, record.mother[current], current)


def comes_from(
    record: EventRecord, index: IntArray, parent: int, grandparent: int | None = None
) -> BoolArray:
    """Mask of the decay products of ``parent``, itself a product of ``grandparent``; PDG numbers."""
    mother = ancestor(record, index)
    product: BoolArray = np.abs(record.id[mother]) == parent
    if grandparent is not None:
        product = product & (np.abs(record.id[ancestor(record, mother)]) == grandparent)
    return product


def has_quark(ids: IntArray, flavour: int) -> BoolArray:
    """Mask of the PDG numbers of hadrons whose heaviest quark is ``flavour``."""
    code = np.abs(ids)
    # Mesons nq2 nq3, baryons nq1 nq2 nq3; a diquark has a zero as second digit and is no hadron.
    heaviest = np.where(code // 1000 % 10 > 0, code // 1000 % 10, code // 100 % 10)
    hadron = (code > 100) & (code < 1_000_000_000) & (code // 10 % 10 > 0)
    return np.asarray(hadron & (heaviest == flavour))


def last_hadrons(record: EventRecord, flavour: int) -> IntArray:
    """Hadrons with a ``flavour`` quark that decay to none: those that give a jet its flavour."""
    hadron = has_quark(record.id, flavour)
    decays_to_another = np.zeros(len(hadron), dtype=bool)
    decays_to_another[record.mother[hadron]] = True
    return np.flatnonzero(hadron & ~decays_to_another)


def w_quarks(record: EventRecord) -> IntArray:
    """Quarks of the W boson that comes from the charged Higgs boson."""
    quark = np.flatnonzero((np.abs(record.id) <= 5) & (np.abs(record.id[record.mother]) == W))
    return quark[comes_from(record, quark, W, CHARGED_HIGGS)]


def visible(record: EventRecord, acceptance: Constituent) -> IntArray:
    """Stable particles other than neutrinos inside the acceptance."""
    stable = np.flatnonzero((record.status > 0) & ~np.isin(np.abs(record.id), _NEUTRINOS))
    pt = np.hypot(record.px[stable], record.py[stable])
    inside = (pt > acceptance.pt_min) & (np.abs(record.pz[stable]) < pt * np.sinh(acceptance.abs_eta_max))
    return np.asarray(stable[inside])


def kinematics(record: EventRecord, index: IntArray) -> Collection:
    """Particles at ``index`` as objects with pt, eta, phi, and their ``id`` and place in the record."""
    pt = np.hypot(record.px[index], record.py[index])
    columns = {
        "pt": pt,
        "eta": pseudorapidity(pt, record.pz[index]),
        "phi": np.arctan2(record.py[index], record.px[index]),
        "id": record.id[index],
        "record": index,
    }
    return Collection(record.event[index], columns, record.n_events)


def pseudorapidity(pt: FloatArray, pz: FloatArray) -> FloatArray:
    """Pseudorapidity; infinite along the beam."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.arcsinh(pz / pt))
