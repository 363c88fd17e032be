"""DeepSHAP: against the rescale rule in loops, captum, the definition of Shapley, and the silent trap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import DeepLiftShap
from slow_tables import interventional
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.explainers.table.deep_shap import called_modules
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.table import SklearnModel, TableModel


@pytest.fixture
def events(wide_table: Events) -> Events:
    return wide_table


def wrap(net: nn.Module, events: Events) -> TableModel:
    """The last bias moves the logits away from what could be probabilities."""
    nn.init.constant_([m for m in net.modules() if isinstance(m, nn.Linear)][-1].bias, 9.0)
    return TableModel(net, ("signal",), events.schema)


def dense(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.BatchNorm1d(4), nn.Linear(4, 8), activation(), nn.Dropout(0.3), nn.Linear(8, 6), activation()
    ).append(nn.Linear(6, 1))


def slow_rescale(first: nn.Linear, last: nn.Linear, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Shrikumar et al., eq. 10 and the chain rule of multipliers, of one hidden layer of ReLUs, in loops."""
    w, b = first.weight.detach().double().numpy(), first.bias.detach().double().numpy()
    v, found = last.weight.detach().double().numpy()[0], np.zeros(len(x))
    for row in rows:
        for j in range(len(b)):
            z, z0 = float(w[j] @ x + b[j]), float(w[j] @ row + b[j])
            multiplier = (max(z, 0) - max(z0, 0)) / (z - z0)
            for f in range(len(x)):
                found[f] += v[j] * multiplier * w[j, f] * (x[f] - row[f]) / len(rows)
    return found


def test_equals_the_formula(events: Events) -> None:
    torch.manual_seed(4)
    first, last = nn.Linear(4, 7), nn.Linear(7, 1)
    model = wrap(nn.Sequential(first, nn.ReLU(), last), events)
    rows = events.globals[50:60]
    found = explain(model, events[:5], "deep_shap", rows=rows)
    expected = [slow_rescale(first, last, x, rows) for x in events.globals[:5].astype(np.float64)]
    np.testing.assert_allclose(found.values, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus])
def test_equals_captum(events: Events, activation: type[nn.Module]) -> None:
    model = wrap(dense(activation).eval(), events)
    rows = events.globals[100:120]
    found = explain(model, events[:10], "deep_shap", rows=rows)
    expected = DeepLiftShap(model.module).attribute(
        torch.as_tensor(events.globals[:10]), torch.as_tensor(rows), target=0
    )
    np.testing.assert_allclose(found.values, expected.detach(), rtol=1e-3, atol=1e-5)


def test_shapley_values_of_an_additive_network(events: Events) -> None:
    """One hidden neuron for each column: no interaction, and the rule is exact."""
    torch.manual_seed(6)
    first, last = nn.Linear(4, 4), nn.Linear(4, 1)
    with torch.no_grad():
        first.weight.copy_(torch.diag(torch.tensor([1.0, -2.0, 0.5, 3.0])))
    model = wrap(nn.Sequential(first, nn.ReLU(), last), events)
    found = explain(model, events[:4], "deep_shap", rows=events.globals[30:45])
    expected = [
        interventional(lambda x: model.score_table(x)[:, 0], x, events.globals[30:45])
        for x in events.globals[:4]
    ]
    np.testing.assert_allclose(found.values, expected, atol=1e-4)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SELU, nn.GELU, nn.Tanh, nn.LeakyReLU])
def test_adds_up_to_the_score(events: Events, activation: type[nn.Module]) -> None:
    model = wrap(dense(activation), events)
    found = explain(model, events[:50], "deep_shap")
    total = found.values.sum(1) + found.settings["expected"]
    np.testing.assert_allclose(total, model.logits(events[:50])[:, 0], atol=1e-3)
    assert found.checks["p90_residual"] < 1e-3
    assert found.axes == ("event", "feature")


def test_activations_in_place(events: Events) -> None:
    torch.manual_seed(7)
    layers = (nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 1))
    inside = wrap(nn.Sequential(*layers), events)
    outside = wrap(nn.Sequential(layers[0], nn.ReLU(), layers[2]), events)
    one, two = (explain(m, events[:5], "deep_shap", size=10) for m in (inside, outside))
    np.testing.assert_allclose(one.values, two.values)
    assert layers[1].inplace


def test_several_outputs(events: Events) -> None:
    torch.manual_seed(8)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model = TableModel(net, ("a", "b"), events.schema)
    for o, target in enumerate(("a", "b")):
        found = explain(model, events[:9], "deep_shap", target=target)
        total = found.values.sum(1) + found.settings["expected"]
        np.testing.assert_allclose(total, model.logits(events[:9])[:, o], atol=1e-4)


def test_the_parts_that_are_called() -> None:
    used, idle = nn.Linear(2, 2), nn.Linear(2, 2)
    net = nn.Sequential(nn.Sequential(used, nn.ReLU()), used)
    net.idle = idle
    seen = called_modules(lambda x: net[0](x), torch.zeros(1, 2))
    assert [type(m) for m in seen] == [nn.Linear, nn.ReLU]
    assert seen[0] is used


# --- what it cannot do -----------------------------------------------------------------------------------


class Functional(nn.Module):
    """Calls its activation as a function: no hook can be put on it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


class Twice(nn.Module):
    """Uses one activation for two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.second(self.relu(self.first(x)))))


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x)[:, 0] + 3 * x[:, 1] * x[:, 2]


@pytest.mark.parametrize("net", [Functional, Twice, Product])
def test_what_shap_does_not_see_is_refused(events: Events, net: type[nn.Module]) -> None:
    torch.manual_seed(9)
    message = r"do not add up to the score for \d+ of 200 events; .*nn.ReLU\(\), .* take feature_ig"
    with pytest.raises((ArithmeticError, RuntimeError), match=message):
        explain(wrap(net(), events), events, "deep_shap")


def test_other_models_are_refused(model: NetworkModel, tree_model: SklearnModel, events: Events) -> None:
    for other in (model, tree_model):
        with pytest.raises(CannotExplainError, match="has no forward_table"):
            explain(other, events, "deep_shap")
