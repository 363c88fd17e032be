"""Regression Activation Maps: against the paper's sum, Grad-CAM's weights, and the promise of the mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from image_helpers import LAYERS, SCHEMA, STRIPS, cnn, image_events, image_model, other_shape, with_hits
from torch import nn

from hepxai.explainers import CannotExplainError, explain
from hepxai.explainers.image.feature_maps import upsampled
from hepxai.models.protocols import HasFeatureMaps, HasLinearReadout
from hepxai.models.wrappers.image import ImageModel

PIXELS = LAYERS * STRIPS


def pooled_twice() -> ImageModel:
    """Maps of half the size."""
    net = cnn()
    net.insert(2, nn.MaxPool2d(2))
    return ImageModel(net, ("pt", "eta"), SCHEMA, maps="4")


@pytest.mark.parametrize("target", ["pt", "eta"])
def test_equals_the_sum_of_the_paper(target: str) -> None:
    events, model = image_events(), image_model()
    found = explain(model, events, "ram", target=target)
    output = model.outputs.index(target)
    last = model.module[6]
    with torch.no_grad():
        maps = model.module[:4](torch.as_tensor(events.image()))
    expected = np.zeros((len(events), LAYERS, STRIPS))
    for k in range(maps.shape[1]):
        expected += last.weight[output, k].item() * maps[:, k].numpy()
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)
    assert found.settings["head"] == "linear"
    assert found.settings["bias"] == pytest.approx(last.bias[output].item())


@pytest.mark.parametrize("upsample", [True, False])
@pytest.mark.parametrize("model", [image_model(), pooled_twice()])
def test_mean_and_bias_are_the_output(model: ImageModel, upsample: bool) -> None:
    events = image_events()
    found = explain(model, events, "ram", target="eta", upsample=upsample)
    bias = found.settings["bias"]
    np.testing.assert_allclose(found.values.mean((1, 2)) + bias, model.logits(events)[:, 1], rtol=1e-4)
    np.testing.assert_allclose(found.residual, 0, atol=1e-4)
    assert found.checks["p90_residual"] < 1e-4


def test_own_resolution() -> None:
    found = explain(pooled_twice(), image_events(), "ram", target="pt", upsample=False)
    assert found.values.shape[1:] == (LAYERS // 2, STRIPS // 2)
    assert found.labels["column"] == tuple(map(str, range(STRIPS // 2)))


def test_upsampling_keeps_the_mean_and_a_constant() -> None:
    maps = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(upsampled(maps, (7, 33)).mean((1, 2)), maps.mean((1, 2)))
    torch.testing.assert_close(upsampled(torch.full((1, 2, 5), 3.0), (7, 33)), torch.full((1, 7, 33), 3.0))


def test_the_gradient_of_a_linear_head_is_its_weight() -> None:
    events, model = image_events(), image_model()
    exact, slope = (explain(model, events, "ram", target="pt", head=head) for head in ("linear", "gradient"))
    np.testing.assert_allclose(slope.values, exact.values, rtol=1e-4, atol=1e-6)
    assert slope.residual is None
    assert "median_residual" not in slope.checks


def test_a_dense_head_is_weighted_by_its_gradient() -> None:
    """Grad-CAM's weights from finite differences of the pooled maps, one by one."""
    events, model = image_events(), image_model(7)
    model.module[7] = nn.Softplus()
    found = explain(model, events, "ram", target="pt")
    assert found.settings["head"] == "gradient"
    net = model.module.double()
    with torch.no_grad():
        maps = net[:4](torch.as_tensor(events.image()).double())
        pooled = maps.mean((2, 3))
        for e in range(4):
            expected = np.zeros((LAYERS, STRIPS))
            for k in range(pooled.shape[1]):
                step = torch.zeros_like(pooled[e])
                step[k] = 1e-5
                up, down = (net[6:]((pooled[e] + s)[None])[0, 0] for s in (step, -step))
                expected += float(up - down) / 2e-5 * maps[e, k].numpy()
            np.testing.assert_allclose(found.values[e], expected, rtol=1e-3, atol=1e-6)


def test_another_layer_is_weighted_by_its_gradient() -> None:
    model = ImageModel(cnn(), ("pt", "eta"), SCHEMA)
    assert model.feature_layers == ("0", "2")
    found = explain(model, image_events(), "ram", target="pt", layer="0")
    assert found.settings["head"] == "gradient"
    assert found.values.any()


def test_no_hits_and_all_pixels_lit() -> None:
    every = [(r, c) for r in range(LAYERS) for c in range(STRIPS)]
    found = explain(image_model(), with_hits(image_events(), [[], every]), "ram", target="pt")
    np.testing.assert_allclose(found.residual, 0, atol=1e-4)


def test_protocols() -> None:
    assert isinstance(image_model(), HasLinearReadout)
    assert isinstance(image_model(), HasFeatureMaps)


# --- heads that are not linear ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(image_model(7), id="dense head"),
        pytest.param(ImageModel(cnn(), ("pt", "eta"), SCHEMA), id="maps before the activation"),
        pytest.param(ImageModel(cnn().append(nn.Tanh()), ("pt", "eta"), SCHEMA, maps="3"), id="tanh behind"),
        pytest.param(
            ImageModel(
                cnn()[:4].append(nn.AdaptiveMaxPool2d(1)).extend(cnn()[5:]), ("a", "b"), SCHEMA, maps="3"
            ),
            id="maximum instead of the mean",
        ),
    ],
)
def test_exact_is_refused(model: ImageModel) -> None:
    message = r"head='linear': the outputs of the module are not linear in the pooled maps of layer"
    with pytest.raises(CannotExplainError, match=message):
        explain(model, image_events(), "ram", target=model.outputs[0], head="linear")
    assert explain(model, image_events(), "ram", target=model.outputs[0]).residual is None


def test_no_linear_layer_at_all() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = ImageModel(net, ("pt", "eta"), SCHEMA)
    with pytest.raises(CannotExplainError, match=r"has no nn\.Linear"):
        explain(model, image_events(), "ram", target="pt", head="linear")
    assert explain(model, image_events(), "ram", target="pt").settings["head"] == "gradient"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "best"}, "head='best'; should be 'auto', 'linear' or 'gradient'"),
        ({"layer": "9"}, "the model has no layer '9' with maps; it has 3"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(image_model(), image_events(), "ram", target="pt", **settings)


def test_images_of_another_shape() -> None:
    with pytest.raises(ValueError, match="trained on images of 1 channel of 5 x 16 pixels"):
        explain(image_model(), other_shape(image_events()), "ram", target="pt")
