"""Figures of merit of a regression, against loops over the events."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from hepxai.events import SPLITS, Events
from hepxai.metrics.targets import target_metrics

ToyEvents = Callable[..., Events]


def with_targets(events: Events, *, units: tuple[str, ...] = ("GeV", "")) -> Events:
    rng = np.random.default_rng(5)
    targets = np.column_stack([rng.uniform(0.3, 20, len(events)), rng.normal(size=len(events))])
    targets[::4] = np.nan
    schema = dataclasses.replace(events.schema, targets=("pt", "eta"), target_units=units)
    return events.replace(schema=schema, targets=targets.astype(np.float32))


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return with_targets(toy(300))


@pytest.fixture
def predicted(events: Events) -> np.ndarray:
    noise = np.random.default_rng(6).normal(size=(len(events), 2)) * [2, 0.3]
    return np.nan_to_num(events.targets, nan=1.0).astype(np.float64) + noise + [0.5, 0]


def by_hand(predicted: np.ndarray, events: Events, split: str, k: int) -> dict[str, float]:
    """Weighted means, event by event."""
    train = [t for t, s in zip(events.targets[:, k], events.split, strict=True) if s == 0 and t == t]
    constant, total = float(np.median(train)), {"mae": 0.0, "bias": 0.0, "gain": 0.0}
    norm = 0.0
    for p, t, w, s in zip(predicted[:, k], events.targets[:, k], events.weight, events.split, strict=True):
        if SPLITS[s] == split and t == t:
            norm += w
            total["mae"] += w * abs(p - t)
            total["bias"] += w * (p - t)
            total["gain"] += w * (abs(constant - t) - abs(p - t))
    return {name: value / norm for name, value in total.items()}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("k", "target"), [(0, "pt"), (1, "eta")])
def test_against_a_loop(events: Events, predicted: np.ndarray, split: str, k: int, target: str) -> None:
    found = target_metrics(predicted, events)[split]
    for figure, value in by_hand(predicted, events, split, k).items():
        assert float(found[f"{figure}_{target}"].value) == pytest.approx(value, rel=1e-6)
        assert float(found[f"{figure}_{target}"].error) > 0


def test_a_constant_gains_nothing(events: Events) -> None:
    constant = np.nanmedian(events.targets[events.split == 0], axis=0)
    found = target_metrics(np.tile(constant.astype(np.float64), (len(events), 1)), events)
    for split in SPLITS:
        for target in ("pt", "eta"):
            assert float(found[split][f"gain_{target}"].value) == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("ignore::hepxai.core.estimate.OutOfRangeWarning")
def test_errors_cover(toy: ToyEvents) -> None:
    """The mean |error| of many samples lies within its error of the truth in about 68 %."""
    inside = 0
    for seed in range(200):
        events = with_targets(toy(120, seed)).replace(split=np.zeros(120, dtype=np.int64))
        off = np.random.default_rng(seed).normal(size=(120, 2))
        mae = target_metrics(np.nan_to_num(events.targets) + off, events)["train"]["mae_eta"]
        inside += abs(float(mae.value) - np.sqrt(2 / np.pi)) < float(mae.error)
    assert 0.58 < inside / 200 < 0.78


def test_a_momentum_has_a_threshold(events: Events, predicted: np.ndarray) -> None:
    found = target_metrics(predicted, events)["test"]
    assert {"mae_pt@7-13", "bias_pt@7-13", "efficiency_pt@15", "leak_pt@15", "fakes_pt@15"} <= found.keys()
    share = found["efficiency_pt@15"]
    assert share.interval is not None
    assert 0 <= share.low < share.value < share.high <= 1
    other = with_targets(events, units=("MeV", ""))
    assert not [name for name in target_metrics(predicted, other)["test"] if "@" in name]


def test_events_without_a_weight_do_not_count(events: Events, predicted: np.ndarray) -> None:
    silent = events.replace(weight=np.where(np.arange(300) == 7, 0.0, events.weight))
    found = target_metrics(predicted, silent)
    wild = predicted.copy()
    wild[7] = 1e3
    for split in SPLITS:
        before, after = (target_metrics(p, silent)[split]["mae_pt"] for p in (predicted, wild))
        assert float(before.value) == float(after.value)
    assert found.keys() == set(SPLITS)


def test_splits_and_targets_that_are_not_there(events: Events, predicted: np.ndarray) -> None:
    none = events.replace(
        split=np.minimum(events.split, 1), targets=np.full((300, 2), np.nan, dtype=np.float32)
    )
    found = target_metrics(predicted, none)
    assert set(found) == {"train", "valid"}
    assert np.isnan(float(found["train"]["mae_eta"].value))


def test_predictions_that_are_not_finite(events: Events, predicted: np.ndarray) -> None:
    predicted[3, 1] = np.inf
    with pytest.raises(ValueError, match="1 of 600 predictions are not finite"):
        target_metrics(predicted, events)
