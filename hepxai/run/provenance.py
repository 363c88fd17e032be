"""Provenance of a run: versions, inputs with their hashes, seeds and split."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hepxai.core.files import sha256
from hepxai.datasets import Reading
from hepxai.events import SPLITS
from hepxai.run.cards import CARDS

PROVENANCE = "provenance.json"
LIBRARIES = ("hepxai", "torch", "torch-geometric", "scikit-learn", "uproot", "awkward", "numpy")


def provenance(folder: Path, reading: Reading, seed: Any) -> dict[str, Any]:
    """Record of a run that trains now.

    Parameters
    ----------
    folder : Path
        With the cards.
    reading : Reading
    seed : int or list of int, optional
        Of the trainings; None for a model that was trained elsewhere.
    """
    split = reading.events.split
    return {
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "seed": seed,
        "inputs": reading.inputs(),
        "split": {s: int((split == i).sum()) for i, s in enumerate(SPLITS)},
        "cards": {n: sha256(folder / n) for n in CARDS},
    }
