"""Occlusion: against captum and the definition, with and without recomputing only what changes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from image_helpers import LAYERS, SCHEMA, STRIPS, image_events, image_model, with_hits
from image_networks import energy_images, opaque
from torch import nn

from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError, SettingError, explain
from hepxai.explainers.image.images import blurred, mean_image
from hepxai.models.wrappers.image import ImageModel

SHAPE = (2, 5, 9)


@pytest.fixture(scope="module")
def energies() -> Events:
    return energy_images(7, lit=0.3, shape=SHAPE, empty=0)


@pytest.fixture(scope="module")
def model(energies: Events) -> ImageModel:
    torch.manual_seed(0)
    first = (
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d((1, 2)),
        nn.Dropout(0.5),
    )
    net = nn.Sequential(*first, nn.Flatten(), nn.Linear(4 * 5 * 4, 3))
    return ImageModel(net, ("g", "q", "t"), energies.schema)


WINDOWS = [((3, 3), (1, 1)), ((2, 4), (2, 3)), ((5, 9), (1, 1)), ((1, 2), (1, 2))]


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
@pytest.mark.parametrize("channels", ["sum", "each"])
def test_equals_captum(
    energies: Events, model: ImageModel, window: tuple[int, int], stride: tuple[int, int], channels: str
) -> None:
    """Also where the last window is cut off at the border."""
    settings: dict[str, Any] = {"window": window, "stride": stride, "channels": channels, "baseline": 0.25}
    x, depth = torch.as_tensor(energies.image()), SHAPE[0] if channels == "sum" else 1
    model.module.eval()
    expected = CaptumOcclusion(model.module).attribute(
        x, (depth, *window), (1, *stride), baselines=0.25, target=2
    )
    expected = expected[:, 0] if channels == "sum" else expected
    size = float(abs(expected).max())
    single = ImageModel(nn.Sequential(*model.module, Last()), ("t",), energies.schema)
    for one in (single, opaque(single)):
        values = explain(one, energies, "occlusion", **settings).values
        np.testing.assert_allclose(values, expected.detach(), rtol=0, atol=1e-5 * size)


class Last(nn.Module):
    """The last output alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, -1:]


def slow_occlusion(
    score: Any, x: np.ndarray, start: np.ndarray, window: tuple[int, int], stride: tuple[int, int]
) -> np.ndarray:
    """Zeiler & Fergus: one window at a time, all channels; mean over those that cover a pixel."""
    total, number = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    whole = score(x)
    for i in range(0, x.shape[1] - window[0] + stride[0], stride[0]):
        for j in range(0, x.shape[2] - window[1] + stride[1], stride[1]):
            place = (slice(i, i + window[0]), slice(j, j + window[1]))
            other = x.copy()
            other[(slice(None), *place)] = start[(slice(None), *place)]
            total[place] += whole - score(other)
            number[place] += 1
    return total / number


@pytest.mark.parametrize("baseline", [0.0, "blurred", "mean"])
@pytest.mark.parametrize(("window", "stride"), WINDOWS[:2])
def test_equals_the_definition(
    energies: Events, model: ImageModel, baseline: Any, window: tuple[int, int], stride: tuple[int, int]
) -> None:
    x = energies.image()
    start = {0.0: np.zeros_like(x), "blurred": blurred(x, 4.0), "mean": 0 * x + mean_image(energies)}[
        baseline
    ]
    given = energies if baseline == "mean" else baseline
    found = explain(model, energies, "occlusion", target="t-q", window=window, stride=stride, baseline=given)

    def score(image: np.ndarray) -> float:
        logits = model.score_image(image[None].astype(np.float32))[0]
        return float(logits[2] - logits[1])

    slow = [
        slow_occlusion(score, a, b.astype(np.float32), window, stride) for a, b in zip(x, start, strict=True)
    ]
    np.testing.assert_allclose(found.values, slow, rtol=0, atol=2e-6)


def test_a_linear_model_by_hand() -> None:
    """A window of one pixel gives w_p x_p."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(LAYERS * STRIPS, 1))
    events = image_events(5)
    found = explain(ImageModel(net, ("pt",), SCHEMA), events, "occlusion", window=1)
    weight = net[1].weight.detach().numpy().reshape(LAYERS, STRIPS)
    np.testing.assert_allclose(found.values, weight * events.image()[:, 0], atol=1e-6)


def test_windows_without_a_difference_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    events, model = with_hits(image_events(), [[], [(0, 0)]]), opaque(image_model(7))
    number: list[int] = []
    score = ImageModel.score_image
    monkeypatch.setattr(ImageModel, "score_image", lambda m, x: number.append(len(x)) or score(m, x))
    found = EXPLAINERS["occlusion"](window=2).prepare(model, events, "pt").attribute(events)
    assert not found.values[0].any()
    np.testing.assert_array_equal(found.values[1] != 0, np.indices((LAYERS, STRIPS)).max(0) < 2)
    assert found.checks["scored_windows"] == pytest.approx(1 / (2 * (LAYERS - 1) * (STRIPS - 1)))
    assert sorted(number) == [1, 2]  # one of 120 windows, and the images themselves


def test_no_events(model: ImageModel, energies: Events) -> None:
    found = explain(model, energies[:0], "occlusion", target="t-g", channels="each")
    assert found.values.shape == (0, *SHAPE)


def test_events_are_independent(model: ImageModel, energies: Events) -> None:
    whole = explain(model, energies, "occlusion", target="t-g")
    turned = explain(model, energies[::-1], "occlusion", target="t-g")
    np.testing.assert_allclose(turned.values[::-1], whole.values, rtol=0, atol=1e-6)


def test_channels_interact(model: ImageModel, energies: Events) -> None:
    each = explain(model, energies, "occlusion", target="t-g", channels="each")
    assert each.labels["channel"] == energies.image_layout().types
    together = explain(model, energies, "occlusion", target="t-g")
    assert not np.allclose(each.sum("channel").values, together.values, atol=1e-4)


def test_bad_settings(model: ImageModel, energies: Events) -> None:
    for bad in (
        {"window": 0},
        {"window": (1, 2, 3)},
        {"window": "all"},
        {"stride": (1, 4)},
        {"baseline": "x"},
    ):
        with pytest.raises(SettingError, match="occlusion"):
            explain(model, energies, "occlusion", target="t-g", **bad)
    problem = "a window of 3 x 10 is larger than the image of 5 x 9 pixels; give window=(3, 9) or less"
    with pytest.raises(ValueError, match=re.escape(problem)):
        explain(model, energies, "occlusion", target="t-g", window=(3, 10))
    assert explain(model, energies[:1], "occlusion", target="t-g", window=(3, 9)).values.any()


def test_a_model_without_images(table_model: Any, events: Events) -> None:
    with pytest.raises(CannotExplainError, match="occlusion needs Imaging"):
        explain(table_model, events, "occlusion")
