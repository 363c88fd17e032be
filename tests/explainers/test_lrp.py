"""Layer-wise relevance propagation: against zennit and by hand, conservation, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision_ops import define_operators

from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError, CheckWarning, explain
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.image import ImageModel

CLASSES = ("g", "q", "t")
COMPOSITES = ("epsilon", "epsilon_plus", "epsilon_alpha2_beta1", "epsilon_gamma_box")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def events() -> Events:
    """Two channels of real numbers of both signs, non-square."""
    rng = np.random.default_rng(0)
    images = rng.normal(1, 1, (6, 2, 9, 12)) * (rng.random((6, 2, 9, 12)) < 0.5)
    return Events.from_images(images.astype(np.float32), label=np.arange(6) % 3, classes=CLASSES)


def randomised(norm: Any) -> Any:
    for tensor, low, high in (
        (norm.running_mean, -0.3, 0.3),
        (norm.running_var, 0.3, 2),
        (norm.weight.data, 0.5, 2),
    ):
        tensor.uniform_(low, high)
    norm.bias.data.uniform_(-0.3, 0.3)
    return norm


def network(inplace: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    first = (nn.Conv2d(2, 5, 3, padding=1), randomised(nn.BatchNorm2d(5)), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Dropout(), nn.Conv2d(5, 4, 3), nn.ReLU(inplace), nn.AvgPool2d((1, 2)), nn.Flatten())
    dense = (nn.Linear(16, 7), randomised(nn.BatchNorm1d(7)), nn.ReLU(), nn.Linear(7, 3))
    return nn.Sequential(*first, *second, *dense).eval()


@pytest.fixture(scope="module")
def model(events: Events) -> ImageModel:
    return ImageModel(network(), CLASSES, events.schema)


def by_zennit(events: Events, name: str, weights: Tensor, **settings: Any) -> np.ndarray:
    define_operators()
    composites = pytest.importorskip("zennit.composites")
    canonizers = [pytest.importorskip("zennit.canonizers").SequentialMergeBatchNorm()]
    x = torch.as_tensor(events.image())
    composite = getattr(composites, name)(canonizers=canonizers, **settings)
    gradient = pytest.importorskip("zennit.attribution").Gradient
    with gradient(model=network(inplace=False), composite=composite) as attributor:
        return attributor(x, lambda outputs: outputs * weights)[1].numpy()


@pytest.mark.parametrize(
    ("name", "settings", "own"),
    [
        ("EpsilonPlus", {}, {}),
        ("EpsilonPlusFlat", {}, {"first": "flat"}),
        ("EpsilonAlpha2Beta1", {"epsilon": 0.1}, {"composite": "epsilon_alpha2_beta1", "epsilon": 0.1}),
        (
            "EpsilonGammaBox",
            {"low": -4.0, "high": 5.0, "gamma": 0.5},
            {"composite": "epsilon_gamma_box", "low": -4.0, "high": 5.0, "gamma": 0.5},
        ),
    ],
)
def test_equals_zennit(
    events: Events, model: ImageModel, name: str, settings: dict[str, Any], own: dict[str, Any]
) -> None:
    found = explain(model, events, "lrp", target="t-rest", channels="each", **own)
    expected = by_zennit(events, name, torch.tensor([-0.5, -0.5, 1.0]), **settings)
    np.testing.assert_allclose(found.values, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_epsilon_is_gradient_times_input_without_biases(events: Events) -> None:
    net = network()
    for module in net.modules():
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
        if hasattr(module, "running_mean"):
            module.running_mean.zero_()
    own = ImageModel(net, CLASSES, events.schema)
    found = explain(own, events, "lrp", target="q-g", composite="epsilon", epsilon=1e-12)
    slope = explain(own, events, "saliency", target="q-g", signed=True, channels="each")
    expected = (slope.values * events.image()).sum(1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-3, atol=1e-6)
    assert found.checks["bias_share"] < 1e-6


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "alpha1_beta0", "alpha2_beta1", "box", "flat"])
def test_rules_by_hand(events: Events, rule: str) -> None:
    """The formulas, one pixel and one neuron at a time, for a network with a hidden layer."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(216, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))
    few = events[:2]
    own = ImageModel(net, CLASSES, events.schema)
    found = explain(own, few, "lrp", target="q-g", first=rule, channels="each", low=-3.0, high=5.0)
    w, b, v = (p.detach().double().numpy() for p in (net[1].weight, net[1].bias, net[3].weight))
    for e, image in enumerate(few.image().reshape(2, -1).astype(float)):
        z = w @ image + b
        received = np.maximum(z, 0) * (v[1] - v[0])
        expected = np.zeros(216)
        for j in np.flatnonzero(received):
            expected += received[j] * shares_by_hand(rule, image, w[j], b[j])
        np.testing.assert_allclose(found.values[e].ravel(), expected, rtol=2e-3, atol=1e-5)


def shares_by_hand(rule: str, x: np.ndarray, w: np.ndarray, b: float) -> np.ndarray:
    """Share of every input of a lit neuron."""
    part = w * x
    up, down = np.where(part > 0, part, 0), np.where(part < 0, part, 0)
    plus, minus = up / (up.sum() + max(b, 0)), down / (down.sum() + min(b, 0))
    more = part + 0.25 * up
    box = part + 3 * np.maximum(w, 0) - 5 * np.minimum(w, 0)
    return {
        "epsilon": part / (part.sum() + b),
        "gamma": more / (more.sum() + b + 0.25 * max(b, 0)),
        "alpha1_beta0": plus,
        "alpha2_beta1": 2 * plus - minus,
        "box": box / box.sum(),
        "flat": np.full(len(x), 1 / len(x)),
    }[rule]


@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevance_is_conserved(events: Events, model: ImageModel, composite: str) -> None:
    """Pixels, biases and stabilisers get the target; the report says what biases got."""
    found = explain(model, events, "lrp", target="t-rest", composite=composite)
    scores = model.score_image(events.image()) @ [-0.5, -0.5, 1]
    np.testing.assert_allclose(found.values.sum((1, 2)), found.output_change, rtol=1e-3, atol=1e-5)
    assert found.checks["median_residual"] < 1e-4
    lost = np.abs(scores - found.output_change)
    assert (lost > 0.01).any()
    assert 0 < found.checks["bias_share"] < 1
    assert found.settings["rules"]["12"] == "epsilon"


def test_biases_that_absorb_most_are_named(events: Events) -> None:
    net = network()
    nn.init.constant_(net[-1].bias, 0)
    net[-1].bias.data[2] = 100.0
    with pytest.warns(CheckWarning, match=r"lrp: biases absorb \d+ % of the relevance"):
        explain(ImageModel(net, CLASSES, events.schema), events, "lrp", target="t-g")


@pytest.mark.parametrize("composite", COMPOSITES)
def test_unchanged_if_a_function_is_added_to_all_logits(events: Events, composite: str) -> None:
    net, other = network(), network()
    with torch.no_grad():
        other[-1].weight.add_(torch.randn(1, 7))
        other[-1].bias.add_(1.5)
    one, two = (
        explain(ImageModel(m, CLASSES, events.schema), events, "lrp", target="t-rest", composite=composite)
        for m in (net, other)
    )
    np.testing.assert_allclose(two.values, one.values, rtol=1e-2, atol=1e-3 * np.abs(one.values).max())


class Residual(nn.Module):
    """A block with a skip connection, functional activations and a global pooling; or something refused."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.kind, self.first, self.last = kind, nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3)
        self.middle, self.norm = nn.Conv2d(4, 4, 3, padding=1), randomised(nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        k = F.relu(self.norm(self.middle(h)))
        ways = {
            "skip": lambda: h + k,
            "gate": lambda: h * torch.sigmoid(k),
            "product": lambda: h * k,
            "constant": lambda: k + 1.0,
            "twice": lambda: F.relu(self.middle(k)),
            "gelu": lambda: F.gelu(k),
            "function": lambda: F.conv2d(k, self.middle.weight),
            "around": lambda: k + x.mean(1, keepdim=True),
        }
        outputs: Tensor = self.last(ways[self.kind]().mean((2, 3)))
        return outputs


@pytest.mark.parametrize("composite", COMPOSITES)
def test_skip_connections_conserve(events: Events, composite: str) -> None:
    own = ImageModel(Residual("skip"), CLASSES, events.schema)
    found = explain(own, events, "lrp", target="t-g", composite=composite)
    assert found.checks["median_residual"] < 1e-4


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "gate",
            "lrp has no rule for (a product of activations|Sigmoid), of a call in forward; it knows nn.L",
        ),
        ("product", "no rule for a product of activations, of a call in forward"),
        ("constant", "forward adds a constant .* put it into the bias of a layer"),
        ("twice", "calls layer middle 2 times for an image; use a layer of its own for each call"),
        ("gelu", "no rule for Gelu, of a call in forward; .* ReLU, .*or image_ig"),
        ("function", "no rule for Convolution, of a call in forward; it knows nn.Linear, nn.Conv2d"),
    ],
)
def test_steps_without_a_rule_are_refused(events: Events, kind: str, message: str) -> None:
    own = ImageModel(Residual(kind), CLASSES, events.schema)
    with pytest.raises(CannotExplainError, match=message):
        explain(own, events, "lrp", target="t-g")
    assert not EXPLAINERS["lrp"].works_on(own)
    assert explain(own, events, "image_ig", target="t-g", steps=4).values.any()  # the remedy


def test_modules_without_a_rule_are_named(events: Events) -> None:
    net = network()
    net[2] = nn.Softplus()
    with pytest.raises(CannotExplainError, match="lrp has no rule for Softplus, of module 2; it knows"):
        explain(ImageModel(net, CLASSES, events.schema), events, "lrp", target="t-g")


def test_rules_of_dark_pixels_need_the_pixels(events: Events) -> None:
    around = ImageModel(Residual("around"), CLASSES, events.schema)
    with pytest.raises(ValueError, match=r"the rule 'flat' is for layers that read all pixels, .*first='e"):
        explain(around, events, "lrp", target="t-g", first="flat")
    assert explain(around, events, "lrp", target="t-g", first="epsilon").checks["median_residual"] < 1e-4
    normed = nn.Sequential(randomised(nn.BatchNorm2d(2)), network())
    own = ImageModel(normed, CLASSES, events.schema)
    with pytest.raises(
        ValueError, match=r"'box' is for .* pixels, and 1.0 reads the output of 0; give first="
    ):
        explain(own, events, "lrp", target="t-g", composite="epsilon_gamma_box")
    assert explain(own, events, "lrp", target="t-g").checks["median_residual"] < 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": [0.0, 0.0, 0.0]}, r"lrp.low has 3 values; the images have 2 channels"),
        ({"low": 2.0, "high": 1.0}, r"lrp.low=\[2.0, 2.0\] is above lrp.high=\[1.0, 1.0\]; exchange"),
        ({"epsilon": 0.0}, "lrp.epsilon=0.0; should be greater than 0"),
        ({"composite": "plus"}, "lrp.composite='plus'"),
    ],
)
def test_bad_settings(events: Events, model: ImageModel, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(model, events, "lrp", target="t-g", **settings)


def test_events_alone_and_none(events: Events, model: ImageModel) -> None:
    settings = {"target": "t-g", "composite": "epsilon_gamma_box", "low": -4.0, "high": 5.0}
    whole = explain(model, events, "lrp", **settings)
    alone = explain(model, events[[3]], "lrp", **settings)
    np.testing.assert_allclose(alone.values[0], whole.values[3], rtol=1e-4, atol=1e-7)
    assert len(explain(model, events[:0], "lrp", target="t-g").values) == 0
    assert not any("forward" in vars(m) for m in model.module.modules())


def test_the_network_of_the_package(events: Events) -> None:
    card = ModelCard.model_validate({"kind": "convolutional", "channels": [3, 4], "kernel": 3, "dense": [5]})
    found = explain(NetworkModel.build(card, events.schema), events, "lrp", target="t-rest")
    assert found.checks["median_residual"] < 1e-4
    assert found.values.any()
