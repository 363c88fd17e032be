"""Electrons and muons: dressed, identified, smeared, isolated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.simulate.charged_higgs.settings import Lepton
from hepxai.simulate.collection import BoolArray, Collection, FloatArray, close_pairs, nearest
from hepxai.simulate.generator import EventRecord
from hepxai.simulate.response import efficiency, relative_resolution, smearing
from hepxai.simulate.truth import ELECTRON, MUON, PHOTON, comes_from

_MASS = {ELECTRON: 0.000510999, MUON: 0.1056584}  # GeV

# Leptons this far below the cut are considered too: resolution can lift them above it.
_MARGIN = 0.7


@dataclass(frozen=True)
class FoundLeptons:
    """Selected leptons of one flavour, and masks of the particles behind them.

    ``used`` marks the particles that became part of a selected lepton, ``lost`` those that left no trace.
    """

    leptons: Collection
    used: BoolArray
    lost: BoolArray


def find_leptons(
    particles: Collection, pdg: int, lepton: Lepton, rng: np.random.Generator, taken: BoolArray
) -> FoundLeptons:
    """Find isolated electrons or muons.

    Parameters
    ----------
    particles : Collection
        Visible stable particles.
    pdg : {11, 13}
    lepton : Lepton
    taken : ndarray of bool, shape [N]
        Particles that belong to other leptons already.

    Returns
    -------
    FoundLeptons
        Leptons in order of pt, with pt, eta, phi, mass, charge, pfRelIso and their place in the record.
    """
    is_lepton = (np.abs(particles["id"]) == pdg) & (np.abs(particles["eta"]) < lepton.abs_eta_max)
    index = np.flatnonzero(is_lepton & (particles["pt"] > _MARGIN * lepton.pt_min))
    bare = particles.take(index).adding(place=index)
    dressed, photon, owner = _dress(bare, particles, lepton.dressing_cone)
    identified = rng.random(len(bare)) < efficiency(dressed["pt"], lepton.efficiency)
    measured = _measure(dressed, lepton, rng, pdg)
    measured = measured.adding(pfRelIso=_isolation(measured, particles, lepton, photon, taken))
    good = identified & (measured["pt"] > lepton.pt_min) & (measured["pfRelIso"] < lepton.isolation.maximum)
    used = _mask(len(particles), np.concatenate([index[good], photon[good[owner]]]))
    beyond = (np.abs(particles["id"]) == pdg) & (np.abs(particles["eta"]) >= lepton.abs_eta_max)
    lost = _mask(len(particles), index[~identified]) | beyond
    # An electron that fails its identification still heats the calorimeter; a muon that does leaves nothing.
    lost = lost if pdg == MUON else np.zeros_like(lost)
    return FoundLeptons(measured.take(good).pt_ordered(), used, lost)


def _mask(size: int, index: IntArray) -> BoolArray:
    mask = np.zeros(size, dtype=bool)
    mask[index] = True
    return mask


def _dress(bare: Collection, particles: Collection, cone: float) -> tuple[Collection, IntArray, IntArray]:
    photons = np.flatnonzero(particles["id"] == PHOTON)
    lepton, photon, distance = close_pairs(bare, particles.take(photons), cone)
    # A photon close to two leptons belongs to the nearer one.
    closest = nearest(photon, distance)
    owner, place = lepton[closest], photons[photon[closest]]
    pt = bare["pt"] + np.bincount(owner, weights=particles["pt"][place], minlength=len(bare))
    return bare.adding(pt=pt), place, owner


def _measure(dressed: Collection, lepton: Lepton, rng: np.random.Generator, pdg: int) -> Collection:
    pt, eta = dressed["pt"], dressed["eta"]
    factor = smearing(rng, relative_resolution(pt, eta, lepton.resolution))
    charge = -np.sign(dressed["id"]).astype(np.int32)
    return dressed.adding(pt=pt * factor, mass=np.full(len(pt), _MASS[pdg]), charge=charge)


def _isolation(
    leptons: Collection, particles: Collection, lepton: Lepton, photons: IntArray, taken: BoolArray
) -> FloatArray:
    code = np.abs(particles["id"])
    counted = (code != ELECTRON) & (code != MUON) & ~taken & ~_mask(len(particles), photons)
    around = particles.take(counted)
    i, j, _ = close_pairs(leptons, around, lepton.isolation.cone)
    return np.asarray(np.bincount(i, weights=around["pt"][j], minlength=len(leptons)) / leptons["pt"])


def with_truth(
    leptons: Collection, record: EventRecord, parent: int, grandparent: int, resonance: int | None = None
) -> Collection:
    """Add ``fromHp`` (made by ``parent``, which ``grandparent`` made) and, if asked, ``fromResonance``."""
    index = leptons["record"]
    flags = {"fromHp": comes_from(record, index, parent, grandparent)}
    if resonance is not None:
        flags["fromResonance"] = comes_from(record, index, resonance)
    return leptons.adding(**flags)
