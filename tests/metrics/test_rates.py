"""Intervals of rates: counted coverage, perfect scores, figures out of range, and scores that are NaN."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from hepxai.core.estimate import Estimate, OutOfRangeWarning, as_json
from hepxai.metrics import accuracy, auc, balanced_accuracy, efficiency, fidelity, rejection, roc, turn_on

Sample = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]


def weights(kind: str, hit: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit weights, or passing events five times as heavy or as light as the others, or a fifth negative."""
    spread = rng.uniform(0.5, 1.5, len(hit))
    return {
        "unit": np.ones(len(hit)),
        "heavy": np.where(hit, 5, 1) * spread,
        "light": np.where(hit, 1, 5) * spread,
        "signed": np.where(rng.random(len(hit)) < 0.2, -1, 1) * spread,
    }[kind]


def two_gaussians(n: int, distance: float, kind: str, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    signal = np.arange(n) % 2 == 0
    score = rng.normal(size=n) + np.where(signal, distance / 2, -distance / 2)
    return score, signal, weights(kind, rng.random(n) < 0, rng)


def coverage(figures: list[Estimate], truth: float) -> float:
    return float(np.mean([f.low <= truth <= f.high for f in figures]))


pytestmark = pytest.mark.filterwarnings("ignore::hepxai.core.estimate.OutOfRangeWarning")


@pytest.mark.parametrize("kind", ["unit", "heavy", "light", "signed"])
@pytest.mark.parametrize(("n", "share"), [(30, 0.2), (30, 0.5), (400, 0.02), (400, 0.5), (400, 0.98)])
def test_an_efficiency_is_covered(n: int, share: float, kind: str) -> None:
    """Measured: .68 to .90, with passing events five times as heavy as the others up to .99."""
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        hit = rng.random(n) < share
        found.append(efficiency(hit, weights(kind, hit, rng)))
    factor = {"heavy": 5.0, "light": 0.2}.get(kind, 1.0)
    truth = factor * share / (factor * share + 1 - share)
    assert coverage(found, truth) > 0.64


@pytest.mark.parametrize("kind", ["unit", "signed"])
@pytest.mark.parametrize(("n", "area"), [(30, 0.5), (30, 0.95), (30, 0.998), (400, 0.8), (400, 0.998)])
def test_an_auc_is_covered(n: int, area: float, kind: str) -> None:
    """Measured: .72 to .99; DeLong's error alone covers .998 at 30 events in .19."""
    distance = np.sqrt(2) * norm.ppf(area)
    assert coverage([auc(*two_gaussians(n, distance, kind, s)) for s in range(300)], area) > 0.64


@pytest.mark.parametrize("kind", ["unit", "signed"])
@pytest.mark.parametrize(("n", "kept"), [(100, 0.3), (400, 0.3), (400, 0.9), (2000, 0.5)])
def test_a_rejection_is_covered(n: int, kept: float, kind: str) -> None:
    """Measured: .70 to .97, the more the fewer events pass."""
    truth = 1 / norm.sf(norm.isf(kept, loc=2.0))
    found = [rejection(*two_gaussians(n, 2.0, kind, s), kept) for s in range(300)]
    assert coverage(found, truth) > 0.64


@pytest.mark.parametrize("distance", [0.0, 2.0, 5.0])
def test_a_balanced_accuracy_is_covered(distance: float) -> None:
    found = [balanced_accuracy(*two_gaussians(30, distance, "unit", s)) for s in range(300)]
    assert coverage(found, float(norm.cdf(distance / 2))) > 0.64


PERFECT: dict[str, Callable[..., Estimate]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auc": auc,
    "agreement": lambda score, signal, weight: fidelity(score, score, weight)["agreement"],
    "efficiency": lambda score, signal, weight: efficiency(score > -np.inf, weight),
}


@pytest.mark.parametrize("name", PERFECT)
def test_a_perfect_score_is_not_exact(name: str) -> None:
    """At the lower end, as good a score is as improbable as the tail: .1587 = .912^20 for 20 events."""
    signal = np.arange(20) % 2 == 0
    found = PERFECT[name](np.where(signal, 1.0, -1.0), signal, np.ones(20))
    assert (float(found.value), float(found.high)) == (1, 1)
    assert float(found.low) == pytest.approx(0.1586555 ** (1 / 20), abs=0.01)
    assert float(found.error) == pytest.approx((1 - float(found.low)) / 2)
    assert str(found).startswith("1.000 +0.000 -0.0")


def test_a_rejection_has_an_interval() -> None:
    score, signal, weight = two_gaussians(400, 2.5, "unit", 3)
    found = rejection(score, signal, weight, 0.3)
    assert 0 < found.low < found.value < found.high < np.inf
    assert found.high - found.value > 1.2 * (found.value - found.low)
    endless = rejection(np.where(signal, 1.0, -1.0), signal, weight, 0.5)
    assert str(endless) == "> 109"  # 1 / (1 - .1587^(1/200))
    assert as_json({"r": endless})["r"]["low"] == pytest.approx(109.1, abs=0.1)


def test_a_figure_out_of_range_is_warned_of_and_more_events_help() -> None:
    """A third of the signal with weight -1."""
    rng = np.random.default_rng(5)

    def sample(n: int) -> Sample:
        signal = np.arange(n) % 2 == 0
        weight = np.where(signal & (rng.random(n) < 0.42), -1.0, 1.0) * rng.uniform(0.9, 1.1, n)
        return rng.normal(size=n) + 2 * signal, signal, weight

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        few = [auc(*sample(24)) for _ in range(12)]
    assert {w.category for w in caught} == {OutOfRangeWarning}
    assert re.search(r"AUC is .* only [\d.]+ effective events; take more events", str(caught[0].message))
    assert len(caught) == sum("outside its range" in str(f) for f in few)
    assert all(0 <= f.low <= f.high <= 1 for f in few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = auc(*sample(20_000))
    assert float(found.value) == pytest.approx(float(norm.cdf(np.sqrt(2))), abs=0.02)


NAN: dict[str, Callable[..., object]] = {
    "auc": auc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "roc": roc,
    "rejection": lambda *data: rejection(*data, 0.5),
    "turn_on": lambda score, signal, weight: turn_on(score, score, weight, edges=np.array([-1.0, 0, 1])),
    "fidelity": lambda score, signal, weight: fidelity(score, score, weight),
}


@pytest.mark.parametrize("name", NAN)
@pytest.mark.parametrize("column", [0, 2])
def test_nan_is_refused_with_the_count_and_leaving_it_out_works(name: str, column: int) -> None:
    data = two_gaussians(30, 1.0, "unit", 0)
    data[column][:2] = np.nan
    with pytest.raises(ValueError, match=r"2 of 30 values of \w+ are NaN; leave these events out"):
        NAN[name](*data)
    NAN[name](*(c[2:] for c in data))


@pytest.mark.parametrize(
    ("value", "error", "ends", "text"),
    [
        (0.9, 0.0175, (0.88, 0.915), "0.900 +0.015 -0.020"),
        (0.5, 0.0199, (0.48, 0.52), "0.500 ± 0.020"),
        (4200.0, 6400.0, (1500.0, 23_000.0), "4200 +18800 -2700"),
        (np.inf, np.inf, (109.1, np.inf), "> 109"),
        (np.nan, np.nan, (0.0, 1.0), "unknown"),
        (1.82, 3.3, (0.02, 1.0), "1.8 ± 3.3 (outside its range)"),
        (3.0e-9, 2.0e-10, None, "3e-09 ± 2e-10"),
        (12.3456, 1e-15, None, "12.3456 ± 1e-15"),
        (2.0, 0.0, None, "2 ± 0"),
    ],
)
def test_text_of_an_estimate(value: float, error: float, ends: tuple[float, float] | None, text: str) -> None:
    interval = None if ends is None else (np.asarray(ends[0]), np.asarray(ends[1]))
    assert str(Estimate(np.asarray(value), np.asarray(error), 10.0, interval)) == text
