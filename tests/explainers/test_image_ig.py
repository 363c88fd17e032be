"""Integrated Gradients over pixels: against captum, the formula, Shapley's values and its own promise."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from image_helpers import LAYERS, STRIPS, image_events, image_model, other_shape, with_hits
from torch import nn

from hepxai.core import chunks
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.explainers.image.images import blurred
from hepxai.models.wrappers.image import ImageModel


@pytest.fixture
def events() -> Events:
    return image_events()


GIVEN = np.random.default_rng(4).random((LAYERS, STRIPS)).astype(np.float32)


@pytest.mark.parametrize("baseline", [0, 0.5, "blurred", GIVEN, GIVEN[None]])
def test_equals_captum(events: Events, baseline: Any) -> None:
    model = image_model(7)
    found = explain(model, events, "image_ig", target="eta", baseline=baseline, steps=10)
    x = torch.as_tensor(events.image())
    start = torch.as_tensor(blurred(x.numpy(), 4.0)) if isinstance(baseline, str) else None
    start = torch.zeros_like(x) + torch.as_tensor(baseline) if start is None else start
    expected = IntegratedGradients(model.forward_image).attribute(
        x, start, target=1, n_steps=10, method="gausslegendre"
    )
    np.testing.assert_allclose(found.values, expected[:, 0].detach(), rtol=1e-4, atol=1e-6)
    assert found.axes == ("event", "row", "column")


def test_equals_the_formula(events: Events) -> None:
    """Pixel by pixel, the gradient by finite differences, many equal steps."""
    model = image_model(7)
    model.module[1], model.module[3], model.module[7] = nn.Tanh(), nn.Softplus(), nn.Tanh()
    found = explain(model, events, "image_ig", target="pt", steps=16)
    net, x = model.module.double(), torch.as_tensor(events.image()).double()
    for e, r, c in ((1, 0, None), (2, 3, None), (3, 1, 4)):
        column = int(x[e, 0, r].argmax()) if c is None else c
        slope = 0.0
        step = torch.zeros_like(x[e])
        step[0, r, column] = 1e-4
        with torch.no_grad():
            for t in (np.arange(400) + 0.5) / 400:
                up, down = (net((t * x[e] + s)[None])[0, 0] for s in (step, -step))
                slope += float(up - down) / 2e-4 / 400
        expected = float(x[e, 0, r, column]) * slope
        assert found.values[e, r, column] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_unlit_pixels_get_nothing_from_an_empty_baseline(events: Events) -> None:
    found = explain(image_model(), events, "image_ig", target="pt", steps=4)
    assert (found.values[events.image()[:, 0] == 0] == 0).all()
    assert found.values[events.image()[:, 0] == 1].any()


def test_steps_are_chosen(events: Events) -> None:
    found = explain(image_model(7), events, "image_ig", target="pt")
    assert found.checks["median_residual"] <= 0.01
    assert found.settings["baseline"] == 0.0


def test_blurred_keeps_the_mean() -> None:
    x = np.random.default_rng(0).random((3, 2, LAYERS, STRIPS)).astype(np.float32)
    np.testing.assert_allclose(blurred(x, 2.0).mean((2, 3)), x.mean((2, 3)), rtol=1e-5)


# --- the lighting path -----------------------------------------------------------------------------------


def slow_lighting(model: ImageModel, image: torch.Tensor, start: torch.Tensor, output: int) -> np.ndarray:
    """Light the pixels one by one, from the first to the last and the other way round."""
    found = np.zeros(image.shape)
    pixels = [tuple(p) for p in torch.nonzero(image != start).tolist()]
    for order in (pixels, pixels[::-1]):
        now = start.clone()
        for p in order:
            before = model.score_image(now[None].numpy())[0, output]
            now[p] = image[p]
            found[p] += (model.score_image(now[None].numpy())[0, output] - before) / 2
    return found.sum(0)


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_lighting_path_equals_one_by_one(events: Events, baseline: float) -> None:
    model = image_model(7)
    found = explain(model, events, "image_ig", target="eta", path="lighting", baseline=baseline)
    for e in range(len(events)):
        image = torch.as_tensor(events.image()[e])
        expected = slow_lighting(model, image, torch.full_like(image, baseline), 1)
        np.testing.assert_allclose(found.values[e], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.residual, 0, atol=1e-5)
    assert "steps" not in {k for k, v in found.settings.items() if v is not None}


class Pairwise(nn.Module):
    """Pixels act alone and in pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.randn(s) * 0.3) for s in ((80,), (80, 80)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        return (flat @ self.one + ((flat @ self.two) * flat).sum(1))[:, None].repeat(1, 2)


def test_lighting_path_gives_shapley_values_of_pairs() -> None:
    torch.manual_seed(3)
    lit = [(0, 3), (1, 4), (3, 8), (4, 9)]
    events = with_hits(image_events(), [lit])
    model = ImageModel(Pairwise(), ("pt", "eta"), events.schema)
    found = explain(model, events, "image_ig", target="pt", path="lighting")
    expected = dict.fromkeys(lit, 0.0)
    for order in permutations(lit):
        image = np.zeros((1, 1, LAYERS, STRIPS), dtype=np.float32)
        for p in order:
            before = model.score_image(image)[0, 0]
            image[0, 0][p] = 1
            expected[p] += (model.score_image(image)[0, 0] - before) / 24
    for p, value in expected.items():
        assert found.values[0][p] == pytest.approx(value, rel=1e-4)


# --- chunks, and images at the ends ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["straight", "lighting"])
def test_flat_memory_over_many_events(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """No batch is larger than a chunk, and the chunks do not matter."""
    events, model, sizes = image_events(40), image_model(), []
    settings = {"target": "pt", "steps": 4, "path": path}
    whole = explain(model, events, "image_ig", **settings)
    handle = model.module[0].register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    monkeypatch.setattr(chunks, "PIXELS", 3 * LAYERS * STRIPS)
    found = explain(model, events, "image_ig", **settings)
    handle.remove()
    assert max(sizes) == 3
    np.testing.assert_allclose(found.values, whole.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.output_change, whole.output_change, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("path", ["straight", "lighting"])
def test_no_hits_and_all_pixels_lit(events: Events, path: str) -> None:
    every = [(r, c) for r in range(LAYERS) for c in range(STRIPS)]
    ends = with_hits(events, [[], every, []])
    found = explain(image_model(7), ends, "image_ig", target="pt", path=path, steps=32)
    assert (found.values[[0, 2]] == 0).all()
    assert (found.output_change[[0, 2]] == 0).all()
    assert np.count_nonzero(found.values[1]) > 0.9 * LAYERS * STRIPS
    assert found.residual[1] == pytest.approx(0, abs=0.02 * abs(found.output_change[1]))


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"baseline": "grey"},
            "baseline='grey'; should be 'blurred', a number, an image of numbers or",
        ),
        ({"baseline": np.nan}, "baseline=nan; should be 'blurred', a number"),
        ({"baseline": np.zeros((3, 3))}, r"the baseline has shape \(3, 3\); the images have \(1, 5, 16\)"),
        ({"path": "winding"}, "path='winding'; should be 'straight' or 'lighting'"),
        ({"blur": 0}, "blur=0; should be greater than 0"),
        ({"steps": 0}, "steps=0; should be greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be(events: Events, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(image_model(), events, "image_ig", target="pt", **settings)


def test_images_of_another_shape(events: Events) -> None:
    message = (
        "the model was trained on images of 1 channel of 5 x 16 pixels, these events have 1 channel of 5 x 17"
    )
    with pytest.raises(ValueError, match=message):
        explain(image_model(), other_shape(events), "image_ig", target="pt")


def test_other_models_are_told_what_works(events: Events) -> None:
    with pytest.raises(CannotExplainError, match=r"these methods work on it: .*image_ig.*saliency"):
        explain(image_model(), events, "node_ig", target="pt")
