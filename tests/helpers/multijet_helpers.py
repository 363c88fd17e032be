"""Small settings and hand-written event records for the tests of the multijet events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hepxai.simulate.generator import EventRecord
from hepxai.simulate.multijet import MultijetConfig, load_multijet
from hepxai.simulate.multijet.chunk import SliceChunk
from hepxai.simulate.selection import CutFlow

SHIPPED = Path(__file__).parents[2] / "datasets" / "ttbar_qcd"


def settings() -> dict[str, Any]:
    return yaml.safe_load((SHIPPED / "simulate.yaml").read_text())


def shipped_config() -> MultijetConfig:
    return load_multijet(SHIPPED)


def write_settings(folder: Path, content: dict[str, Any]) -> Path:
    """A data set folder with the shipped generator settings and ``content`` as simulate.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for cmnd in SHIPPED.glob("*.cmnd"):
        (folder / cmnd.name).write_text(cmnd.read_text())
    (folder / "simulate.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def part(low: float, high: float, events: int) -> dict[str, Any]:
    limits = [f"PhaseSpace:pTHatMin = {low}", f"PhaseSpace:pTHatMax = {high}"]
    return {"name": f"pT-hat {low:g}-{high:g}", "settings": limits, "events": events}


def quick(*slices: dict[str, Any]) -> dict[str, Any]:
    """Few hard processes a chunk, and a selection that many of them pass."""
    content = settings()
    content["samples"]["background"]["slices"] = list(slices) or [part(300, 450, 40), part(450, 700, 20)]
    content["samples"]["signal"]["slices"][0]["events"] = 20
    content["veto"] |= {"jets_pt": [20.0, 20.0, 15.0], "ht_min": 250.0}
    content["selection"] = {"jets_min": 4, "ht_min": 300.0}
    return content


def record(*events: list[tuple[float, ...]]) -> EventRecord:
    """Event records from rows ``(id, status, mother, pt, eta, phi, mass)``; mothers count from the event."""
    rows = np.array([row for event in events for row in event], dtype=float).reshape(-1, 7)
    counts = [len(event) for event in events]
    start = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    pt, eta, phi, mass = rows[:, 3:].T
    return EventRecord(
        event=np.repeat(np.arange(len(events)), counts),
        id=rows[:, 0].astype(int),
        status=rows[:, 1].astype(int),
        mother=rows[:, 2].astype(int) + start,
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pt * np.sinh(eta),
        energy=np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2),
        weight=np.ones(len(events)),
        failures=0,
    )


def chunk(generated: int, selected: int, cross_section: float, error: float = 1.0) -> SliceChunk:
    """A chunk without columns."""
    counts = np.array([generated, selected, selected, selected])
    return SliceChunk({}, CutFlow(("a", "b", "c", "d"), counts, counts, counts), 0, cross_section, error)
