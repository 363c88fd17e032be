"""Asymmetric intervals in figures, tables and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hepxai import plots
from hepxai.core.estimate import Estimate, share
from hepxai.events import Events
from hepxai.metrics import auc, rejection
from hepxai.metrics.multiclass import confusion_matrix
from hepxai.plots.style import interval_bars
from hepxai.report.section import entry, number


def single(value: float, low: float, high: float) -> Estimate:
    return Estimate(
        np.asarray(value), np.asarray((high - low) / 2), 50.0, (np.asarray(low), np.asarray(high))
    )


def test_bars_reach_to_the_ends_of_the_interval() -> None:
    estimates = [single(0.98, 0.94, 0.99), Estimate(np.asarray(0.5), np.asarray(0.1), 9.0)]
    nothing = Estimate(np.asarray(np.nan), np.asarray(np.nan), 0.0)
    outside = single(1.2, 0.9, 1.0)  # weights of both signs
    bars = interval_bars([*estimates, nothing, outside])
    np.testing.assert_allclose(bars, [[0.04, 0.1, 0, 0.3], [0.01, 0.1, 0, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("more", "text"), [({}, "0.980 +0.010 −0.040"), ({"training": 0.02}, "0.980 +0.010 −0.040 ± 0.020")]
)
def test_numbers_with_an_interval(more: dict[str, float], text: str) -> None:
    estimate = single(0.98, 0.94, 0.99)
    stored = json.loads(json.dumps(entry(estimate))) | more
    assert (stored["low"], stored["high"]) == (0.94, 0.99)
    assert number(stored) == text
    assert "low" not in entry(Estimate(np.asarray(0.5), np.asarray(0.1), 9.0))


def test_symmetric_intervals_are_written_as_before() -> None:
    assert number(entry(single(0.5, 0.4, 0.6)) | {"training": 0.2}) == "0.50 ± 0.10 ± 0.20"


def test_band_and_area_of_the_roc_curve(toy: Callable[..., Events]) -> None:
    """The band is the interval of the rejection, which is not symmetric; nor is that of an area near 1."""
    events = toy(400)
    events = events.replace(weight=np.ones(len(events)), split=np.full(len(events), 2))
    score = np.random.default_rng(0).normal(4.0 * events.label, 1.0)
    signal = events.label == 1
    area = auc(score, signal, events.weight)
    ax = plots.roc_curve(events, score, metrics={"test": {"auc": area.to_json()}})
    legend = ax.get_legend()
    assert legend is not None
    texts = [t.get_text() for t in legend.get_texts()]
    assert any("+" in t and "−" in t for t in texts), texts
    corners: Any = ax.collections[0].get_paths()[0].vertices
    for efficiency in np.linspace(0.02, 1.0, 48)[-2:]:
        expected = rejection(score, signal, events.weight, float(efficiency))
        heights = corners[np.isclose(corners[:, 0], efficiency), 1]
        if np.isfinite(float(expected.value)):
            assert heights.min() == pytest.approx(float(expected.low))
            assert heights.max() == pytest.approx(float(expected.high))


def test_cells_of_a_confusion_matrix() -> None:
    label = np.repeat([0, 1], [12, 12])
    logits = np.where(np.arange(24) % 12 == 0, -1.0, 1.0) * np.where(label, 1.0, -1.0)
    confusion = confusion_matrix(logits[:, None], label, np.ones(24))
    ax = plots.class_confusion(confusion, ("background", "signal"))
    first = share(np.arange(12) != 0, np.ones(12), "passes")
    texts = [t.get_text() for t in ax.texts]
    up, down = float(first.high - first.value), float(first.value - first.low)
    assert f"+{up:.3f} −{down:.3f}" in texts[0]
