"""GradientSHAP: its expectation by quadrature over paths and rows, and errors that cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.models.wrappers.table import SklearnModel, TableModel


@pytest.fixture
def events(wide_table: Events) -> Events:
    return wide_table


@pytest.fixture
def model(events: Events) -> TableModel:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, 1))
    nn.init.constant_(net[-1].bias, 9.0)
    return TableModel(net, ("signal",), events.schema)


def expected_gradients(model: TableModel, events: Events, rows: np.ndarray) -> np.ndarray:
    """Erion et al., eq. 3: Integrated Gradients from every row, in the mean over the rows."""
    found = [explain(model, events, "feature_ig", baseline=tuple(map(float, r)), steps=24) for r in rows]
    return np.mean([f.values for f in found], axis=0)


def test_right_within_its_errors(model: TableModel, events: Events) -> None:
    """The pulls of 160 values: of mean 0 and width 1."""
    few, rows = events[:40], events.globals[60:70]
    found = explain(model, few, "gradient_shap", rows=rows, samples=150)
    pull = (found.values - expected_gradients(model, few, rows)) / found.error
    assert abs(pull.mean()) < 0.3
    assert np.std(pull) == pytest.approx(1, abs=0.2)
    assert np.mean(np.abs(pull) < 2) > 0.9


@pytest.mark.slow
def test_errors_are_the_spread_of_seeds(model: TableModel, events: Events) -> None:
    rows = events.globals[60:70]
    found = [explain(model, events[:1], "gradient_shap", rows=rows, samples=60, seed=s) for s in range(100)]
    spread = np.std([f.values for f in found], axis=0, ddof=1)
    claimed = np.mean([f.error for f in found], axis=0)
    np.testing.assert_allclose(claimed / spread, 1, atol=0.25)


def test_adds_up_in_expectation(model: TableModel, events: Events) -> None:
    found = explain(model, events[:60], "gradient_shap", samples=100)
    score = model.logits(events[:60])[:, 0]
    np.testing.assert_allclose(found.output_change, score - found.settings["expected"], atol=1e-6)
    assert abs(found.residual.mean()) < 4 * found.residual.std() / np.sqrt(60)
    assert (np.abs(found.residual) < 5 * found.error.sum(1)).all()


def test_several_outputs(events: Events) -> None:
    torch.manual_seed(8)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model = TableModel(net, ("a", "b"), events.schema)
    rows = events.globals[60:64]
    for o, target in enumerate(("a", "b")):
        found = explain(model, events[:10], "gradient_shap", target=target, rows=rows, samples=400)
        left = found.values.sum(1) - model.logits(events[:10])[:, o] + model.score_table(rows)[:, o].mean()
        assert (np.abs(left) < 5 * found.error.sum(1)).all()


def test_bad_input(model: TableModel, tree_model: SklearnModel, events: Events) -> None:
    with pytest.raises(ValueError, match="samples=1; should be greater than or equal to 2"):
        explain(model, events, "gradient_shap", samples=1)
    with pytest.raises(CannotExplainError, match="SklearnModel has no forward_table"):
        explain(tree_model, events, "gradient_shap")
