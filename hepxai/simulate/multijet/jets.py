"""Jets with their constituents, and what is measured of them: energy fractions, tracks, width, scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from hepxai.core.jagged import IntArray, offsets_from_counts
from hepxai.simulate.collection import BoolArray, Collection, FloatArray, delta_r
from hepxai.simulate.config import Jet
from hepxai.simulate.generator import EventRecord

# Private to that module and never to be renamed: its bytes are part of the recipe of finished samples.
from hepxai.simulate.jets import _GHOST, _cluster, _jets
from hepxai.simulate.multijet.config import Fractions, QuarkGluon, Tracks
from hepxai.simulate.response import efficiency, relative_resolution, smearing
from hepxai.simulate.truth import ELECTRON, MUON, PHOTON, last_hadrons, visible

# Stable particles that leave no track: photon, K0L, K0S, neutron, Lambda, Xi0.
_NEUTRAL = (PHOTON, 130, 310, 2112, 3122, 3322)


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
        """Those of some jets, which are numbered anew; ``jets`` are positions, each once, in any order."""
        number = np.full(max(self.jet.max(initial=-1), jets.max(initial=-1)) + 1, -1)
        number[jets] = np.arange(len(jets))
        kept = np.flatnonzero(number[self.jet] >= 0)
        kept = kept[np.argsort(number[self.jet[kept]], kind="stable")]
        return Constituents(number[self.jet[kept]], self.particle[kept])


def find_jets(record: EventRecord, jet: Jet) -> tuple[Collection, Constituents]:
    """Cluster the visible particles into jets of particle-level momentum.

    Returns
    -------
    jets : Collection
        pt, eta, phi, mass [GeV], hadronFlavour (5, 4 or 0).
    constituents : Constituents
    """
    inputs, b, c = visible(record, jet.constituent), last_hadrons(record, 5), last_hadrons(record, 4)
    index = np.concatenate([inputs, b, c])
    flavour = np.repeat([0, 5, 4], [len(inputs), len(b), len(c)])
    order = np.argsort(record.event[index], kind="stable")
    index, flavour = index[order], flavour[order]
    momenta, inside = _cluster(record, index, np.where(flavour > 0, _GHOST, 1.0), jet.radius)
    jets = _jets(momenta, inside, record.event[index], flavour)
    return jets, _constituents(inside, index, flavour, record)


def _constituents(inside: Any, index: IntArray, flavour: IntArray, record: EventRecord) -> Constituents:
    import awkward as ak

    sizes = ak.to_numpy(ak.flatten(ak.num(inside, axis=2)))
    event = np.repeat(np.arange(record.n_events), ak.to_numpy(ak.num(inside, axis=1)))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    starts = offsets_from_counts(np.bincount(record.event[index], minlength=record.n_events))
    position = ak.to_numpy(ak.flatten(inside, axis=None)) + starts[event[owner]]
    real = flavour[position] == 0
    return Constituents(owner[real], index[position[real]])


def energy_fractions(
    record: EventRecord, inside: Constituents, jets: int, resolution: Fractions, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Shares of photons and electrons, of muons and of all others in the measured energy of a jet.

    Each of the three sums is smeared as the detector part that measures it; then they are divided by their
    total, so that they add up to one.
    """
    code = np.abs(record.id[inside.particle])
    em, muon = (code == PHOTON) | (code == ELECTRON), code == MUON
    classes = {
        "emEF": (em, resolution.em),
        "hadEF": (~(em | muon), resolution.hadron),
        "muEF": (muon, resolution.muon),
    }
    energy = record.energy[inside.particle]
    seen = {}
    for name, (member, bins) in classes.items():
        total = np.bincount(inside.jet, weights=energy * member, minlength=jets)
        width = relative_resolution(np.maximum(total, 1e-3), np.zeros(jets), [bins])
        seen[name] = total * smearing(rng, width)
    everything = np.sum(list(seen.values()), axis=0)
    return {name: value / everything for name, value in seen.items()}


def substructure(
    record: EventRecord, inside: Constituents, jets: Collection, tracks: Tracks, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Measured tracks in jets: number, pt-weighted width and fragmentation function.

    Width is ``sum(pt * dR) / sum(pt)`` around the measured axis, ptD ``sqrt(sum(pt^2)) / sum(pt)`` (CMS
    PAS JME-13-002); both are 0 without a track.
    """
    found = _tracks(record, inside, tracks, rng)
    n = len(jets)
    pt, jet = found["pt"], found.event
    distance = delta_r(found["eta"], found["phi"], jets["eta"][jet], jets["phi"][jet])
    number, total, squares, moment = (
        np.bincount(jet, weights=w, minlength=n).astype(np.float64)
        for w in (np.ones(len(pt)), pt, pt**2, pt * distance)
    )
    some = np.where(number > 0, total, 1.0)
    return {"nConstituents": number, "width": moment / some, "ptD": np.sqrt(squares) / some}


def _tracks(
    record: EventRecord, inside: Constituents, tracks: Tracks, rng: np.random.Generator
) -> Collection:
    """Measured tracks; their "event" is the jet."""
    px, py, pz = (p[inside.particle] for p in (record.px, record.py, record.pz))
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / pt)
    seen = rng.random(len(pt)) < efficiency(pt, tracks.efficiency)
    measured = pt * smearing(rng, relative_resolution(pt, eta, tracks.resolution))
    charged = ~np.isin(np.abs(record.id[inside.particle]), _NEUTRAL)
    kept: BoolArray = charged & seen & (measured > tracks.pt_min) & (np.abs(eta) < tracks.abs_eta_max)
    columns = {"pt": measured, "eta": eta, "phi": np.arctan2(py, px)}
    size = int(inside.jet.max(initial=-1)) + 1
    return Collection(inside.jet, columns, size).take(kept)


def likelihood_inputs(jets: Collection) -> dict[str, FloatArray]:
    """What the quark-gluon likelihood is linear in, by the names of its coefficients."""
    tracks, width = np.log1p(jets["nConstituents"]), np.log(jets["width"] + 0.01)
    pt = np.log(jets["pt"] / 100)
    return {
        "intercept": np.ones(len(jets)),
        "log_tracks": tracks,
        "log_width": width,
        "pt_d": jets["ptD"],
        "log_pt": pt,
        "log_tracks_log_pt": tracks * pt,
        "log_width_log_pt": width * pt,
    }


def quark_gluon_score(jets: Collection, likelihood: QuarkGluon) -> FloatArray:
    """Score in (0, 1), high for quark jets: the logistic function of a linear log likelihood ratio."""
    terms = (getattr(likelihood, name) * value for name, value in likelihood_inputs(jets).items())
    return np.asarray(expit(np.sum(list(terms), axis=0)))
