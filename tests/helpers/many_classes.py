"""Cards and small ntuples of several classes, and of a regression, from generated events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ntuples import CARD, make_columns, write_ttree

from hepxai.datasets import DatasetCard

LABELS = {
    3: {"none": "count(jet) < 1", "few": "count(jet) >= 1 and count(jet) < 3", "many": "count(jet) >= 3"},
    4: {
        "none": "count(jet) < 1",
        "one": "count(jet) == 1",
        "two": "count(jet) == 2",
        "many": "count(jet) >= 3",
    },
}
"""Conditions of the classes, which the number of jets tells apart."""
TARGET = "targets:\n  ht_jets: {expression: sum(jet.pt), units: GeV}\nobservers:"


def write_card(folder: Path, classes: int = 3, *, events: int = 400, positive: bool = False) -> Path:
    """A card of so many classes and one target beside its ntuples; signed weights unless ``positive``."""
    for seed, name in enumerate(("background", "signal")):
        columns = make_columns(events // 2, seed)
        if positive:
            columns["genWeight"] = np.abs(columns["genWeight"])
        write_ttree(folder / f"{name}.root", columns)
    text = CARD.replace(", class: background", "").replace(", class: signal", "")
    labels = "\n".join(f"  {name}: {condition}" for name, condition in LABELS[classes].items())
    text = text.replace("labels: [background, signal]", f"labels:\n{labels}").replace("observers:", TARGET)
    path = folder / "card.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def many_classes(folder: Path, classes: int = 3, **settings: int | bool) -> DatasetCard:
    """Card of `write_card`."""
    return DatasetCard.find(str(write_card(folder, classes, **settings)))  # type: ignore[arg-type]
