"""Input times gradient: against captum, and exact for a linear model."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import InputXGradient
from torch import nn

from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models.wrappers.table import TableModel


def test_equals_captum(table_model: TableModel, events: Events) -> None:
    x = torch.as_tensor(events.table()[0]).requires_grad_(True)
    expected = InputXGradient(table_model.forward_table).attribute(x, target=0).detach().numpy()
    attribution = explain(table_model, events, "input_x_gradient")
    np.testing.assert_allclose(attribution.values, expected, rtol=1e-5, atol=1e-7)
    assert attribution.residual is None


def test_a_linear_model_adds_up(events: Events) -> None:
    linear = nn.Linear(2, 1, bias=False)
    model = TableModel(linear, ("signal",), events.schema)
    attribution = explain(model, events, "input_x_gradient")
    np.testing.assert_allclose(attribution.values.sum(1), model.logits(events)[:, 0], rtol=1e-5)
