"""The card of `ntuples.CARD`, read with loops over events and particles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uproot

MASK = 2**64 - 1


@dataclass
class SlowEvent:
    entry: int
    run: int
    luminosity_block: int
    event: int
    weight: float
    split: int
    globals: list[float]
    observers: dict[str, float]
    particles: list[dict[str, Any]] = field(default_factory=list)


def splitmix(value: int) -> int:
    z = (value + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def split_of(seed: int, *numbers: int) -> int:
    mixed = splitmix(seed)
    for number in numbers:
        mixed = splitmix(mixed ^ number)
    uniform = (mixed >> 11) / 2**53
    return 0 if uniform < 0.6 else 1 if uniform < 0.9 else 2


def vector(p: dict[str, Any]) -> tuple[float, float, float, float]:
    px, py, pz = p["pt"] * math.cos(p["phi"]), p["pt"] * math.sin(p["phi"]), p["pt"] * math.sinh(p["eta"])
    return math.sqrt(px**2 + py**2 + pz**2 + p["mass"] ** 2), px, py, pz


def pair_mass(a: dict[str, Any], b: dict[str, Any]) -> float:
    e, px, py, pz = (x + y for x, y in zip(vector(a), vector(b), strict=True))
    return math.sqrt(max(e**2 - px**2 - py**2 - pz**2, 0))


def collection(row: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    names = [n for n in row if n.startswith(f"{prefix}_")]
    count = len(row[f"{prefix}_pt"])
    return [{n.removeprefix(f"{prefix}_"): row[n][i] for n in names} | {"index": i} for i in range(count)]


def read_slowly(path: Path, factor: float) -> list[SlowEvent]:
    with uproot.open(path) as file:
        rows = file["Events"].arrays().to_list()
    events = [read_event(entry, row, factor) for entry, row in enumerate(rows)]
    return [e for e in events if e is not None]


def read_event(entry: int, row: dict[str, Any], factor: float) -> SlowEvent | None:
    muons = [m for m in collection(row, "Muon") if m["pt"] > 15 and m["pfRelIso"] < np.float32(0.8)]
    muons.sort(key=lambda m: -m["pt"])
    jets = collection(row, "Jet")
    for jet in jets:
        jet["btag"] = 0.0 if jet["btag"] == -1 else jet["btag"]
    jets = sorted((j for j in jets if abs(j["eta"]) < np.float32(2.4)), key=lambda j: -j["btag"])[:3]
    if not muons or not (row["MET_pt"] > 5 or row["trigger"]):
        return None
    met = {"pt": row["MET_pt"], "phi": row["MET_phi"], "eta": 0.0, "mass": 0.0, "index": -1}
    opposite = [
        pair_mass(a, b) for i, a in enumerate(muons) for b in muons[i + 1 :] if a["charge"] != b["charge"]
    ]
    numbers = (row["run"], row["luminosityBlock"], row["event"])
    return SlowEvent(
        entry,
        *numbers,
        weight=row["genWeight"] * factor,
        split=split_of(3, *numbers),
        globals=[sum(j["pt"] for j in jets), len(jets)],
        observers={"mass_mumu": opposite[0] if opposite else math.nan, "n_raw": len(row["Jet_pt"])},
        particles=[p | {"type": t} for t, group in enumerate((muons, jets, [met])) for p in group],
    )


def features_of(p: dict[str, Any]) -> list[float]:
    """The features of the card, in its order."""
    e, px, py, pz = vector(p)
    one_hot = [float(p["type"] == t) for t in range(3)]
    angles = [p["eta"], p["phi"], math.sin(p["phi"]), math.cos(p["phi"])]
    return [
        *(e, px, py, pz, p["pt"], math.log(p["pt"])),
        *angles,
        *(p["mass"], p.get("charge", 0), p.get("btag", 0)),
        *one_hot,
    ]
