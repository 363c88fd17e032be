"""Conductance: against captum neuron by neuron, the definition in loops, and its own promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import NeuronConductance
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.explainers.table.conductance import layer_residuals
from hepxai.models.wrappers.table import TableModel


def wrap(module: nn.Module, events: Events, layers: tuple[str, ...] | None = None) -> TableModel:
    """The last bias moves the logits away from what could be probabilities, and is no neuron's."""
    nn.init.constant_([m for m in module.modules() if isinstance(m, nn.Linear)][-1].bias, 3.0)
    return TableModel(module, ("signal",), events.schema, layers)


@pytest.mark.parametrize("baseline", ["zero", "background_mean"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.SELU, nn.GELU])
def test_equals_captum(events: Events, activation: type[nn.Module], baseline: str) -> None:
    """Neuron by neuron; captum's is per column of the input, which is summed over."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Linear(2, 5), activation(), nn.Linear(5, 4), nn.BatchNorm1d(4), activation(), nn.Linear(4, 1)
    ).eval()
    found = explain(wrap(net, events), events, "conductance", baseline=baseline, steps=9)
    x = torch.as_tensor(events.globals)
    start = torch.tensor(found.settings["baseline_values"])[None].expand_as(x).contiguous()
    assert found.labels["neuron"] == tuple(f"0:{i}" for i in range(5)) + tuple(f"2:{i}" for i in range(4))
    for number, label in enumerate(found.labels["neuron"]):
        layer, _, neuron = label.rpartition(":")
        expected = NeuronConductance(net, net.get_submodule(layer)).attribute(
            x, int(neuron), baselines=start, target=0, n_steps=9, method="gausslegendre"
        )
        np.testing.assert_allclose(
            found.values[:, number], expected.sum(1).detach(), rtol=1e-4, atol=1e-6, err_msg=label
        )


def test_equals_the_definition(events: Events) -> None:
    """Sum over the columns of ∫ ∂F/∂h_j ∂h_j/∂x_i (x_i - x'_i) dt, in loops, by many equal steps."""
    torch.manual_seed(4)
    first, last = nn.Linear(2, 3), nn.Linear(3, 1)
    found = explain(
        wrap(nn.Sequential(first, nn.Tanh(), last), events), events, "conductance", baseline="zero", steps=24
    )
    w, b, v = first.weight.detach().double(), first.bias.detach().double(), last.weight.detach().double()[0]
    for e in range(6):
        x = torch.as_tensor(events.globals[e]).double()
        for j in range(3):
            total = 0.0
            for t in (np.arange(400) + 0.5) / 400:
                slope = 1 - torch.tanh(w[j] @ (t * x) + b[j]) ** 2
                for i in range(2):
                    total += float(v[j] * slope * w[j, i] * x[i]) / 400
            assert found.values[e, j] == pytest.approx(total, rel=1e-4, abs=1e-6)


def test_layers_add_up_to_the_change_of_the_score(table_model: TableModel, events: Events) -> None:
    found = explain(table_model, events, "conductance", baseline="zero")
    logit = table_model.logits(events)[:, 0]
    change = logit - table_model.score_table(np.zeros((1, 2), np.float32))[0, 0]
    np.testing.assert_allclose(found.output_change, 2 * change, rtol=1e-5, atol=1e-6)
    for name, own in (("0", slice(0, 6)), ("4", slice(6, 11))):
        residual = found.values[:, own].sum(1, dtype=np.float64) - change
        np.testing.assert_allclose(layer_residuals(found)[name], residual, atol=1e-5)
        assert found.checks[f"median_residual_{name}"] < 0.01


def test_sum_over_the_columns_of_feature_ig(table_model: TableModel, events: Events) -> None:
    """With the same steps, the change of the score is cut in two ways: by column and by neuron."""
    ig = explain(table_model, events, "feature_ig", steps=3)
    neurons = explain(table_model, events, "conductance", steps=3)
    np.testing.assert_allclose(neurons.values[:, :6].sum(1), ig.values.sum(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(neurons.values[:, 6:].sum(1), ig.values.sum(1), rtol=1e-4, atol=1e-6)


def test_before_and_after_the_activation_is_the_same(table_model: TableModel, events: Events) -> None:
    before = explain(wrap(table_model.module, events, ("0", "4")), events, "conductance", steps=6)
    after = explain(wrap(table_model.module, events, ("1", "5")), events, "conductance", steps=6)
    np.testing.assert_allclose(before.values, after.values, rtol=1e-4, atol=1e-6)


def test_activations_in_place(events: Events) -> None:
    torch.manual_seed(5)
    first, last = nn.Linear(2, 6), nn.Linear(6, 1)
    apart, inside = (nn.Sequential(first, nn.ReLU(inplace=i), last) for i in (False, True))
    found = [explain(wrap(net, events), events, "conductance", steps=5).values for net in (apart, inside)]
    assert np.array_equal(*found)


def test_functional_activations(events: Events) -> None:
    torch.manual_seed(6)
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1))

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = net[0], net[2]

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.nn.functional.relu(self.a(x)))

    expected = explain(wrap(net, events), events, "conductance", steps=5)
    found = explain(wrap(Functional(), events), events, "conductance", steps=5)
    assert np.array_equal(found.values, expected.values)
    assert found.labels["neuron"][0] == "a:0"


class Bypassed(nn.Module):
    """What the layer `side` sees reaches the output beside it, too."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.side, self.unused = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.out = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.all(x))
        self.unused(h)
        return self.out(h + torch.tanh(self.side(h)))[:, 0]


def test_a_layer_that_is_bypassed_shows_in_its_check(events: Events) -> None:
    torch.manual_seed(7)
    found = explain(wrap(Bypassed(), events, ("all", "side")), events, "conductance", steps=12)
    assert found.checks["median_residual_all"] < 1e-3
    assert found.checks["median_residual_side"] > 0.1


def test_a_neuron_that_nobody_hears_has_none(events: Events) -> None:
    found = explain(wrap(Bypassed(), events, ("all", "unused")), events, "conductance", steps=4)
    assert (found.values[:, 4:] == 0).all()
    assert found.values[:, :4].any()


def test_several_outputs(events: Events) -> None:
    torch.manual_seed(8)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    model = TableModel(net, ("a", "b"), events.schema)
    found = {t: explain(model, events, "conductance", target=t, steps=12) for t in ("a", "b")}
    for o, target in enumerate(("a", "b")):
        change = model.logits(events)[:, o]
        start = np.array([found[target].settings["baseline_values"]], dtype=np.float32)
        np.testing.assert_allclose(
            found[target].values.sum(1), change - model.score_table(start)[0, o], rtol=1e-3, atol=1e-4
        )


# --- bad input ---------------------------------------------------------------------------------------


def test_no_hidden_layer(events: Events) -> None:
    with pytest.raises(ValueError, match="the model has no hidden layer, hence no neuron to explain"):
        explain(wrap(nn.Linear(2, 1), events), events, "conductance")


def test_layers_that_cannot_be_explained(events: Events) -> None:
    twice = nn.Linear(2, 2)
    pair = nn.Sequential(twice, nn.Tanh(), twice, nn.Linear(2, 1))
    with pytest.raises(ValueError, match="calls layer 0 twice for one batch"):
        explain(wrap(pair, events), events, "conductance")
    image = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Linear(4, 1))
    with pytest.raises(ValueError, match=r"layer 1 gives \(1, 2, 2\); neurons are the columns"):
        explain(wrap(image, events, ("1",)), events, "conductance")


def test_a_layer_that_is_not_called(events: Events) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle, self.out = nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x)

    with pytest.raises(
        ValueError, match="the module does not call its layer idle; name the `layers` it calls"
    ):
        explain(wrap(Idle(), events), events, "conductance")
