"""Reading into `Events` against raw `uproot.iterate` of the same branches and a loop of PyG ``Data``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import awkward as ak
import numpy as np
import torch
import uproot
from torch_geometric.data import Data

from benchmarks.common import cpu_seconds, show
from hepxai.cards import load_card
from hepxai.core.jagged import offsets_from_counts, parents
from hepxai.datasets import DatasetCard, ReadLog, iterate
from hepxai.datasets.planning import plan_files

EVENTS = 200_000
LOOPED = 4_000
CHUNK = "50 MB"
COLLECTIONS = {
    "Electron": (0.8, ("charge", "pfRelIso", "fromHp")),
    "Muon": (1.6, ("charge", "pfRelIso", "fromHp")),
    "Jet": (4.6, ("btag", "fromHp")),
}
CARD = """
name: bench
samples: [{name: all, files: FILE, class: signal}]
labels: [signal]
weights: genWeight
particles:
  electron: {branches: "Electron_{}", features: {charge: charge, iso: pfRelIso}, truth: {fromHp: fromHp}}
  muon: {branches: "Muon_{}", features: {charge: charge, iso: pfRelIso}, truth: {fromHp: fromHp}}
  jet: {branches: "Jet_{}", features: {btag: btag}, truth: {fromHp: fromHp}}
  met: {branches: {pt: MET_pt, phi: MET_phi}}
features: [energy, px, py, pz, charge, iso, btag, type]
"""
ANALYSIS = """
new_variables:
  dimuon: pairs(muon)
  opposite: dimuon[dimuon.first.charge != dimuon.second.charge]
selection: {leptons: count(muon) + count(electron) >= 2, jets: count(jet) >= 2}
globals: {ht: sum(jet.pt)}
observers: {mass_mumu: first(opposite.mass), n_btags: count(jet.btag > 0.7)}
"""
CUTS = [
    'particles.muon.cuts="pt > 12 and abs(eta) < 2.4 and pfRelIso < 0.9"',
    'particles.jet.cuts="pt > 15"',
    "particles.jet.max=8",
]


def columns(n: int, seed: int) -> dict[str, ak.Array]:
    """NanoAOD-like events; particles in order of pt."""
    rng = np.random.default_rng(seed)
    out: dict[str, ak.Array] = {
        "run": np.ones(n, dtype=np.uint32),
        "luminosityBlock": (np.arange(n) // 500).astype(np.uint32),
        "event": np.arange(n, dtype=np.uint64) + seed * n,
        "genWeight": rng.choice([1, -0.5], n, p=[0.8, 0.2]).astype(np.float32),
        "MET_pt": rng.exponential(40, n).astype(np.float32),
        "MET_phi": rng.uniform(-np.pi, np.pi, n).astype(np.float32),
    }
    for name, (mean, extra) in COLLECTIONS.items():
        counts = rng.poisson(mean, n)
        out |= {f"{name}_{k}": ak.unflatten(v, counts) for k, v in particles(rng, counts, extra).items()}
    return out


def particles(rng: np.random.Generator, counts: np.ndarray, extra: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Flat values of one collection, with the few significant bits that NanoAOD keeps."""
    size = int(counts.sum())
    pt = rng.exponential(30, size) + 10
    flat = {
        "pt": pt[np.lexsort((-pt, parents(offsets_from_counts(counts))))],
        "eta": rng.normal(0, 1.2, size),
        "phi": rng.uniform(-np.pi, np.pi, size),
        "mass": rng.exponential(5, size),
    }
    rounded = {k: np.round(v, 2).astype(np.float32) for k, v in flat.items()}
    kinds = {"charge": rng.choice([-1, 1], size).astype(np.int32), "fromHp": rng.random(size) < 0.3}
    return rounded | {k: kinds.get(k, np.round(rng.random(size), 3).astype(np.float32)) for k in extra}


def write(folder: Path) -> dict[str, Path]:
    """The same events as TTree and as RNTuple."""
    parts = [columns(EVENTS // 4, seed) for seed in range(4)]
    with uproot.recreate(folder / "ttree.root") as file:
        types = {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in parts[0].items()}
        tree = file.mktree("Events", types, counter_name=lambda n: "n" + n.split("_")[0])
        for part in parts:
            tree.extend(part)
    with uproot.recreate(folder / "rntuple.root") as file:
        ntuple = file.mkrntuple("Events", parts[0])
        for part in parts[1:]:
            ntuple.extend(part)
    return {"TTree": folder / "ttree.root", "RNTuple": folder / "rntuple.root"}


def raw(path: Path, names: list[str]) -> None:
    """What uproot alone does: the branches as awkward arrays, chunk by chunk."""
    for _ in uproot.iterate(f"{path}:Events", names, step_size=CHUNK):
        pass


def ours(card: DatasetCard) -> int:
    """Selected events; each chunk is let go."""
    return sum(len(events) for events in iterate(card, chunk=CHUNK, ledger=ReadLog()))


def looped(path: Path) -> list[Data]:
    """One ``Data`` per event, as in many a script: the same features, event by event."""
    arrays = uproot.open(path)["Events"].arrays(entry_stop=LOOPED)
    graphs = []
    for event in arrays:
        rows = [
            [event.MET_pt, event.MET_pt * np.cos(event.MET_phi), event.MET_pt * np.sin(event.MET_phi), 0.0]
        ]
        for name in COLLECTIONS:
            pt, eta = event[f"{name}_pt"].to_numpy(), event[f"{name}_eta"].to_numpy()
            phi, mass = event[f"{name}_phi"].to_numpy(), event[f"{name}_mass"].to_numpy()
            energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
            rows += np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1).tolist()
        graphs.append(Data(x=torch.tensor(rows), weight=torch.tensor([event.genWeight])))
    return graphs


def main() -> None:
    """Print CPU microseconds per event and their ratios."""
    with TemporaryDirectory() as folder:
        for kind, path in write(Path(folder)).items():
            plain, full = cards(Path(folder), path)
            names = sorted(plan_files(full)[0].needed)
            base = cpu_seconds(lambda path=path, names=names: raw(path, names), 5) / EVENTS
            times = {
                f"uproot.iterate, {len(names)} branches": base,
                "hepxai, everything kept": cpu_seconds(lambda card=plain: ours(card), 5) / EVENTS,
                "hepxai, cuts, selection, pairs": cpu_seconds(lambda card=full: ours(card), 5) / EVENTS,
            }
            if kind == "TTree":
                times["PyG Data, event by event"] = cpu_seconds(lambda path=path: looped(path), 1) / LOOPED
            rows = [(n, f"{1e6 * t:.2f}", f"{base / t:.2g}") for n, t in times.items()]
            show(f"Reading {EVENTS:,} events, {kind}", ("", "CPU µs / event", "throughput / raw"), rows)


def cards(folder: Path, path: Path) -> tuple[DatasetCard, DatasetCard]:
    """A card that keeps everything, and one with an analysis in it."""
    text = CARD.replace("FILE", str(path))
    (folder / "plain.yaml").write_text(text)
    (folder / "full.yaml").write_text(text + ANALYSIS)
    return (
        load_card(folder / "plain.yaml", DatasetCard),
        load_card(folder / "full.yaml", DatasetCard, CUTS),
    )
