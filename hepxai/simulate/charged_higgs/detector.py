"""Parametrised detector of the charged-Higgs events: objects from an event record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.simulate.charged_higgs.leptons import find_leptons, with_truth
from hepxai.simulate.charged_higgs.settings import Detector
from hepxai.simulate.collection import Collection, FloatArray, close_pairs
from hepxai.simulate.generator import EventRecord
from hepxai.simulate.jets import accepted, find_jets, measure_jets, nearest_jets, tagged_jets
from hepxai.simulate.truth import CHARGED_HIGGS, ELECTRON, MUON, W, kinematics, visible, w_quarks

Leptons = tuple[Collection, ...]


@dataclass(frozen=True)
class Reconstructed:
    """Detector-level objects of a batch of events; momenta in GeV."""

    electrons: Collection
    muons: Collection
    jets: Collection
    met_pt: FloatArray
    met_phi: FloatArray


def reconstruct(
    record: EventRecord, detector: Detector, resonance: int, rng: np.random.Generator
) -> Reconstructed:
    """Apply the parametrised detector to hadron-level events.

    Parameters
    ----------
    record : EventRecord
    detector : Detector
    resonance : int
        PDG number of the particle whose muons get ``fromResonance``.
    rng : numpy.random.Generator
        Drawn from in a fixed order: the same state gives the same objects.
    """
    particles = kinematics(record, visible(record, detector.jet.constituent))
    untouched = np.zeros(len(particles), dtype=bool)
    electrons = find_leptons(particles, ELECTRON, detector.electron, rng, untouched)
    muons = find_leptons(particles, MUON, detector.muon, rng, electrons.used)
    rest = particles.take(~(electrons.used | muons.used | muons.lost))
    jets = measure_jets(find_jets(record, rest["record"], detector.jet.radius)[0], detector.jet, rng)
    leptons = (electrons.leptons, muons.leptons)
    met_pt, met_phi = missing_momentum(rest, leptons, jets, detector, rng)
    return Reconstructed(
        electrons=with_truth(electrons.leptons, record, W, CHARGED_HIGGS),
        muons=with_truth(muons.leptons, record, resonance, CHARGED_HIGGS, resonance),
        jets=select_jets(jets, leptons, record, detector, rng),
        met_pt=met_pt,
        met_phi=met_phi,
    )


def select_jets(
    measured: Collection,
    leptons: Leptons,
    record: EventRecord,
    detector: Detector,
    rng: np.random.Generator,
) -> Collection:
    """Jets in the acceptance and away from leptons, in order of pt, with b-tag score and truth."""
    jet = detector.jet
    tagged = tagged_jets(measured, detector.btag, rng)
    keep = accepted(measured, jet)
    for flavour in leptons:
        keep[close_pairs(measured, flavour, jet.lepton_distance)[0]] = False
    selected = tagged.take(keep).pt_ordered()
    return selected.adding(fromHp=nearest_jets(record, w_quarks(record), selected, jet.radius))


def missing_momentum(
    particles: Collection, leptons: Leptons, jets: Collection, detector: Detector, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Missing transverse momentum from leptons, jets and a smeared soft term.

    Parameters
    ----------
    particles : Collection
        Input of the clustering; particles outside of jets are the soft term.
    leptons : tuple of Collection
    jets : Collection
        All measured jets, before the selection.

    Returns
    -------
    pt, phi : ndarray, shape [E]
        GeV, radians.
    """
    hard = jets.take(jets["true_pt"] > detector.met.jet_pt_min)
    true_jets = hard.adding(pt=hard["true_pt"], phi=hard["true_phi"])
    soft = _transverse_sum(particles) - _transverse_sum(true_jets)
    width = detector.met.soft_resolution * np.sqrt(np.maximum(particles.sum_pt() - true_jets.sum_pt(), 0))
    soft = soft + width * rng.standard_normal(soft.shape)
    x, y = -(soft + sum(_transverse_sum(c) for c in (*leptons, hard)))
    return np.hypot(x, y), np.arctan2(y, x)


def _transverse_sum(objects: Collection) -> FloatArray:
    """Vector sum of transverse momenta per event, ``[2, E]``."""
    components = (objects["pt"] * np.cos(objects["phi"]), objects["pt"] * np.sin(objects["phi"]))
    return np.stack([np.bincount(objects.event, weights=c, minlength=objects.n_events) for c in components])
