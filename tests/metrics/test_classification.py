"""Figures of merit against scikit-learn, against double loops, and against toys."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score, roc_curve

from hepxai.core.estimate import Estimate
from hepxai.events import Events
from hepxai.metrics import (
    accuracy,
    auc,
    auc_difference,
    balanced_accuracy,
    classification_metrics,
    rejection,
    roc,
)
from hepxai.metrics.classification import WORKING_POINTS, fraction_below, placements

Sample = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]


def sample(n: int, seed: int, weights: str = "positive", *, ties: bool = False) -> Sample:
    rng = np.random.default_rng(seed)
    signal = rng.random(n) < 0.4
    score = rng.normal(np.where(signal, 0.6, -0.6), 1.0)
    if ties:
        score = np.round(score * 2) / 2
    weight = {
        "one": np.ones(n),
        "positive": rng.exponential(1.0, n) + 0.1,
        "signed": rng.choice([1.0, -1.0], n, p=[0.8, 0.2]) * rng.uniform(0.5, 1.5, n),
    }[weights]
    return score, signal, weight


def auc_by_loops(score: NDArray[np.float64], signal: NDArray[np.bool_], weight: NDArray[np.float64]) -> float:
    """Mann and Whitney: the weighted fraction of pairs in the right order, ties half."""
    right = total = 0.0
    for s in np.flatnonzero(signal):
        for b in np.flatnonzero(~signal):
            w = weight[s] * weight[b]
            right += w * (1.0 if score[s] > score[b] else 0.5 if score[s] == score[b] else 0.0)
            total += w
    return right / total


@pytest.mark.parametrize("ties", [False, True])
def test_placements_are_fractions_of_the_other_class(ties: bool) -> None:
    score, signal, weight = sample(300, 4, "signed", ties=ties)
    found = placements(score, signal, weight)
    above = fraction_below(score[signal], score[~signal], weight[~signal])
    below = 1 - fraction_below(score[~signal], score[signal], weight[signal])
    np.testing.assert_allclose(found[signal], above, atol=1e-12)
    np.testing.assert_allclose(found[~signal], below, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weights", ["one", "positive"])
def test_equal_to_scikit_learn(weights: str, ties: bool) -> None:
    score, signal, weight = sample(400, 1, weights, ties=ties)
    assert auc(score, signal, weight).value == pytest.approx(
        roc_auc_score(signal, score, sample_weight=weight), rel=1e-12
    )
    expected = accuracy_score(signal, score > 0, sample_weight=weight)
    assert accuracy(score, signal, weight).value == pytest.approx(expected, rel=1e-12)
    expected = balanced_accuracy_score(signal, score > 0, sample_weight=weight)
    assert balanced_accuracy(score, signal, weight).value == pytest.approx(expected, rel=1e-12)
    false, true, threshold = roc_curve(signal, score, sample_weight=weight, drop_intermediate=False)
    eff_s, eff_b, cut = roc(score, signal, weight)
    np.testing.assert_allclose(eff_s, true[1:], rtol=1e-12)
    np.testing.assert_allclose(eff_b, false[1:], rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(cut, threshold[1:])
    for efficiency in WORKING_POINTS:
        first = int(np.argmax(true >= efficiency))
        found = rejection(score, signal, weight, efficiency)
        assert found.value == pytest.approx(1 / false[first], rel=1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weights", ["one", "positive", "signed"])
def test_auc_equals_the_double_loop(weights: str, ties: bool) -> None:
    data = sample(120, 2, weights, ties=ties)
    assert auc(*data).value == pytest.approx(auc_by_loops(*data), rel=1e-10)


def test_signed_accuracy_and_roc_equal_loops() -> None:
    score, signal, weight = sample(150, 3, "signed", ties=True)
    right = sum(w for x, s, w in zip(score, signal, weight, strict=True) if (x > 0) == s)
    assert accuracy(score, signal, weight).value == pytest.approx(right / weight.sum(), rel=1e-12)
    for eff_s, eff_b, cut in zip(*roc(score, signal, weight), strict=True):
        passed = score >= cut
        assert eff_s == pytest.approx(weight[passed & signal].sum() / weight[signal].sum(), abs=1e-12)
        assert eff_b == pytest.approx(weight[passed & ~signal].sum() / weight[~signal].sum(), abs=1e-12)


def test_balanced_accuracy_does_not_know_cross_sections() -> None:
    score, signal, weight = sample(300, 5, "signed")
    alone = balanced_accuracy(score, signal, weight)
    scaled = balanced_accuracy(score, signal, np.where(signal, 100 * weight, weight))
    assert scaled.value == pytest.approx(float(alone.value))
    assert scaled.error == pytest.approx(float(alone.error))
    with pytest.raises(ValueError, match="both classes"):
        balanced_accuracy(score, np.ones(300, dtype=bool), weight)


# --- invariances -------------------------------------------------------------------------------


def figures(score: NDArray[np.float64], signal: NDArray[np.bool_], weight: NDArray[np.float64]) -> Estimate:
    all_of_them = [m(score, signal, weight) for m in (accuracy, balanced_accuracy)]
    all_of_them += [auc(score, signal, weight)]
    all_of_them += [rejection(score, signal, weight, e) for e in WORKING_POINTS]
    values, errors = (np.array([float(getattr(e, n)) for e in all_of_them]) for n in ("value", "error"))
    return Estimate(values, errors, all_of_them[0].n_eff)


def assert_same(found: Estimate, expected: Estimate) -> None:
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-9)
    np.testing.assert_allclose(found.error, expected.error, rtol=1e-9)
    assert found.n_eff == pytest.approx(expected.n_eff)


@pytest.mark.parametrize("weights", ["one", "positive", "signed"])
def test_scale_of_the_weights_cancels(weights: str) -> None:
    score, signal, weight = sample(300, 4, weights)
    assert_same(figures(score, signal, 1e-4 * weight), figures(score, signal, weight))
    by_class = np.where(signal, 7.0, 0.01) * weight
    assert auc(score, signal, by_class).value == pytest.approx(float(auc(score, signal, weight).value))
    assert auc(score, signal, by_class).error == pytest.approx(float(auc(score, signal, weight).error))


@pytest.mark.parametrize("weights", ["one", "positive", "signed"])
def test_order_of_the_events_does_not_matter(weights: str) -> None:
    data = sample(300, 5, weights, ties=True)
    shuffled = np.random.default_rng(0).permutation(300)
    assert_same(figures(*(c[shuffled] for c in data)), figures(*data))


@pytest.mark.parametrize("weights", ["one", "positive", "signed"])
def test_events_of_weight_zero_change_nothing(weights: str) -> None:
    score, signal, weight = sample(300, 6, weights)
    more = sample(50, 7)
    score_, signal_ = np.append(score, more[0]), np.append(signal, more[1])
    assert_same(figures(score_, signal_, np.append(weight, np.zeros(50))), figures(score, signal, weight))


@pytest.mark.parametrize("weights", ["one", "positive", "signed"])
def test_an_event_in_two_halves(weights: str) -> None:
    """The same event twice with half its weight: the values stay."""
    score, signal, weight = sample(300, 8, weights)
    twice = (np.repeat(score, 2), np.repeat(signal, 2), np.repeat(weight / 2, 2))
    np.testing.assert_allclose(
        figures(*twice).value, figures(score, signal, weight).value, rtol=1e-9, atol=1e-12
    )


def test_order_of_scores_is_all_that_counts() -> None:
    score, signal, weight = sample(300, 9)
    stretched, cut_at_0 = figures(np.exp(3 * score), signal, weight), 2
    expected = figures(score, signal, weight).value
    np.testing.assert_allclose(stretched.value[cut_at_0:], expected[cut_at_0:], rtol=1e-12)


def test_swapping_classes_mirrors_the_auc() -> None:
    score, signal, weight = sample(300, 10, "signed")
    here, there = auc(score, signal, weight), auc(-score, ~signal, weight)
    assert here.value == pytest.approx(float(there.value), rel=1e-12)
    assert here.error == pytest.approx(float(there.error), rel=1e-9)


def test_perfect_and_useless_scores() -> None:
    signal = np.repeat([True, False], 50)
    weight = np.ones(100)
    assert auc(np.where(signal, 1.0, -1.0), signal, weight).value == 1
    assert auc(np.zeros(100), signal, weight).value == 0.5
    perfect = rejection(np.where(signal, 1.0, -1.0), signal, weight, 0.5)
    assert np.isinf(perfect.value)
    assert np.isinf(perfect.error)


# --- errors ------------------------------------------------------------------------------------


def assert_errors_hold(figure: Callable[..., Estimate], weights: str, n: int, within: float) -> None:
    """Over toys, values spread as far as their errors say, around the value of a huge sample."""
    truth = float(figure(*sample(400_000, 99, weights)).value)
    toys = [figure(*sample(n, 100 + t, weights)) for t in range(400)]
    value, error = (np.array([float(getattr(e, name)) for e in toys]) for name in ("value", "error"))
    assert value.std() / error.mean() == pytest.approx(1, abs=within)
    assert np.std((value - truth) / error) == pytest.approx(1, abs=within)
    assert abs(value.mean() - truth) < within * value.std()


@pytest.mark.parametrize("weights", ["one", "positive", "signed"])
@pytest.mark.parametrize("figure", [accuracy, auc])
def test_errors_are_the_spread_of_toys(figure: Callable[..., Estimate], weights: str) -> None:
    assert_errors_hold(figure, weights, 400, within=0.13)


@pytest.mark.parametrize("weights", ["one", "positive"])
@pytest.mark.parametrize("efficiency", [0.3, 0.7, 0.9])
def test_error_of_the_rejection_is_the_spread_of_toys(efficiency: float, weights: str) -> None:
    """In the background efficiency, which is the nearly Gaussian one of the two."""

    def passing(*data: NDArray[np.float64]) -> Estimate:
        found = rejection(*data, efficiency)
        return Estimate(1 / found.value, found.error / found.value**2, found.n_eff)

    assert_errors_hold(passing, weights, 800, within=0.2)


def test_auc_error_against_the_bootstrap() -> None:
    data = sample(600, 11, "signed")
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, 600, 600) for _ in range(400)]
    spread = np.std([float(auc(*(c[d] for c in data)).value) for d in draws])
    assert auc(*data).error == pytest.approx(spread, rel=0.12)


@pytest.mark.parametrize("weights", ["one", "positive", "signed"])
def test_error_of_a_difference_is_the_spread_of_toys(weights: str) -> None:
    """Of two scores that share most of their noise."""

    def gain(score: NDArray[np.float64], *rest: NDArray[np.float64]) -> Estimate:
        noise = np.random.default_rng(int(1e9 * abs(score[0])))
        other = score + noise.normal(0, 0.7, len(score))
        return auc_difference(score, other, *rest)

    assert_errors_hold(gain, weights, 400, within=0.13)


def test_difference_of_two_scores() -> None:
    score, signal, weight = sample(500, 3, "signed", ties=True)
    other = sample(500, 4)[0]
    parts = [auc(s, signal, weight) for s in (score, other)]
    found = auc_difference(score, other, signal, weight)
    assert found.value == pytest.approx(float(parts[0].value - parts[1].value), rel=1e-12)
    assert found.error == pytest.approx(float(np.hypot(*(p.error for p in parts))), rel=0.1)  # unrelated
    same = auc_difference(score, 2 * score + 1, signal, weight)
    assert (same.value, same.error) == (0, 0)


# --- what cannot be answered -------------------------------------------------------------------


@pytest.mark.parametrize(
    "figure", [auc, roc, lambda *data: rejection(*data, 0.5), lambda *data: auc_difference(data[0], *data)]
)
def test_one_class_only(figure: Callable[..., Estimate]) -> None:
    score, weight = np.arange(5.0), np.ones(5)
    with pytest.raises(ValueError, match=r"both classes are needed.*only: signal"):
        figure(score, np.ones(5, dtype=bool), weight)
    with pytest.raises(ValueError, match=r"both classes are needed.*only: background"):
        figure(score, np.zeros(5, dtype=bool), weight)
    with pytest.raises(ValueError, match=r"both classes are needed.*only: none"):
        figure(score[:0], np.zeros(0, dtype=bool), weight[:0])


@pytest.mark.parametrize("figure", [auc, roc, lambda *data: rejection(*data, 0.5)])
@pytest.mark.parametrize("weight", [[0, 0, 1, 1], [1, -1, 1, 1]])
def test_a_class_whose_weights_cancel(figure: Callable[..., Estimate], weight: list[float]) -> None:
    signal = np.array([True, True, False, False])
    with pytest.raises(ValueError, match="weights of the signal sum to zero"):
        figure(np.arange(4.0), signal, np.array(weight, dtype=float))


@pytest.mark.parametrize("efficiency", [0.0, 1.1, -0.5, float("nan")])
def test_impossible_efficiencies(efficiency: float) -> None:
    with pytest.raises(ValueError, match="it must be above 0 and at most 1"):
        rejection(*sample(20, 0), efficiency)


def test_everything_passes_at_full_efficiency() -> None:
    score, signal, weight = sample(60, 12, "signed")
    passing = score >= score[signal].min()
    assert rejection(score, signal, abs(weight), 1.0).value == pytest.approx(
        abs(weight)[~signal].sum() / abs(weight)[passing & ~signal].sum()
    )


def test_table_of_figures(toy: Callable[..., Events]) -> None:
    events = toy(200)
    score = np.random.default_rng(0).normal(size=200)
    found = classification_metrics(score, events)
    assert list(found) == ["train", "valid", "test"]
    names = ["accuracy", "balanced_accuracy", "auc", *(f"rejection@{e:g}" for e in WORKING_POINTS)]
    assert all(list(row) == names for row in found.values())
    own = events.split == 2
    expected = auc(score[own], events.label[own] == 1, events.weight[own])
    assert found["test"]["auc"] == expected
    one_class = events.replace(label=np.where(events.split == 1, 0, events.label))
    assert list(classification_metrics(score, one_class)) == ["train", "test"]
    weightless = events.replace(weight=np.where(events.split == 2, 0.0, events.weight))
    assert list(classification_metrics(score, weightless)) == ["train", "valid"]
