"""Small settings for the tests of the multijet events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import simulate_helpers

from hepxai.simulate import load_settings
from hepxai.simulate.chunk import Chunk, CutFlow
from hepxai.simulate.multijet.settings import MultijetSettings
from hepxai.simulate.multijet.simulation import Multijet

SHIPPED = simulate_helpers.DATASETS / "ttbar_qcd"
record = simulate_helpers.record


def shipped_settings() -> MultijetSettings:
    return load_settings(SHIPPED)


def write_settings(folder: Path, content: dict[str, Any]) -> Path:
    return simulate_helpers.write_settings(folder, content, SHIPPED)


def simulation(content: dict[str, Any], sample: str = "background") -> Multijet:
    return Multijet(MultijetSettings.model_validate(content).with_commands(SHIPPED), sample)


def part(low: float, high: float, events: int) -> dict[str, Any]:
    limits = [f"PhaseSpace:pTHatMin = {low}", f"PhaseSpace:pTHatMax = {high}"]
    return {"name": f"pT-hat {low:g}-{high:g}", "settings": limits, "events": events}


def quick(*slices: dict[str, Any]) -> dict[str, Any]:
    """Few hard processes a chunk, and a selection that many of them pass."""
    content = simulate_helpers.content(SHIPPED)
    content["samples"]["background"]["slices"] = list(slices) or [part(300, 450, 40), part(450, 700, 20)]
    content["samples"]["signal"]["slices"][0]["events"] = 20
    content["veto"] |= {"jets_pt": [20.0, 20.0, 15.0], "ht_min": 250.0}
    content["selection"] = {"jets_min": 4, "ht_min": 300.0}
    return content


def chunk(generated: int, selected: int, cross_section: float, error: float = 1.0) -> Chunk:
    """A chunk without columns."""
    counts = np.array([generated, selected, selected, selected])
    flow = CutFlow(("a", "b", "c", "d"), counts, counts, counts)
    return Chunk({}, flow, {"failures": 0, "cross_section": cross_section, "error": error})
