"""KernelSHAP: Shapley values of the columns of the event-level table, for any model that scores it."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field
from torch import Tensor

from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.background import Array, BackgroundExplainer, PreparedBackground, one_by_one
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.libraries import RUNS, event_seeds, import_extra, isolated_rng, mean_and_error
from hepxai.explainers.methods import register


@register("kernel_shap")
class KernelShap(BackgroundExplainer):
    """Shapley values of the columns, by shap's KernelExplainer [Lundberg and Lee, arXiv:1705.07874].

    ``φ_f = Σ_{S ⊆ G∖f} s! (g-s-1)! / g! [v(S ∪ f) - v(S)]``, where v(S) is the mean score of the background
    rows that have the columns S of the event; by a weighted linear regression on sets S, under the
    constraint that the values and the mean score of the rows add up to the score.

    If there are no more than ``samples`` sets, all are taken and the values are exact. If there are more,
    the regression runs four times on a quarter of the samples each, drawn independently: the values are the
    mean of the runs, and ``Attribution.error`` has the standard errors from their spread.

    One event costs ``samples * size`` scores.

    Attributes
    ----------
    samples : int
        Sets that are scored for each event: 2048 is all of them for up to 11 columns.
    sample, size, seed, rows
        See `hepxai.explainers.background.BackgroundExplainer`.
    """

    title = "Shapley values of columns, by regression (KernelSHAP)"
    short_title = "KernelSHAP"
    has_errors = True
    samples: int = Field(default=2048, ge=1)
    size: int = Field(default=50, ge=1)

    def engine(self, prepared: PreparedBackground) -> Any:
        """KernelExplainer of shap."""
        assert prepared.rows is not None
        self._runs(prepared.rows.shape[1])
        shap = import_extra("shap", self.name)
        with isolated_rng():
            return shap.KernelExplainer(prepared.score, prepared.rows)

    def batch_rows(self, events: Events) -> list[IntArray]:
        """One event at a time: its random numbers are its own."""
        return one_by_one(events)

    def attribute_batch(self, prepared: PreparedBackground, batch: Batch[Tensor]) -> Part:
        """Signed values with errors."""
        x, runs = batch.x.numpy(), self._runs(batch.x.shape[1])
        (seeds,) = event_seeds(batch.events, self.seed, runs)
        with isolated_rng():
            values, error = mean_and_error([self._run(prepared.engine, x, int(s), runs) for s in seeds])
        return Part(values=values[None], error=error[None])

    def _runs(self, columns: int) -> int:
        """Number of runs: 1 if all sets fit; else a few, whose spread gives the error."""
        if columns < 60 and 2**columns - 2 <= self.samples:
            return 1
        if self.samples < 16 * columns:
            raise ValueError(
                f"samples={self.samples}; at least {16 * columns} are needed for {columns} columns"
            )
        return RUNS

    def _run(self, engine: Any, x: Any, seed: int, runs: int) -> Array:
        np.random.seed(seed)  # noqa: NPY002 - what shap draws from
        # Its default, ten columns at most, would give 0 to all others.
        values = engine.shap_values(x, nsamples=self.samples // runs, l1_reg=False, silent=True)
        return np.asarray(values, dtype=np.float64).reshape(-1)
