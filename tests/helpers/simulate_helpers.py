"""Small settings and hand-written event records for the tests of the simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hepxai.simulate import load_settings
from hepxai.simulate.charged_higgs.settings import ChargedHiggsSettings
from hepxai.simulate.charged_higgs.simulation import ChargedHiggs
from hepxai.simulate.generator import EventRecord

DATASETS = Path(__file__).parents[2] / "datasets"
SHIPPED = DATASETS / "charged_higgs"


def shipped_settings() -> ChargedHiggsSettings:
    return load_settings(SHIPPED)


def simulation(sample: str = "signal", **changes: Any) -> ChargedHiggs:
    """Simulation by the shipped settings; ``changes`` replace settings of the sample."""
    settings = shipped_settings()
    changed = settings.samples[sample].model_copy(update=changes)
    return ChargedHiggs(settings.model_copy(update={"samples": {sample: changed}}), sample)


def content(folder: Path = SHIPPED) -> dict[str, Any]:
    return yaml.safe_load((folder / "simulate.yaml").read_text())


def write_settings(folder: Path, content: dict[str, Any], shipped: Path = SHIPPED) -> Path:
    """A data set folder with the shipped generator settings and ``content`` as simulate.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for cmnd in shipped.glob("*.cmnd"):
        (folder / cmnd.name).write_text(cmnd.read_text())
    (folder / "simulate.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def quick_settings(folder: Path) -> Path:
    """Few events a chunk, and a selection that many of them pass."""
    changed = content()
    changed["chunk_events"] = 20
    changed["selection"] |= {"electrons": 1, "jets_min": 2, "bjets_min": 0}
    return write_settings(folder, changed)


def record(*events: list[tuple[float, ...]], weight: list[float] | None = None) -> EventRecord:
    """Event records from rows ``(id, status, mother, pt, eta, phi, mass)``; mothers count from the event."""
    rows = np.array([row for event in events for row in event], dtype=float).reshape(-1, 7)
    counts = [len(event) for event in events]
    number = np.repeat(np.arange(len(events)), counts)
    start = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    pt, eta, phi, mass = rows[:, 3:].T
    return EventRecord(
        event=number,
        id=rows[:, 0].astype(int),
        status=rows[:, 1].astype(int),
        mother=rows[:, 2].astype(int) + start,
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pt * np.sinh(eta),
        energy=np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2),
        weight=np.ones(len(events)) if weight is None else np.array(weight),
    )


def perfect(settings: ChargedHiggsSettings) -> ChargedHiggsSettings:
    """The same detector without inefficiency and resolution."""
    content = settings.model_dump()
    detector = content["detector"]
    for name in ("electron", "muon", "jet"):
        detector[name]["resolution"] = [{"abs_eta_max": 6.0}]
    for name in ("electron", "muon"):
        detector[name]["efficiency"] = {"plateau": 1.0, "half_point": -1e3, "width": 1.0}
    detector["jet"]["angular_resolution"] = 0.0
    detector["met"]["soft_resolution"] = 0.0
    return ChargedHiggsSettings.model_validate(content)
