"""Profiles and the correlation ratio against loops, toys and permutations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_maps import make_attention, make_map

from hepxai.core.binning import bin_of, equal_bins
from hepxai.core.estimate import ratio_mean
from hepxai.events import Events
from hepxai.metrics.null import NullDistribution, random_signs
from hepxai.metrics.profile import correlation_ratio, explained_by, profile

ToyEvents = Callable[..., Events]
Array = NDArray[np.float64]
EDGES = np.linspace(-3.0, 3.0, 9)


def sample(n: int, seed: int, *, signed: bool = True, strength: float = 1.0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    observer = np.clip(rng.normal(size=n), -3, 3)
    weight = rng.choice([1.0, -1.0], n, p=[0.9, 0.1]) if signed else np.ones(n)
    return strength * np.sin(2 * observer) + rng.normal(size=n), observer, weight


def test_profile_equals_the_loop() -> None:
    score, observer, weight = sample(400, 0)
    observer[:5] = np.nan
    found = profile(score, observer, weight, EDGES[1:-1])
    assert found.outside == np.count_nonzero(~((observer >= EDGES[1]) & (observer <= EDGES[-2])))
    for b in range(len(EDGES) - 3):
        own = bin_of(observer, EDGES[1:-1]) == b
        expected = ratio_mean(score[own], np.ones(own.sum()), weight[own])
        assert found.mean.value[b] == expected.value
        assert found.mean.error[b] == expected.error
        assert found.middle[b] == np.median(observer[own])


def test_profile_with_an_empty_bin_and_no_event() -> None:
    score, observer, weight = sample(50, 0)
    found = profile(score, observer, weight, np.array([-3.0, 3.0, 4.0]))
    assert np.isnan([found.mean.value[1], found.mean.error[1], found.middle[1]]).all()
    assert np.isfinite(found.mean.value[0])
    nothing = profile(*(np.zeros(0),) * 3, EDGES)
    assert np.isnan(nothing.mean.value).all()
    assert nothing.mean.n_eff == 0


def slow_ratio(values: Array, observer: Array, weight: Array, edges: Array) -> float:
    """Between the bins over in total, as Pearson defined it."""
    position = bin_of(observer, edges)
    mean = np.average(values[position >= 0], weights=weight[position >= 0])
    between = total = 0.0
    for b in range(len(edges) - 1):
        own = position == b
        if own.any():
            here = np.average(values[own], weights=weight[own])
            between += weight[own].sum() * (here - mean) ** 2
            total += np.sum(weight[own] * (values[own] - mean) ** 2)
    return float(between / total)


@pytest.mark.parametrize("signed", [False, True])
def test_correlation_ratio_equals_the_loop(signed: bool) -> None:
    data = sample(500, 1, signed=signed)
    found = correlation_ratio(*data, EDGES)
    assert found.value == pytest.approx(slow_ratio(*data, EDGES))
    data[1][:9] = [np.nan, 5.0, -5.0] * 3
    left = tuple(v[9:] for v in data)
    assert correlation_ratio(*data, EDGES).value == pytest.approx(slow_ratio(*left, EDGES))


def test_correlation_ratio_of_known_cases() -> None:
    values, observer, weight = sample(500, 2)
    fixed = bin_of(observer, EDGES).astype(float)  # the bin fixes the value
    found = correlation_ratio(fixed, observer, weight, EDGES)
    assert found.value == pytest.approx(1.0)
    assert found.error == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(correlation_ratio(np.ones(500), observer, weight, EDGES).value)
    scaled = correlation_ratio(7 - 1e3 * values, observer, 0.01 * weight, EDGES)
    expected = correlation_ratio(values, observer, weight, EDGES)
    np.testing.assert_allclose([scaled.value, scaled.error], [expected.value, expected.error])
    with pytest.raises(ValueError, match=r"weights of bin 0 of 1 sum to -500; take wider bins"):
        correlation_ratio(values, observer, -np.ones(500), EDGES[[0, -1]])


@pytest.mark.parametrize("signed", [False, True])
def test_correlation_ratio_error_covers(signed: bool) -> None:
    found = [correlation_ratio(*sample(800, seed, signed=signed), EDGES[2:-2]) for seed in range(300)]
    values, errors = (np.array([float(getattr(f, k)) for f in found]) for k in ("value", "error"))
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.1)


# --- what a mass explains of a map -------------------------------------------------------------------


def test_explained_by(toy: ToyEvents) -> None:
    events = toy(400, smallest=4).replace(weight=np.ones(400))
    found, pair = make_map(events), ("muon", "jet")
    result = explained_by(found, pair, "mass_mumu", bins=5, draws=30)
    chosen = found.select(pair=pair)
    used = np.diff(chosen.offsets) > 0
    assert (result.events, result.left_out) == (used.sum(), 400 - used.sum())
    mass = events.observers["mass_mumu"][used]
    np.testing.assert_allclose(result.edges, equal_bins(mass, 5))
    expected = slow_ratio(chosen.sum("pair").values[used], mass, np.ones(used.sum()), result.edges)
    assert result.share.value == pytest.approx(expected)
    # Nothing to explain: about (bins - 1) / events by chance, and not more.
    assert result.null.expectation.value == pytest.approx(4 / used.sum(), rel=0.35)
    assert result.null.p_value(float(result.share.value)) > 0.01


def test_a_mass_that_explains_much(toy: ToyEvents) -> None:
    events = toy(400, smallest=4)
    found = make_map(events)
    values = found.values + 5 * (events.observers["mass_mumu"] > 90)[np.repeat(*_rows(found.offsets))]
    result = explained_by(found.replace(values=values), ("muon", "jet"), "mass_mumu", draws=30)
    assert result.share.value > result.null.expectation.value + 5 * result.null.expectation.error
    assert result.share.value > 5 * result.share.error
    again = explained_by(found.replace(values=values), ("jet", "muon"), "mass_mumu", draws=30)
    np.testing.assert_array_equal(again.null.values, result.null.values)


def _rows(offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(len(offsets) - 1), np.diff(offsets)


def test_events_without_the_observer_are_left_out(toy: ToyEvents) -> None:
    events = toy(100, smallest=4)
    mass = np.where(np.arange(100) < 30, np.nan, events.observers["mass_mumu"])
    found = make_attention(events.replace(observers={"mass_mumu": mass}))
    some = explained_by(found, ("muon", "jet"), "mass_mumu", bins=3, draws=2)
    rest = explained_by(found[30:], ("muon", "jet"), "mass_mumu", bins=3, draws=2)
    assert some.share.value == pytest.approx(float(rest.share.value))
    assert some.left_out == rest.left_out + 30
    with pytest.raises(KeyError, match="no observer 'mass'; there is mass_mumu"):
        explained_by(found, ("muon", "jet"), "mass")


def test_null_distributions() -> None:
    one, again = (random_signs(lambda s: float(s @ np.arange(10)), 10, draws=50, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.values, again.values)
    assert abs(one.values).max() <= 45
    null = NullDistribution(np.arange(9.0))
    assert (null.expectation.value, null.expectation.error) == (4.0, pytest.approx(np.sqrt(7.5)))
    assert [null.p_value(s) for s in (-1.0, 8.0, 9.0)] == [1.0, 0.2, 0.1]
    assert np.isnan(null.p_value(np.nan))
