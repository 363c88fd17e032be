"""Anti-kt jets, their hadron flavour, b-tag score and truth, and the missing transverse momentum."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepxai.core.jagged import IntArray, offsets_from_counts
from hepxai.simulate.collection import BoolArray, Collection, FloatArray, close_pairs, nearest, wrapped
from hepxai.simulate.config import Detector, Jet
from hepxai.simulate.generator import EventRecord, import_generator
from hepxai.simulate.response import relative_resolution, smearing, tag_score
from hepxai.simulate.truth import kinematics, last_hadrons, pseudorapidity, w_quarks

# Hadrons join the clustering with momenta scaled by this: direction kept, jets unchanged.
_GHOST = 1e-18
# Below this pt [GeV] jets are part of the soft term anyway.
_CLUSTER_PT_MIN = 5.0


def find_jets(record: EventRecord, inputs: IntArray, jet: Jet) -> Collection:
    """Cluster particles into jets of particle-level momentum.

    Parameters
    ----------
    record : EventRecord
    inputs : ndarray of int64
        Places in the record of the particles to cluster, events in order.
    jet : Jet

    Returns
    -------
    Collection
        pt, eta, phi, mass [GeV], nConstituents, hadronFlavour (5, 4 or 0, by b and c hadrons that are
        clustered as ghosts).
    """
    b, c = last_hadrons(record, 5), last_hadrons(record, 4)
    index = np.concatenate([inputs, b, c])
    flavour = np.repeat([0, 5, 4], [len(inputs), len(b), len(c)])
    order = np.argsort(record.event[index], kind="stable")
    index, flavour = index[order], flavour[order]
    scale = np.where(flavour > 0, _GHOST, 1.0)
    momenta, constituents = _cluster(record, index, scale, jet.radius)
    return _jets(momenta, constituents, record.event[index], flavour)


def _cluster(record: EventRecord, index: IntArray, scale: FloatArray, radius: float) -> tuple[Any, Any]:
    import awkward as ak

    fastjet = import_generator("fastjet")
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    names = {"px": record.px, "py": record.py, "pz": record.pz, "E": record.energy}
    flat = ak.zip({k: v[index] * scale for k, v in names.items()}, with_name="Momentum4D")
    events = ak.unflatten(flat, np.bincount(record.event[index], minlength=record.n_events))
    sequence = fastjet.ClusterSequence(events, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    return sequence.inclusive_jets(min_pt=_CLUSTER_PT_MIN), sequence.constituent_index(min_pt=_CLUSTER_PT_MIN)


def _jets(momenta: Any, constituents: Any, particle_event: IntArray, flavour: IntArray) -> Collection:
    import awkward as ak

    n_events = len(momenta)
    event = np.repeat(np.arange(n_events), ak.to_numpy(ak.num(momenta)))
    px, py, pz, energy = (ak.to_numpy(ak.flatten(momenta[k])) for k in ("px", "py", "pz", "E"))
    sizes = ak.to_numpy(ak.flatten(ak.num(constituents, axis=2)))
    starts = offsets_from_counts(np.bincount(particle_event, minlength=n_events))
    owner = np.repeat(np.arange(len(event)), sizes)
    inside = flavour[ak.to_numpy(ak.flatten(constituents, axis=None)) + starts[event[owner]]]
    hardest = np.zeros(len(event), dtype=np.int32)
    np.maximum.at(hardest, owner, inside.astype(np.int32))
    pt = np.hypot(px, py)
    columns = {
        "pt": pt,
        "eta": pseudorapidity(pt, pz),
        "phi": np.arctan2(py, px),
        "mass": np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0)),
        "hadronFlavour": hardest,
        "nConstituents": np.bincount(owner[inside == 0], minlength=len(event)).astype(np.int32),
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


def select_jets(
    measured: Collection,
    leptons: tuple[Collection, ...],
    record: EventRecord,
    detector: Detector,
    rng: np.random.Generator,
) -> Collection:
    """Jets in the acceptance and away from leptons, in order of pt, with b-tag score and truth."""
    jet = detector.jet
    scores = tag_score(rng, measured["true_pt"], measured["hadronFlavour"], detector.btag)
    keep = (measured["pt"] > jet.pt_min) & (np.abs(measured["eta"]) < jet.abs_eta_max)
    for found in leptons:
        keep[close_pairs(measured, found, jet.lepton_distance)[0]] = False
    selected = measured.adding(btag=scores).take(keep).pt_ordered()
    return selected.adding(fromHp=_from_higgs(selected, record, jet.radius))


def _from_higgs(jets: Collection, record: EventRecord, radius: float) -> BoolArray:
    quark, jet, distance = close_pairs(kinematics(record, w_quarks(record)), jets, radius)
    matched = np.zeros(len(jets), dtype=bool)
    matched[jet[nearest(quark, distance)]] = True
    return matched


def missing_momentum(
    particles: Collection,
    leptons: tuple[Collection, ...],
    jets: Collection,
    detector: Detector,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Missing transverse momentum from leptons, jets and a smeared soft term.

    Parameters
    ----------
    particles : Collection
        What entered the clustering; what is not in a jet is the soft term.
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
    soft = transverse_sum(particles) - transverse_sum(true_jets)
    scalar = [np.bincount(c.event, weights=c["pt"], minlength=c.n_events) for c in (particles, true_jets)]
    width = detector.met.soft_resolution * np.sqrt(np.maximum(scalar[0] - scalar[1], 0))
    soft = soft + width * rng.standard_normal(soft.shape)
    x, y = -(soft + sum(transverse_sum(c) for c in (*leptons, hard)))
    return np.hypot(x, y), np.arctan2(y, x)


def transverse_sum(objects: Collection) -> FloatArray:
    """Vector sum of transverse momenta per event, ``[2, E]``."""
    components = (objects["pt"] * np.cos(objects["phi"]), objects["pt"] * np.sin(objects["phi"]))
    return np.stack([np.bincount(objects.event, weights=c, minlength=objects.n_events) for c in components])
