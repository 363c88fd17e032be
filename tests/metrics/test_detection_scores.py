"""Matches of boxes, recall, precision and average precision: by hand, and against slow references."""

from __future__ import annotations

import numpy as np
import pytest

from hepxai.events.boxes import NONE, Boxes, overlaps
from hepxai.metrics.detection import Detection, match_boxes


def random_boxes(events: int, mean: float, seed: int) -> Boxes:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.poisson(mean, events))])
    n = int(offsets[-1])
    low, size = rng.uniform(0, 30, (n, 2)), rng.uniform(3, 30, (n, 2))
    edges = np.concatenate([low, low + size], 1).astype(np.float32)
    score = rng.integers(0, 8, n) / 8  # with ties
    return Boxes(offsets, edges, rng.integers(0, 2, n), score, np.arange(n), ("a", "b"))


def slow_match(detected: Boxes, true: Boxes, least: float, same_class: bool) -> np.ndarray:
    match = np.full(len(detected), NONE)
    for event in range(len(detected.offsets) - 1):
        rows = np.arange(detected.offsets[event], detected.offsets[event + 1])
        free = list(range(true.offsets[event], true.offsets[event + 1]))
        for row in rows[np.argsort(-detected.score[rows], kind="stable")]:
            shared = {
                t: overlaps(detected.edges[[row]], true.edges[[t]])[0]
                for t in free
                if not same_class or true.label[t] == detected.label[row]
            }
            if shared and max(shared.values()) >= least:
                match[row] = max(shared, key=shared.__getitem__)
                free.remove(match[row])
    return match


@pytest.mark.parametrize("same_class", [True, False])
def test_matches_follow_the_scores(same_class: bool) -> None:
    detected, true = random_boxes(150, 6, 1), random_boxes(150, 4, 2)
    match = match_boxes(detected, true, overlap=0.2, same_class=same_class)
    np.testing.assert_array_equal(match, slow_match(detected, true, 0.2, same_class))
    assert (match != NONE).sum() > 50
    better = detected.score >= 0.5  # a threshold changes no match above it
    kept = match_boxes(detected.keep(better), true, overlap=0.2, same_class=same_class)
    np.testing.assert_array_equal(kept, match[better])


def simple(weight: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Detection:
    """Three events: right and a false one; wrong class; nothing but a missed box."""
    edges = np.array([[0, 0, 4, 4], [9, 0, 12, 4], [0, 0, 4, 4]], dtype=np.float32)
    detected = Boxes(
        np.array([0, 2, 3, 3]),
        edges,
        np.array([0, 0, 1]),
        np.array([0.9, 0.6, 0.8]),
        np.full(3, NONE),
        ("a", "b"),
    )
    true = Boxes(
        np.array([0, 1, 2, 3]),
        np.array([[0, 0, 4, 5], [0, 0, 4, 4], [5, 0, 9, 4]], dtype=np.float32),
        np.array([0, 0, 1]),
        np.ones(3),
        np.arange(3),
        ("a", "b"),
    )
    return Detection.of(detected, true, np.array(weight))


def test_shares_by_hand() -> None:
    scores = simple()
    assert scores.match.tolist() == [0, NONE, NONE]
    assert float(scores.recall().value) == pytest.approx(1 / 3)
    assert float(scores.recall(name="a").value) == pytest.approx(1 / 2)
    assert float(scores.recall(name="b").value) == 0
    assert float(scores.precision().value) == pytest.approx(1 / 3)
    assert float(scores.precision(0.7).value) == pytest.approx(1 / 2)
    assert float(scores.precision(0.85).value) == 1
    assert float(scores.recall(0.95).value) == 0
    assert np.isnan(scores.precision(0.95).value)
    assert float(scores.average_precision("a").value) == pytest.approx(1 / 2)
    assert float(scores.average_precision().value) == pytest.approx(1 / 4)
    with pytest.raises(KeyError, match="no class 'c' of boxes; there are a, b"):
        scores.recall(name="c")


def test_weights_of_events() -> None:
    scores = simple((2.0, 1.0, 1.0))
    assert float(scores.recall().value) == pytest.approx(2 / 4)
    assert float(scores.precision().value) == pytest.approx(2 / 5)
    assert float(scores.average_precision("a").value) == pytest.approx(2 / 3)


def slow_area(scores: Detection, name: str) -> float:
    """Precision at every recall: the highest at this or a larger one."""
    values = sorted(set(scores.detected.score), reverse=True)
    points = [(float(scores.recall(s, name).value), float(scores.precision(s, name).value)) for s in values]
    points = [(r, p) for r, p in points if not np.isnan(p)]
    area, before = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - before) * max(p for _, p in points[i:])
        before = recall
    return area


def test_average_precision_is_an_area() -> None:
    detected, true = random_boxes(60, 5, 3), random_boxes(60, 4, 4)
    distinct = np.random.default_rng(0).permutation(len(detected)) / len(detected)
    detected = Boxes(
        detected.offsets, detected.edges, detected.label, distinct, detected.particle, ("a", "b")
    )
    scores = Detection.of(detected, true, np.random.default_rng(1).uniform(0.5, 2, 60), overlap=0.2)
    one, two = (scores.average_precision(n) for n in ("a", "b"))
    assert float(one.value) == pytest.approx(slow_area(scores, "a"))
    assert float(scores.average_precision().value) == pytest.approx((one.value + two.value) / 2)
    assert 0 < float(one.error) < 0.2


def test_errors_cover_the_truth() -> None:
    """The recall of half of the samples lies within one error of that of all."""
    detected, true = random_boxes(2000, 6, 5), random_boxes(2000, 4, 6)
    whole = Detection.of(detected, true, np.ones(2000), overlap=0.2)
    for what in ("recall", "precision", "average_precision"):
        expected = float(getattr(whole, what)().value)
        pulls = []
        for start in range(0, 2000, 100):
            rows = np.arange(start, start + 100)
            estimate = getattr(Detection.of(detected[rows], true[rows], np.ones(100), overlap=0.2), what)()
            pulls.append((float(estimate.value) - expected) / float(estimate.error))
        assert 0.6 < np.std(pulls) < 1.5, what


def test_no_true_boxes() -> None:
    detected, none = random_boxes(5, 3, 1), random_boxes(5, 0, 1)
    scores = Detection.of(detected, none, np.ones(5))
    assert np.isnan(scores.recall().value)
    assert float(scores.precision().value) == 0
    assert np.isnan(scores.average_precision().value)
