"""Maps of each channel: they add up to the map of all, and everything that takes a map takes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_networks import energy_images
from torch import nn

from hepxai.attribution import CHANNEL_PIXELS, PIXELS
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.export.branches import lit_places
from hepxai.metrics.pixels import flat
from hepxai.models.wrappers.image import ImageModel
from hepxai.plots import plot

SHAPE = (2, 5, 8)


@pytest.fixture(scope="module")
def energies() -> Events:
    return energy_images(6, lit=0.4, shape=SHAPE, empty=0)


@pytest.fixture(scope="module")
def model(energies: Events) -> ImageModel:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ]
    return ImageModel(nn.Sequential(*layers), ("g", "q", "t"), energies.schema)


@pytest.mark.parametrize("method", ["image_ig", "saliency", "smoothgrad"])
def test_channels_add_up_to_the_map(method: str, energies: Events, model: ImageModel) -> None:
    each = explain(model, energies, method, target="t-rest", channels="each")
    together = explain(model, energies, method, target="t-rest")
    assert (each.axes, together.axes) == (CHANNEL_PIXELS, PIXELS)
    assert each.labels["channel"] == energies.image_layout().types
    np.testing.assert_allclose(each.sum("channel").values, together.values, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(flat(each), flat(together), rtol=1e-5, atol=1e-7)


def test_a_channel_has_its_own_gradient(energies: Events, model: ImageModel) -> None:
    each = explain(model, energies, "saliency", target="t-g", channels="each", signed=True)
    x = torch.as_tensor(energies.image()).requires_grad_(True)
    logits = model.forward_image(x)
    (slope,) = torch.autograd.grad((logits[:, 2] - logits[:, 0]).sum(), x)
    np.testing.assert_allclose(each.values, slope, rtol=1e-5, atol=1e-8)


def test_no_events(energies: Events, model: ImageModel) -> None:
    each = explain(model, energies[:0], "saliency", target="t-g", channels="each")
    assert each.values.shape == (0, *SHAPE)


def test_a_particle_has_the_value_of_its_channel(energies: Events, model: ImageModel) -> None:
    each = explain(model, energies, "image_ig", target="t-rest", channels="each")
    lights, event, place = lit_places(each)
    assert lights.all()
    values = each.values.reshape(len(energies), -1)[event, place]
    channel, row, column = np.unravel_index(energies.pixels(), SHAPE)
    np.testing.assert_array_equal(values, each.values[energies.parent, channel, row, column])


def test_figures(energies: Events, model: ImageModel) -> None:
    each = explain(model, energies, "image_ig", target="t-rest", channels="each")
    for attribution in (each, each.select(channel="channel_1")):
        for event in (None, 2):
            assert plot(attribution, event).get_xlabel() == "column"
