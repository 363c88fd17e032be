"""Generator truth: jets from a wanted particle, with the quarks of its decay inside."""

from __future__ import annotations

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.simulate.collection import BoolArray, Collection, close_pairs, nearest
from hepxai.simulate.generator import EventRecord
from hepxai.simulate.jet_images.settings import Origin
from hepxai.simulate.truth import W, ancestor, kinematics

_HARD = (22, 23)
"""Pythia's status of the outgoing particles of the hard process: those that decay, and the others."""
_TOP = 6


def from_origin(record: EventRecord, jets: Collection, origin: Origin, radius: float) -> BoolArray:
    """Mask ``[J]`` of the jets that come from a wanted particle and hold the quarks of its decay."""
    hard = kinematics(record, np.flatnonzero(np.isin(np.abs(record.status), _HARD) & _is_primary(record)))
    jet, particle, distance = close_pairs(jets, hard, radius)
    closest = nearest(jet, distance)
    wanted = np.isin(np.abs(hard["id"][particle[closest]]), origin.particles)
    matched = np.zeros(len(jets), dtype=bool)
    matched[jet[closest[wanted]]] = True
    if not origin.quarks:
        return matched
    quarks = kinematics(record, decay_quarks(record, origin.particles))
    jet, _, _ = close_pairs(jets, quarks, origin.contained * radius)
    return matched & (np.bincount(jet, minlength=len(jets)) >= origin.quarks)


def _is_primary(record: EventRecord) -> BoolArray:
    """Mask of the particles whose mother is an incoming parton of the hard process."""
    return np.asarray(np.abs(record.status[record.mother]) == 21)


def decay_quarks(record: EventRecord, particles: tuple[int, ...]) -> IntArray:
    """Quarks of the decays of particles and of the W bosons from these, before they radiate."""
    quark = np.flatnonzero((np.abs(record.id) <= 5) & (record.id != 0))
    mother = record.mother[quark]
    above = ancestor(record, mother)
    direct = np.isin(np.abs(record.id[mother]), particles)
    over_w = (np.abs(record.id[mother]) == W) & np.isin(np.abs(record.id[above]), particles)
    return np.asarray(quark[direct | over_w])
