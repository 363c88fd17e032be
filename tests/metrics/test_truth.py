"""Finding the truth: scikit-learn event by event and pooled, chance, errors, what is left out."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from toy_maps import make_attention, make_map, particle_map, shuffled, sparse

from hepxai.attribution import Attribution
from hepxai.core.jagged import parents
from hepxai.events import Events
from hepxai.metrics.pooled import pooled_auroc, pooled_by_chance, pooled_precision
from hepxai.metrics.ranking import Places
from hepxai.metrics.truth import (
    comparable_events,
    expected_precision,
    find_truth,
    find_truth_in_slices,
    true_entries,
    true_pt,
    truth_auroc,
)

ToyEvents = Callable[..., Events]
Flags = NDArray[np.bool_]


def maps(events: Events, *, ties: bool = False) -> list[Attribution]:
    return [make_map(events, ties=ties), sparse(make_map(events, ties=ties)), particle_map(events, ties=ties)]


def usable(true: Flags, offsets: NDArray[np.int64]) -> list[int]:
    own = [true[a:b] for a, b in itertools.pairwise(offsets)]
    return [e for e, t in enumerate(own) if t.any() and not t.all()]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("ties", [False, True])
def test_equal_to_scikit_learn_in_every_event(toy: ToyEvents, which: int, ties: bool) -> None:
    events = toy(120, smallest=0)
    found = maps(events, ties=ties)[which]
    true, offsets = true_entries(found, "fromA"), found.offsets
    rows = usable(true, offsets)
    scores = []
    for e in rows:
        own = slice(offsets[e], offsets[e + 1])
        scores.append(
            [f(true[own], np.abs(found.values[own])) for f in (roc_auc_score, average_precision_score)]
        )
        alone = find_truth(found[e : e + 1], "fromA")
        np.testing.assert_allclose([alone.auroc.value, alone.average_precision.value], scores[-1])
    result = find_truth(found, "fromA")
    assert truth_auroc(found, "fromA") == result.auroc
    np.testing.assert_array_equal(np.flatnonzero(comparable_events(found, "fromA")), rows)
    weight = events.weight[rows]
    for i, estimate in enumerate((result.auroc, result.average_precision)):
        values = np.array(scores)[:, i]
        assert estimate.value == pytest.approx(np.average(values, weights=weight))
        pull = weight * (values - estimate.value)
        error = np.sqrt(len(rows) / (len(rows) - 1) * np.sum(pull**2)) / weight.sum()
        assert estimate.error == pytest.approx(error)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("ties", [False, True])
def test_pooled_equals_scikit_learn(toy: ToyEvents, which: int, ties: bool) -> None:
    rng = np.random.default_rng(0)
    events = toy(120).replace(weight=rng.exponential(1.0, 120))
    found = maps(events, ties=ties)[which]
    true, result = true_entries(found, "fromA"), find_truth(found, "fromA")
    kept = np.isin(parents(found.offsets), usable(true, found.offsets))
    arguments = (true[kept], np.abs(found.values[kept]))
    weight = events.weight[parents(found.offsets)][kept]
    assert result.pooled_auroc.value == pytest.approx(roc_auc_score(*arguments, sample_weight=weight))
    expected = average_precision_score(*arguments, sample_weight=weight)
    assert result.pooled_average_precision.value == pytest.approx(expected)
    assert result.prevalence.value == pytest.approx(np.average(true[kept], weights=weight))


def pooled_by_loops(
    value: NDArray[np.float64], true: Flags, weight: NDArray[np.float64]
) -> tuple[float, float]:
    """AUROC and average precision with signed weights, pair by pair and threshold by threshold."""
    area = sum(
        weight[i] * weight[j] * ((value[i] > value[j]) + 0.5 * (value[i] == value[j]))
        for i in np.flatnonzero(true)
        for j in np.flatnonzero(~true)
    ) / (weight[true].sum() * weight[~true].sum())
    precision = [weight[true & (value >= v)].sum() / weight[value >= v].sum() for v in value]
    return float(area), float(np.sum((weight * precision)[true]) / weight[true].sum())


@pytest.mark.parametrize("ties", [False, True])
def test_pooled_with_signed_weights(toy: ToyEvents, ties: bool) -> None:
    events = toy(25, seed=4)
    found = particle_map(events, ties=ties)
    value, true, owner = np.abs(found.values), events.truth["fromA"], events.parent
    area, precision = pooled_by_loops(value, true, events.weight[owner])
    assert pooled_auroc(value, true, events.weight, owner).value == pytest.approx(area)
    assert pooled_precision(value, true, events.weight, owner).value == pytest.approx(precision)


@pytest.mark.parametrize("statistic", [pooled_auroc, pooled_precision])
@pytest.mark.parametrize("signed", [False, True])
def test_pooled_error_is_the_jackknife(toy: ToyEvents, statistic: Callable, signed: bool) -> None:
    """Leaving out one event after the other."""
    events = toy(300, seed=6)
    weight = events.weight if signed else np.ones(300)
    value = np.abs(particle_map(events).values) + 0.5 * events.truth["fromA"]
    value += np.random.default_rng(0).normal(size=300)[events.parent]  # entries of an event go together
    arguments = (value, events.truth["fromA"])
    found = statistic(*arguments, weight, events.parent)
    left = []
    for e in range(300):
        without = np.where(np.arange(300) == e, 0.0, weight)
        left.append(float(statistic(*arguments, without, events.parent).value))
    jackknife = np.sqrt(299 / 300 * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert found.error == pytest.approx(jackknife, rel=0.06)


# --- chance ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "size"), [(1, 2), (2, 6), (2, 56), (5, 6)])
@pytest.mark.parametrize("ties", [1, 3, 100])
def test_precision_of_truth_drawn_by_lot(number: int, size: int, ties: int) -> None:
    """With equal values: 1 for each, three at a time, all of them."""
    rng, value = np.random.default_rng(0), np.arange(size) // ties
    true = np.arange(size) < number
    drawn = [average_precision_score(rng.permutation(true), value) for _ in range(200)]
    places = Places.of(value.astype(float), np.array([0, size]))
    expected = float(expected_precision(np.array([number]), places)[0])
    assert abs(np.mean(drawn) - expected) <= 4 * np.std(drawn) / np.sqrt(200) + 1e-9
    assert expected == pytest.approx(number / size) if ties >= size else expected > number / size


def test_a_map_that_knows_nothing(toy: ToyEvents) -> None:
    found = find_truth(make_map(toy(3000, smallest=3).replace(weight=np.ones(3000))), "fromA")
    assert abs(found.auroc.value - 0.5) < 3 * found.auroc.error
    assert (
        abs(found.average_precision.value - found.chance_precision.value) < 3 * found.average_precision.error
    )
    assert abs(found.pooled_auroc.value - 0.5) < 3 * found.pooled_auroc.error
    assert found.chance_pooled_auroc == pytest.approx(0.5, abs=0.01)
    excess = found.pooled_average_precision.value - found.chance_pooled_precision
    assert abs(excess) < 3 * found.pooled_average_precision.error


@pytest.mark.parametrize("weights", ["one", "signed"])
def test_pooled_numbers_of_truth_by_lot(toy: ToyEvents, weights: str) -> None:
    """Attention falls with multiplicity, and so does the share of true pairs: that looks like knowledge."""
    events = toy(150, smallest=3)
    weight = np.ones(150) if weights == "one" else np.where(np.arange(150) % 10, 1.0, -0.5)
    found = make_attention(events.replace(weight=weight), heads=1)
    value, owner = found.values.ravel(), parents(found.offsets)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(300):
        place = np.empty(len(value), dtype=np.int64)
        place[np.lexsort((rng.random(len(value)), owner))] = np.arange(len(value))
        true = place - found.offsets[owner] < 2
        drawn.append([float(f(value, true, weight, owner).value) for f in (pooled_auroc, pooled_precision)])
    expected = pooled_by_chance(value, 2 / np.diff(found.offsets), weight, owner)
    error = np.std(drawn, axis=0) / np.sqrt(300)
    assert (np.abs(np.mean(drawn, axis=0) - expected) < 4 * error + [0.002, 0.005]).all()
    assert expected[0] > 0.55


def test_a_map_that_is_the_truth(toy: ToyEvents) -> None:
    events = toy(40)
    for found in (make_map(events), particle_map(events)):
        told = found.replace(values=-true_entries(found, "fromA").astype(float))
        result = find_truth(told, "fromA")
        for name in ("auroc", "average_precision", "pooled_auroc", "pooled_average_precision"):
            assert getattr(result, name).value == pytest.approx(1.0)


# --- symmetries, what is left out --------------------------------------------------------------------


def numbers(found: object) -> list[float]:
    names = ("auroc", "average_precision", "pooled_auroc", "pooled_average_precision", "prevalence")
    return [float(getattr(getattr(found, n), k)) for n in names for k in ("value", "error")]


def test_symmetries(toy: ToyEvents) -> None:
    events = toy(80)
    for found in maps(events):
        expected = numbers(find_truth(found, "fromA"))
        np.testing.assert_allclose(numbers(find_truth(shuffled(found), "fromA")), expected)
        np.testing.assert_allclose(
            numbers(find_truth(found.replace(values=-2 * found.values), "fromA")), expected
        )
        order = np.random.default_rng(0).permutation(80)
        np.testing.assert_allclose(numbers(find_truth(found[order], "fromA")), expected)
        weight = np.where(np.arange(80) < 50, events.weight, 0.0)
        padded = found.replace(events=events.replace(weight=weight))
        np.testing.assert_allclose(
            numbers(find_truth(padded, "fromA")), numbers(find_truth(found[:50], "fromA"))
        )


def test_left_out_is_counted(toy: ToyEvents) -> None:
    events = toy(300, largest=4)
    flags = np.bincount(events.parent, events.truth["fromA"], 300)
    found = find_truth(particle_map(events), "fromA")
    assert found.without_truth == np.count_nonzero(flags == 0) > 0
    assert found.all_true == np.count_nonzero((flags > 0) & (flags == events.counts)) > 0
    assert found.events + found.without_truth + found.all_true == 300
    pairs = find_truth(make_map(events), "fromA")
    assert pairs.without_truth == np.count_nonzero(flags < 2)  # one true particle makes no true pair
    assert find_truth(make_map(events).replace(concerns=("surrogate below stated fidelity",)), "fromA").caveat


def test_nothing_left(toy: ToyEvents) -> None:
    nowhere = toy(20)
    nowhere = nowhere.replace(truth={"fromA": np.zeros(nowhere.n_particles, dtype=bool)})
    for events in (nowhere, toy(0)):
        for found in (make_map(events), particle_map(events)):
            result = find_truth(found, "fromA")
            assert (result.events, result.without_truth) == (0, len(events))
            assert np.isnan(numbers(result)).all()


def test_slices(toy: ToyEvents) -> None:
    events = toy(200)
    found = make_map(events)
    slices = find_truth_in_slices(found, "fromA", events.counts, np.array([2.5, 5.5, 8.5]))
    own = (events.counts > 2) & (events.counts < 6)
    np.testing.assert_allclose(numbers(slices.found[0]), numbers(find_truth(found[own], "fromA")))
    assert slices.outside == np.count_nonzero((events.counts < 3) | (events.counts > 8))


def test_transverse_momentum_of_the_truth(toy: ToyEvents) -> None:
    events = toy(50)
    found = true_pt(events, "fromA")
    for e in range(50):
        own = slice(events.offsets[e], events.offsets[e + 1])
        flags = events.truth["fromA"][own]
        pt, phi = (events.values_of(n)[own][flags].astype(float) for n in ("pt", "phi"))
        expected = np.hypot(np.sum(pt * np.cos(phi)), np.sum(pt * np.sin(phi))) if flags.any() else np.nan
        np.testing.assert_allclose(found[e], expected)


def test_refuses(toy: ToyEvents) -> None:
    events = toy(20)
    found = make_map(events)
    with pytest.raises(KeyError, match="no truth 'fromHp'; there is fromA"):
        find_truth(found, "fromHp")
    with pytest.raises(KeyError, match="the card names it under"):
        find_truth(found.replace(events=events.replace(truth={})), "fromA")
    with pytest.raises(KeyError, match="no truth 'fromHp'; there is fromA"):
        true_pt(events, "fromHp")
    with pytest.raises(ValueError, match="edge_ig has one value per event"):
        find_truth(found.sum("pair"), "fromA")
    broken = found.values.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="values of edge_ig are not finite"):
        find_truth(found.replace(values=broken), "fromA")
    two = make_attention(events)
    two = two.replace(values=np.repeat(two.values, 2, axis=1), labels={"layer": ("conv1", "conv2")})
    with pytest.raises(ValueError, match="name one layer"):
        find_truth(two, "fromA")
