"""Deconvnet and guided backpropagation: against captum and by hand, and which networks they refuse."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_helpers import SCHEMA, image_events, image_model
from image_networks import energy_images
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError, CheckWarning, explain
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.image import ImageModel

METHODS = {"guided_backprop": captum.attr.GuidedBackprop, "deconvnet": captum.attr.Deconvolution}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def energies(n: int = 6) -> Events:
    """Two channels of real numbers, non-square, three classes."""
    return energy_images(n, lit=0.5, shape=(2, 6, 9), empty=0)


def pooled(inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(3)
    first = (nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace), nn.MaxPool2d(2), nn.BatchNorm2d(4))
    return nn.Sequential(*first, nn.Conv2d(4, 5, 2), nn.ReLU(inplace), nn.Flatten(), nn.Linear(30, 3)).eval()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("inplace", [False, True])
def test_equals_captum(method: str, inplace: bool) -> None:
    events = energies()
    model = ImageModel(pooled(inplace), ("g", "q", "t"), events.schema)
    each = explain(model, events, method, target="q", channels="each")
    expected = METHODS[method](pooled()).attribute(torch.as_tensor(events.image()), target=1)
    # captum explains the logit, ours is its contrast: the same through a target of one output
    one = ImageModel(nn.Sequential(pooled(inplace), _Pick(1)), ("q",), events.schema)
    alone = explain(one, events, method, channels="each")
    np.testing.assert_allclose(alone.values, expected.detach(), rtol=1e-5, atol=1e-8)
    assert each.target == "q-rest"
    assert not np.allclose(each.values, alone.values)


class _Pick(nn.Module):
    def __init__(self, output: int) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.output]


@pytest.mark.parametrize("method", METHODS)
def test_by_hand(method: str) -> None:
    """F = v·relu(W x): deconvnet W^T max(v, 0); guided backpropagation only where W x > 0."""
    events = image_events(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(80, 5), nn.ReLU(), nn.Linear(5, 1))
    found = explain(ImageModel(net, ("pt",), SCHEMA), events, method)
    x = torch.as_tensor(events.image()).flatten(1)
    passed = net[3].weight.clamp(min=0) * ((net[1](x) > 0) if method == "guided_backprop" else 1)
    expected = (passed.expand(3, 5) @ net[1].weight).view(3, 5, 16)
    np.testing.assert_allclose(found.values, expected.detach(), rtol=1e-5, atol=1e-8)


class Twice(nn.Module):
    """A convolution, one ReLU called twice, and an activation of the caller's choice."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.dense, self.out = nn.Conv2d(2, 3, 3), nn.Linear(84, 7), nn.Linear(7, 3)
        self.relu, self.activation = nn.ReLU(), activation

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.dense(self.relu(self.conv(x)).flatten(1)))
        out: Tensor = self.out(self.activation(hidden))
        return out


REFUSED = {
    "F.relu": (F.relu, "a call in forward computes Relu"),
    "torch.relu": (torch.relu, "a call in forward computes Relu"),
    "Tensor.relu": (lambda x: x.relu(), "a call in forward computes Relu"),
    "clamp": (lambda x: x.clamp(min=0), "a call in forward computes Clamp"),
    "where": (lambda x: torch.where(x > 0, x, 0.0), "a call in forward computes Where"),
    "product": (lambda x: x * torch.exp(x), "a call in forward computes a product of activations"),
    "gelu": (nn.GELU(), "module activation computes Gelu"),
    "relu6": (nn.ReLU6(), "module activation computes Hardtanh"),
    "tanh": (nn.Tanh(), "module activation computes Tanh"),
    "leaky": (nn.LeakyReLU(), "module activation computes LeakyRelu"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", REFUSED)
def test_other_activations_are_refused(method: str, name: str) -> None:
    events, (activation, what) = energies(), REFUSED[name]
    model = ImageModel(Twice(activation), ("g", "q", "t"), events.schema)
    with pytest.raises(
        CannotExplainError, match=f"{method} has a rule for nn.ReLU modules only, and {what}: replace"
    ):
        explain(model, events, method, target="g-q")
    assert not EXPLAINERS[method].works_on(model)
    remedy = ImageModel(Twice(nn.ReLU()), ("g", "q", "t"), events.schema)
    assert np.isfinite(explain(remedy, events, method, target="g-q").values).all()
    assert explain(model, events, "saliency", target="g-q").values.any()  # the other remedy


@pytest.mark.parametrize("method", METHODS)
def test_a_module_called_twice_is_two_modules(method: str) -> None:
    events = energies()
    shared = ImageModel(Twice(nn.Identity()), ("g", "q", "t"), events.schema)
    net = Twice(nn.Identity())
    plain = nn.Sequential(net.conv, nn.ReLU(), nn.Flatten(), net.dense, nn.ReLU(), net.out)
    other = ImageModel(plain, ("g", "q", "t"), events.schema)
    one, two = (explain(m, events, method, target="g-q").values for m in (shared, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left(method: str) -> None:
    model = image_model(7)
    before = [set(vars(m)) for m in model.module.modules()]
    explain(model, image_events(), method, target="pt")
    assert [set(vars(m)) for m in model.module.modules()] == before


@pytest.mark.parametrize("method", METHODS)
def test_the_network_of_the_package(method: str) -> None:
    card = ModelCard.model_validate({"kind": "convolutional", "channels": [3, 4], "kernel": 3, "dense": [5]})
    model = NetworkModel.build(card, SCHEMA)
    state = model.network.state_dict()
    assert not any("activation" in name for name in state)
    found = explain(model, image_events(), method, target=model.outputs[0])
    assert found.values.any()
    assert len(explain(model, image_events()[:0], method, target=model.outputs[0]).values) == 0


def test_maps_that_do_not_depend_on_the_output_are_doubted() -> None:
    """With positive weights everywhere but in the last layer the maps of all outputs are alike."""
    events = energies()
    net = Twice(nn.Identity())
    for layer in (net.conv, net.dense):
        nn.init.constant_(layer.weight, 0.01)
    model = ImageModel(net, ("g", "q", "t"), events.schema)
    with pytest.warns(
        CheckWarning, match=r"guided_backprop: maps of other outputs are nearly the same \(corr"
    ):
        found = explain(model, events, "guided_backprop", target="g")
    assert found.checks["similarity_of_outputs"] > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_maps_that_depend_on_the_output_are_not_doubted(method: str) -> None:
    """Each output looks at rows of its own."""
    events = energies()
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 3), nn.ReLU(), nn.Linear(3, 3))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.fill_(1.0)
        for k in range(3):
            net[1].weight[k, 36 * k : 36 * k + 36] = torch.arange(36.0)
        net[3].weight.copy_(torch.eye(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckWarning)
        found: Any = explain(ImageModel(net, ("g", "q", "t"), events.schema), events, method, target="g-q")
    assert found.checks["similarity_of_outputs"] < 0.5
