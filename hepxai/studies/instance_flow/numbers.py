"""Flow of the events between predicted classes during a training, and the events that stand out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Array, Estimate, share
from hepxai.core.files import read_tensors
from hepxai.core.jagged import IntArray
from hepxai.events import SPLITS
from hepxai.training.predictions import COLUMNS, PREDICTIONS

LATE = 0.75
"""Share of the epochs after which an event counts as learned late."""
FLIPS = 3
"""Changes of the prediction from which an event counts as flipping."""
KINDS: Mapping[str, str] = {
    "never learned": "never assigned to its class",
    "forgotten": "assigned to its class at some epoch, but not at the last",
    "late": "assigned to its class to the end, but only in the last quarter of the epochs",
    "flipping": f"assigned to its class at the last epoch, after {FLIPS} or more changes of the prediction",
    "learned": "all others: assigned to its class from an early epoch on",
}
"""Kinds of events, each event being of the first that applies."""


@dataclass(frozen=True)
class InstanceFlow:
    """Predicted class of every event after every epoch [Pühringer et al., arXiv:2007.11353].

    Attributes
    ----------
    predicted : ndarray of int16, shape [T, E]
        Codes of the classes.
    label, split : ndarray of int64, shape [E]
    weight : ndarray of float64, shape [E]
        Signed.
    identity : mapping of str to ndarray, shape [E]
        run, luminosity_block, event, file and entry.
    classes : tuple of str
    """

    predicted: NDArray[np.int16]
    label: IntArray
    split: IntArray
    weight: Array
    identity: Mapping[str, IntArray]
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        epochs, events = self.predicted.shape
        return f"<InstanceFlow: {events:,} events of {', '.join(self.classes)}, {epochs} epochs>"

    @staticmethod
    def read(folder: str | Path) -> InstanceFlow:
        """Predictions that a training stored in its folder.

        Raises
        ------
        FileNotFoundError
            If it stored none.
        """
        path = Path(folder) / PREDICTIONS
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no {PREDICTIONS}: only a training that records the predictions of all epochs "
                "writes it; train again, in another folder, with --set model.training.record_predictions=true"
            )
        tensors, metadata = read_tensors(path)
        columns = {name: tensors[name] for name in COLUMNS}
        per_event = {name: columns.pop(name) for name in ("label", "split", "weight")}
        classes = tuple(json.loads(metadata["classes"]))
        return InstanceFlow(tensors["predicted"], **per_event, identity=columns, classes=classes)

    def __getitem__(self, rows: slice | NDArray[Any]) -> InstanceFlow:
        """Select events."""
        return dataclasses.replace(
            self,
            predicted=self.predicted[:, rows],
            identity={name: column[rows] for name, column in self.identity.items()},
            **{name: getattr(self, name)[rows] for name in ("label", "split", "weight")},
        )

    def where(self, split: str) -> InstanceFlow:
        """Events of a split.

        Raises
        ------
        ValueError
            If there is no such split, or no event in it.
        """
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; choose one of {', '.join(SPLITS)}")
        part = self[self.split == SPLITS.index(split)]
        if not len(part.label):
            raise ValueError(f"no event is in the {split} split; choose another of {', '.join(SPLITS)}")
        return part

    @property
    def right(self) -> NDArray[np.bool_]:
        """True where an event is assigned to its class, ``[T, E]``."""
        return np.asarray(self.predicted == self.label)

    @property
    def changes(self) -> IntArray:
        """Number of changes of each event's prediction from one epoch to the next, ``[E]``."""
        return np.asarray((np.diff(self.predicted, axis=0) != 0).sum(axis=0))

    @property
    def forgotten(self) -> IntArray:
        """Number of times that each event was right and then wrong [Toneva et al., arXiv:1812.05159]."""
        return np.asarray((self.right[:-1] & ~self.right[1:]).sum(axis=0))

    @property
    def learned_at(self) -> IntArray:
        """Epoch, from 1, from which each event is right to the end; 0 if it is wrong at the last, ``[E]``."""
        to_the_end = np.logical_and.accumulate(self.right[::-1], axis=0).sum(axis=0)
        return np.where(to_the_end > 0, len(self.predicted) - to_the_end + 1, 0)

    @property
    def kind(self) -> NDArray[np.str_]:
        """Kind of each event, one of `KINDS`, ``[E]``."""
        right, at = self.right, self.learned_at
        conditions = [
            ~right.any(axis=0),
            ~right[-1],
            at > max(1, int(np.ceil(LATE * len(right)))),
            self.changes >= FLIPS,
        ]
        return np.select(conditions, list(KINDS)[:-1], list(KINDS)[-1])

    @property
    def occurring(self) -> dict[str, NDArray[np.bool_]]:
        """Masks ``[E]`` of the events of each class that occurs."""
        masks = {name: self.label == code for code, name in enumerate(self.classes)}
        return {name: mask for name, mask in masks.items() if mask.any()}

    def shares(self) -> dict[str, dict[str, Estimate]]:
        """Weighted share of the events of each class that are of each kind, ``class → kind``."""
        kind = self.kind
        return {
            name: {k: share(kind[mask] == k, self.weight[mask], f"share of {k} events") for k in KINDS}
            for name, mask in self.occurring.items()
        }

    def accuracy(self) -> dict[str, Estimate]:
        """Weighted share of the events of each class that are assigned to it, ``class → [T]``."""
        right = self.right.T.astype(np.float64)
        masks = self.occurring.items()
        return {n: Estimate.of(right[m], self.weight[m]).bounded("share of events") for n, m in masks}

    def transitions(self, epoch: int, later: int) -> IntArray:
        """Number of events in each class at one epoch and each at a later one, ``[K, K]``; epochs from 0."""
        size = len(self.classes)
        pairs = self.predicted[epoch].astype(np.int64) * size + self.predicted[later]
        return np.bincount(pairs, minlength=size * size).reshape(size, size)

    def table(self) -> dict[str, NDArray[Any]]:
        """Columns of the table of events, those that stand out most first.

        Ordered by kind as in `KINDS`, then by falling number of changes, then by identity.
        """
        order = np.lexsort((self.identity["event"], -self.changes, self._kind_code))
        columns: dict[str, NDArray[Any]] = dict(self.identity)
        columns |= {
            "class": np.asarray(self.classes)[self.label],
            "split": np.asarray(SPLITS)[self.split],
            "kind": self.kind,
            "predicted_last": np.asarray(self.classes)[self.predicted[-1]],
            "epochs_right": self.right.sum(axis=0),
            "changes": self.changes,
            "times_forgotten": self.forgotten,
            "learned_at": self.learned_at,
            "weight": self.weight,
        }
        return {name: column[order] for name, column in columns.items()}

    @property
    def _kind_code(self) -> IntArray:
        kind = self.kind
        return np.select([kind == name for name in KINDS], range(len(KINDS)))

    def to_json(self) -> dict[str, Any]:
        """Content of the JSON file that the published tool InstanceFlow reads; images are empty."""
        event = self.identity["event"]
        instances = [
            {"id": f"{i}: event {number}", "actual": int(label), "image": ""}
            for i, (number, label) in enumerate(zip(event.tolist(), self.label.tolist(), strict=True))
        ]
        epochs = [{"id": str(t + 1), "classifications": row.tolist()} for t, row in enumerate(self.predicted)]
        return {"labels": list(self.classes), "instances": instances, "epochs": epochs}
