"""A user's torch module on images: what it scores, shows and refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepxai import chunks
from hepxai.events import Events
from hepxai.images import ImageAxis, ImageLayout
from hepxai.models.base import HasLinearReadout
from hepxai.models.foreign_image import ImageModel

ToyEvents = Callable[..., Events]
LAYOUT = ImageLayout(
    ImageAxis("eta", (-2.0, -1.0, 0.0, 1.0, 2.0)), ImageAxis("phi", (-2.0, 0.0, 2.0)), ("jet",)
)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    drawn = toy(20)
    return drawn.replace(schema=dataclasses.replace(drawn.schema, image=LAYOUT))


def net() -> nn.Sequential:
    torch.manual_seed(4)
    first = (nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.ReLU(inplace=True))
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))


def build(events: Events, module: nn.Module | None = None, **settings: Any) -> ImageModel:
    return ImageModel(module or net(), ("a", "b"), events.schema, **{"maps": "3"} | settings)


def test_scores_in_evaluation_mode(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(events)
    model.module.train()
    with torch.no_grad():
        expected = net().eval()(torch.as_tensor(events.image())).numpy()
    np.testing.assert_allclose(model.logits(events), expected, rtol=1e-5)
    assert model.module.training
    assert model.module[1].training
    monkeypatch.setattr(chunks, "PIXELS", 24)
    np.testing.assert_allclose(model.logits(events), expected, rtol=1e-5)
    assert model.logits(events[:0]).shape == (0, 2)


def test_no_gradient_is_worked_out_for_parameters(events: Events) -> None:
    model = build(events)
    x = torch.as_tensor(events.image()).requires_grad_(True)
    model.forward_image(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None and p.requires_grad for p in model.module.parameters())


def test_maps_are_those_of_the_layer(events: Events) -> None:
    model, x = build(events), torch.as_tensor(events.image())
    outputs, maps = model.forward_maps(x, "3")
    with torch.no_grad():
        torch.testing.assert_close(maps, net().eval()[:4](x))
    torch.testing.assert_close(outputs.detach(), model.forward_image(x).detach())
    assert not model.module[3]._forward_hooks
    before = build(events, maps="1").forward_maps(x, "1")[1]
    assert (before < 0).any()  # an activation in place does not reach what was recorded


def test_gradients_reach_the_maps(events: Events) -> None:
    outputs, maps = build(events).forward_maps(torch.as_tensor(events.image()).requires_grad_(True), "3")
    (slope,) = torch.autograd.grad(outputs[:, 0].sum(), maps)
    torch.testing.assert_close(slope[0, :, 0, 0], net()[6].weight[0].detach() / 8)


def test_readout(events: Events) -> None:
    model = build(events)
    assert isinstance(model, HasLinearReadout)
    weight, bias = model.readout_weights()
    torch.testing.assert_close(weight, model.module[6].weight.detach())
    torch.testing.assert_close(bias, model.module[6].bias.detach())
    with pytest.raises(ValueError, match="not linear in the pooled maps of layer 1"):
        build(events, maps="1").readout_weights()


def test_a_readout_without_bias(events: Events) -> None:
    module = net()
    module[6] = nn.Linear(3, 2, bias=False)
    assert (build(events, module).readout_weights()[1] == 0).all()


def test_layers_by_default(events: Events) -> None:
    assert build(events, maps=None).feature_layers == ("0",)


# --- bad input -------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_there(events: Events) -> None:
    with pytest.raises(ValueError, match=r"^loss='mea'; choose one of cross_entropy, mae, mse$"):
        build(events, loss="mea")


def test_layers_that_are_not_there(events: Events) -> None:
    with pytest.raises(ValueError, match="the module has no layer 'top'; it has 0, 1, 2, 3"):
        build(events, maps="top")
    with pytest.raises(ValueError, match="no maps of layer '0'; there are 3"):
        build(events).forward_maps(torch.zeros(1, 1, 4, 2), "0")
    with pytest.raises(ValueError, match=r"layer 6 gives \(1, 2\); maps are"):
        build(events, maps="6").forward_maps(torch.zeros(1, 1, 4, 2), "6")


class Unused(nn.Module):
    """Never calls one layer, another one twice."""

    def __init__(self) -> None:
        super().__init__()
        self.idle, self.busy = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.busy(self.busy(x)).mean((2, 3)).expand(-1, 2)


def test_layers_that_are_not_called_once(events: Events) -> None:
    x = torch.zeros(1, 1, 4, 2)
    with pytest.raises(ValueError, match="does not call its layer idle"):
        build(events, Unused(), maps="idle").forward_maps(x, "idle")
    with pytest.raises(ValueError, match="calls layer busy twice"):
        build(events, Unused(), maps="busy").forward_maps(x, "busy")


def test_outputs_that_do_not_fit(events: Events) -> None:
    with pytest.raises(ValueError, match=r"the module returned \(20, 2\) for 20 events and \('a',\)"):
        ImageModel(net(), ("a",), events.schema).logits(events)


def test_images_of_another_shape(events: Events) -> None:
    wide = dataclasses.replace(LAYOUT, columns=ImageAxis("phi", 3))
    other = events.replace(schema=dataclasses.replace(events.schema, image=wide))
    with pytest.raises(
        ValueError, match="trained on images of 1 channel of 4 x 2 pixels, these events have 1 ch"
    ):
        build(events).logits(other)
    with pytest.raises(ValueError, match=r"images \(1, 1, 4, 3\) for a model of 1 channel of 4 x 2 pixels"):
        build(events).forward_image(torch.zeros(1, 1, 4, 3))


def test_other_bins_of_the_same_number(events: Events) -> None:
    moved = dataclasses.replace(LAYOUT, columns=ImageAxis("phi", (-3.0, 0.0, 3.0)))
    other = events.replace(schema=dataclasses.replace(events.schema, image=moved))
    with pytest.raises(
        ValueError, match=r"the model was trained on the image .*-2.0.*, these events have .*-3.0"
    ):
        build(events).logits(other)


def test_no_image(events: Events, toy: ToyEvents) -> None:
    plain = toy(3)
    with pytest.raises(ValueError, match="the schema of the model has no image"):
        build(plain)
    with pytest.raises(ValueError, match="the events have no image; say image: on the data-set card"):
        build(events).logits(plain)
