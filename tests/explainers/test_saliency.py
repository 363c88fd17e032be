"""Saliency: against captum, by hand where the model is linear, and its cap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from image_helpers import LAYERS, SCHEMA, STRIPS, image_events, image_model, with_hits
from torch import nn

from hepxai.explainers import explain
from hepxai.models.wrappers.image import ImageModel


@pytest.mark.parametrize("signed", [False, True])
def test_equals_captum(signed: bool) -> None:
    events, model = image_events(), image_model(7)
    found = explain(model, events, "saliency", target="eta", signed=signed)
    x = torch.as_tensor(events.image()).requires_grad_(True)
    expected = Saliency(model.forward_image).attribute(x, target=1, abs=not signed)
    np.testing.assert_allclose(found.values, expected[:, 0].detach(), rtol=1e-5, atol=1e-8)
    assert found.residual is None


def test_a_linear_model_shows_its_weights() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(LAYERS * STRIPS, 1))
    found = explain(ImageModel(net, ("pt",), SCHEMA), image_events(3), "saliency", signed=True)
    weight = net[1].weight.detach().numpy().reshape(LAYERS, STRIPS)
    for values in found.values:
        np.testing.assert_array_equal(values, weight)


def test_the_cap_is_a_quantile_of_each_image() -> None:
    events, model = image_events(), image_model(7)
    plain = explain(model, events, "saliency", target="pt", signed=True).values
    found = explain(model, events, "capped_saliency", target="pt", signed=True, quantile=0.9).values
    for values, capped in zip(plain, found, strict=True):
        cap = np.quantile(abs(values), 0.9)
        np.testing.assert_allclose(capped, np.clip(values, -cap, cap), rtol=1e-5, atol=1e-9)


def test_no_cap_is_saliency() -> None:
    events, model = image_events(), image_model(7)
    whole = explain(model, events, "capped_saliency", target="pt", quantile=1.0)
    np.testing.assert_allclose(
        whole.values, explain(model, events, "saliency", target="pt").values, rtol=1e-6
    )


def test_no_hits() -> None:
    """The gradient of an empty image is where light would help; nothing special about it."""
    found = explain(image_model(7), with_hits(image_events(), [[], []]), "saliency", target="pt")
    assert np.isfinite(found.values).all()
    np.testing.assert_array_equal(*found.values)


@pytest.mark.parametrize("quantile", [0, 1.1, "all"])
def test_quantiles_that_cannot_be(quantile: Any) -> None:
    with pytest.raises(
        ValueError, match=r"quantile=.*; should be (greater than 0|less than or equal to 1|a valid number)"
    ):
        explain(image_model(), image_events(), "capped_saliency", target="pt", quantile=quantile)
