"""KernelSHAP: Shapley values of the columns of the event-level table, for any model that scores it."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor

from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.background import BackgroundExplainer, PreparedBackground, one_by_one
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.kernel import kernel_runs, kernel_values
from hepxai.explainers.libraries import event_seeds, import_extra, isolated_rng
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
        kernel_runs(self.samples, prepared.rows.shape[1], "columns")
        shap = import_extra("shap", self.name)
        with isolated_rng():
            return shap.KernelExplainer(prepared.score, prepared.rows)

    def batch_rows(self, events: Events) -> list[IntArray]:
        """One event at a time: its random numbers are its own."""
        return one_by_one(events)

    def attribute_batch(self, prepared: PreparedBackground, batch: Batch[Tensor]) -> Part:
        """Signed values with errors."""
        x = batch.x.numpy()
        runs = kernel_runs(self.samples, x.shape[1], "columns")
        (seeds,) = event_seeds(batch.events, self.seed, runs)
        values, error = kernel_values(prepared.engine, x, seeds, self.samples)
        return Part(values=values[None], error=error[None])
