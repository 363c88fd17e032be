"""SmoothGrad: against its formula on the same noise, captum in the mean, and its own error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from image_helpers import LAYERS, STRIPS, image_events, image_model, with_hits

from hepxai.core import chunks
from hepxai.explainers import explain
from hepxai.explainers.image.image_ig import ImageIG
from hepxai.explainers.image.smoothgrad import SmoothGrad
from hepxai.explainers.path import STEPS


@pytest.mark.parametrize("noise", ["gaussian", "salt"])
def test_equals_the_mean_over_its_own_noise(noise: str) -> None:
    events, model = image_events(4), image_model(7)
    settings = {"noise": noise, "level": 0.2, "samples": 9, "seed": 3}
    found = explain(model, events, "smoothgrad", target="pt", **settings)
    copies = SmoothGrad(**settings).noisy(torch.as_tensor(events.image()), events)
    copies = copies.view(4, 9, 1, LAYERS, STRIPS)
    for e in range(4):
        maps = []
        for s in range(9):
            x = copies[e, s][None].clone().requires_grad_(True)
            model.forward_image(x)[0, 0].backward()
            maps.append(x.grad[0, 0].numpy())
        np.testing.assert_allclose(found.values[e], np.mean(maps, axis=0), rtol=1e-4, atol=1e-7)
        error = np.std(maps, axis=0, ddof=1) / 3
        np.testing.assert_allclose(found.error[e], error, rtol=1e-3, atol=1e-7)


def test_agrees_with_captum() -> None:
    """Captum has other noise: they agree within errors."""
    events, model = image_events(3), image_model(7)
    found = explain(model, events, "smoothgrad", target="eta", level=0.3, samples=400)
    torch.manual_seed(1)
    expected = NoiseTunnel(Saliency(model.forward_image)).attribute(
        torch.as_tensor(events.image()), nt_samples=400, stdevs=0.3, target=1, abs=False
    )
    pull = (found.values - expected[:, 0].numpy()) / (np.sqrt(2) * found.error + 1e-9)
    assert abs(pull.mean()) < 0.5
    assert 0.5 < pull.std() < 1.3


def test_integrated_gradients_add_up_in_the_mean() -> None:
    events, model = image_events(4), image_model(7)
    settings = {"base": "image_ig", "noise": "salt", "level": 0.05, "samples": 6}
    found = explain(model, events, "smoothgrad", target="pt", **settings)
    assert found.checks["median_residual"] <= 0.02
    copies = SmoothGrad(**settings).noisy(torch.as_tensor(events.image()), events)
    scores = model.score_image(copies.numpy())[:, 0].reshape(4, 6).mean(1)
    empty = model.score_image(np.zeros((1, 1, LAYERS, STRIPS), np.float32))[0, 0]
    np.testing.assert_allclose(found.output_change, scores - empty, rtol=1e-4, atol=1e-6)
    prepared = ImageIG(steps=found.settings["steps"]).prepare(model, events, "pt")
    maps = prepared.from_baseline(copies).values[:, 0].view(4, 6, LAYERS, STRIPS)
    np.testing.assert_allclose(found.values, maps.mean(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tolerance", [0.02, 0.005])
def test_steps_are_chosen_on_noisy_copies(tolerance: float) -> None:
    """Here the sample is all there is: the tolerance is met, and not with fewer steps."""
    events, model = image_events(6), image_model(7)
    settings = {"base": "image_ig", "noise": "salt", "level": 0.3, "samples": 4, "tolerance": tolerance}
    found = explain(model, events, "smoothgrad", target="pt", **settings)
    assert found.checks["median_residual"] <= tolerance
    fewer = [n for n in STEPS if n < found.settings["steps"]][-1:]
    for steps in fewer:
        found = explain(model, events, "smoothgrad", target="pt", **settings, steps=steps)
        assert found.checks["median_residual"] > tolerance


def test_no_noise_is_the_gradient() -> None:
    events, model = image_events(), image_model(7)
    found = explain(model, events, "smoothgrad", target="pt", level=0, samples=2)
    plain = explain(model, events, "saliency", target="pt", signed=True)
    np.testing.assert_allclose(found.values, plain.values, rtol=1e-5, atol=1e-8)
    assert (found.error == 0).all()


def test_salt_keeps_binary_pixels() -> None:
    events = image_events(8)
    x = torch.as_tensor(events.image())
    copies = SmoothGrad(noise="salt", level=0.1, samples=50).noisy(x, events).view(8, 50, *x.shape[1:])
    assert set(copies.unique().tolist()) == {0.0, 1.0}
    assert (copies >= x[:, None]).all()
    share = (copies > x[:, None]).sum() / (50 * (x == 0).sum())
    assert float(share) == pytest.approx(0.1, abs=0.01)


def test_gaussian_noise_has_its_width() -> None:
    events = image_events(8)
    x = torch.as_tensor(events.image())
    noise = SmoothGrad(level=0.3, samples=50).noisy(x, events).view(8, 50, *x.shape[1:]) - x[:, None]
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)


def test_noise_belongs_to_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same alone, in any company and in chunks of any size; another seed gives another."""
    events, model = image_events(10), image_model(7)
    settings = {"target": "pt", "samples": 7, "seed": 5}
    whole = explain(model, events, "smoothgrad", **settings)
    alone = explain(model, events[[6]], "smoothgrad", **settings)
    np.testing.assert_allclose(alone.values[0], whole.values[6], rtol=1e-4, atol=1e-7)
    monkeypatch.setattr(chunks, "PIXELS", 3 * LAYERS * STRIPS)
    cut = explain(model, events, "smoothgrad", **settings)
    np.testing.assert_allclose(cut.values, whole.values, rtol=1e-4, atol=1e-7)
    other = explain(model, events, "smoothgrad", **settings | {"seed": 6})
    assert not np.allclose(other.values, whole.values, rtol=1e-3)
    assert not np.allclose(whole.error[0], whole.error[1])


def test_the_error_covers() -> None:
    """Means of many seeds scatter as the error says."""
    events, model = image_events(1), image_model(7)
    found = [
        explain(model, events, "smoothgrad", target="pt", samples=20, level=0.5, seed=s) for s in range(40)
    ]
    scatter = np.std([f.values for f in found], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([f.error**2 for f in found], axis=0))
    assert np.median(scatter / claimed) == pytest.approx(1, abs=0.1)


def test_no_hits() -> None:
    events = with_hits(image_events(), [[], []])
    found = explain(image_model(7), events, "smoothgrad", target="pt", samples=3)
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base": "ram"}, "smoothgrad.base='ram'; should be 'gradient' or 'image_ig'"),
        ({"noise": "pepper"}, "noise='pepper'; should be 'gaussian' or 'salt'"),
        ({"samples": 1}, "samples=1; should be greater than or equal to 2"),
        ({"seed": -1}, "seed=-1; should be greater than or equal to 0"),
        ({"level": -0.1}, "level=-0.1; should be greater than or equal to 0"),
        ({"level": 1.5, "noise": "salt"}, "level=1.5; should be a number from 0 to 1 for noise='salt'"),
        ({"base": "image_ig", "baseline": "grey"}, "baseline='grey'; should be 'blurred', a number"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(image_model(), image_events(), "smoothgrad", target="pt", **settings)
