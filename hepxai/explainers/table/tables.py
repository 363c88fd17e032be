"""What the path methods over the event-level table share: where the path starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.core.estimate import weighted_mean
from hepxai.events import Events
from hepxai.explainers.path import BASELINE_REMEDY, PathExplainer
from hepxai.models.table.rows import finite_columns

BASELINES = ("background_mean", "mean", "zero")


@dataclass(frozen=True, kw_only=True)
class TableExplainer(PathExplainer):
    """A path from one baseline row of the table to the row of each event.

    Attributes
    ----------
    baseline : str, sequence of float or Events
        "background_mean": weighted mean of the first class of the given events. "mean": weighted mean of all
        given events. "zero": all columns 0, in physical units. Or G values, or events whose weighted mean is
        taken.
    baseline_values : sequence of float, length G, optional
        The baseline row; worked out from ``baseline`` unless given.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    """

    baseline: str | Sequence[float] | Events = "background_mean"
    baseline_values: Sequence[float] | None = None

    def prepare(self, model: Any, events: Events, target: str) -> Self:
        """Settle the baseline row and the number of steps."""
        values = [float(v) for v in self._baseline(events)]
        name = self.baseline if isinstance(self.baseline, str) else values
        settled = dataclasses.replace(self, baseline=name, baseline_values=values)
        return settled.with_steps(model, events, target)

    def start(self) -> Tensor:
        """Baseline row ``[G]``, once it is settled."""
        if self.baseline_values is None:
            raise ValueError("no baseline has been worked out; call prepare or explain")
        return torch.as_tensor(np.asarray(self.baseline_values, dtype=np.float32))

    def _baseline(self, events: Events) -> NDArray[np.float32]:
        table, columns = events.table()
        if not columns:
            raise ValueError(f"{self.name} explains the event-level table; the card declares no `globals`")
        finite_columns(events)
        given = self.baseline if self.baseline_values is None else self.baseline_values
        if isinstance(given, Events):
            events.schema.need_equal(given.schema)
            return _mean(given, "mean")
        if not isinstance(given, str):
            values = np.asarray(given, dtype=np.float32)
            if values.shape != table.shape[1:]:
                raise ValueError(
                    f"the baseline has shape {values.shape}; the globals are {', '.join(columns)}"
                )
            return values
        if given not in BASELINES:
            known = ", ".join(BASELINES)
            raise ValueError(f"baseline {given!r}; choose {known} or give {len(columns)} numbers")
        return np.zeros(len(columns), np.float32) if given == "zero" else _mean(events, given)


def _mean(events: Events, which: str) -> NDArray[np.float32]:
    own = np.ones(len(events), dtype=bool) if which == "mean" else events.label == 0
    what = "the events" if which == "mean" else f"class {events.schema.classes[0]!r}"
    if not own.any():
        raise ValueError(
            f"no event of {what} to average for the baseline; "
            "explain a population that has some, or give a baseline"
        )
    finite_columns(events)
    return weighted_mean(events.table()[0][own], events.weight[own], what, BASELINE_REMEDY).astype(np.float32)
