"""Training events that lowered or raised the loss of each event: the result of TracIn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.core.files import read_tensors, write_tensors
from hepxai.core.jagged import IntArray
from hepxai.events import Events

SIDES = ("proponent", "opponent")


@dataclass(frozen=True)
class Influence:
    """Training events that lowered or raised the loss of each event most.

    It pairs events with training events, and hence is no `hepxai.attribution.Attribution`.

    Attributes
    ----------
    rows : ndarray of int64, shape [E, 2, k]
        Positions in ``train``: proponents (largest value first), then opponents (smallest value first).
    values : ndarray of float64, shape [E, 2, k]
        Signed. Positive: learning from that training event lowered the loss of this event.
    events, train : Events
        The events asked about, and the training events.
    settings : mapping
        Everything needed to repeat it (JSON values).
    error : ndarray of float64, shape [E, 2, k], optional
        Standard error of each value where it was estimated.
    checks : mapping of str to float
        ``distinct_proponents`` and ``distinct_opponents``: different training events in all lists over
        those that could be, at most all training events. Near 0: a few events top every list.
    """

    rows: IntArray
    values: NDArray[np.float64]
    events: Events
    train: Events
    settings: Mapping[str, Any] = field(default_factory=dict)
    error: NDArray[np.float64] | None = None
    checks: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.events), len(SIDES))
        if self.rows.shape[:2] != expected or self.rows.ndim != 3 or self.values.shape != self.rows.shape:
            shapes = f"rows {self.rows.shape}, values {self.values.shape}"
            raise ValueError(f"{shapes} for {len(self.events)} events; [event, side, rank] is needed")
        if self.error is not None and self.error.shape != self.values.shape:
            raise ValueError(f"error has shape {self.error.shape} for values of {self.values.shape}")
        if self.rows.size and not (self.rows.min() >= 0 and self.rows.max() < len(self.train)):
            raise ValueError(f"rows reach beyond the {len(self.train)} training events")

    def __repr__(self) -> str:
        return (
            f"<Influence: {self.rows.shape[2]} proponents and opponents of {len(self.events):,} events "
            f"among {len(self.train):,} training events>"
        )

    @property
    def proponents(self) -> IntArray:
        """Rows of the training events that lowered the loss most, ``[E, k]``."""
        return self.rows[:, 0]

    @property
    def opponents(self) -> IntArray:
        """Rows of the training events that raised the loss most, ``[E, k]``."""
        return self.rows[:, 1]

    def to_awkward(self) -> ak.Array:
        """One record per event with the lists ``proponent`` and ``opponent``.

        Each entry has ``row`` in the training events, ``value``, ``error`` where there is one, and the
        ``file`` and ``entry`` that the training event was read from.
        """
        return ak.zip({side: self._side(i) for i, side in enumerate(SIDES)}, depth_limit=1)

    def _side(self, side: int) -> ak.Array:
        rows = self.rows[:, side]
        columns = {"row": rows, "value": self.values[:, side]}
        if self.error is not None:
            columns["error"] = self.error[:, side]
        columns |= {"file": self.train.file[rows], "entry": self.train.entry[rows]}
        return ak.zip({k: ak.from_numpy(np.ascontiguousarray(v)) for k, v in columns.items()})

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, complete or not at all. The events are stored elsewhere."""
        tensors = {"rows": self.rows, "values": self.values}
        tensors |= {} if self.error is None else {"error": self.error}
        metadata: dict[str, Any] = {"settings": dict(self.settings), "checks": dict(self.checks)}
        metadata |= {"events": self.events.fingerprint(), "train": self.train.fingerprint()}
        write_tensors(path, tensors, {"influence": json.dumps(metadata)})

    @staticmethod
    def load(path: str | Path, events: Events, train: Events) -> Influence:
        """Read a file written by `save`; ``events`` and ``train`` are those of the result.

        Raises
        ------
        ValueError
            If the file is damaged, is something else, or is of other events.
        """
        stored, metadata = read_tensors(path)
        tensors: dict[str, Any] = dict(stored)
        if "influence" not in metadata:
            raise ValueError(f"{path} holds no influence of training events")
        stored_json = json.loads(metadata["influence"])
        for name, given in (("events", events), ("train", train)):
            if stored_json.pop(name) != given.fingerprint():
                what = "training events" if name == "train" else "events"
                raise ValueError(f"{path} is of other {what} than the {len(given)} given")
        return Influence(**tensors, **stored_json, events=events, train=train)
