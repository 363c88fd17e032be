"""Small ntuples, generated: NanoAOD-like events with everything a real file has in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

Columns = dict[str, Any]

CARD = """
name: small
samples:
  - {name: dy, files: background.root, class: background, weight: 0.5}
  - {name: tt, files: signal.root, class: signal}
labels: [background, signal]
weights: genWeight
missing:
  Jet_btag: {values: [-1], replace: 0}
new_variables:
  dimuon: pairs(muon)
  opposite: dimuon[dimuon.first.charge != dimuon.second.charge]
particles:
  muon:
    branches: Muon_{}
    cuts: {hard: pt > 15, isolated: iso < 0.8}
    features: {charge: charge, iso: pfRelIso}
    truth: {fromA: fromA}
  jet:
    branches: Jet_{}
    cuts: abs(eta) < 2.4
    order_by: -btag
    max: 3
    features: {btag: btag}
  met:
    branches: {pt: MET_pt, phi: MET_phi}
selection:
  some muon: count(muon) >= 1
  met: met.pt > 5 or trigger
features: [energy, px, py, pz, pt, log_pt, eta, phi, sin_phi, cos_phi, mass, charge, btag, type]
globals:
  ht: {expression: sum(jet.pt), units: GeV}
  n_jets: count(jet)
observers:
  mass_mumu: first(opposite.mass)
  n_raw: nJet * 1
split: {train: 6, valid: 3, test: 1, seed: 3}
"""


def jagged(counts: np.ndarray, values: np.ndarray) -> ak.Array:
    return ak.unflatten(values, counts)


def make_columns(n: int, seed: int = 0) -> Columns:
    """``n`` events with 0 to a few muons and jets; jets are not ordered in b-tag."""
    rng = np.random.default_rng(seed)
    out: Columns = {
        "run": np.full(n, 7, dtype=np.uint32),
        "luminosityBlock": (np.arange(n) // 10).astype(np.uint32),
        "event": (np.arange(n) + 1000 * seed).astype(np.uint64),
        "genWeight": rng.choice([1.0, -0.5], n, p=[0.8, 0.2]).astype(np.float32),
        "MET_pt": rng.exponential(20, n).astype(np.float32),
        "MET_phi": rng.uniform(-3.1, 3.1, n).astype(np.float32),
        "trigger": rng.random(n) < 0.5,
    }
    for name, mean in (("Muon", 1.4), ("Jet", 2.5)):
        counts = rng.poisson(mean, n)
        size = int(counts.sum())
        flat = {
            "pt": rng.exponential(30, size) + 8,
            "eta": rng.normal(0, 1.3, size),
            "phi": rng.uniform(-3.1, 3.1, size),
            "mass": rng.uniform(0.1, 5, size),
        }
        out |= {f"{name}_{k}": jagged(counts, v.astype(np.float32)) for k, v in flat.items()}
        if name == "Muon":
            out["Muon_charge"] = jagged(counts, rng.choice([-1, 1], size).astype(np.int32))
            out["Muon_pfRelIso"] = jagged(counts, rng.random(size).astype(np.float32))
            out["Muon_fromA"] = jagged(counts, rng.random(size) < 0.3)
        else:
            btag = np.where(rng.random(size) < 0.2, -1, rng.random(size))
            out["Jet_btag"] = jagged(counts, btag.astype(np.float32))
    return out


def write_ttree(path: Path, columns: Mapping[str, Any], tree: str = "Events", chunk: int = 40) -> Path:
    """TTree with several baskets; list branches of one collection share a counter, as in NanoAOD."""
    types = {
        k: "string" if _is_text(v) else v.type.content if isinstance(v, ak.Array) else v.dtype
        for k, v in columns.items()
    }
    with uproot.recreate(path) as file:
        out = file.mktree(tree, types, counter_name=lambda name: "n" + name.split("_")[0])
        for start in range(0, max(1, len(next(iter(columns.values())))), chunk):
            part = {k: v[start : start + chunk] for k, v in columns.items()}
            if len(next(iter(part.values()))):
                out.extend(part)
    return path


def _is_text(values: Any) -> bool:
    return isinstance(values, ak.Array) and str(values.type.content) == "string"


def write_rntuple(path: Path, columns: Mapping[str, Any], tree: str = "Events", chunk: int = 40) -> Path:
    """RNTuple with several clusters."""
    n = len(next(iter(columns.values())))
    with uproot.recreate(path) as file:
        out = file.mkrntuple(tree, {k: v[:chunk] for k, v in columns.items()})
        for start in range(chunk, n, chunk):
            out.extend({k: v[start : start + chunk] for k, v in columns.items()})
    return path
