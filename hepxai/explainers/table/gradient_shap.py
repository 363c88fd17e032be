"""GradientSHAP: expected gradients over the columns of the event-level table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.background import BackgroundExplainer, PreparedBackground, one_by_one
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.libraries import OneOutput, event_seeds, import_extra, isolated_rng
from hepxai.explainers.methods import register
from hepxai.models.protocols import DifferentiableTable


@register("gradient_shap")
class GradientShap(BackgroundExplainer):
    """Expected gradients, by shap's GradientExplainer [Erion et al., arXiv:1906.10670].

    ``φ_f = E_{x', t} (x_f - x'_f) ∂F(x' + t (x - x'))/∂x_f`` over the background rows x' and t in [0, 1]:
    Integrated Gradients in the mean over baselines, with one random point of a random path for each sample.
    ``Attribution.error`` has the standard errors. The values and the mean score of the rows add up to the
    score in expectation: within the errors, not better.

    Attributes
    ----------
    samples : int
        Points for each event.
    sample, size, seed, rows
        See `hepxai.explainers.background.BackgroundExplainer`.
    """

    title = "expected gradients over columns (GradientSHAP)"
    short_title = "GradientSHAP"
    has_errors = True
    needs = DifferentiableTable
    wanted_residual = 0.2  # of a sample; the mean over events is complete
    samples: int = Field(default=200, ge=2)

    def engine(self, prepared: PreparedBackground) -> Any:
        """GradientExplainer of shap."""
        shap, rows = import_extra("shap", self.name), torch.as_tensor(prepared.rows)
        module = OneOutput(prepared.model.forward_table, prepared.output, [])
        with isolated_rng():
            return shap.GradientExplainer(module, rows, batch_size=1024)

    def batch_rows(self, events: Events) -> list[IntArray]:
        """One event at a time: its random numbers are its own."""
        return one_by_one(events)

    def attribute_batch(self, prepared: PreparedBackground, batch: Batch[Tensor]) -> Part:
        """Signed values with errors."""
        seed = int(event_seeds(batch.events, self.seed)[0, 0])
        with isolated_rng():
            values, spread = prepared.engine.shap_values(
                batch.x, nsamples=self.samples, rseed=seed, return_variances=True
            )
        # The "variance" of shap is the variance of a single sample divided by √n.
        error = np.sqrt(np.reshape(spread[0], (1, -1)).astype(np.float64) / np.sqrt(self.samples))
        return Part(values=np.reshape(values, (1, -1)).astype(np.float64), error=error)
