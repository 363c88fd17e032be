"""The network with pooling: against plain torch, its layers, what it refuses; images with energies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import hepxai
from hepxai.cards import CardError
from hepxai.events import Events
from hepxai.models import load_model
from hepxai.models.card import ModelCard
from hepxai.models.image.cnn import CnnModel
from hepxai.models.protocols import HasLastLayer, HasLayerCut

BLOCKS = [{"channels": 3, "kernel": [1, 3], "pool": [1, 2]}, {"channels": 4, "pool": [2, 3], "dropout": 0.2}]


def make_card(**keys: Any) -> Any:
    own = {"kind": "cnn", "blocks": BLOCKS, "dense": [6], "training": {"epochs": 1, "batch_size": 16}}
    return ModelCard.model_validate(own | keys)


@pytest.fixture(scope="module")
def events() -> Events:
    """Three classes of 2 x 6 x 20 pixels with energies; the class is the third of the image that shines."""
    rng = np.random.default_rng(0)
    images, label = rng.exponential(1, (90, 2, 6, 20)) * (rng.random((90, 2, 6, 20)) < 0.2), np.arange(90) % 3
    for image, c in zip(images, label, strict=True):
        image[1, 2:4, 6 * c : 6 * c + 4] += 20
    return Events.from_images(images, label=label, classes=["a", "b", "c"], channels=["em", "had"])


@pytest.fixture(scope="module", params=["flatten", "mean"])
def model(request: pytest.FixtureRequest, events: Events) -> CnnModel:
    torch.manual_seed(0)
    model = CnnModel.fresh(make_card(reduce=request.param), events.schema)
    model.network(torch.as_tensor(events.image()))  # statistics of the batch norm that are not 0 and 1
    return model


def plainly(model: CnnModel, image: torch.Tensor) -> torch.Tensor:
    """The architecture written once more, for one image."""
    state, network = image[None], model.network
    for number, pool in enumerate(((1, 2), (2, 3)), start=1):
        convolution, norm = (network.features.get_submodule(f"{n}_{number}") for n in ("conv", "norm"))
        state = F.conv2d(state, convolution.weight, padding=[k // 2 for k in convolution.kernel_size])
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        state = (state - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
        state = F.max_pool2d(state.clamp(min=0), pool)
    state = state[0].mean((1, 2)) if model.card.reduce == "mean" else state[0].flatten()
    first, last = network.head.get_submodule("dense_1"), network.head.get_submodule("output")
    return last(first(state).clamp(min=0))


def test_is_the_architecture_of_the_card(model: CnnModel, events: Events) -> None:
    x = torch.as_tensor(events.image())
    model.network.eval()
    expected = torch.stack([plainly(model, image) for image in x]).detach().numpy()
    model.network.train()
    np.testing.assert_allclose(model.logits(events), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.score_image(events.image()), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.logits(events[[7]]), expected[[7]], rtol=1e-4, atol=1e-5)
    assert model.logits(events[:0]).shape == (0, 3)
    assert model.outputs == ("a", "b", "c")


def test_energies_are_seen(model: CnnModel, events: Events) -> None:
    doubled = events.replace(particles=events.particles * np.array([1, 1, 2], dtype=np.float32))
    assert np.abs(model.logits(doubled) - model.logits(events)).max() > 1e-3


def test_layers_can_be_cut(model: CnnModel, events: Events) -> None:
    assert isinstance(model, HasLayerCut)
    assert isinstance(model, HasLastLayer)
    x = torch.as_tensor(events.image()[:5])
    whole = model.forward_image(x)
    shapes = {"conv_1": (5, 3, 6, 20), "conv_2": (5, 4, 6, 10)}
    assert model.feature_layers == tuple(shapes)
    for layer, shape in shapes.items():
        outputs, maps = model.forward_maps(x, layer)
        assert maps.shape == shape
        assert (maps >= 0).all()
        torch.testing.assert_close(outputs, whole)
        torch.testing.assert_close(model.forward_after(maps, layer, x), whole)
        (gradient,) = torch.autograd.grad(outputs[:, 1].sum(), maps)
        assert gradient.abs().sum() > 0
    with pytest.raises(ValueError, match="no layer 'conv_3'; there are conv_1, conv_2"):
        model.forward_maps(x, "conv_3")
    with pytest.raises(ValueError, match=r"images of shape \(5, 2, 6, 19\); the model reads \[B, 2, 6, 20\]"):
        model.forward_maps(x[..., :19], "conv_1")


def test_every_step_is_a_module_that_is_called_once(model: CnnModel, events: Events) -> None:
    calls: list[str] = []
    leaves = {n: m for n, m in model.network.named_modules() if not list(m.children())}
    hooks = [m.register_forward_hook(lambda *_, n=n: calls.append(n)) for n, m in leaves.items()]
    model.forward_image(torch.as_tensor(events.image()[:2]))
    for hook in hooks:
        hook.remove()
    assert sorted(calls) == sorted(leaves)
    assert sum(isinstance(m, torch.nn.ReLU) for m in leaves.values()) == 3


def test_last_layer(model: CnnModel, events: Events) -> None:
    z, a = model.last_layer(events)
    last = model.network.head.get_submodule("output")
    torch.testing.assert_close(z, a @ last.weight.T + last.bias)
    np.testing.assert_allclose(z.detach().numpy(), model.logits(events), rtol=1e-4, atol=1e-5)


def test_learns_and_is_stored(events: Events, tmp_path: Any) -> None:
    card = make_card(training={"epochs": 12, "batch_size": 16, "learning_rate": 0.01, "monitor": "loss"})
    fitted, history = hepxai.fit(card, events)
    assert history[-1]["valid_accuracy"] > 0.8
    fitted.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.logits(events), fitted.logits(events))
    attribution = hepxai.explain(fitted, events[:6], method="image_ig", target="a-b")
    assert attribution.values.shape == (6, 6, 20)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"blocks": []}, "at least 1 item"),
        ({"blocks": [{"channels": 3, "kernel": [2, 3]}]}, "found 2; a kernel that keeps the size .* is odd"),
        ({"blocks": [{"channels": 3, "pool": [0, 2]}]}, "greater than 0"),
        ({"blocks": [{"channels": 3, "pol": [1, 2]}]}, "pol"),
        ({"reduce": "max"}, "'flatten' or 'mean'"),
        ({"dropout": 1.0}, "less than 1"),
    ],
)
def test_cards_that_make_no_sense(keys: Any, message: str) -> None:
    with pytest.raises((CardError, ValueError), match=message):
        make_card(**keys)


def test_pools_that_leave_nothing(events: Events) -> None:
    tight = [{"channels": 2, "pool": [4, 1]}] * 2
    with pytest.raises(ValueError, match=r"images of 6 x 20 pixels: the pools of 2 blocks leave no pixel"):
        CnnModel.fresh(make_card(blocks=tight), events.schema)
    kept = [{"channels": 2, "pool": [1, 1]}] * 2
    assert CnnModel.fresh(make_card(blocks=kept), events.schema).logits(events[:3]).shape == (3, 3)


def test_the_shipped_card_reads_both_shipped_images() -> None:
    card = ModelCard.find("image_cnn")
    for shape in ((1, 9, 384), (2, 25, 25)):
        toy = Events.from_images(np.ones((2, *shape)), label=[0, 1], classes=["a", "b"])
        assert CnnModel.fresh(card, toy.schema).logits(toy).shape == (2, 1)
