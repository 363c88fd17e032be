"""Predicted class of every event after every epoch of a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepxai.core.files import write_tensors
from hepxai.events import Events
from hepxai.models.card import CommonTraining

PREDICTIONS = "predictions.safetensors"
COLUMNS = ("run", "luminosity_block", "event", "file", "entry", "label", "split", "weight")
Classes = NDArray[np.int16]


def predicted_class(logits: NDArray[np.floating]) -> Classes:
    """Class with the largest logit, ``[E]``; of one logit, the second class where it is positive."""
    columns = logits if logits.shape[1] > 1 else np.column_stack([np.zeros(len(logits)), logits[:, 0]])
    return np.asarray(columns.argmax(axis=1), dtype=np.int16)


def check_recording(training: CommonTraining, folder: Path | None, targets: object) -> bool:
    """True if the card asks for the predictions of all epochs.

    Raises
    ------
    ValueError
        If there are no classes to predict, or no folder to store them in.
    """
    if not training.record_predictions:
        return False
    if training.regression or targets is not None:
        raise ValueError(
            "training.record_predictions records the class predicted for every event, and this training "
            "learns numbers, not classes: leave it out"
        )
    if folder is None:
        raise ValueError(
            "training.record_predictions needs a folder for its file: give fit(…, folder=…), or train "
            "with `hepxai train` or `hepxai run`"
        )
    return True


def write_predictions(folder: Path, events: Events, predicted: Classes) -> None:
    """Write the predictions ``[T, E]`` with identity, label, split and weight of the events."""
    columns = {name: getattr(events, name) for name in COLUMNS}
    classes = json.dumps(events.schema.classes)
    write_tensors(folder / PREDICTIONS, columns | {"predicted": predicted}, {"classes": classes})
