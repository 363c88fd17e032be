"""Isolation of a pair against loops, by hand, and under symmetries."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from toy_maps import make_attention, make_map, particle_map, shuffled, sparse

from hepxai.attribution import Attribution, Pairs
from hepxai.events import Events
from hepxai.metrics.isolation import attention_from_rest, isolation, pair_mean, pair_shares

ToyEvents = Callable[..., Events]
PAIR = ("muon", "jet")


def slow_shares(attribution: Attribution, pair: tuple[str, str], event: int) -> tuple[float, float]:
    """I and J of one event, sum by sum; NaN if it is left out."""
    events, pairs = attribution.events, attribution.pairs
    assert pairs is not None
    types = [events.schema.types[t] for t in events.type]
    value = {(s, d): abs(v) for s, d, v in zip(pairs.src, pairs.dst, attribution.values, strict=True)}
    own = range(events.offsets[event], events.offsets[event + 1])
    inside, rest = [], []
    for i, j in itertools.combinations(own, 2):
        if (types[i], types[j]) not in (pair, pair[::-1]) or len(own) < 3:
            continue
        by_pair = sum(value.get((k, e), 0.0) for k in own for e in (i, j))
        by_rest = sum(value.get((k, e), 0.0) for k in own for e in own if e not in (i, j))
        to_rest = sum(value.get((k, e), 0.0) for k in (i, j) for e in own if e not in (i, j))
        if by_pair:
            inside.append((len(own) - 1) * (value.get((i, j), 0.0) + value.get((j, i), 0.0)) / by_pair)
        if by_rest:
            rest.append(0.5 * (len(own) - 1) * to_rest / by_rest)
    return (np.mean(inside) if inside else np.nan), (np.mean(rest) if rest else np.nan)


@pytest.mark.parametrize("pair", [PAIR, ("muon", "muon"), ("jet", "met")])
@pytest.mark.parametrize("thin", [False, True])
def test_equal_to_the_loop(toy: ToyEvents, pair: tuple[str, str], thin: bool) -> None:
    found = make_map(toy(60))
    found = sparse(found) if thin else found
    shares = pair_shares(found, pair)
    slow = np.array([slow_shares(found, pair, e) for e in range(60)])
    np.testing.assert_allclose(shares.inside, slow[:, 0], rtol=1e-10)
    np.testing.assert_allclose(shares.from_rest, slow[:, 1], rtol=1e-10)
    for mean, column in (
        (isolation(found, pair), slow[:, 0]),
        (attention_from_rest(found, pair), slow[:, 1]),
    ):
        known, weight = np.isfinite(column), found.events.weight
        assert mean.value == pytest.approx(np.average(column[known], weights=weight[known]))
        pull = weight[known] * (column[known] - mean.value)
        n = known.sum()
        expected = np.sqrt(n / (n - 1) * np.sum(pull**2)) / abs(weight[known].sum())
        assert mean.error == pytest.approx(expected)


def two_muons(toy: ToyEvents, n: int = 40) -> Events:
    """Every event starts with two muons; all others are jets."""
    events = toy(n, smallest=3)
    kind = np.full(events.n_particles, events.schema.code("jet"))
    for place in (0, 1):
        kind[events.offsets[:-1] + place] = events.schema.code("muon")
    return events.replace(type=kind)


def test_equal_attention_is_one(toy: ToyEvents) -> None:
    events = two_muons(toy)
    pairs = Pairs.complete(events)
    alpha = 1 / (events.counts[events.parent[pairs.dst]] - 1)
    equal = Attribution(alpha, ("pair",), events, "attention", "signal", pairs=pairs)
    for found in (isolation(equal, ("muon", "muon")), attention_from_rest(equal, ("muon", "muon"))):
        assert found.value == pytest.approx(1.0)
        assert found.error == pytest.approx(0.0, abs=1e-12)


def test_everything_stays_in_the_pair(toy: ToyEvents) -> None:
    events = two_muons(toy)
    pairs = Pairs.complete(events)
    muon = events.is_type("muon")
    closed = (muon[pairs.src] == muon[pairs.dst]).astype(np.float64)
    shares = pair_shares(
        Attribution(closed, ("pair",), events, "attention", "signal", pairs=pairs), ("muon", "muon")
    )
    np.testing.assert_allclose(shares.inside, events.counts - 1)
    # Of a single particle besides the pair, nothing is received: nothing can be said about it.
    np.testing.assert_allclose(shares.from_rest, np.where(events.counts > 3, 0.0, np.nan))
    assert shares.silent == np.count_nonzero(events.counts == 3)


def test_attention_formula(toy: ToyEvents) -> None:
    events = two_muons(toy)
    found = make_attention(events)
    muons = found.select(pair=("muon", "muon")).mean("layer").mean("head")
    expected = muons.mean("pair").values * (events.counts - 1)
    np.testing.assert_allclose(pair_shares(found, ("muon", "muon")).inside, expected)


def test_only_the_size_counts(toy: ToyEvents) -> None:
    found = make_map(toy(40))
    scale = 1 + found.events.event[np.repeat(np.arange(40), np.diff(found.offsets))]
    other = found.replace(values=-scale * found.values)
    np.testing.assert_allclose(pair_shares(other, PAIR).inside, pair_shares(found, PAIR).inside)


def test_symmetries(toy: ToyEvents) -> None:
    found = make_map(toy(40))
    expected = pair_shares(found, PAIR)
    for name in ("inside", "from_rest"):
        for other in (
            pair_shares(shuffled(found), PAIR),
            pair_shares(found, PAIR[::-1]),
            pair_shares(Attribution.concatenate([found[:7], found[7:]]), PAIR),
        ):
            np.testing.assert_allclose(getattr(other, name), getattr(expected, name), rtol=1e-12)
        alone = [getattr(pair_shares(found[e : e + 1], PAIR), name)[0] for e in range(40)]
        np.testing.assert_allclose(alone, getattr(expected, name), rtol=1e-12)


def test_events_of_weight_zero_change_nothing(toy: ToyEvents) -> None:
    found = make_map(toy(40))
    weight = np.where(np.arange(40) < 25, found.events.weight, 0.0)
    padded = found.replace(events=found.events.replace(weight=weight))
    for of in (isolation, attention_from_rest, pair_mean):
        some, all_of_them = of(found[:25], PAIR), of(padded, PAIR)
        np.testing.assert_allclose(
            [some.value, some.error, some.n_eff],
            [all_of_them.value, all_of_them.error, all_of_them.n_eff],
        )


def test_left_out_is_counted(toy: ToyEvents) -> None:
    events = toy(200, largest=4)
    shares = pair_shares(make_map(events), PAIR)
    muon, jet = (np.bincount(events.parent, events.is_type(t), len(events)) > 0 for t in PAIR)
    assert shares.without_pair == np.count_nonzero(~(muon & jet)) > 0
    assert shares.too_small == np.count_nonzero(muon & jet & (events.counts < 3)) > 0
    known = np.count_nonzero(np.isfinite(shares.inside))
    assert known + shares.without_pair + shares.too_small == 200
    assert shares.silent == 0


def test_no_such_pair_and_no_event(toy: ToyEvents) -> None:
    jets = toy(20)
    jets = jets.replace(type=np.full(jets.n_particles, jets.schema.code("jet")))
    for events in (jets, toy(0)):
        found = isolation(make_map(events), ("muon", "muon"))
        assert np.isnan(found.value)
        assert np.isnan(pair_mean(make_map(events), ("muon", "muon")).value)


def test_pair_mean_averages_heads(toy: ToyEvents) -> None:
    found = make_attention(toy(30))
    expected = found.mean("head").mean("layer").select(pair=PAIR).population()
    assert pair_mean(found, PAIR).value == pytest.approx(float(expected.value))
    assert pair_mean(found, PAIR).error == pytest.approx(float(expected.error))


def test_refuses(toy: ToyEvents) -> None:
    events = toy(30)
    found = make_attention(events)
    with pytest.raises(ValueError, match="holds muon–jet pairs only"):
        isolation(found.select(pair=PAIR), PAIR)
    with pytest.raises(ValueError, match="needs a pair axis; node_ig has particle"):
        isolation(particle_map(events), PAIR)
    with pytest.raises(KeyError, match="no particle type 'tau'"):
        isolation(found, ("tau", "jet"))
    two = found.replace(values=np.repeat(found.values, 2, axis=1), labels={"layer": ("conv1", "conv2")})
    with pytest.raises(ValueError, match="name one layer of conv1, conv2"):
        isolation(two, PAIR)
    assert isolation(two.select(layer="conv1"), PAIR).value == pytest.approx(
        float(isolation(found, PAIR).value)
    )
