"""From an event record to the objects that the detector would give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.simulate.collection import Collection, FloatArray
from hepxai.simulate.config import Detector
from hepxai.simulate.generator import EventRecord
from hepxai.simulate.jets import find_jets, measure_jets, missing_momentum, select_jets
from hepxai.simulate.leptons import find_leptons, with_truth
from hepxai.simulate.truth import CHARGED_HIGGS, ELECTRON, MUON, W, kinematics, visible


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
    jets = measure_jets(find_jets(record, rest["record"], detector.jet), detector.jet, rng)
    leptons = (electrons.leptons, muons.leptons)
    met_pt, met_phi = missing_momentum(rest, leptons, jets, detector, rng)
    return Reconstructed(
        electrons=with_truth(electrons.leptons, record, W, CHARGED_HIGGS),
        muons=with_truth(muons.leptons, record, resonance, CHARGED_HIGGS, resonance),
        jets=select_jets(jets, leptons, record, detector, rng),
        met_pt=met_pt,
        met_phi=met_phi,
    )
