"""Integrated Gradients over the table: against captum, the formula, and its own promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.table import SklearnModel, TableModel

ToyEvents = Callable[..., Events]


@pytest.mark.parametrize("baseline", ["zero", "mean", "background_mean", (0.3, -0.2)])
def test_equals_captum(table_model: TableModel, events: Events, baseline: Any) -> None:
    found = explain(table_model, events, "feature_ig", baseline=baseline, steps=10)
    start = torch.tensor(found.settings["baseline_values"])[None]
    x = torch.as_tensor(events.globals)
    expected = IntegratedGradients(table_model.forward_table).attribute(
        x, start, target=0, n_steps=10, method="gausslegendre"
    )
    np.testing.assert_allclose(found.values, expected.detach(), rtol=1e-4, atol=2e-6)
    assert found.axes == ("event", "feature")
    assert found.labels["feature"] == ("ht", "njet")


def test_equals_the_formula(table_model: TableModel, events: Events) -> None:
    """Event by event and column by column, the gradient by finite differences, many equal steps."""
    table_model.module.double()
    whole = explain(_single(table_model), events, "feature_ig", baseline="zero", steps=12)
    for e in range(4):
        x = torch.as_tensor(events.globals[e], dtype=torch.float64)
        for f in range(len(x)):
            step = torch.zeros_like(x)
            step[f] = 1e-4
            slope = 0.0
            for t in (np.arange(200) + 0.5) / 200:
                up, down = (table_model.forward_table((t * x + s)[None])[0, 0] for s in (step, -step))
                slope += (up - down).item() / 2e-4 / 200
            assert whole.values[e, f] == pytest.approx(float(x[f]) * slope, rel=1e-3, abs=1e-5)


def _single(model: TableModel) -> TableModel:
    """Takes single precision, works in double."""
    cast = nn.Module()
    cast.forward = lambda x: model.module(x.double())
    cast.inner = model.module
    return TableModel(cast, model.outputs, model.schema)


def test_a_linear_model_is_exact(events: Events) -> None:
    """w (x - x') with a single step."""
    linear = nn.Linear(2, 1)
    found = explain(
        TableModel(linear, ("signal",), events.schema), events, "feature_ig", baseline="mean", steps=1
    )
    mean = np.average(events.globals, axis=0, weights=events.weight)
    expected = (events.globals - mean) * linear.weight.detach().numpy()
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.residual, 0, atol=1e-6)


def test_baselines_are_weighted_means(table_model: TableModel, events: Events) -> None:
    for name, own in (("mean", np.ones(len(events), bool)), ("background_mean", events.label == 0)):
        found = explain(table_model, events, "feature_ig", baseline=name, steps=2)
        weight = events.weight[own]
        expected = (events.globals[own] * weight[:, None]).sum(0) / weight.sum()
        np.testing.assert_allclose(found.settings["baseline_values"], expected, rtol=1e-5)


def test_a_constant_feature_gets_nothing(table_model: TableModel, events: Events) -> None:
    table = events.globals.copy()
    table[:, 0] = 3.0
    same = explain(table_model, events.replace(globals=table), "feature_ig", baseline=(3.0, 0.0), steps=4)
    assert (same.values[:, 0] == 0).all()
    assert same.values[:, 1].any()


def test_flat_memory_over_many_events(table_model: TableModel, toy: ToyEvents) -> None:
    """More events than a chunk holds: no batch is larger than one."""
    sizes = []
    handle = table_model.module[0].register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    events = toy(4000, largest=0)
    found = explain(table_model, events, "feature_ig", steps=2, baseline="zero")
    handle.remove()
    assert max(sizes) < 2000
    alone = explain(table_model, events[[3999]], "feature_ig", steps=2, baseline="zero")
    np.testing.assert_allclose(found.values[3999], alone.values[0], rtol=1e-4, atol=1e-6)


# --- bad input ---------------------------------------------------------------------------------------


def test_baselines_that_cannot_be(table_model: TableModel, events: Events) -> None:
    for baseline, message in (
        ("median", "baseline='median'; should be 'background_mean', 'mean', 'zero', a number for each"),
        ((1.0, 2.0, 3.0), r"the baseline has shape \(3,\); the globals are ht, njet"),
    ):
        with pytest.raises(ValueError, match=message):
            explain(table_model, events, "feature_ig", baseline=baseline)


def test_one_class(table_model: TableModel, events: Events) -> None:
    signal = events[events.label == 1]
    with pytest.raises(ValueError, match="no event of class 'background' to average for the baseline"):
        explain(table_model, signal, "feature_ig")
    assert explain(table_model, signal, "feature_ig", baseline="mean").values.any()


@pytest.mark.parametrize("positive", [1.0, 1.0001])
def test_weights_that_nearly_cancel(table_model: TableModel, events: Events, positive: float) -> None:
    cancelling = events.replace(weight=np.resize([positive, -1.0], len(events)))
    message = "there is no mean of the events: the weights .* nearly cancel.*'zero', or the numbers"
    with pytest.raises(ValueError, match=message):
        explain(table_model, cancelling, "feature_ig", baseline="mean")
    for baseline in ("zero", (1.0, 2.0)):
        explain(table_model, cancelling, "feature_ig", baseline=baseline, steps=2)


def test_values_that_are_no_numbers(table_model: TableModel, events: Events) -> None:
    table = events.globals.copy()
    table[:, 1] = np.nan
    message = "is not finite; there, njet is not finite either: give it a number on the card"
    with pytest.raises(ValueError, match=message):
        explain(table_model, events.replace(globals=table), "feature_ig")


def test_other_models_are_told_what_works(
    table_model: TableModel, model: NetworkModel, events: Events
) -> None:
    from sklearn.linear_model import LogisticRegression

    trees = SklearnModel(LogisticRegression().fit(events.globals, events.label), ("signal",), events.schema)
    with pytest.raises(CannotExplainError, match="SklearnModel has no forward_table; these"):
        explain(trees, events, "feature_ig")
    with pytest.raises(CannotExplainError, match="ParticleGNNModel has no forward_table"):
        explain(model, events, "feature_ig")
    with pytest.raises(CannotExplainError, match=r"these methods work on it: .*conductance, .*feature_ig"):
        explain(table_model, events, "attention")
