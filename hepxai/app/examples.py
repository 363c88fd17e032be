"""Shipped examples: a small run for each kind of model, trained on first use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from hepxai import __version__
from hepxai.datasets import DatasetCard
from hepxai.models.card import ModelCard
from hepxai.run import Run


class Example(NamedTuple):
    """Cards of an example, with what makes its training short."""

    title: str
    dataset: str
    model: str
    overrides: tuple[str, ...]


EXAMPLES: Mapping[str, Example] = {
    "graph": Example(
        "Graph network: charged Higgs → W A(μμ) against tt̄Z",
        "charged_higgs",
        "transformer_edgeconv",
        ("training.epochs=8",),
    ),
    "table": Example(
        "Table: boosted trees on the same events",
        "charged_higgs",
        "boosted_trees",
        ("training.trees=60", "training.step=20"),
    ),
    "image": Example(
        "Image: jets of five kinds in a calorimeter", "jet_images", "image_cnn", ("training.epochs=3",)
    ),
}


def cache_folder() -> Path:
    """Folder of the trained examples."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hepxai" / f"app-{__version__}"


def train(name: str, folder: str | Path) -> Path:
    """Run folder of an example; trained, or resumed, if it is not finished there."""
    example, root = EXAMPLES[name], Path(folder)
    card = ModelCard.find(example.model, example.overrides)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):  # another session may train it: wait for that
        run = Run.start(root / name, DatasetCard.find(example.dataset), card)
        run.train()
    return run.folder


def is_trained(name: str, folder: str | Path) -> bool:
    """True if an example can be opened at once."""
    return (Path(folder) / name / "metrics.json").is_file()
