"""Rows of the event-level table in torch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.events import Events
from hepxai.models.scaling import constant_columns


@dataclass(frozen=True)
class Rows:
    """The event-level table of a batch of events.

    Attributes
    ----------
    x : Tensor, shape [B, G]
        Physical values, columns as in ``Events.table()``.
    """

    x: Tensor

    @staticmethod
    def of(events: Events) -> Rows:
        """Table of the events, checked by `finite_columns`."""
        finite_columns(events)
        return Rows(torch.as_tensor(np.require(events.table()[0], requirements=("C", "W"))))

    def take(self, rows: Tensor) -> Tensor:
        """Values ``[R, G]`` of some of the events, in the given order."""
        return self.x.index_select(0, rows)

    def to(self, device: str | torch.device) -> Rows:
        """Move to a device."""
        return Rows(self.x.to(device))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def counts(self) -> Tensor:
        """Particles per event as a measure of memory: none, ``[B]``."""
        return torch.zeros(len(self), dtype=torch.int64)


def finite_columns(events: Events) -> None:
    """Refuse, with a ValueError, a table with values that are not finite."""
    table, columns = events.table()
    bad = np.count_nonzero(~np.isfinite(table), axis=0)
    problems = [f"{name} in {n} of {len(table)}" for name, n in zip(columns, bad, strict=True) if n]
    if problems:
        raise ValueError(
            f"values of the table are not finite: {', '.join(problems)} events; "
            "give them a number on the card"
        )


def need_values(events: Events) -> None:
    """Refuse, with a ValueError, a table without columns, and columns that are NaN in all events."""
    table, columns = events.table()
    if not columns:
        raise ValueError("an event-level table is needed; the data-set card declares no `globals`")
    empty = [name for name, column in zip(columns, table.T, strict=True) if np.isnan(column).all()]
    if len(table) and empty:
        raise ValueError(f"all values of {', '.join(empty)} are NaN: look at its expression on the card")


def need_scores(scores: NDArray[np.float64], events: Events) -> NDArray[np.float64]:
    """Scores ``[E, ...]`` of a model; refuses, with a ValueError, those that are NaN or infinite."""
    bad = ~np.isfinite(scores).all(axis=tuple(range(1, scores.ndim)))
    if bad.any():
        table, columns = events.table()
        named = [n for n, c in zip(columns, table[bad].T, strict=True) if not np.isfinite(c).all()]
        card = f"; there, {', '.join(named)} is not finite either: give it a number on the card"
        where = card if named else ""
        raise ValueError(f"the score of {bad.sum()} of {len(scores)} events is not finite{where}")
    return scores


def warn_of_constants(events: Events) -> None:
    """Warn of columns that are constant in all events of a training."""
    same = constant_columns(Rows.of(events).x).numpy()
    if same.any():
        names = ", ".join(np.array(events.schema.globals)[same])
        warnings.warn(
            f"constant in the training split: {names}; the model learns nothing from that", stacklevel=2
        )
