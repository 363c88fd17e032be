"""Detector of objects: its card, its boxes, and the score of one box as a model."""

from __future__ import annotations

import dataclasses
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from box_events import box_events, detector_card, from_objects

from hepxai.cards import CardError, load_card
from hepxai.events import Events
from hepxai.events.boxes import NONE, overlaps
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.models import load_model
from hepxai.models.card import ModelCard
from hepxai.models.image.detection.model import BoxModel, DetectorModel
from hepxai.models.network import NetworkModel
from hepxai.models.protocols import HasLayerCut, Model

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")


@cache
def events() -> Events:
    return box_events(12, seed=1)


@cache
def detector() -> DetectorModel:
    """Random weights, statistics of the batch norm of a few images, and classes that are not all alike."""
    torch.manual_seed(4)
    model: Any = NetworkModel.build(detector_card(), events().schema)
    with torch.no_grad():
        model.network.train()
        for _ in range(20):
            model.network.features(torch.as_tensor(events().image()))
        model.network.roi_heads.box_predictor.cls_score.weight.mul_(20)
    model.network.eval()
    return model


def box_model(**changes: Any) -> BoxModel:
    return BoxModel(detector(), (2.0, 0.0, 12.0, 4.0), "wide", **changes)


def images(seed: int = 0, number: int = 5) -> torch.Tensor:
    return torch.as_tensor(box_events(number, seed=seed).image())


# --- the card ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("anchors=[[[4, 4]]]", "anchors: found 1 lists of sizes for 3 levels"),
        ("anchors=[[[4, 4]], [[4, 4]], [[4, 4], [5, 5]]]", "anchors: found 1, 1, 2 sizes; give every level"),
        ("anchors=[[[4, 4]], [[4, 4]], [[4, 0]]]", "anchors"),
        ("boxes.classes=[a, a]", "boxes.classes: found a, a; give each class its own name"),
        ("training.loss=mae", "training.loss: a detector has losses of its own; leave it out"),
        ("training.calibrate=false", "training.calibrate: a detector has losses"),
        ("training.symmetries=[mirror]", "symmetries are those of particles"),
    ],
)
def test_cards_that_are_refused(entry: str, message: str) -> None:
    path = Path(__file__).parents[2] / "models" / "muon_detector.yaml"
    with pytest.raises(CardError, match="(?s)" + message.replace("[", r"\[")):
        load_card(path, ModelCard, [entry])


def test_a_run_is_refused() -> None:
    reason = detector_card().incompatibility(("a", "b"), ())
    assert reason is not None
    assert "explain_boxes" in reason


def test_columns_that_do_not_divide() -> None:
    layout = ImageLayout(ImageAxis("layer", 4), ImageAxis("strip", 36), ("hit",))
    schema = dataclasses.replace(events().schema, image=layout)
    with pytest.raises(ValueError, match="2 levels need columns in multiples of 8, the image has 36: give"):
        NetworkModel.build(detector_card(), schema)
    card = detector_card(channels=[4, 6, 6], anchors=[[[4, 4]], [[8, 4]], [[16, 4]]])  # the remedy
    NetworkModel.build(card, events().schema)


# --- boxes ----------------------------------------------------------------------------------------


def test_detected_boxes() -> None:
    every = detector().detect(events(), score=0.05)
    assert len(every) > 10
    assert (np.diff(every.score)[np.diff(every.event) == 0] <= 0).all()
    assert every.edges.min() >= 0
    assert (every.edges <= (32, 4, 32, 4)).all()
    assert set(every.label) <= {0, 1}
    some = detector().detect(events(), score=float(np.median(every.score)))
    np.testing.assert_array_equal(some.score, every.score[every.score >= np.median(every.score)])
    single = detector().detect(events()[[7]], score=0.05)
    np.testing.assert_allclose(single.edges, every[[7]].edges, atol=1e-4)
    true = detector().true_boxes(events())
    for box in np.flatnonzero(every.particle != NONE):
        own = np.flatnonzero(true.particle == every.particle[box])
        assert overlaps(every.edges[[box]], true.edges[own])[0] >= 0.5
        assert true.event[own] == every.event[box]
    assert len(detector().detect(events()[:0])) == 0


def test_an_image_without_hits_has_an_empty_list_or_boxes() -> None:
    boxes = detector().detect(from_objects([[], []]), score=0.999)
    assert boxes.offsets.tolist() == [0, 0, 0]


def test_outputs_of_an_event_are_the_best_boxes() -> None:
    x = images()
    with torch.no_grad():
        raw = detector().network.raw_detections(detector().network.features(x))
    share = raw.logits.softmax(1)[:, 1:]
    torch.testing.assert_close(raw.scores, -(1 - share).log(), rtol=1e-4, atol=1e-5)
    expected = [raw.scores[raw.image == i].amax(0) for i in range(len(x))]
    outputs = detector().score_image(x.numpy())
    np.testing.assert_allclose(outputs, torch.stack(expected).numpy(), rtol=1e-4)
    assert detector().outputs == ("narrow", "wide")
    assert isinstance(detector(), Model)
    large = (
        detector()
        .network.raw_detections(detector().network.features(x))
        ._replace(logits=torch.tensor([[0.0, 80.0, -80.0]]))
    )
    torch.testing.assert_close(large.scores, torch.tensor([[80.0, 0.0]]))  # not saturated


def test_saved_and_loaded(tmp_path: Path) -> None:
    detector().save(tmp_path / "detector.safetensors")
    again = load_model(tmp_path / "detector.safetensors")
    np.testing.assert_array_equal(again.logits(events()), detector().logits(events()))
    assert again.card == detector().card


# --- the score of a box -----------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["max", "sum"])
def test_score_is_overlap_times_class_score(reduction: Any) -> None:
    x, model = images(), box_model(reduction=reduction)
    with torch.no_grad():
        raw = detector().network.raw_detections(detector().network.features(x))
    edges = np.broadcast_to(np.array(model.edges), (len(raw.image), 4))
    share = overlaps(raw.boxes[:, 2].numpy(), edges)
    values = share * -np.log(1 - raw.logits.softmax(1)[:, 2].double().numpy())
    expected = [getattr(values[raw.image.numpy() == i], reduction)() for i in range(len(x))]
    np.testing.assert_allclose(model.score_image(x.numpy())[:, 0], expected, rtol=1e-4, atol=1e-6)
    assert max(expected) > 0


def test_levels_side_by_side_and_back() -> None:
    """The maps of the pyramid give exactly the score of the image, and are what they say."""
    model, x = box_model(), images()
    assert isinstance(model, HasLayerCut)
    assert model.feature_layers == ("pyramid",)
    scores, maps = model.forward_maps(x, "pyramid")
    assert maps.shape == (5, 12, 4, 8)
    torch.testing.assert_close(scores, model.forward_image(x), rtol=0, atol=0)
    torch.testing.assert_close(model.forward_after(maps, "pyramid", x), scores, rtol=0, atol=0)
    levels = model.module.features(x)
    torch.testing.assert_close(maps[:, :6], levels[0])
    torch.testing.assert_close(maps[:, 6:, :, 2::2], levels[1][:, :, :, 1:])
    torch.testing.assert_close(maps[:, 6:, :, 1::2], levels[1])
    other = model.forward_after(torch.zeros_like(maps), "pyramid", x)
    assert (other != scores).any()


def test_gradients() -> None:
    """In the pixels and in the maps; constant parameters get none, and nothing stays on the model."""
    model = box_model(reduction="sum")
    x = images().requires_grad_(True)
    (slope,) = torch.autograd.grad(model.forward_image(x).sum(), x)
    assert slope.abs().sum() > 0
    scores, maps = model.forward_maps(images(), "pyramid")
    (change,) = torch.autograd.grad(scores.sum(), maps)
    assert change.abs().sum() > 0
    # Proposals are constants of the slope: compared where a small step changes none.
    step = 1e-3 * change / change.norm()
    ahead, behind = (model.forward_after((maps + s * step).detach(), "pyramid", images()) for s in (1, -1))
    assert float((ahead - behind).sum()) > 0
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())
    assert not any(m._forward_hooks for m in model.module.modules())


def test_images_do_not_depend_on_each_other() -> None:
    model, x = box_model(), images(number=6).numpy()
    alone = np.concatenate([model.score_image(x[[i]]) for i in range(6)])
    np.testing.assert_allclose(model.score_image(x), alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.score_image(x[::-1].copy()), alone[::-1], rtol=1e-4, atol=1e-6)
    assert model.score_image(x[:0]).shape == (0, 1)
    np.testing.assert_array_equal(model.logits(events()[:6]), model.score_image(events()[:6].image()))


def test_box_of_a_detection() -> None:
    boxes = detector().detect(events(), score=0.05)
    model = detector().box_model(boxes, 3)
    assert model.label == boxes.classes[boxes.label[3]]
    np.testing.assert_allclose(model.edges, boxes.edges[3])
    event = events()[[int(boxes.event[3])]]
    probability = boxes.score[3]  # itself is among the raw detections
    assert model.logits(event)[0, 0] >= -np.log(1 - probability) * 0.999


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^score=0.01; the detector gives no boxes below 0.05$"):
        detector().detect(events(), score=0.01)
    with pytest.raises(ValueError, match="no class 'jet' of boxes; the detector has narrow, wide"):
        BoxModel(detector(), (0, 0, 1, 1), "jet")
    with pytest.raises(ValueError, match="left, lower, right and upper edge"):
        BoxModel(detector(), (3, 0, 1, 1), "wide")
    with pytest.raises(ValueError, match=r"no maps of layer 'conv'; a detector has pyramid"):
        box_model().forward_maps(images(), "conv")
    two_channels = np.zeros((1, 2, 4, 32), dtype=np.float32)
    with pytest.raises(ValueError, match=r"images of shape \(1, 2, 4, 32\); the model reads \[B, 1, 4, 32\]"):
        box_model().score_image(two_channels)
    layout = ImageLayout(ImageAxis("layer", 4), ImageAxis("strip", 32), ("hit", "muon"))
    other = events().replace(schema=dataclasses.replace(events().schema, image=layout))
    with pytest.raises(ValueError, match=r"trained on images of 1 channel of 4 x 32 pixels, .* 2 channels"):
        detector().detect(other)
