"""Baselines of finding the truth: types alone, equal types, and their null distribution."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from toy_maps import make_map, particle_map, sparse

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import whole_pairs
from hepxai.attribution.trainings import stack_trainings
from hepxai.events import Events
from hepxai.metrics import (
    find_truth,
    null_within_types,
    truth_beyond_types,
    truth_by_type,
    truth_within_types,
)
from hepxai.metrics.truth import true_entries
from hepxai.metrics.truth_by_type import _shuffled, types_of_entries

ToyEvents = Callable[..., Events]
TRUTH = "fromA"


def maps(events: Events) -> list[Attribution]:
    undirected = make_map(events).replace(settings={"directed": False})
    return [
        make_map(events),
        sparse(make_map(events)),
        particle_map(events, ties=True),
        whole_pairs(undirected),
    ]


def types_in_words(attribution: Attribution, entry: int) -> str:
    names, kind, pairs = attribution.events.schema.types, attribution.events.type, attribution.pairs
    if pairs is None:
        return str(names[kind[entry]])
    ends = [names[kind[pairs.dst[entry]]], names[kind[pairs.src[entry]]]]
    return " ".join(ends if attribution.settings.get("directed", True) else sorted(ends))


def per_event(attribution: Attribution) -> NDArray[np.float64]:
    """Comparison by comparison."""
    true, values = true_entries(attribution, TRUTH), np.abs(attribution.values)
    kinds = [types_in_words(attribution, i) for i in range(len(values))]
    result = []
    for a, b in itertools.pairwise(attribution.offsets):
        wins = [
            (values[i] > values[j]) + 0.5 * (values[i] == values[j])
            for i in range(a, b)
            for j in range(a, b)
            if true[i] and not true[j] and kinds[i] == kinds[j]
        ]
        result.append(np.mean(wins) if wins else np.nan)
    return np.array(result)


@pytest.mark.parametrize("which", range(4))
def test_within_types_comparison_by_comparison(toy: ToyEvents, which: int) -> None:
    attribution = maps(toy(80, smallest=0))[which]
    expected, weight = per_event(attribution), attribution.events.weight
    used = np.isfinite(expected)
    assert 5 < used.sum() < 80
    result = truth_within_types(attribution, TRUTH)
    assert result.value == pytest.approx(np.average(expected[used], weights=weight[used]))
    pull = weight[used] * (expected[used] - result.value)
    small = used.sum() / (used.sum() - 1)
    assert result.error == pytest.approx(np.sqrt(small * np.sum(pull**2)) / abs(weight[used].sum()))


@pytest.mark.parametrize("which", range(4))
def test_types_alone(toy: ToyEvents, which: int) -> None:
    """The share of true entries of the types as the value, event by event, and the gain of a map over it."""
    attribution = maps(toy(80))[which]
    true, kinds = true_entries(attribution, TRUTH), types_of_entries(attribution)
    rows = [
        e for e, (a, b) in enumerate(itertools.pairwise(attribution.offsets)) if 0 < true[a:b].sum() < b - a
    ]
    assert len(rows) == find_truth(attribution, TRUTH).events
    owner = np.repeat(np.arange(80), np.diff(attribution.offsets))
    weight = np.where(np.isin(owner, rows), np.abs(attribution.events.weight)[owner], 0)
    share = np.zeros(kinds.max() + 1)
    for kind in np.unique(kinds[weight > 0]):
        share[kind] = np.average(true[kinds == kind], weights=weight[kinds == kind])
    by_type, gain = [], []
    for a, b in np.stack([attribution.offsets[:-1], attribution.offsets[1:]], axis=1)[rows]:
        by_type.append(roc_auc_score(true[a:b], share[kinds[a:b]]))
        gain.append(roc_auc_score(true[a:b], np.abs(attribution.values[a:b])) - by_type[-1])
    weight = attribution.events.weight[rows]
    assert truth_by_type(attribution, TRUTH).value == pytest.approx(np.average(by_type, weights=weight))
    result = truth_beyond_types(attribution, TRUTH)
    assert result.value == pytest.approx(np.average(gain, weights=weight))
    pull = weight * (gain - result.value)
    small = len(rows) / (len(rows) - 1)
    assert result.error == pytest.approx(np.sqrt(small * np.sum(pull**2)) / abs(weight.sum()))


def types_in_events(toy: ToyEvents) -> Events:
    """Signal: a true muon and 10 jets, one of them true. Background: 20 muons, none true."""
    events = toy(40, smallest=1, largest=1)
    signal = np.arange(40) < 20
    counts = np.where(signal, 11, 20)
    place = np.concatenate([np.arange(c) for c in counts])
    of_signal = np.repeat(signal, counts)
    first = np.repeat(events.offsets[:-1], counts)
    columns = {n: getattr(events, n)[first] for n in ("particles", "p4")}
    return events.replace(
        **columns,
        offsets=np.append(0, np.cumsum(counts)),
        type=np.where(of_signal & (place > 0), 2, 1),
        index=place,
        label=signal.astype(int),
        weight=np.ones(40),
        truth={TRUTH: of_signal & (place < 2)},
    )


def test_events_without_truth_do_not_count_for_the_types(toy: ToyEvents) -> None:
    """A map of the types has no more than the types, however many false muons the background has."""
    events = types_in_events(toy)
    attribution = particle_map(events).replace(values=1.0 + (events.type == 1))
    assert truth_by_type(attribution, TRUTH).value == pytest.approx(0.75)  # muon 1, jet ½
    gain = truth_beyond_types(attribution, TRUTH)
    assert gain.value == pytest.approx(0, abs=1e-12)
    assert gain.error < 0.1


def test_error_of_the_gain_is_that_of_the_difference(toy: ToyEvents) -> None:
    """What map and types have in common cancels: here the types, and in a perfect map a constant."""
    events, rng = toy(200), np.random.default_rng(2)
    muon, flags = events.type == 1, rng.random((2, events.n_particles)) < [[0.7], [0.2]]
    events = events.replace(truth={TRUTH: np.where(muon, *flags)})
    attribution = particle_map(events).replace(values=muon + rng.uniform(0, 0.1, len(muon)))
    gain, by_type = truth_beyond_types(attribution, TRUTH), truth_by_type(attribution, TRUTH)
    independent = np.hypot(find_truth(attribution, TRUTH).auroc.error, by_type.error)
    assert gain.error < 0.7 * independent
    perfect = attribution.replace(values=1.0 * true_entries(attribution, TRUTH))
    assert truth_beyond_types(perfect, TRUTH).error == pytest.approx(by_type.error, rel=0.01)


@pytest.mark.parametrize("which", range(4))
def test_values_do_not_matter_for_the_types_alone(toy: ToyEvents, which: int) -> None:
    attribution = maps(toy(60))[which]
    other = attribution.replace(values=np.random.default_rng(0).normal(size=attribution.values.shape))
    assert truth_by_type(attribution, TRUTH) == truth_by_type(other, TRUTH)


def test_map_of_the_types_has_one_half_within_them(toy: ToyEvents) -> None:
    attribution = make_map(toy(60))
    attribution = attribution.replace(values=types_of_entries(attribution).astype(float))
    assert truth_within_types(attribution, TRUTH).value == pytest.approx(0.5)
    assert np.allclose(null_within_types(attribution, TRUTH, draws=5).values, 0.5)


def test_map_of_the_truth_finds_all(toy: ToyEvents) -> None:
    for attribution in maps(toy(60)):
        perfect = attribution.replace(values=-1.0 * true_entries(attribution, TRUTH))
        assert truth_within_types(perfect, TRUTH).value == 1
        assert null_within_types(perfect, TRUTH, draws=99).p_value(1.0) == pytest.approx(0.01)


def test_truth_that_is_a_type(toy: ToyEvents) -> None:
    """All muons are true: nothing is left to compare within equal types, and the types are perfect."""
    events = toy(60)
    events = events.replace(truth={TRUTH: events.type == 0})
    for attribution in (make_map(events), particle_map(events)):
        result = truth_within_types(attribution, TRUTH)
        assert np.isnan(result.value)
        assert result.n_eff == 0
        assert np.isnan(null_within_types(attribution, TRUTH, draws=3).values).all()
        assert truth_by_type(attribution, TRUTH).value == 1


def test_shuffled_truth_keeps_its_number_by_type(toy: ToyEvents) -> None:
    events = toy(200)
    before = events.truth[TRUTH]
    after = _shuffled(events, before, np.random.default_rng(3))
    group = events.parent * len(events.schema.types) + events.type
    np.testing.assert_array_equal(np.bincount(group, before), np.bincount(group, after))
    assert (before != after).any()
    assert np.array_equal(before, events.truth[TRUTH])


@pytest.mark.parametrize("pairs", [False, True])
def test_p_values_are_uniform_without_information(toy: ToyEvents, pairs: bool) -> None:
    """Size of the test: of random maps one in ten has p ≤ 0.1, also where pairs share particles."""
    events, rng, small = toy(60).replace(weight=np.ones(60)), np.random.default_rng(1), 0
    base = make_map(events) if pairs else particle_map(events)
    for seed in range(60):
        strength = rng.normal(size=events.n_particles)
        values = strength[base.pairs.src] + strength[base.pairs.dst] if pairs else strength
        one = base.replace(values=np.exp(values))
        null = null_within_types(one, TRUTH, draws=19, seed=seed)
        small += null.p_value(float(truth_within_types(one, TRUTH).value)) <= 0.1
    assert 1 <= small <= 14  # 6 ± 2.3


def test_spread_over_trainings(toy: ToyEvents) -> None:
    events = toy(60)
    singles = [make_map(events, seed=s) for s in range(3)]
    result = truth_within_types(stack_trainings(singles), TRUTH)
    each = [float(truth_within_types(one, TRUTH).value) for one in singles]
    assert result.spread["training"] == pytest.approx(np.std(each, ddof=1))


def test_unknown_truth(toy: ToyEvents) -> None:
    for measure in (truth_within_types, truth_by_type, truth_beyond_types, null_within_types):
        with pytest.raises(KeyError, match="no truth 'fromB'; there is fromA"):
            measure(make_map(toy(10)), "fromB")


def test_map_that_is_not_finite(toy: ToyEvents) -> None:
    attribution = particle_map(toy(10))
    values = np.where(np.arange(len(attribution.values)) == 3, np.nan, attribution.values)
    with pytest.raises(ValueError, match="not finite"):
        truth_within_types(dataclasses.replace(attribution, values=values), TRUTH)
