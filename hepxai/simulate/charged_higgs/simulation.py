"""Charged-Higgs events: generation in decay channels, detector, event selection."""

from __future__ import annotations

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.simulate.charged_higgs.detector import Reconstructed, reconstruct
from hepxai.simulate.charged_higgs.settings import ChargedHiggsSettings, Selection
from hepxai.simulate.chunk import IDENTITY, Chunk, CutFlow, Layout, Types
from hepxai.simulate.collection import BoolArray, Collection, FloatArray, pair_mass
from hepxai.simulate.generator import PythiaSimulation

_P4: Types = dict.fromkeys(("pt", "eta", "phi", "mass"), np.float32)
_LEPTON: Types = {**_P4, "charge": np.int32, "pfRelIso": np.float32, "fromHp": np.bool_}
_JET: Types = {**_P4, "btag": np.float32, "hadronFlavour": np.int32, "nConstituents": np.int32}


class ChargedHiggs(PythiaSimulation[ChargedHiggsSettings]):
    """Events of decay channels, of which equal numbers are generated."""

    settings_class = ChargedHiggsSettings
    layout = Layout(
        {**IDENTITY, **dict.fromkeys(("genWeight", "MET_pt", "MET_phi"), np.float32)},
        {
            "Electron": _LEPTON,
            "Muon": {**_LEPTON, "fromResonance": np.bool_},
            "Jet": {**_JET, "fromHp": np.bool_},
        },
    )

    def make(self, index: int) -> Chunk:
        """Generate, reconstruct and select the events of a chunk."""
        settings, size = self.settings, self.settings.chunk_events
        record, failures = self.generate(index, size)
        rng = self.detector_stream(index)
        events = reconstruct(record, settings.detector, settings.samples[self.sample].resonance, rng)
        passed, flow = select(events, record.weight, settings.selection, settings.detector.btag.threshold)
        columns = {"genWeight": record.weight, "MET_pt": events.met_pt, "MET_phi": events.met_phi}
        objects = {"Electron": events.electrons, "Muon": events.muons, "Jet": events.jets}
        columns = self.columns(
            index,
            index * size + passed + 1,
            {name: column[passed] for name, column in columns.items()},
            {name: collection.of_events(passed) for name, collection in objects.items()},
        )
        return Chunk(columns, flow, {"failures": failures})


def dimuon(muons: Collection) -> tuple[FloatArray, BoolArray]:
    """Mass [GeV] of the two hardest muons and True if their charges differ; 0 and False without two."""
    mass, opposite = np.zeros(muons.n_events), np.zeros(muons.n_events, dtype=bool)
    first = np.flatnonzero(muons.event[1:] == muons.event[:-1])
    first = first[np.unique(muons.event[first], return_index=True)[1]]
    lead, second = muons.take(first), muons.take(first + 1)
    mass[lead.event] = pair_mass(lead, second)
    opposite[lead.event] = lead["charge"] != second["charge"]
    return mass, opposite


def select(
    events: Reconstructed, weight: FloatArray, selection: Selection, threshold: float
) -> tuple[IntArray, CutFlow]:
    """Positions of the events that pass every step, and the cut flow.

    Parameters
    ----------
    events : Reconstructed
        Collections in order of pt.
    weight : ndarray, shape [E]
        Signed generator weights.
    selection : Selection
    threshold : float
        b-tag score above which a jet counts as tagged.
    """
    mass, opposite = dimuon(events.muons)
    bjets = events.jets.take(events.jets["btag"] > threshold).counts
    bjets_min = f"at least {selection.bjets_min} b-tagged (score > {threshold:g})"
    charge = "opposite charge" if selection.opposite_charge else "any charge"
    masks = {
        "generated": np.ones(len(weight), dtype=bool),
        f"{selection.electrons} electron(s)": events.electrons.counts == selection.electrons,
        f"{selection.muons} muons": events.muons.counts == selection.muons,
        charge: opposite | (not selection.opposite_charge),
        f"m(mumu) > {selection.mass_mumu_min:g} GeV": mass > selection.mass_mumu_min,
        f"at least {selection.jets_min} jets": events.jets.counts >= selection.jets_min,
        bjets_min: bjets >= selection.bjets_min,
    }
    return CutFlow.of(masks, weight)
