"""Anti-kt jets with their constituents and hadron flavour, measured, and matched to quarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hepxai.core.jagged import IntArray, offsets_from_counts
from hepxai.simulate.collection import BoolArray, Collection, FloatArray, close_pairs, nearest, wrapped
from hepxai.simulate.generator import EventRecord, import_generator
from hepxai.simulate.response import relative_resolution, smearing, tag_score
from hepxai.simulate.settings import Btag, Jet
from hepxai.simulate.truth import kinematics, last_hadrons, pseudorapidity

# Hadrons join the clustering with momenta scaled by this: direction kept, jets unchanged.
_GHOST = 1e-18
# Below this pt [GeV] jets are part of the soft term anyway.
_CLUSTER_PT_MIN = 5.0


@dataclass(frozen=True)
class Constituents:
    """Particles inside jets.

    Attributes
    ----------
    jet : ndarray of int64, shape [C]
        Jet of every constituent; never falls.
    particle : ndarray of int64, shape [C]
        Its place in the record.
    """

    jet: IntArray
    particle: IntArray

    def of(self, jets: IntArray) -> Constituents:
        """Constituents of jets at different positions, in any order; these positions renumber the jets."""
        number = np.full(max(self.jet.max(initial=-1), jets.max(initial=-1)) + 1, -1)
        number[jets] = np.arange(len(jets))
        chosen = np.flatnonzero(number[self.jet] >= 0)
        chosen = chosen[np.argsort(number[self.jet[chosen]], kind="stable")]
        return Constituents(number[self.jet[chosen]], self.particle[chosen])


def find_jets(record: EventRecord, inputs: IntArray, radius: float) -> tuple[Collection, Constituents]:
    """Cluster particles into jets of particle-level momentum.

    Parameters
    ----------
    record : EventRecord
    inputs : ndarray of int64
        Places in the record of the particles to cluster, events in order.
    radius : float

    Returns
    -------
    jets : Collection
        pt, eta, phi, mass [GeV], nConstituents, hadronFlavour (5, 4 or 0, by b and c hadrons that are
        clustered as ghosts).
    constituents : Constituents
    """
    b, c = last_hadrons(record, 5), last_hadrons(record, 4)
    index = np.concatenate([inputs, b, c])
    flavour = np.repeat([0, 5, 4], [len(inputs), len(b), len(c)])
    order = np.argsort(record.event[index], kind="stable")
    index, flavour = index[order], flavour[order]
    jets, owner, position = _cluster(record, index, np.where(flavour > 0, _GHOST, 1.0), radius)
    hardest = np.zeros(len(jets), dtype=np.int32)
    np.maximum.at(hardest, owner, flavour[position].astype(np.int32))
    real = flavour[position] == 0
    sizes = np.bincount(owner[real], minlength=len(jets)).astype(np.int32)
    return jets.adding(hadronFlavour=hardest, nConstituents=sizes), Constituents(
        owner[real], index[position[real]]
    )


def _cluster(
    record: EventRecord, index: IntArray, scale: FloatArray, radius: float
) -> tuple[Collection, IntArray, IntArray]:
    """Jets, and the jet and the position in ``index`` of each of their constituents."""
    import awkward as ak

    fastjet = import_generator("fastjet")
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    names = {"px": record.px, "py": record.py, "pz": record.pz, "E": record.energy}
    flat = ak.zip({k: v[index] * scale for k, v in names.items()}, with_name="Momentum4D")
    counts = np.bincount(record.event[index], minlength=record.n_events)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(ak.unflatten(flat, counts), definition)
    momenta = sequence.inclusive_jets(min_pt=_CLUSTER_PT_MIN)
    inside = sequence.constituent_index(min_pt=_CLUSTER_PT_MIN)
    jets = _jets(momenta, record.n_events)
    owner = np.repeat(np.arange(len(jets)), ak.to_numpy(ak.flatten(ak.num(inside, axis=2))))
    starts = offsets_from_counts(counts)
    return jets, owner, ak.to_numpy(ak.flatten(inside, axis=None)) + starts[jets.event[owner]]


def _jets(momenta: Any, n_events: int) -> Collection:
    import awkward as ak

    event = np.repeat(np.arange(n_events), ak.to_numpy(ak.num(momenta)))
    px, py, pz, energy = (ak.to_numpy(ak.flatten(momenta[k])) for k in ("px", "py", "pz", "E"))
    pt = np.hypot(px, py)
    columns = {
        "pt": pt,
        "eta": pseudorapidity(pt, pz),
        "phi": np.arctan2(py, px),
        "mass": np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0)),
    }
    return Collection(event, columns, n_events)


def measure_jets(jets: Collection, jet: Jet, rng: np.random.Generator) -> Collection:
    """Smear energy and direction; ``true_pt`` and ``true_phi`` keep the particle-level values."""
    factor = smearing(rng, relative_resolution(jets["pt"], jets["eta"], jet.resolution))
    angles = jet.angular_resolution * rng.standard_normal((2, len(jets)))
    return jets.adding(
        true_pt=jets["pt"],
        true_phi=jets["phi"],
        pt=jets["pt"] * factor,
        mass=jets["mass"] * factor,
        eta=jets["eta"] + angles[0],
        phi=wrapped(jets["phi"] + angles[1]),
    )


def tagged_jets(measured: Collection, btag: Btag, rng: np.random.Generator) -> Collection:
    """Jets with their b-tag score."""
    return measured.adding(btag=tag_score(rng, measured["true_pt"], measured["hadronFlavour"], btag))


def accepted(measured: Collection, jet: Jet) -> BoolArray:
    """Mask of the jets inside the acceptance."""
    return np.asarray((measured["pt"] > jet.pt_min) & (np.abs(measured["eta"]) < jet.abs_eta_max))


def nearest_jets(record: EventRecord, quarks: IntArray, jets: Collection, radius: float) -> BoolArray:
    """Mask of the jets that are the nearest, and closer than ``radius``, to a quark of the record."""
    quark, jet, distance = close_pairs(kinematics(record, quarks), jets, radius)
    matched = np.zeros(len(jets), dtype=bool)
    matched[jet[nearest(quark, distance)]] = True
    return matched
