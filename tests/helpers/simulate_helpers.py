"""Small settings and hand-written event records for the tests of the simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hepxai.simulate.config import SimulationConfig, load_config
from hepxai.simulate.generator import EventRecord

SHIPPED = Path(__file__).parents[2] / "datasets" / "charged_higgs"


def shipped_config() -> SimulationConfig:
    return load_config(SHIPPED)


def settings() -> dict[str, Any]:
    return yaml.safe_load((SHIPPED / "simulate.yaml").read_text())


def write_settings(folder: Path, content: dict[str, Any]) -> Path:
    """A data set folder with the shipped generator settings and ``content`` as simulate.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for cmnd in SHIPPED.glob("*.cmnd"):
        (folder / cmnd.name).write_text(cmnd.read_text())
    (folder / "simulate.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def quick_settings(folder: Path, *, chunk_events: int = 20, **changes: Any) -> Path:
    """Few events a chunk, and a selection that many of them pass."""
    content = settings()
    content["chunk_events"] = chunk_events
    content["selection"] |= {"electrons": 1, "jets_min": 2, "bjets_min": 0}
    for key, value in changes.items():
        content[key] = value
    return write_settings(folder, content)


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
        failures=0,
    )


def perfect(config: SimulationConfig) -> SimulationConfig:
    """The same detector without inefficiency and resolution."""
    content = config.model_dump()
    detector = content["detector"]
    for name in ("electron", "muon", "jet"):
        detector[name]["resolution"] = [{"abs_eta_max": 6.0}]
    for name in ("electron", "muon"):
        detector[name]["efficiency"] = {"plateau": 1.0, "half_point": -1e3, "width": 1.0}
    detector["jet"]["angular_resolution"] = 0.0
    detector["met"]["soft_resolution"] = 0.0
    return SimulationConfig.model_validate(content)
