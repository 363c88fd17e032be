"""Maps for each detected box, their share inside the box, and their similarity."""

from __future__ import annotations

import importlib.util
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from box_events import BOXES, box_events, detector_card, from_objects
from matplotlib.patches import Rectangle

from hepxai.attribution import PIXELS, Attribution
from hepxai.events import Events
from hepxai.events.boxes import Boxes
from hepxai.explainers import EXPLAINERS, explain
from hepxai.models.image.detection.model import BoxModel
from hepxai.models.network import NetworkModel
from hepxai.studies.detection import (
    BoxMaps,
    box_deletion,
    box_maps,
    box_share,
    explain_boxes,
    map_similarity,
    other_share,
)
from hepxai.studies.detection.numbers import coverage

OBJECTS = [[(3, 0), (20, 1)], [], [(0, 1)]]
needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="needs torchvision"
)


@cache
def detector() -> Any:
    torch.manual_seed(4)
    model = NetworkModel.build(detector_card(), box_events(1).schema)
    model.network.eval()
    return model


def true_boxes(events: Events) -> Boxes:
    return Boxes.of(events, BOXES["particle"], BOXES["edges"], BOXES["label"], ("narrow", "wide"))


def maps_of(values: np.ndarray) -> BoxMaps:
    """Maps of the three boxes of `OBJECTS`."""
    events = from_objects(OBJECTS)
    boxes = true_boxes(events)
    return BoxMaps(Attribution(values, PIXELS, events[boxes.event], "saliency", "box"), boxes)


@needs_torchvision
def test_the_map_of_a_detected_box_does_not_depend_on_rounding() -> None:
    """The overlap has a kink where the raw detection is the box itself: its slope must not be noise."""
    events, model = from_objects(OBJECTS)[:1], detector()
    x = torch.as_tensor(events.image())
    with torch.no_grad():
        raw = model.network.raw_detections(model.network.features(x))
    label = 0
    best = raw.boxes[raw.scores[:, label].argmax(), 1 + label].tolist()
    gradients = []
    for shift in (0.0, 1e-4, -1e-4):
        image = x.clone().requires_grad_(True)
        box = BoxModel(model, tuple(e + shift for e in best), model.outputs[label])
        gradients.append(torch.autograd.grad(box.forward_image(image).sum(), image)[0])
    assert gradients[0].abs().max() > 0
    for other in gradients[1:]:
        torch.testing.assert_close(
            other, gradients[0], rtol=1e-2, atol=float(1e-3 * gradients[0].abs().max())
        )


@needs_torchvision
@pytest.mark.parametrize("method", ["saliency", "ram"])
def test_a_map_for_every_box(method: str) -> None:
    """Each as if its box were the only one."""
    events = from_objects(OBJECTS)
    boxes = true_boxes(events)
    maps = explain_boxes(detector(), events, method, boxes=boxes)
    assert maps.attribution.values.shape == (3, 4, 32)
    assert maps.attribution.events.event.tolist() == [0, 0, 2]
    for box, event in enumerate((0, 0, 2)):
        model = detector().box_model(boxes, box)
        single = explain(model, events[[event]], method)
        np.testing.assert_allclose(maps.attribution.values[box], single.values[0], rtol=1e-4, atol=1e-7)
    assert repr(maps) == f"<BoxMaps: {method} of <Boxes: 3 (narrow, wide) in 3 events>>"


@needs_torchvision
@pytest.mark.filterwarnings("ignore::hepxai.explainers.CheckWarning")
@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam", "ablation_cam"])
def test_class_activation_maps_of_boxes(method: str) -> None:
    if method not in EXPLAINERS:
        pytest.skip(f"no method {method}")
    events = from_objects(OBJECTS)
    maps = explain_boxes(detector(), events, method, boxes=true_boxes(events))
    assert maps.attribution.settings["layer"] == "pyramid"
    assert np.isfinite(maps.attribution.values).all()
    similarity = map_similarity(maps)
    assert (similarity.identical == 1) == (method == "eigen_cam")


@needs_torchvision
def test_images_without_detections() -> None:
    events = from_objects(OBJECTS)
    with pytest.raises(ValueError, match=r"none of 3 images has a detected box with a score of at least 1"):
        explain_boxes(detector(), events, "saliency", score=1.0)
    maps = explain_boxes(detector(), events, "saliency", score=0.05)  # the remedy
    assert len(maps) > 0
    with pytest.raises(ValueError, match="boxes of 3 events for 1 events"):
        explain_boxes(detector(), events[:1], "saliency", boxes=true_boxes(events))
    with pytest.raises(ValueError, match="2 maps for 3 boxes"):
        BoxMaps(maps_of(np.ones((3, 4, 32))).attribution[:2], true_boxes(events))


def test_covered_pixels() -> None:
    edges = np.array([[1.5, 0, 3, 2], [0, 1, 32, 4]], dtype=np.float32)
    boxes = Boxes(np.array([0, 2]), edges, np.zeros(2, int), np.ones(2), np.zeros(2, int), ("a",))
    covered = coverage(boxes, 4, 32)
    np.testing.assert_allclose(covered.sum((1, 2)), [3, 96])
    np.testing.assert_allclose(covered[0, 0, :4], [0, 0.5, 1, 0])
    assert covered[1, 0].sum() == 0


def test_share_inside_by_hand() -> None:
    """All of the first map inside, half of the second; nothing of the third on hits."""
    values = np.zeros((3, 4, 32))
    values[0, 1, 3] = -2.0
    values[1, 0, 20], values[1, 0, 3] = 1.0, 1.0
    values[2, 0, 30] = 1.0
    share = box_share(maps_of(values))
    assert share.left_out == 1
    assert float(share.inside.value) == pytest.approx(0.75)
    assert float(share.inside_hits.value) == pytest.approx(0.75)
    assert float(share.by_area.value) == pytest.approx((2 + 7) / 2 / 32)
    assert float(share.by_hits.value) == pytest.approx((2 + 7) / 2 / 9)


def test_a_constant_map_has_the_share_of_chance() -> None:
    share = box_share(maps_of(np.full((3, 4, 32), 0.3)))
    assert float(share.inside.value) == pytest.approx(float(share.by_area.value))
    assert float(share.inside_hits.value) == pytest.approx(float(share.by_hits.value))


def test_likeness() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 4, 32))
    different = map_similarity(maps_of(values))
    assert different.pairs == 1
    assert different.identical == 0
    expected = np.corrcoef(values[0].ravel(), values[1].ravel())[0, 1]
    assert float(different.correlation.value) == pytest.approx(expected)
    values[1] = values[0]
    same = map_similarity(maps_of(values))
    assert same.identical == 1
    assert float(same.correlation.value) == pytest.approx(1)
    single = from_objects([[(3, 0)]])
    maps = BoxMaps(Attribution(values[:1], PIXELS, single, "saliency", "box"), true_boxes(single))
    with pytest.raises(ValueError, match="no image has two boxes"):
        map_similarity(maps)


def test_share_in_the_other_box_by_hand() -> None:
    """The first map is inside its box, the second half in each of the two, the third is alone."""
    values = np.zeros((3, 4, 32))
    values[0, 1, 3] = -2.0
    values[1, 0, 20], values[1, 0, 3] = 1.0, 1.0
    values[2, 0, 0] = 1.0
    share = other_share(maps_of(values))
    assert share.boxes == 2
    assert [float(e.value) for e in (share.same, share.other, share.difference)] == [0.75, 0.25, 0.5]
    values[1] = values[0]  # the same map for both boxes says nothing about either
    assert float(other_share(maps_of(values)).difference.value) == 0
    with pytest.raises(ValueError, match="no image has two boxes"):
        other_share(maps_of(np.zeros((3, 4, 32))))


class Counter:
    """The score of a box is the number of lit pixels inside."""

    def detect(self, events: Events, *, score: float = 0.5) -> Boxes:
        return true_boxes(events)

    def box_model(self, boxes: Boxes, box: int) -> Any:
        inside = coverage(boxes, 4, 32)[box]
        return SimpleNamespace(score_image=lambda x: (x[:, 0] * inside).sum((1, 2))[:, None])


def test_deletion_of_a_box_by_hand() -> None:
    """Of 8 + 28 lit pixels, each map removes the same number inside its own box."""
    events = from_objects(OBJECTS)
    own = coverage(true_boxes(events), 4, 32)
    loss = box_deletion(Counter(), maps_of(own), fraction=0.1)
    assert loss.boxes == 2
    assert float(loss.same.value) == pytest.approx(2 * 4 / 36)  # 4 of 8, and 4 of 28
    assert float(loss.inside.value) == pytest.approx(float(loss.same.value))
    assert float(loss.other.value) == 0
    assert float(loss.same_other.value) == pytest.approx(float(loss.same.value))
    assert float(loss.random.value) == pytest.approx(4 / 36)  # one box or the other loses each pixel
    own[1] = own[0]
    assert float(box_deletion(Counter(), maps_of(own)).same_other.value) == 0
    for fraction in (0, 1):
        with pytest.raises(ValueError, match="give a number between 0 and 1"):
            box_deletion(Counter(), maps_of(own), fraction=fraction)


def test_figure() -> None:
    """One frame for the event and one for each of its boxes, each with its box."""
    events = from_objects(OBJECTS)
    figure = box_maps(
        maps_of(np.random.default_rng(0).normal(size=(3, 4, 32))), events, 0, true=true_boxes(events)
    )
    axes = [ax for ax in figure.axes if ax.get_ylabel() == "layer"]
    assert len(axes) == 3
    assert [ax.get_title(loc="left") for ax in axes[1:]] == [
        "saliency of box 1: narrow, score 1.00",
        "saliency of box 2: wide, score 1.00",
    ]
    for ax, left in zip(axes[1:], (3, 20), strict=True):
        frames = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_height() == 4]
        assert [f.get_x() for f in frames] == [left]
    maps = maps_of(np.ones((3, 4, 32)))
    titles = [ax.get_title(loc="left") for ax in box_maps([maps, maps], events, 0).axes]
    assert [t[:17] for t in titles if "box" in t] == ["saliency of box 1", "saliency of box 2"] * 2
    with pytest.raises(ValueError, match="the maps are of different boxes"):
        box_maps([maps, BoxMaps(maps.attribution[:2], maps.boxes[[0]])], events, 0)
    none = box_maps(maps, events, 1)
    assert len([ax for ax in none.axes if ax.get_ylabel() == "layer"]) == 1
