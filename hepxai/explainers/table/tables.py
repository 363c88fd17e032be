"""Path methods over the event-level table: the baseline row where the path starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PlainValidator
from torch import Tensor

from hepxai.core.estimate import weighted_mean
from hepxai.events import Events
from hepxai.explainers.background import need_table
from hepxai.explainers.path import BASELINE_REMEDY, PathExplainer, PreparedPath, check_baseline
from hepxai.models.table.rows import finite_columns

BASELINES = ("background_mean", "mean", "zero")


@dataclass(frozen=True, kw_only=True)
class PreparedTable(PreparedPath):
    """Path from a baseline row.

    Attributes
    ----------
    start : Tensor, shape [G]
    """

    start: Tensor

    def settings(self) -> dict[str, Any]:
        """Settings with the baseline row."""
        values, name = self.start.tolist(), self.explainer.baseline
        baseline = name if isinstance(name, str) else values
        return super().settings() | {"baseline": baseline, "baseline_values": values}


class TableExplainer(PathExplainer):
    """A path from one baseline row of the table to the row of each event.

    Attributes
    ----------
    baseline : str, sequence of float or Events
        "background_mean": weighted mean of the first class of the given events. "mean": weighted mean of all
        given events. "zero": all columns 0, in physical units. Or G values, or events whose weighted mean is
        taken.
    baseline_values : sequence of float, length G, optional
        The baseline row; computed from ``baseline`` unless given.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    """

    reads = "table"
    default_for = "table"
    baseline: Annotated[
        str | Sequence[float] | Events,
        PlainValidator(partial(check_baseline, names=BASELINES, numbers="a number for each column")),
    ] = "background_mean"
    baseline_values: Sequence[float] | None = None

    def prepare(self, model: Any, events: Events, target: str) -> PreparedTable:
        """Compute the baseline row and the number of steps."""
        start = self.start(events)
        prepared = PreparedTable(explainer=self, model=model, target=target, start=start, steps=0)
        return self.with_steps(prepared, events)

    def start(self, events: Events) -> Tensor:
        """Baseline row ``[G]``."""
        need_table(self.name, events)
        return torch.as_tensor(np.array(self._baseline(events), dtype=np.float32))

    def _baseline(self, events: Events) -> NDArray[np.float32]:
        table, columns = events.table()
        baseline = self.baseline if self.baseline_values is None else self.baseline_values
        if isinstance(baseline, Events):
            events.schema.need_equal(baseline.schema)
            return _mean(baseline, "mean")
        if isinstance(baseline, str):
            return np.zeros(len(columns), np.float32) if baseline == "zero" else _mean(events, baseline)
        values = np.asarray(baseline, dtype=np.float32)
        if values.shape != table.shape[1:]:
            raise ValueError(f"the baseline has shape {values.shape}; the globals are {', '.join(columns)}")
        return values


def _mean(events: Events, name: str) -> NDArray[np.float32]:
    rows = np.ones(len(events), dtype=bool) if name == "mean" else events.label == 0
    what = "the events" if name == "mean" else f"class {events.schema.classes[0]!r}"
    if not rows.any():
        raise ValueError(
            f"no event of {what} to average for the baseline; "
            "explain a population that has some, or give a baseline"
        )
    finite_columns(events)
    mean = weighted_mean(events.table()[0][rows], events.weight[rows], what, BASELINE_REMEDY)
    return mean.astype(np.float32)
