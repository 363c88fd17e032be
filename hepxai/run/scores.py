"""Scores of all events of a run, stored with the identity of the events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepxai.core.files import read_tensors, write_tensors
from hepxai.events import Events
from hepxai.run.manifest import RunError

SCORES = "scores.safetensors"
IDENTITY = ("file", "entry", "split", "run", "luminosity_block", "event", "label")


def write_scores(folder: Path, events: Events, logits: NDArray[np.float64]) -> None:
    """Write the logits of each training ``[T, E, O]``, and their mean."""
    stored = {c: getattr(events, c) for c in IDENTITY} | {"logits": logits.mean(axis=0)}
    stored |= {"trainings": logits} if len(logits) > 1 else {}
    write_tensors(folder / SCORES, stored, {})


def read_scores(file: Path, events: Events) -> NDArray[np.float64]:
    """Stored logits ``[E, O]``.

    Raises
    ------
    RunError
        If the events are not those that were scored.
    """
    stored = read_tensors(file)[0]
    for column in IDENTITY:
        if not np.array_equal(stored[column], getattr(events, column)):
            raise RunError(
                f"the {column} of the events is not that of the events scored in {file.parent}: another "
                "version of hepxai reads them differently; start a new run"
            )
    return stored["logits"]
