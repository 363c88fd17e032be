"""GradientSHAP: expected gradients over the columns of the event-level table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hepxai.attribution import Attribution
from hepxai.core.console import track
from hepxai.events import Events
from hepxai.explainers.background import BackgroundExplainer, whole
from hepxai.explainers.base import register
from hepxai.explainers.libraries import OneOutput, event_seeds, import_extra, isolated_rng
from hepxai.models.protocols import DifferentiableTable
from hepxai.models.target import Target


@register("gradient_shap")
@dataclass(frozen=True, kw_only=True)
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
    sample, size, seed, rows, expected
        See `hepxai.explainers.background.BackgroundExplainer`.
    """

    needs = DifferentiableTable
    wanted_residual = 0.2  # of a sample; the mean over events is complete
    samples: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("samples", self.samples, 2)

    def attribute(self, model: DifferentiableTable, events: Events, target: str) -> Attribution:
        """Signed values with errors, axes ("event", "feature")."""
        table, output = events.table()[0], Target.of(model.outputs, target)
        rows = torch.as_tensor(self.background())
        shap = import_extra("shap", self.name)
        values, spread = np.zeros(table.shape), np.zeros(table.shape)
        (seeds,) = event_seeds(events, self.seed).T
        with track(self.name, len(events), show=self.progress) as advance, isolated_rng():
            explainer = shap.GradientExplainer(
                OneOutput(model.forward_table, output, []), rows, batch_size=1024
            )
            for e in range(len(events)):
                x = torch.tensor(table[e : e + 1])
                found, (scatter,) = explainer.shap_values(
                    x, nsamples=self.samples, rseed=int(seeds[e]), return_variances=True
                )
                values[e], spread[e] = np.reshape(found, -1), np.reshape(scatter, -1)
                advance(1)
        # What shap calls the variance is that of a single sample over √n.
        error = np.sqrt(spread / np.sqrt(self.samples))
        score = output(model.score_table(table))
        return self.result(values, score, events, target, error)
