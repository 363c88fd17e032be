"""Input times gradient over the columns of the event-level table."""

from __future__ import annotations

import torch
from torch import Tensor

from hepxai.explainers.base import Explainer, Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.methods import register
from hepxai.models.protocols import DifferentiableTable


@register("input_x_gradient")
class InputXGradient(Explainer):
    """``x_f ∂F/∂x_f`` at the row of the event, on the logit [Shrikumar et al., arXiv:1605.01713].

    Integrated Gradients from 0 with a single step at the end of the path: exact for a linear model, otherwise
    the values do not add up to the score.
    """

    title = "input times gradient over columns (input × gradient)"
    short_title = "input × gradient"
    axes = ("event", "feature")
    reads = "table"
    needs = DifferentiableTable

    def attribute_batch(self, prepared: Prepared, batch: Batch[Tensor]) -> Part:
        """Signed attribution of every column."""
        x = batch.x.requires_grad_(True)
        with torch.enable_grad():
            score = prepared.output(prepared.model.forward_table(x))
            (slope,) = torch.autograd.grad(score.sum(), x)
        return Part(values=(x * slope).detach())
