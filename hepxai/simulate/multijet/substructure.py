"""Measured substructure of jets: energy fractions, tracks, width, quark-gluon score."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from hepxai.simulate.collection import BoolArray, Collection, FloatArray, delta_r
from hepxai.simulate.generator import EventRecord
from hepxai.simulate.jets import Constituents
from hepxai.simulate.multijet.settings import Fractions, QuarkGluon, Tracks
from hepxai.simulate.response import efficiency, relative_resolution, smearing
from hepxai.simulate.truth import ELECTRON, MUON, PHOTON

# Stable particles that leave no track: photon, K0L, K0S, neutron, Lambda, Xi0.
_NEUTRAL = (PHOTON, 130, 310, 2112, 3122, 3322)


def energy_fractions(
    record: EventRecord, inside: Constituents, jets: int, resolution: Fractions, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Shares of photons and electrons, of muons and of all others in the measured energy of a jet.

    Each of the three sums is smeared with the resolution of the detector part that measures it; they are
    divided by their total, so that they add up to one.
    """
    code = np.abs(record.id[inside.particle])
    em, muon = (code == PHOTON) | (code == ELECTRON), code == MUON
    classes = {
        "emEF": (em, resolution.em),
        "hadEF": (~(em | muon), resolution.hadron),
        "muEF": (muon, resolution.muon),
    }
    energy = record.energy[inside.particle]
    deposits = {}
    for name, (member, bins) in classes.items():
        total = np.bincount(inside.jet, weights=energy * member, minlength=jets)
        width = relative_resolution(np.maximum(total, 1e-3), np.zeros(jets), [bins])
        deposits[name] = total * smearing(rng, width)
    everything = np.sum(list(deposits.values()), axis=0)
    return {name: value / everything for name, value in deposits.items()}


def substructure(
    record: EventRecord, inside: Constituents, jets: Collection, tracks: Tracks, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Measured tracks in jets: number, pt-weighted width and fragmentation function.

    Width is ``sum(pt * dR) / sum(pt)`` around the measured axis, ptD ``sqrt(sum(pt^2)) / sum(pt)`` (CMS
    PAS JME-13-002); both are 0 without a track.
    """
    measured = _tracks(record, inside, tracks, rng)
    n = len(jets)
    pt, jet = measured["pt"], measured.event
    distance = delta_r(measured["eta"], measured["phi"], jets["eta"][jet], jets["phi"][jet])
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
    efficient = rng.random(len(pt)) < efficiency(pt, tracks.efficiency)
    measured = pt * smearing(rng, relative_resolution(pt, eta, tracks.resolution))
    charged = ~np.isin(np.abs(record.id[inside.particle]), _NEUTRAL)
    accepted: BoolArray = (measured > tracks.pt_min) & (np.abs(eta) < tracks.abs_eta_max)
    columns = {"pt": measured, "eta": eta, "phi": np.arctan2(py, px)}
    size = int(inside.jet.max(initial=-1)) + 1
    return Collection(inside.jet, columns, size).take(charged & efficient & accepted)


def likelihood_terms(jets: Collection) -> dict[str, FloatArray]:
    """Terms of the quark-gluon likelihood, by the names of their coefficients."""
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
    terms = (getattr(likelihood, name) * value for name, value in likelihood_terms(jets).items())
    return np.asarray(expit(np.sum(list(terms), axis=0)))
