"""Convolutional networks: against plain torch and loops, their readout, what they refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_events import make_images
from torch import Tensor

from hepxai.cards import CardError
from hepxai.events import Events
from hepxai.models.card import ModelCard
from hepxai.models.image.convolutional import ConvolutionalModel, ConvolutionalNetwork
from hepxai.models.network import NetworkModel


def make_card(**keys: Any) -> Any:
    own = {"channels": [3, 4, 5], "kernel": 3, "dense": [7, 6]} | keys
    return ModelCard.model_validate({"kind": "convolutional", "training": {"loss": "mae"}} | own)


def make_model(events: Events, **keys: Any) -> ConvolutionalModel:
    torch.manual_seed(0)
    model = ConvolutionalModel.fresh(make_card(**keys), events.schema)
    model.adapt(events)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases that are not 0
    model.network.eval()
    return model


@pytest.fixture
def events() -> Events:
    return make_images()


def plainly(network: ConvolutionalNetwork, x: Tensor) -> Tensor:
    """The architecture written once more, image by image."""
    rows = []
    for image in x:
        state = image[None]
        for layer in network.convolutions:
            state = F.conv2d(state, layer.weight, layer.bias, padding=layer.padding).clamp(min=0)
        state = state[0].flatten(1).mean(1)
        linear = [m for m in network.head if isinstance(m, torch.nn.Linear)]
        for i, layer in enumerate(linear):
            state = layer.weight @ state + layer.bias
            state = state.clamp(min=0) if i + 1 < len(linear) else state
        rows.append(state)
    return torch.stack(rows)


@pytest.mark.parametrize("dense", [[7, 6], []])
def test_is_the_architecture_of_the_card(events: Events, dense: list[int]) -> None:
    model = make_model(events, dense=dense)
    x = torch.as_tensor(events.image())
    with torch.no_grad():
        expected = plainly(model.network, x).numpy()
    assert model.outputs == ("pt", "eta")
    np.testing.assert_allclose(model.logits(events), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.score_image(events.image()), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.forward_image(x).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_alone_as_in_a_batch_and_in_any_order(events: Events) -> None:
    model = make_model(events)
    whole = model.logits(events)
    order = np.random.default_rng(0).permutation(len(events))
    np.testing.assert_allclose(model.logits(events[order]), whole[order], rtol=1e-5, atol=1e-6)
    for e in (0, 9, 17):  # 9 has no hit at all
        np.testing.assert_allclose(model.logits(events[[e]]), whole[[e]], rtol=1e-5, atol=1e-6)
    assert model.logits(events[:0]).shape == (0, 2)
    assert model.score_image(events.image()[:0]).shape == (0, 2)


def test_empty_and_full_images(events: Events) -> None:
    model = make_model(events)
    for x in (torch.zeros(1, 1, 6, 40), torch.ones(1, 1, 6, 40)):
        with torch.no_grad():
            expected = plainly(model.network, x)
        torch.testing.assert_close(model.forward_image(x), expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_every_pixel(events: Events) -> None:
    """Also of dark ones, which the fast mean over the columns leaves out."""
    model = make_model(events)
    x = torch.as_tensor(events.image()[:3]).requires_grad_()
    found = torch.autograd.grad(model.forward_image(x)[:, 0].sum(), x)[0]
    model.network.double()
    step = torch.zeros(3, 1, 6, 40, dtype=torch.float64)
    for row, column in ((0, 0), (3, 21), (5, 39)):
        step.zero_()[:, 0, row, column] = 1e-6
        with torch.no_grad():
            up, down = (plainly(model.network, x.double() + s * step)[:, 0] for s in (1, -1))
        slope = ((up - down) / 2e-6).float()
        torch.testing.assert_close(found[:, 0, row, column], slope, rtol=1e-3, atol=1e-6)


def test_nothing_is_left_behind(events: Events) -> None:
    model = make_model(events)
    model.network.train()
    model.logits(events)
    model.forward_image(torch.as_tensor(events.image()[:2]).requires_grad_())
    assert model.network.training
    assert all(p.requires_grad and p.grad is None for p in model.network.parameters())


@pytest.mark.parametrize("layer", ["conv_1", "conv_2", "conv_3"])
def test_maps_of_a_layer(events: Events, layer: str) -> None:
    model = make_model(events)
    x = torch.as_tensor(events.image()[:4])
    outputs, maps = model.forward_maps(x, layer)
    torch.testing.assert_close(outputs, model.forward_image(x), rtol=1e-5, atol=1e-5)
    assert maps.shape == (4, {"conv_1": 3, "conv_2": 4, "conv_3": 5}[layer], 6, 40)
    assert torch.autograd.grad(outputs.sum(), maps)[0].shape == maps.shape
    with pytest.raises(ValueError, match="no layer 'conv_9'; there are conv_1, conv_2, conv_3"):
        model.forward_maps(x, "conv_9")


def test_a_linear_readout_gives_the_outputs_from_the_maps(events: Events) -> None:
    model = make_model(events, dense=[])
    weight, bias = model.readout_weights()
    outputs, maps = model.forward_maps(torch.as_tensor(events.image()), model.feature_layers[-1])
    torch.testing.assert_close(maps.mean((2, 3)) @ weight.T + bias, outputs, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"2 dense layers lie between .* dense: \[\] has a linear readout"):
        make_model(events).readout_weights()


def test_the_first_means_are_of_order_one(events: Events) -> None:
    model = ConvolutionalModel.fresh(make_card(channels=[16, 32, 64, 128], kernel=5), events.schema)
    model.adapt(events)
    with torch.no_grad():
        means = model.network.pooled(torch.as_tensor(events.image()))
    assert means.square().mean().sqrt() == pytest.approx(1, rel=0.05)
    model.adapt(events[events.counts == 0])  # nothing lit, nothing to scale


def test_reduced_precision_is_for_training_only(events: Events) -> None:
    whole, reduced = (make_model(events, precision=p) for p in ("float32", "bfloat16"))
    np.testing.assert_array_equal(whole.logits(events), reduced.logits(events))
    x = torch.as_tensor(events.image())
    for model in (whole, reduced):
        model.network.train()
    with torch.no_grad():
        a, b = whole.network(x), reduced.network(x)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


def test_saved_and_loaded(events: Events, tmp_path: Path) -> None:
    model = make_model(events)
    model.save(tmp_path / "model.safetensors")
    again = NetworkModel.load(tmp_path / "model.safetensors")
    assert isinstance(again, ConvolutionalModel)
    assert again.schema == events.schema
    np.testing.assert_array_equal(again.logits(events), model.logits(events))


def test_images_of_another_shape(events: Events) -> None:
    model = make_model(events)
    for shape in ((2, 1, 6, 41), (2, 2, 6, 40), (6, 40)):
        message = r"images of shape .*; the model reads \[B, 1, 6, 40\]"
        with pytest.raises(ValueError, match=message):
            model.forward_image(torch.zeros(shape))
        with pytest.raises(ValueError, match=message):
            model.score_image(np.zeros(shape, dtype=np.float32))
    with pytest.raises(ValueError, match=r"trained on images of .* 6 x 40 .* these events have .* 6 x 41"):
        model.logits(make_images(columns=41))
    blind = events.replace(schema=dataclasses.replace(events.schema, image=None))
    with pytest.raises(ValueError, match="the events have no image"):
        model.logits(blind)
    with pytest.raises(ValueError, match="the model reads images, the data-set card has none; say image:"):
        ConvolutionalModel.fresh(make_card(), blind.schema)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("muon_cnn", "kernel=4", "kernel: found 4; a kernel that keeps the size of the image is odd"),
        ("muon_cnn", "channels=[]", "channels: found"),
        ("muon_cnn", "precision=half", "precision: found 'half'; should be 'float32' or 'bfloat16'"),
        ("muon_cnn", "training.symmetries=[rotation]", "symmetries are those of particles; 'convolutional'"),
        ("muon_soft_tree", "depth=0", "depth: found 0"),
        ("muon_soft_tree", "penalty=-1", "penalty: found -1"),
        ("muon_soft_tree", "kernel=2", "kernel: found 2; a kernel"),
    ],
)
def test_cards_that_make_no_sense(name: str, override: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        ModelCard.find(name, [override])


@pytest.mark.parametrize("name", ["muon_cnn", "muon_cnn_linear", "muon_soft_tree"])
def test_the_shipped_cards_are_the_study(name: str) -> None:
    card: Any = ModelCard.find(name)
    assert card.training.loss == "mae"
    if name == "muon_soft_tree":
        assert (card.channels, card.kernel, card.depth) == ((64, 32, 16), 3, 5)
        assert (card.training.epochs, card.training.batch_size, card.training.learning_rate) == (5, 64, 1e-3)
    else:
        assert (card.channels, card.kernel) == ((16, 32, 64, 128), 5)
        assert card.dense == (() if name == "muon_cnn_linear" else (1024, 512))
        assert (card.training.epochs, card.training.batch_size) == (30, 32)
