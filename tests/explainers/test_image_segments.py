"""Shapley and Owen values of segments of images: against the definitions, set by set, and shap."""

from __future__ import annotations

from functools import cache
from itertools import combinations, permutations
from math import factorial
from typing import Any

import numpy as np
import pytest
import torch
from image_helpers import image_events, image_model, with_hits
from image_networks import Shifted, energy_images, energy_model, pooling_network
from torch import nn

from hepxai.events import Events
from hepxai.explainers import CheckWarning, explain
from hepxai.explainers.image.images import blurred
from hepxai.explainers.image.segments import segment_numbers
from hepxai.explainers.libraries import import_extra, isolated_rng

METHODS = ("image_kernel_shap", "image_partition_shap")
CONTRAST = np.array([-0.5, -0.5, 1])
BLOCK = (2, 3)


@pytest.fixture(scope="module")
def events() -> Events:
    return energy_images(6)


@pytest.fixture(scope="module")
def model(events: Events) -> Any:
    return energy_model(pooling_network(), events)


def masked_scores(model: Any, x: np.ndarray, start: np.ndarray, segments: list[np.ndarray]) -> Any:
    """Function from a set of segments (masks ``[R, C]``) to the score of the image."""

    @cache
    def score(members: frozenset[int]) -> float:
        image = start.copy()
        for s in members:
            image[:, segments[s]] = x[:, segments[s]]
        return float(model.score_image(image[None])[0] @ CONTRAST)

    return lambda members: score(frozenset(map(int, members)))


def block_masks(block: tuple[int, int], rows: int = 4, columns: int = 6) -> list[np.ndarray]:
    masks = []
    for i in range(0, rows, block[0]):
        for j in range(0, columns, block[1]):
            masks.append(np.zeros((rows, columns), dtype=bool))
            masks[-1][i : i + block[0], j : j + block[1]] = True
    return masks


def slow_shapley(score: Any, n: int) -> np.ndarray:
    """Definition, over all sets of the other players."""
    values = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            weight = factorial(size) * factorial(n - 1 - size) / factorial(n)
            for members in combinations(others, size):
                values[i] += weight * (score((*members, i)) - score(members))
    return values


def slow_owen(score: Any, tree: Any) -> dict[int, float]:
    """Mean gain over all orders in which the two halves of each node follow each other."""
    orders = list(tree_orders(tree))
    values = dict.fromkeys(orders[0], 0.0)
    for order in orders:
        for k, player in enumerate(order):
            values[player] += (score(order[: k + 1]) - score(order[:k])) / len(orders)
    return values


def tree_orders(tree: Any) -> Any:
    if isinstance(tree, int):
        yield (tree,)
        return
    for halves in permutations(tree):
        for first in tree_orders(halves[0]):
            for second in tree_orders(halves[1]):
                yield (*first, *second)


def by_segment(values: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    return np.array([values[m].sum() for m in masks])


@pytest.mark.parametrize("baseline", [0.0, "blurred", "mean"])
def test_kernel_equals_the_definition(model: Any, events: Events, baseline: Any) -> None:
    setting = events if baseline == "mean" else baseline
    found = explain(
        model, events, "image_kernel_shap", target="t-rest", block=BLOCK, baseline=setting, blur=1.0
    )
    x, masks = events.image(), block_masks(BLOCK)
    start = {"mean": np.broadcast_to(x.mean(0), x.shape), "blurred": blurred(x, 1.0)}.get(
        baseline, np.zeros_like(x)
    )
    for e in range(len(events)):
        expected = slow_shapley(masked_scores(model, x[e], start[e], masks), 4)
        np.testing.assert_allclose(by_segment(found.values[e], masks), expected, atol=1e-5)
    assert (found.error == 0).all()
    assert found.checks["p90_residual"] < 1e-4


@pytest.mark.parametrize("baseline", [0.0, "blurred"])
def test_partition_equals_the_definition(model: Any, events: Events, baseline: Any) -> None:
    """Blocks 0 1 2 | 3 4 5 of 2 x 2 pixels: cut at one of three columns, the rest between its rows."""
    found = explain(
        model, events, "image_partition_shap", target="t-rest", block=(2, 2), baseline=baseline, blur=1.0
    )
    tree = ((0, 3), ((1, 2), (4, 5)))
    x, masks = events.image(), block_masks((2, 2))
    start = blurred(x, 1.0) if baseline == "blurred" else np.zeros_like(x)
    for e in range(len(events)):
        expected = slow_owen(masked_scores(model, x[e], start[e], masks), tree)
        values = [expected[i] for i in range(6)]
        np.testing.assert_allclose(by_segment(found.values[e], masks), values, atol=1e-5)
    assert found.checks["unresolved"] == 0


@pytest.mark.slow  # numba compiles for half a minute
def test_partition_equals_shap(model: Any) -> None:
    """Single pixels of 2 x 4 blocks, all lit, with the same hierarchy and no limit of evaluations."""
    events = energy_images(2, seed=3, lit=1.0)
    found = explain(model, events, "image_partition_shap", target="t-rest", block=(2, 2), evaluations=10**6)
    x, masks = events.image()[1], block_masks((2, 2))
    score = masked_scores(model, x, np.zeros_like(x), masks)

    def masker(mask: np.ndarray, row: np.ndarray) -> np.ndarray:
        return np.where(mask, row, 0.0)[None]

    # Children and size of each cluster, from the leaves up.
    masker.clustering = np.array(  # type: ignore[attr-defined]
        [[0, 3, 1, 2], [1, 2, 1, 2], [4, 5, 1, 2], [7, 8, 1, 4], [6, 9, 1, 6]], dtype=float
    )
    masker.shape = lambda row: (1, 6)  # type: ignore[attr-defined]
    with isolated_rng():
        engine = import_extra("shap", "this test").explainers.Partition(
            lambda on: np.array([score(np.flatnonzero(m)) for m in on]), masker
        )
        expected = engine(np.ones((1, 6)), max_evals=10**4, silent=True).values[0]
    np.testing.assert_allclose(by_segment(found.values[1], masks), expected, atol=1e-5)


def test_partition_with_few_evaluations(model: Any, events: Events) -> None:
    """It adds up with any number; what is not split is spread evenly, and more evaluations come closer."""
    exact = explain(model, events, "image_partition_shap", target="t-rest", evaluations=10**6)
    assert exact.checks["unresolved"] == 0
    distance = []
    for evaluations in (2, 40, 200):
        with (
            pytest.warns(CheckWarning, match="did not suffice to split; give more evaluations")
            if (evaluations == 2)
            else isolated_rng()
        ):
            found = explain(model, events, "image_partition_shap", target="t-rest", evaluations=evaluations)
        np.testing.assert_allclose(found.values.sum((1, 2)), exact.output_change, atol=1e-6)
        distance.append(np.abs(found.values - exact.values).sum())
        if evaluations == 2:
            assert found.checks["unresolved"] == 1  # the first event is empty and does not count
            lit = (events.image() != 0).any(1)
            even = lit * (exact.output_change / np.maximum(lit.sum((1, 2)), 1))[:, None, None]
            np.testing.assert_allclose(found.values, even, atol=1e-9)
    assert distance[0] > distance[1] > distance[2]


def test_clusters_of_lit_pixels() -> None:
    """Pixels that touch, also at a corner, are one player; by hand for a product of two clusters."""

    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = x[:, 0, 0:2, 0:2].sum((1, 2)), x[:, 0, 4, 10]
            return torch.stack([20 + a * b, 3 * x[:, 0, 2, 5] + a], dim=1)

    events = with_hits(image_events(), [[(0, 0), (1, 1), (2, 5), (4, 10)], []])
    model = image_model()
    model = type(model)(Product(), ("pt", "eta"), events.schema)
    found = explain(model, events, "image_kernel_shap", target="pt", segments="clusters")
    expected = np.zeros((5, 16))
    expected[[0, 1], [0, 1]], expected[4, 10] = 0.5, 1.0
    np.testing.assert_allclose(found.values, [expected, np.zeros((5, 16))], atol=1e-6)
    other = explain(model, events, "image_kernel_shap", target="eta", segments="clusters")
    np.testing.assert_allclose(other.values[0, [0, 1, 2, 4], [0, 1, 5, 10]], [1, 1, 3, 0], atol=1e-6)


@pytest.mark.parametrize(("kind", "expected"), [("clusters", 2), ("slic", 4), ("blocks", 4)])
def test_numbers_of_segments(kind: Any, expected: int) -> None:
    """Hits that touch each other, also at a corner; patches of one value; rectangles."""
    x = torch.zeros(1, 4, 8)
    hits = [(0, 0), (1, 1), (1, 2), (3, 6)]
    x[0, [r for r, _ in hits], [c for _, c in hits]] = 2.0
    if kind == "slic":
        x = torch.tensor([1.0, 5.0, 10.0, 3.0]).repeat_interleave(6).expand(1, 6, 24).clone()
    block = (6, 6) if kind == "slic" else (2, 4)
    numbers = segment_numbers(kind, x, (x != 0).any(0).numpy(), block)
    if kind == "clusters":
        assert [numbers[h] for h in hits] == [1, 1, 1, 2]
        assert numbers[0, 3] == 0
        numbers = numbers[numbers > 0]
    if kind == "blocks":
        np.testing.assert_array_equal(numbers, np.arange(4)[:, None] // 2 * 2 + np.arange(8) // 4)
    assert len(np.unique(numbers)) == expected


def test_sampled_values_are_right_within_their_errors(model: Any) -> None:
    events = energy_images(5, seed=7, lit=1.0)
    exact = explain(model, events, "image_kernel_shap", target="t-g", block=(2, 1), samples=5000)
    found = explain(model, events, "image_kernel_shap", target="t-g", block=(2, 1), samples=800)
    assert (exact.error == 0).all()
    assert (found.error[1:] > 0).all()
    pull = (found.values - exact.values)[1:] / found.error[1:]
    # With four runs the pulls follow Student's t with three degrees of freedom: 92 % are within 2.64.
    assert np.mean(np.abs(pull) < 2.64) > 0.8
    np.testing.assert_allclose(found.values.sum((1, 2)), found.output_change, atol=1e-4)
    other = explain(model, events, "image_kernel_shap", target="t-g", block=(2, 1), samples=800, seed=1)
    assert not np.allclose(found.values, other.values)


@pytest.mark.parametrize("method", METHODS)
def test_linear_model_by_hand(events: Events, method: str) -> None:
    """Weight times pixel, all channels together; exactly 0 where nothing is lit."""
    last = nn.Linear(48, 3)
    model = energy_model(nn.Sequential(nn.Flatten(), last), events)
    settings = {"block": (1, 1)} | ({"samples": 10**4} if method == "image_kernel_shap" else {})
    found = explain(model, events[:3], method, target="t-g", **settings)
    x = events.image()[:3]
    weight = (last.weight[2] - last.weight[0]).detach().numpy().reshape(2, 4, 6)
    expected = (weight * x).sum(1)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    assert (found.values[(x == 0).all(1)] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_contrasts_alone_and_empty(model: Any, events: Events, method: str) -> None:
    settings = {"target": "t-rest", "block": BLOCK}
    found = explain(model, events, method, **settings)
    shifted = explain(energy_model(Shifted(model.module), events), events, method, **settings)
    np.testing.assert_allclose(found.values, shifted.values, atol=1e-5)
    alone = explain(model, events[[4]], method, **settings)
    np.testing.assert_allclose(alone.values[0], found.values[4], atol=1e-6)
    assert explain(model, events[:0], method, **settings).values.shape == (0, 4, 6)
    assert (found.values[0] == 0).all()  # an empty image
    assert found.settings["block"] == list(BLOCK)
    again = explain(model, events, method, target="t-rest", block=found.settings["block"])
    assert np.array_equal(again.values, found.values)


def test_binary_regression_and_default_blocks() -> None:
    events, model = image_events(4, noise=1.0), image_model(7)
    found = explain(model, events, "image_kernel_shap", target="pt")
    assert found.settings["block"] == [1, 2]
    assert found.unit == "GeV"
    empty = model.score_image(np.zeros((1, 1, 5, 16), np.float32))[0, 0]
    np.testing.assert_allclose(found.values.sum((1, 2)), model.logits(events)[:, 0] - empty, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("image_kernel_shap", {"block": (5, 1)}, "block is 5 x 1, larger than the images of 4 x 6"),
        ("image_partition_shap", {"block": (0, 1)}, r"block=\(0, 1\); should be greater than 0"),
        ("image_partition_shap", {"evaluations": 1}, "evaluations=1; should be greater than or equal to 2"),
        (
            "image_kernel_shap",
            {"segments": "pixels"},
            "segments='pixels'; should be 'blocks', 'clusters' or 'slic'",
        ),
        (
            "image_kernel_shap",
            {"baseline": np.zeros((3, 3))},
            r"baseline has shape \(3, 3\); the images have",
        ),
        (
            "image_kernel_shap",
            {"block": (1, 1), "samples": 100},
            r"samples=100; at least \d+ are needed for \d+ segments: .* larger image_kernel_shap.block",
        ),
    ],
)
def test_settings_that_cannot_be(model: Any, method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(model, energy_images(3, lit=0.9), method, target="t-g", **settings)
