"""A user's torch module on images: what it scores, shows and refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from image_events import make_images
from torch import Tensor, nn

from hepxai.core import chunks
from hepxai.events import Events
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.explainers import explain
from hepxai.models.protocols import HasLinearReadout
from hepxai.models.wrappers.image import ImageModel

ToyEvents = Callable[..., Events]
LAYOUT = ImageLayout(
    ImageAxis("eta", (-2.0, -1.0, 0.0, 1.0, 2.0)), ImageAxis("phi", (-2.0, 0.0, 2.0)), ("jet",), "lit"
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


# --- real-valued images ------------------------------------------------------------------------------


def showers(n: int = 200, value: str | None = "energy") -> Events:
    """Cells of a calorimeter: as many in both classes, and more energy in those of one of them."""
    events = make_images(n, noise=2.0)
    label = np.arange(n) % 2
    energy = np.random.default_rng(3).exponential(1 + 5 * label[events.parent]) + 0.5
    image = dataclasses.replace(events.schema.image, value=value)
    schema = dataclasses.replace(
        events.schema,
        features=("layer", "strip", "energy"),
        units=("", "", "GeV"),
        classes=("pion", "electron"),
        targets=(),
        target_units=(),
        image=image,
    )
    particles = np.column_stack([events.particles, energy]).astype(np.float32)
    targets = np.zeros((n, 0), dtype=np.float32)
    return events.replace(schema=schema, particles=particles, label=label, targets=targets)


def calorimeter(x: Tensor, label: Tensor) -> nn.Sequential:
    """A small network trained on images of energies."""
    torch.manual_seed(5)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    )
    adam = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(60):
        adam.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(module(x)[:, 0], label).backward()
        adam.step()
    return module


def test_a_calorimeter_keeps_its_energies() -> None:
    events = showers()
    energies = np.zeros((len(events), 1, 6, 40), dtype=np.float32)  # as the user made them, by hand
    layer, strip, energy = events.particles.T
    np.add.at(energies, (events.parent, 0, layer.astype(int), np.floor(strip).astype(int)), energy)
    x, label = torch.as_tensor(energies), torch.as_tensor(events.label, dtype=torch.float32)
    module = calorimeter(x, label)
    model = ImageModel(module, ("electron",), events.schema, maps="1")
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(model.logits(events), expected, atol=1e-5)
    full = events.counts > 0
    assert ((model.logits(events)[:, 0] > 0) == events.label)[full].mean() > 0.9
    for path in ("straight", "lighting"):
        attribution = explain(model, events[:20], "image_ig", path=path)
        assert attribution.checks["median_residual"] < 0.01
        on_cells = np.abs(attribution.values)[energies[:20, 0] > 0].sum()
        assert on_cells == pytest.approx(np.abs(attribution.values).sum())
    for method in ("saliency", "smoothgrad", "ram"):
        assert np.isfinite(explain(model, events[:5], method).values).all()
    with pytest.raises(
        ValueError, match=r"salt.*those of this image are sums of energy; take noise='gaussian'"
    ):
        explain(model, events[:5], "smoothgrad", noise="salt")
    explain(model, events[:5], "smoothgrad", noise="gaussian", level=0.5)
    means = explain(model, events[:5], "image_ig", baseline=events[events.label == 0]).settings["baseline"]
    own = events.label == 0
    np.testing.assert_allclose(
        means, np.average(energies[own], axis=0, weights=events.weight[own]), rtol=1e-4
    )


def test_an_image_that_does_not_say_what_it_holds() -> None:
    events = showers(value=None)
    message = r"particles have energy: write value: energy under image: .*, or value: lit, if it was"
    with pytest.raises(ValueError, match=message):
        ImageModel(net(), ("a", "b"), events.schema)
    for value in ("energy", "lit"):
        said = showers(value=value)
        model = ImageModel(net(), ("a", "b"), said.schema)
        with pytest.raises(ValueError, match=r"trained on the image .*read them with the data-set card"):
            model.logits(events)


def test_no_image(events: Events, toy: ToyEvents) -> None:
    plain = toy(3)
    with pytest.raises(ValueError, match="the schema of the model has no image"):
        build(plain)
    with pytest.raises(ValueError, match="the events have no image; say image: on the data-set card"):
        build(events).logits(plain)


@pytest.mark.parametrize("layer", ["0", "2"])
def test_the_rest_behind_a_layer(layer: str) -> None:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3)]
    net = nn.Sequential(*convolutions, nn.Flatten(), nn.LazyLinear(1))
    events = Events.from_images(np.random.default_rng(0).random((3, 1, 6, 9)).astype(np.float32))
    x = torch.as_tensor(events.image())
    net(x)
    model = ImageModel(net, ("pt",), events.schema)
    outputs, maps = model.forward_maps(x, layer)
    torch.testing.assert_close(model.forward_after(maps, layer, x), outputs)
    blank = model.forward_after(maps * 0, layer, x)
    torch.testing.assert_close(blank, blank[:1].expand(3, 1))
    assert not net.get_submodule(layer)._forward_hooks
