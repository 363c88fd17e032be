"""LIME of images: against the regression written down, lime's own explainer, and linear models."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from image_helpers import LAYERS, SCHEMA, STRIPS, image_events, image_model, with_hits
from image_networks import energy_images
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, SettingError, explain
from hepxai.explainers.base import CheckWarning
from hepxai.explainers.libraries import RUNS, event_seeds
from hepxai.models.wrappers.image import ImageModel

SHAPE = (2, 6, 8)


@pytest.fixture(scope="module")
def energies() -> Events:
    return energy_images(4, lit=0.3, shape=SHAPE, classes=("q", "t"), empty=0)


@pytest.fixture(scope="module")
def model(energies: Events) -> ImageModel:
    torch.manual_seed(0)
    first = (nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return ImageModel(nn.Sequential(*first, nn.Linear(4, 2)), ("q", "t"), energies.schema)


def slow_fit(score: Any, x: np.ndarray, segment: np.ndarray, seed: int, n: int) -> tuple[np.ndarray, float]:
    """Ribeiro et al., eq. 2, one image at a time: coefficients and R² of the weighted ridge regression."""
    size = segment.max()
    z = np.random.RandomState(seed).randint(0, 2, (n, size))
    z[0] = 1
    y = np.empty(n)
    for i, row in enumerate(z):
        image = x.copy()
        for s in np.flatnonzero(row == 0):
            image[:, segment == s + 1] = 0
        y[i] = score(image)
    cosine = z.sum(1) / np.sqrt(np.maximum(z.sum(1), 1) * size)
    w = np.sqrt(np.exp(-((1 - cosine) ** 2) / 0.25**2))
    mean_z, mean_y = (w @ z) / w.sum(), (w @ y) / w.sum()
    a = z - mean_z
    slope = np.linalg.solve(a.T @ (a * w[:, None]) + np.eye(size), a.T @ (w * (y - mean_y)))
    left = y - mean_y - a @ slope
    return slope, 1 - (w @ left**2) / (w @ (y - mean_y) ** 2)


def test_equals_the_regression(energies: Events, model: ImageModel) -> None:
    settings: dict[str, Any] = {"block": (3, 2), "samples": 200, "seed": 5, "minimum_r2": 0.0}
    found = explain(model, energies, "image_lime", target="t-q", **settings)
    x, seeds, r2 = energies.image(), event_seeds(energies, 5, RUNS), []
    rows, columns = np.indices(SHAPE[1:])
    block = rows // 3 * 4 + columns // 2

    def score(image: np.ndarray) -> float:
        logits = model.score_image(image[None].astype(np.float32))[0]
        return float(logits[1] - logits[0])

    for e in range(len(energies)):
        lit = (x[e] != 0).any(0)
        segment = np.zeros(SHAPE[1:], dtype=int)
        segment[lit] = np.unique(block[lit], return_inverse=True)[1] + 1
        runs = [slow_fit(score, x[e], segment, int(s), 50) for s in seeds[e]]
        r2 += [r for _, r in runs]
        slopes = np.array([s for s, _ in runs]) / np.bincount(segment.ravel())[1:]
        padded = np.concatenate([[0], slopes.mean(0)]), np.concatenate([[0], slopes.std(0, ddof=1) / 2])
        np.testing.assert_allclose(found.values[e], padded[0][segment], atol=1e-6)
        np.testing.assert_allclose(found.error[e], padded[1][segment], atol=1e-6)
    assert found.checks["mean_r2"] == pytest.approx(np.mean(r2), abs=1e-4)


def test_equals_limes_own_explainer() -> None:
    """For three channels, which is all that it takes."""
    lime_image = pytest.importorskip("lime.lime_image")
    rng = np.random.default_rng(1)
    events = Events.from_images(
        rng.uniform(0.1, 1, (1, 3, 6, 8)).astype(np.float32), label=np.zeros(1, np.int64), classes=("q", "t")
    )
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(96, 1))
    model = ImageModel(net, ("t",), events.schema)
    found = explain(model, events, "image_lime", block=(3, 4), samples=4000)
    rows, columns = np.indices((6, 8))
    segment = rows // 3 * 2 + columns // 4
    theirs = lime_image.LimeImageExplainer(random_state=0).explain_instance(
        np.moveaxis(events.image()[0], 0, -1),
        lambda images: model.score_image(np.moveaxis(images, -1, 1).astype(np.float32)),
        labels=(0,),
        hide_color=0,
        top_labels=None,
        num_samples=1000,
        segmentation_fn=lambda image: segment,
    )
    slopes = np.array([slope for _, slope in sorted(theirs.local_exp[0])])
    np.testing.assert_allclose(12 * found.values[0], slopes[segment], rtol=0, atol=0.05 * abs(slopes).max())


@pytest.mark.parametrize("segments", ["blocks", "clusters", "slic"])
def test_a_linear_model(segments: str) -> None:
    """The sum over the pixels of a segment is its share of the score; the ridge makes it a little smaller."""
    images = np.zeros((3, *SHAPE), np.float32)
    images[:, :, ::2, ::2] = np.random.default_rng(2).exponential(1, (3, 2, 3, 4))  # none touches another
    events = Events.from_images(images, label=np.arange(3) % 2, classes=("q", "t"))
    torch.manual_seed(4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 1))
    model = ImageModel(net, ("t",), events.schema)
    found = explain(model, events, "image_lime", segments=segments, block=(2, 2), samples=4000)
    terms = (net[1].weight.detach().numpy().reshape(SHAPE) * events.image()).sum(1)
    assert found.checks["mean_r2"] > 0.99
    assert found.checks["poor_fits"] == 0
    size = np.abs(terms).sum((1, 2)).max()
    np.testing.assert_allclose(found.values.sum((1, 2)), terms.sum((1, 2)), atol=0.05 * size)
    assert not found.values[(events.image() == 0).all(1)].any()


class Parity(nn.Module):
    """Nothing that a linear model could fit."""

    def forward(self, x: Tensor) -> Tensor:
        return 20 + torch.cos(np.pi * x.sum((1, 2, 3)))


def test_a_warning_where_the_score_is_not_linear() -> None:
    events = image_events(4, noise=12.0)
    model = ImageModel(Parity(), ("pt",), SCHEMA)
    with pytest.warns(CheckWarning, match=r"image_lime: .* mean R² of 0\.\d\d, below 0.5: .* take rise"):
        found = explain(model, events, "image_lime", samples=600, segments="clusters")
    assert found.checks["poor_fits"] > 0.5


def test_no_hits_and_no_events() -> None:
    events = with_hits(image_events(), [[], []])
    found = explain(image_model(7), events, "image_lime", target="pt")
    assert not found.values.any()
    assert dict(found.checks) == {"mean_r2": 1.0, "poor_fits": 0.0}
    assert explain(image_model(7), events[:0], "image_lime", target="pt").values.shape == (0, LAYERS, STRIPS)


def test_too_few_samples_for_the_segments() -> None:
    events, model = image_events(4, noise=30.0), image_model(7)
    settings: dict[str, Any] = {"target": "pt", "block": (1, 1), "minimum_r2": 0.0}
    with pytest.raises(
        ValueError, match=r"samples=40 is too few for an event of \d\d segments; give samples=\d+"
    ) as e:
        explain(model, events[[1]], "image_lime", samples=40, **settings)
    needed = int(str(e.value).split("give samples=")[1].split()[0])
    explain(model, events[[1]], "image_lime", samples=needed, **settings)


def test_constant_scores_are_fitted() -> None:
    model = image_model(7)
    nn.init.zeros_(model.module[0].weight)
    found = explain(model, image_events(3), "image_lime", target="pt")
    assert np.abs(found.values).max() < 1e-6
    assert found.checks["mean_r2"] == 1


def test_bad_settings() -> None:
    for bad in ({"samples": 10}, {"segments": "quickshift"}, {"block": -1}, {"minimum_r2": -1}):
        with pytest.raises(SettingError, match="image_lime"):
            explain(image_model(7), image_events(2), "image_lime", target="pt", **bad)
    with pytest.raises(ValueError, match="block is 9 x 9, larger than the images"):
        explain(image_model(7), image_events(2), "image_lime", target="pt", block=9)


def test_settings_repeat_the_result(energies: Events, model: ImageModel) -> None:
    one = explain(model, energies, "image_lime", target="t-q", samples=300, minimum_r2=0.0)
    settings = {n: one.settings[n] for n in EXPLAINERS["image_lime"].model_fields if n != "progress"}
    two = explain(dataclasses.replace(model), energies[::-1], "image_lime", target="t-q", **settings)
    np.testing.assert_array_equal(two.values[::-1], one.values)
