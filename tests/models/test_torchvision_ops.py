"""Operators of torchvision in plain torch: slow references, gradients, and no effect on one that works."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from hepxai.core.extras import MissingExtraError
from hepxai.models.image.detection import torchvision_ops


def boxes(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low = 30 * torch.rand(number, 2, generator=generator)
    size = 20 * torch.rand(number, 2, generator=generator)
    scores = (10 * torch.rand(number, generator=generator)).round() / 10  # with ties
    return torch.cat([low, low + size], 1), scores


def slow_overlap(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (sum(areas) - shared)


def slow_nms(every: Tensor, scores: Tensor, threshold: float) -> list[int]:
    remaining: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all(slow_overlap(every[i].tolist(), every[j].tolist()) <= threshold for j in remaining):
            remaining.append(i)
    return remaining


@pytest.mark.parametrize("block", [1024, 7])
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.7])
def test_suppression_is_the_greedy_one(block: int, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_ops, "BLOCK", block)
    for number in (0, 1, 60):
        every, scores = boxes(number, seed=number)
        assert torchvision_ops.nms(every, scores, threshold).tolist() == slow_nms(every, scores, threshold)


def test_a_long_chain_of_boxes() -> None:
    """Each one overlaps with its neighbours only: every second one remains."""
    left = torch.arange(40.0)
    chain = torch.stack([left, torch.zeros(40), left + 1.9, torch.ones(40)], 1)
    assert torchvision_ops.nms(chain, torch.linspace(1, 0, 40), 0.2).tolist() == list(range(0, 40, 2))


def test_empty_boxes_overlap_with_nothing() -> None:
    empty = torch.zeros(2, 4)
    assert torchvision_ops.nms(empty, torch.tensor([0.1, 0.9]), 0.5).tolist() == [1, 0]


# --- pooling inside boxes -----------------------------------------------------------------------------


def bilinear(values: list[list[float]], y: float, x: float) -> float:
    """As torchvision's C++: nothing more than a pixel outside, the border up to there."""
    height, width = len(values), len(values[0])
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    low, left = min(int(y), height - 2), min(int(x), width - 2)
    dy, dx = y - low, x - left
    upper = (1 - dx) * values[low][left] + dx * values[low][left + 1]
    return (1 - dy) * upper + dy * ((1 - dx) * values[low + 1][left] + dx * values[low + 1][left + 1])


def slow_roi_align(
    maps: Tensor, rois: Tensor, scale: float, bins: tuple[int, int], ratio: int, aligned: bool
) -> Tensor:
    result = torch.zeros(len(rois), maps.shape[1], *bins)
    for k, (image, *edges) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = (e * scale - 0.5 * aligned for e in edges)
        sides = (y1 - y0, x1 - x0) if aligned else (max(y1 - y0, 1.0), max(x1 - x0, 1.0))
        numbers = [ratio if ratio > 0 else math.ceil(s / b) for s, b in zip(sides, bins, strict=True)]
        for c in range(maps.shape[1]):
            values = maps[int(image), c].tolist()
            for i in range(bins[0]):
                for j in range(bins[1]):
                    total = sum(
                        bilinear(
                            values,
                            y0 + sides[0] / bins[0] * (i + (a + 0.5) / numbers[0]),
                            x0 + sides[1] / bins[1] * (j + (b + 0.5) / numbers[1]),
                        )
                        for a in range(numbers[0])
                        for b in range(numbers[1])
                    )
                    result[k, c, i, j] = total / max(numbers[0] * numbers[1], 1)
    return result


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [2, 0])
def test_pooling_is_the_mean_of_bilinear_samples(ratio: int, aligned: bool) -> None:
    """Also outside the map, in images without boxes, and in an order that is not that of the images."""
    torch.manual_seed(0)
    maps = torch.randn(3, 2, 5, 7)
    low = torch.rand(6, 2) * torch.tensor([16.0, 12.0]) - 3
    image = torch.tensor([[2.0], [0], [2], [0], [0], [2]])
    rois = torch.cat([image, low, low + 8 * torch.rand(6, 2)], 1)
    pooled = torchvision_ops.roi_align(maps, rois, 0.5, 2, 3, ratio, aligned)
    torch.testing.assert_close(pooled, slow_roi_align(maps, rois, 0.5, (2, 3), ratio, aligned))


def test_pooling_is_differentiable_in_the_maps() -> None:
    maps = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[1, 0.2, 0.3, 3.1, 2.7], [0, 1, 1, 4, 3.5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: torchvision_ops.roi_align(m, rois, 1.0, 2, 2, 2, True), maps)


def test_no_boxes() -> None:
    pooled = torchvision_ops.roi_align(torch.randn(2, 3, 4, 5), torch.zeros(0, 5), 1.0, 2, 3, 2, True)
    assert pooled.shape == (0, 3, 2, 3)


def need_torchvision() -> None:
    """Skip without the package; importing it here would fail beside a torch for CPUs."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")


# --- torchvision -----------------------------------------------------------------------------------


def test_torchvisions_functions_give_the_same() -> None:
    need_torchvision()
    vision = torchvision_ops.import_torchvision("a test")
    assert torchvision_ops.import_torchvision("a test") is vision
    every, scores = boxes(60)
    assert vision.ops.nms(every, scores, 0.3).tolist() == slow_nms(every, scores, 0.3)
    kinds = torch.arange(60) % 3
    rows = [torch.nonzero(kinds == k)[:, 0] for k in range(3)]
    separate = {int(r[i]) for r in rows for i in slow_nms(every[r], scores[r], 0.3)}
    assert set(vision.ops.batched_nms(every, scores, kinds, 0.3).tolist()) == separate
    maps = torch.randn(2, 2, 5, 7, requires_grad=True)
    rois = torch.tensor([[1, 0.5, 0.3, 5.1, 3.7], [0, 1, 1, 4, 3.5]])
    pooled = vision.ops.roi_align(maps, rois, (2, 3), 1.0, 2, True)
    torch.testing.assert_close(pooled, slow_roi_align(maps, rois, 1.0, (2, 3), 2, True))
    pooled.sum().backward()
    assert maps.grad is not None
    assert maps.grad.abs().sum() > 0


def test_one_that_works_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("replaced")

    works = SimpleNamespace(_has_ops=lambda: True)
    asked: list[str] = []

    def imported(name: str, *_: str) -> object:
        asked.append(name)
        return works

    monkeypatch.setattr(torchvision_ops, "import_extra", imported)
    for name in ("_define_operators", "_bypass_checks"):
        monkeypatch.setattr(torchvision_ops, name, refuse)
    assert torchvision_ops.import_torchvision("a test") is works
    assert asked[0] == "torchvision"


def test_without_torchvision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    nothing: ModuleType | None = None
    monkeypatch.setitem(sys.modules, "torchvision", nothing)
    with pytest.raises(MissingExtraError, match=r"a detector needs torchvision .*hepxai\[detection\]"):
        torchvision_ops.import_torchvision("a detector")


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import torchvision_ops; torchvision_ops.define_operators(); "])
def test_a_process_of_its_own_can_import_it(first: str) -> None:
    """Also where the operators were declared without a kernel before; and a large detector runs."""
    need_torchvision()
    text = first + (
        "import torch; from hepxai.models.image.detection.torchvision_ops import import_torchvision as get; "
        "make = get('x').models.detection.fasterrcnn_mobilenet_v3_large_320_fpn; "
        "net = make(weights=None, weights_backbone=None, min_size=64, max_size=64).eval(); "
        "print(sorted(net([torch.rand(3, 64, 64)])[0]))"
    )
    helpers = str(Path(__file__).parents[1] / "helpers")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({helpers!r}); {text}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "['boxes', 'labels', 'scores']", done.stderr
