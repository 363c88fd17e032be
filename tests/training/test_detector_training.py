"""Training of a detector: it learns, resumes to the same numbers, and refuses what it would ignore."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from box_events import box_events, detector_card, from_objects

from hepxai.datasets import DatasetCard, read
from hepxai.events import SPLITS
from hepxai.events.boxes import NONE
from hepxai.metrics.detection import Detection
from hepxai.models.card import ModelCard
from hepxai.studies.detection import explain_boxes, other_share
from hepxai.training import fit, kept_checkpoints
from hepxai.training.detector import _fresh

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
EVENTS = box_events(30)


def numbers(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def test_the_best_epoch_is_kept() -> None:
    events = box_events(60, seed=3)
    settings = {"epochs": 4, "batch_size": 5, "schedule": {"period": 4}, "learning_rate": 0.02}
    model, history = fit(detector_card(training=settings), events)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    best = max(row["valid_average_precision"] for row in history)
    valid = events.where("valid")
    scores = Detection.of(model.detect(valid, score=0.05), model.true_boxes(valid), valid.weight)
    assert float(scores.average_precision().value) == pytest.approx(best)


def stop_after(epochs: int) -> Any:
    def look(history: list[dict[str, float]]) -> None:
        if len(history) == epochs:
            raise KeyboardInterrupt

    return look


def kill_after(folder: Path, epochs: int) -> None:
    """Train in this process until the system kills it."""
    torch.set_num_threads(1)

    def look(history: list[dict[str, float]]) -> None:
        if len(history) == epochs:
            os.kill(os.getpid(), signal.SIGKILL)

    fit(detector_card(training={"epochs": 3}), EVENTS, folder=folder, after_epoch=look)


def test_a_resumed_training_gives_the_same(tmp_path: Path) -> None:
    card = detector_card(training={"epochs": 3, "keep_checkpoints": [2]})
    torch.manual_seed(0)
    model, history = fit(card, EVENTS)
    with pytest.raises(KeyboardInterrupt):
        fit(card, EVENTS, folder=tmp_path, after_epoch=stop_after(1))
    torch.manual_seed(5)  # the state outside does not matter, and is left alone
    before = torch.get_rng_state()
    resumed, rows = fit(card, EVENTS, folder=tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    assert numbers(rows) == numbers(history)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    ((kept, _),) = kept_checkpoints(tmp_path)
    assert kept.outputs == ("narrow", "wide")
    other = detector_card(training={"epochs": 3, "seed": 7})
    with pytest.raises(ValueError, match="belongs to another training"):
        fit(other, EVENTS, folder=tmp_path)


@pytest.mark.slow
def test_a_killed_training_resumes(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=kill_after, args=(tmp_path, 2))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        card = detector_card(training={"epochs": 3})
        resumed, rows = fit(card, EVENTS, folder=tmp_path)
        model, history = fit(card, EVENTS)
    finally:
        torch.set_num_threads(threads)
    assert numbers(rows) == numbers(history)
    np.testing.assert_array_equal(resumed.logits(EVENTS), model.logits(EVENTS))


def test_a_valid_split_without_boxes_is_refused() -> None:
    events = from_objects([[], [], [(2, 0)], [(9, 1)]]).replace(
        split=np.repeat([SPLITS.index("valid"), 0], 2)
    )
    with pytest.raises(ValueError, match=r"^the valid split has no true box"):
        fit(detector_card(), events)


def test_a_figure_that_is_no_number_is_refused() -> None:
    state = _fresh(detector_card(), EVENTS)
    with pytest.raises(ValueError, match="figure of merit of epoch 1 on the valid split is not a number"):
        state.enter({}, float("nan"))
    assert not state.history


def test_what_it_would_ignore_is_refused() -> None:
    weighted = EVENTS.replace(weight=np.arange(30.0))
    with pytest.raises(ValueError, match="have no weights of events, and those of the train split differ"):
        fit(detector_card(), weighted)
    with pytest.raises(ValueError, match="leave out targets and device"):
        fit(detector_card(), EVENTS, targets=np.zeros(30))
    with pytest.raises(ValueError, match="the valid split has 0 events to use"):
        fit(detector_card(), EVENTS.replace(split=np.zeros(30, dtype=np.int64)))


@pytest.mark.slow
def test_the_shipped_card_finds_muons() -> None:
    """A minute: a third of the card's training; the figures of the docs are those of the whole card."""
    shorter = ["training.epochs=3", "training.epoch_events=800", "training.schedule.period=3"]
    events = read(DatasetCard.find("muon_detection")).events
    model, _ = fit(ModelCard.find("muon_detector", shorter), events)
    test = events.where("test")[:200]
    found = model.detect(test)
    scores = Detection.of(found, model.true_boxes(test), test.weight, same_class=False)
    assert float(scores.recall().value) > 0.7
    assert float(scores.precision().value) > 0.7
    found = found.keep(found.particle != NONE)
    several = np.flatnonzero(np.diff(found.offsets) > 1)[:8]
    for method, tells_boxes_apart in (("ram", True), ("eigen_cam", False)):
        maps = explain_boxes(model, test[several], method, boxes=found[several])
        share = other_share(maps).difference
        assert (float(share.value) > max(5 * float(share.error), 0.01)) == tells_boxes_apart
