"""RISE: against the formula with masks in full, models whose map is known, its errors and where it stops."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_helpers import LAYERS, SCHEMA, STRIPS, image_events, image_model, with_hits
from image_networks import energy_images, opaque
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.events.splits import event_hash
from hepxai.explainers import EXPLAINERS, SettingError, explain
from hepxai.explainers.base import CheckWarning
from hepxai.explainers.coalitions import IDENTITY
from hepxai.explainers.image.images import mean_image
from hepxai.explainers.image.rise import GROUPS, Masks
from hepxai.models.wrappers.image import ImageModel

SHAPE = (2, 5, 9)
GRID = (3, 4)


@pytest.fixture(scope="module")
def energies() -> Events:
    return energy_images(4, lit=0.2, shape=SHAPE, classes=("q", "t"), empty=0)


@pytest.fixture(scope="module")
def model(energies: Events) -> ImageModel:
    torch.manual_seed(0)
    first = (nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return ImageModel(nn.Sequential(*first, nn.Linear(4, 2)), ("q", "t"), energies.schema)


def masks_of(draw: np.random.Generator, number: int, probability: float = 0.5) -> np.ndarray:
    """Petsiuk et al., one mask at a time: a grid enlarged to one cell more, cut out at a random place."""
    masks, (rows, columns) = np.zeros((number, *SHAPE[1:])), SHAPE[1:]
    height, width = -(-rows // GRID[0]), -(-columns // GRID[1])
    cells = draw.random((number, *GRID)) < probability
    shifts = draw.integers((height, width), size=(number, 2))
    for i, (down, right) in enumerate(shifts):
        size = ((GRID[0] + 1) * height, (GRID[1] + 1) * width)
        grid = torch.as_tensor(cells[i].astype(np.float64))[None, None]
        large = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0]
        masks[i] = large[down : down + rows, right : right + columns]
    return masks


def streams(events: Events, seed: int) -> list[np.random.Generator]:
    keys = event_hash(*(getattr(events, name) for name in IDENTITY), seed=seed)
    return [np.random.Generator(np.random.Philox(key=int(k))) for k in keys]


def slow_rise(
    score: Callable[[np.ndarray], float], x: np.ndarray, start: Any, masks: np.ndarray
) -> np.ndarray:
    """Weighted mean score less the mean score."""
    scores = np.array([score(start + m * (x - start)) for m in masks])
    shown = np.tensordot(scores, masks, 1) / masks.sum(0)
    return np.asarray(shown - scores.mean())


@pytest.mark.filterwarnings("ignore:.*hardly above its noise")
@pytest.mark.parametrize("baseline", [0.0, 0.5, "mean"])
def test_equals_the_formula(energies: Events, model: ImageModel, baseline: Any) -> None:
    """With the constant stretches of the image left out, and with nothing known of the model."""
    start = mean_image(energies) if baseline == "mean" else baseline
    given = energies if baseline == "mean" else baseline

    def score(image: np.ndarray) -> float:
        logits = model.score_image(image[None].astype(np.float32))[0]
        return float(logits[1] - logits[0])

    slow = [
        slow_rise(score, x.astype(np.float64), start, masks_of(draw, 60))
        for x, draw in zip(energies.image(), streams(energies, 3), strict=True)
    ]
    for one in (model, opaque(model)):
        settings = {"samples": 60, "grid": GRID, "seed": 3, "baseline": given, "tolerance": 0.0}
        found = explain(one, energies, "rise", target="t-q", **settings)
        np.testing.assert_allclose(found.values, slow, rtol=0, atol=1e-5 * np.abs(slow).max())
        assert found.settings["grid"] == list(GRID)


def test_masks_at_some_places() -> None:
    draw = np.random.default_rng(0)
    masks = Masks.of(GRID, SHAPE[1:])
    cells, shifts = masks.draw(np.random.default_rng(0), 20, 0.5)
    rows, columns = torch.tensor([0, 4]), torch.tensor([1, 2, 8])
    found = masks.at(cells, shifts, rows, columns)
    np.testing.assert_allclose(found, masks_of(draw, 20)[:, rows[:, None], columns], atol=1e-6)


class Shifted(nn.Module):
    """A module in other units, with a constant added to all its outputs."""

    def __init__(self, net: nn.Module, constant: float) -> None:
        super().__init__()
        self.net, self.constant = net, constant

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = 1e4 * self.net(x) + self.constant
        return outputs


@pytest.mark.filterwarnings("ignore:.*hardly above its noise")
@pytest.mark.parametrize("constant", [-300.0, 40.0])
def test_a_constant_changes_nothing(constant: float) -> None:
    """Of a regression and of a logit: the formula of the paper would be off by the constant."""
    events, model = image_events(4), image_model(7)
    net = copy.deepcopy(model.module).double()
    exact, other = (dataclasses.replace(model, module=Shifted(net, c), maps=None) for c in (0.0, constant))
    one, two = (explain(m, events, "rise", target="pt", samples=60) for m in (exact, other))
    size = np.abs(one.values).max()
    np.testing.assert_allclose(two.values, one.values, rtol=0, atol=1e-4 * size)
    np.testing.assert_allclose(two.error, one.error, rtol=0, atol=1e-4 * size)
    assert two.checks == pytest.approx(one.checks)


def one_pixel(row: int, column: int, weight: float = 2.0) -> ImageModel:
    net = nn.Sequential(nn.Flatten(), nn.Linear(LAYERS * STRIPS, 1))
    nn.init.zeros_(net[1].weight)
    net[1].weight.data[0, row * STRIPS + column] = weight
    return ImageModel(net, ("pt",), SCHEMA)


def test_a_model_of_one_pixel() -> None:
    """``F = w x_p``: the value at p is w Var(M_p) / E[M_p]; the masks of other cells say nothing of it."""
    events = with_hits(image_events(), [[(2, 8), (0, 1)]])
    found = explain(one_pixel(2, 8), events, "rise", samples=20_000, grid=(LAYERS, 4), tolerance=0.0)
    masks = Masks.of((LAYERS, 4), (LAYERS, STRIPS))
    cells, shifts = masks.draw(np.random.default_rng(1), 20_000, 0.5)
    at = masks.at(cells, shifts, torch.tensor([2]), torch.tensor([8])).numpy()
    row, column = np.unravel_index(found.values[0].argmax(), (LAYERS, STRIPS))
    assert row == 2
    assert abs(column - 8) <= 1
    assert found.values[0, 2, 8] == pytest.approx(2 * at.var() / at.mean(), rel=0.03)
    assert abs(found.values[0, 0]).max() < 5 * found.error[0, 0].max()
    assert found.checks["masks"] == 20_000


@pytest.mark.filterwarnings("ignore:.*hardly above its noise")
def test_errors_are_the_spread_of_seeds() -> None:
    events, model = image_events(2, noise=8.0), image_model(7)
    settings: dict[str, Any] = {"target": "pt", "samples": 160, "grid": 4, "tolerance": 0.0}
    found = [explain(model, events, "rise", seed=s, **settings) for s in range(30)]
    spread = np.std([f.values for f in found], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([f.error**2 for f in found], axis=0))
    assert 0.85 < np.sqrt(np.mean(claimed**2) / np.mean(spread**2)) < 1.15
    fewer = explain(model, events, "rise", **(settings | {"samples": 40}))
    assert np.mean(fewer.error) > 1.5 * np.mean(claimed)


def test_it_stops_when_converged() -> None:
    events, model = image_events(5, noise=8.0), image_model(7)
    found = explain(model, events, "rise", target="pt", tolerance=0.3, grid=4)
    assert 256 <= found.checks["masks"] < 2000
    assert 0 < found.checks["relative_error"] <= 0.3
    relative = [np.sqrt(np.mean(e**2)) / v.std() for v, e in zip(found.values, found.error, strict=True)]
    assert np.mean(relative) == pytest.approx(found.checks["relative_error"], rel=1e-4)
    alone = explain(model, events[[3]], "rise", target="pt", tolerance=0.3, grid=4)
    np.testing.assert_allclose(alone.values[0], found.values[3], rtol=0, atol=1e-5 * abs(found.values).max())


def test_a_map_in_its_noise_is_a_concern() -> None:
    events, model = image_events(3, noise=8.0), image_model(7)
    with pytest.warns(
        CheckWarning, match=r"rise: the error of the values is .* of the spread .*; give more samples"
    ):
        found = explain(model, events, "rise", target="pt", samples=GROUPS, grid=(5, 16))
    assert found.concerns
    better = explain(model, events, "rise", target="pt", samples=8000, grid=(5, 16), tolerance=0.3)
    assert not better.concerns


def test_no_hits_and_no_events() -> None:
    events = with_hits(image_events(), [[], []])
    found = explain(image_model(7), events, "rise", target="pt")
    assert not found.values.any()
    assert not found.error.any()
    assert dict(found.checks) == {"masks": 0.0, "relative_error": 0.0}
    assert explain(image_model(7), events[:0], "rise", target="pt").values.shape == (0, LAYERS, STRIPS)


@pytest.mark.parametrize(
    ("method", "settings"), [("rise", {"samples": 300}), ("image_lime", {}), ("image_partition_shap", {})]
)
def test_empty_images_do_not_dilute_the_checks(method: str, settings: dict[str, Any]) -> None:
    if method == "image_lime":
        pytest.importorskip("lime")
    lit = [[(1, 5), (3, 9), (4, 30)], [(2, 2), (4, 20)]]
    events, model = with_hits(image_events(), [*lit, [], [], [], []]), image_model(7)
    few, many = (explain(model, e, method, target="pt", **settings).checks for e in (events[:2], events))
    for name in ("masks", "relative_error", "mean_r2", "poor_fits", "unresolved"):
        assert (name in many) == (name in few)
        assert many.get(name) == pytest.approx(few.get(name))


@pytest.mark.parametrize(
    ("samples", "grid", "probability"),
    [(20_000, 13, 0.5), (100, 13, 0.5), (10_000, 2, 0.5)],
)
def test_published_settings_are_valid(samples: int, grid: int, probability: float) -> None:
    explainer = EXPLAINERS["rise"](samples=samples, grid=grid, probability=probability)
    assert explainer.settings()["grid"] == [grid, grid]


def test_bad_settings() -> None:
    events, model = image_events(2), image_model(7)
    for bad in (
        {"samples": 1},
        {"grid": 0},
        {"grid": "fine"},
        {"probability": 0},
        {"probability": 1.0},
        {"tolerance": -1},
    ):
        with pytest.raises(SettingError, match="rise"):
            explain(model, events, "rise", target="pt", **bad)
    with pytest.raises(
        ValueError, match=r"13 x 13 cells is finer than the image of 5 x 16 pixels; give grid=\(5, 13\)"
    ):
        explain(model, events, "rise", target="pt", grid=13)
    explain(model, events, "rise", target="pt", grid=(5, 13), tolerance=0.5)


@pytest.mark.parametrize(
    ("probability", "problem"), [(1e-7, "no mask shows 80"), (1 - 1e-9, "all masks show 80")]
)
def test_masks_that_are_all_the_same(probability: float, problem: str) -> None:
    events, model = image_events(2), image_model(7)
    with pytest.raises(ValueError, match=f"{problem} of 80 pixels .* probability closer to 0.5"):
        explain(model, events, "rise", target="pt", samples=50, probability=probability)
    explain(model, events, "rise", target="pt", samples=500, probability=0.5)
