"""Gradient and deep SHAP of images: against captum, shap and formulas in loops, and the silent traps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import DeepLiftShap
from image_helpers import image_events, image_model
from image_networks import CLASSES, SHAPE, Shifted, energy_images, energy_model, pooling_network
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.explainers.libraries import import_extra, isolated_rng

METHODS = ("image_gradient_shap", "image_deep_shap")


@pytest.fixture(scope="module")
def events() -> Events:
    return energy_images()


@pytest.fixture(scope="module")
def smooth(events: Events) -> Any:
    torch.manual_seed(1)
    first = (nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return energy_model(nn.Sequential(*first, nn.Linear(16, 3)), events)


# --- gradient -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", ["sum", "each"])
def test_gradients_are_right_within_their_errors(events: Events, smooth: Any, channels: str) -> None:
    """Erion et al., eq. 3: Integrated Gradients from each background image, in the mean."""
    rows = energy_images(6, seed=5).image()
    found = explain(
        smooth, events, "image_gradient_shap", target="t-g", rows=rows, channels=channels, samples=150
    )
    each = [
        explain(smooth, events, "image_ig", target="t-g", baseline=r, steps=24, channels=channels)
        for r in rows
    ]
    moved = found.error > 0
    pull = (found.values - np.mean([m.values for m in each], axis=0))[moved] / found.error[moved]
    assert abs(pull.mean()) < 0.4
    assert np.std(pull) == pytest.approx(1, abs=0.25)


def test_gradients_are_those_of_shap(events: Events, smooth: Any) -> None:
    """Other random numbers: they agree within the errors of both."""
    rows = energy_images(6, seed=5).image()
    found = explain(
        smooth, events[3:4], "image_gradient_shap", target="q-t", rows=rows, channels="each", samples=300
    )
    with isolated_rng():
        gradients = import_extra("shap", "this test").GradientExplainer
        engine = gradients(smooth.module.eval(), torch.as_tensor(rows), batch_size=100)
        values = engine.shap_values(torch.as_tensor(events.image()[3:4]), nsamples=300, rseed=0)
    moved = found.error > 0
    pull = (found.values - values @ [0, 1, -1])[moved] / (np.sqrt(2) * found.error[moved])
    assert np.std(pull) < 1.4


def test_gradients_add_up_in_expectation(events: Events, smooth: Any) -> None:
    found = explain(smooth, events, "image_gradient_shap", target="t-rest", sample="all")
    score = smooth.logits(events) @ [-0.5, -0.5, 1]
    np.testing.assert_allclose(found.output_change, score - found.settings["expected"], atol=1e-6)
    assert (np.abs(found.residual) < 5 * found.error.sum((1, 2))).all()


def test_random_numbers_belong_to_the_event(events: Events, smooth: Any) -> None:
    settings = {"target": "t-g", "rows": events.image()[:5], "samples": 9}
    whole = explain(smooth, events, "image_gradient_shap", **settings)
    alone = explain(smooth, events[[7]], "image_gradient_shap", **settings)
    np.testing.assert_allclose(alone.values[0], whole.values[7], rtol=1e-4, atol=1e-7)
    other = explain(smooth, events, "image_gradient_shap", **settings, seed=1)
    assert not np.allclose(whole.values, other.values, rtol=1e-2)


# --- deep -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_deep_equals_captum(events: Events, smooth: Any) -> None:
    """Without pooling of maxima, for which captum's rule is another."""
    rows = energy_images(7, seed=5).image()
    found = explain(smooth, events, "image_deep_shap", target="q-g", rows=rows, channels="each")
    engine, images = (
        DeepLiftShap(smooth.module.eval()),
        (torch.as_tensor(events.image()), torch.as_tensor(rows)),
    )
    one, other = (engine.attribute(*images, target=k).detach() for k in (1, 0))
    np.testing.assert_allclose(found.values, one - other, rtol=1e-3, atol=1e-5)


def slow_maximum(x: np.ndarray, row: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rule of shap for the maximum of a 2 x 2 window with a linear layer behind it, window by window.

    What the window gains above the larger of the two maxima's overlap goes to the largest pixel of the image,
    what it loses to the largest pixel of the background image.
    """
    values = np.zeros_like(x)
    for i in range(0, x.shape[0], 2):
        for j in range(0, x.shape[1], 2):
            window, other = x[i : i + 2, j : j + 2], row[i : i + 2, j : j + 2]
            top, w = max(window.max(), other.max()), weight[i // 2, j // 2]
            for image, gain in ((window, top - other.max()), (other, window.max() - top)):
                place = np.unravel_index(image.argmax(), (2, 2))
                if window[place] != other[place]:
                    values[i + place[0], j + place[1]] += w * gain
    return values


def test_deep_maximum_by_hand() -> None:
    events = energy_images(4, seed=2, lit=1.0, shape=(1, 4, 6))
    last = nn.Linear(6, 3)
    model = energy_model(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), last), events)
    rows = energy_images(4, seed=8, lit=1.0, shape=(1, 4, 6)).image()[1:]
    found = explain(model, events[1:], "image_deep_shap", target="t-g", rows=rows)
    weight = (last.weight[2] - last.weight[0]).detach().numpy().reshape(2, 3)
    expected = [np.mean([slow_maximum(x[0], r[0], weight) for r in rows], axis=0) for x in events.image()[1:]]
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", [nn.MaxPool2d(2), nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2)])
def test_deep_adds_up(events: Events, pooling: nn.Module) -> None:
    net = pooling_network()
    net[3] = pooling
    model = energy_model(net, events)
    found = explain(model, events, "image_deep_shap", target="t-rest", size=5)
    total = found.values.sum((1, 2)) + found.settings["expected"]
    np.testing.assert_allclose(total, model.logits(events) @ [-0.5, -0.5, 1], atol=1e-4)
    assert found.checks["p90_residual"] < 1e-3


class Functional(nn.Module):
    """Its activation is a function: no hook can be put on it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(96, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x)).flatten(1))


UNKNOWN = nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())


@pytest.mark.parametrize("net", [Functional(), UNKNOWN])
def test_deep_refuses_what_shap_does_not_know(events: Events, net: nn.Module) -> None:
    model = energy_model(net, events)
    message = "(do not add up .*|no rule for AdaptiveMaxPool2d, SiLU); .* take image_ig, or image_kernel_shap"
    with pytest.raises((ArithmeticError, CannotExplainError), match=message):
        explain(model, events, "image_deep_shap", target="t-g", size=5)
    for remedy, settings in (("image_ig", {"steps": 4}), ("image_kernel_shap", {"block": (2, 3)})):
        explain(model, events, remedy, target="t-g", **settings)


# --- both -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_linear_model_by_hand(events: Events, method: str) -> None:
    """Weight times difference from the mean background image."""
    last = nn.Linear(int(np.prod(SHAPE)), 3)
    model = energy_model(nn.Sequential(nn.Flatten(), last), events)
    rows = events.image()[2:4]
    few = {"samples": 4000} if method == "image_gradient_shap" else {}
    found = explain(model, events[5:7], method, target="t-g", rows=rows, channels="each", **few)
    weight = (last.weight[2] - last.weight[0]).detach().numpy().reshape(SHAPE)
    expected = weight * (events.image()[5:7] - rows.mean(0))
    np.testing.assert_allclose(found.values, expected, atol=0.05 if few else 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_contrast_is_invariant_and_channels_add_up(events: Events, method: str) -> None:
    net, rows = pooling_network(), events.image()[:4]
    model, shifted = energy_model(net, events), energy_model(Shifted(net), events)
    one, two = (explain(m, events, method, target="t-rest", rows=rows) for m in (model, shifted))
    np.testing.assert_allclose(one.values, two.values, atol=1e-5)
    each = explain(model, events, method, target="t-rest", rows=rows, channels="each")
    np.testing.assert_allclose(each.sum("channel").values, one.values, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_regression_of_binary_images(method: str) -> None:
    events, model = image_events(6), image_model(7)
    found = explain(model, events, method, target="pt", sample="all", size=5)
    assert found.values.shape == (6, 5, 16)
    assert found.unit == "GeV"
    nothing = explain(model, events[:0], method, target="pt", rows=events)
    assert nothing.values.shape == (0, 5, 16)


@pytest.mark.parametrize("method", METHODS)
def test_background_images(events: Events, method: str) -> None:
    model = energy_model(pooling_network(), events)
    drawn = explain(model, events, method, target="t-g", size=3, seed=4)
    again = explain(model, events, method, target="t-g", size=3, seed=4)
    assert np.array_equal(drawn.values, again.values)
    given = explain(model, events[:2], method, target="t-g", rows=events[3:6])
    assert given.settings["rows"].startswith("3 images, sha256 ")
    mean = (model.logits(events[3:6]) @ [-1, 0, 1]).mean()
    assert given.settings["expected"] == pytest.approx(mean, rel=1e-5)
    with pytest.raises(
        ValueError, match=r"rows have shape \(3, 4, 6\); images of shape \(2, 4, 6\) are needed"
    ):
        explain(model, events, method, target="t-g", rows=np.zeros((3, 4, 6)))
    nobody = events.replace(label=np.ones(len(events), dtype=np.int64))
    with pytest.raises(ValueError, match=f"no event of class '{CLASSES[0]}' .* give the `rows`"):
        explain(model, nobody, method, target="t-g")
    explain(model, nobody[:2], method, target="t-g", sample="all", size=2)
