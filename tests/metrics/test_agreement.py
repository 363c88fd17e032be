"""Agreement of methods, event by event with loops; what chance gives; what is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from toy_maps import make_attention, make_map, particle_map, shuffled, sparse

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.metrics.agreement import agreement_matrix, rank_agreement, shared_pairs, top_agreement

ToyEvents = Callable[..., Events]


def values_by_pair(attribution: Attribution, event: int, unordered: bool) -> dict[Any, float]:
    found: dict[Any, float] = {}
    pairs = attribution.pairs
    assert pairs is not None
    for p in range(pairs.offsets[event], pairs.offsets[event + 1]):
        ends = (int(pairs.src[p]), int(pairs.dst[p]))
        key = frozenset(ends) if unordered else ends
        found[key] = found.get(key, 0.0) + float(attribution.values[p])
    return {k: abs(v) for k, v in found.items()}


def test_one_line_says_what_was_found(toy: ToyEvents) -> None:
    events = toy(20)
    maps = {"a": make_map(events), "b": make_map(events, 1)}
    found, table = rank_agreement(*maps.values()), agreement_matrix(maps)
    left = int(np.isnan(found.per_event).sum())
    assert repr(found) == f"<Agreement: {found.mean:.3g}, by chance 0, of 20 events, {left} left out>"
    value = f"{found.mean.value:.3g}"
    assert repr(table) == f"<AgreementMatrix: a, b; {value} to {value}>"
    assert repr(agreement_matrix({"a": maps["a"]})) == "<AgreementMatrix: a>"


@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("thin", [False, True])
def test_equal_to_the_loop(toy: ToyEvents, unordered: bool, thin: bool) -> None:
    events = toy(50)
    one, two = make_map(events), make_map(events, 1)
    one = one.replace(values=one.values + 0.5 * two.values)
    two = sparse(two) if thin else two
    ranks = rank_agreement(one, two, unordered=unordered)
    top = top_agreement(one, two, k=3, unordered=unordered)
    for e in range(50):
        a, b = (values_by_pair(m, e, unordered) for m in (one, two))
        keys = sorted(a.keys() & b.keys(), key=sorted)
        x, y = (np.array([v[k] for k in keys]) for v in (a, b))
        if len(keys) < 2:
            assert np.isnan(ranks.per_event[e])
        else:
            assert ranks.per_event[e] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
        if len(keys) <= 3:
            assert np.isnan(top.per_event[e])
        else:
            common = set(np.argsort(-x)[:3]) & set(np.argsort(-y)[:3])
            assert top.per_event[e] == pytest.approx(len(common) / 3)
    for found in (ranks, top):
        known = np.isfinite(found.per_event)
        expected = np.average(found.per_event[known], weights=events.weight[known])
        assert found.mean.value == pytest.approx(expected)
        assert found.left_out == np.count_nonzero(~known) > 0


def test_pairs_are_matched_by_their_ends(toy: ToyEvents) -> None:
    """Edges in another order, and edges that only one of them has."""
    found = make_map(toy(40))
    assert rank_agreement(found, found).mean.value == pytest.approx(1.0)
    thin = sparse(found)
    shared = shared_pairs(found, thin)
    np.testing.assert_array_equal(shared.first, shared.second)
    np.testing.assert_array_equal(np.diff(shared.offsets), np.diff(thin.offsets))
    pairs = found.pairs
    assert pairs is not None
    backwards = np.lexsort((-np.arange(len(pairs.src)), np.repeat(np.arange(40), np.diff(pairs.offsets))))
    turned = found.replace(
        values=found.values[backwards],
        pairs=type(pairs)(pairs.src[backwards], pairs.dst[backwards], pairs.offsets),
    )
    assert rank_agreement(found, turned).mean.value == pytest.approx(1.0)


def test_symmetries(toy: ToyEvents) -> None:
    events = toy(40)
    one, two = make_map(events), make_map(events, 1)
    for measure in (rank_agreement, functools.partial(top_agreement, k=2)):
        expected = measure(one, two).per_event
        np.testing.assert_allclose(measure(two, one).per_event, expected)
        np.testing.assert_allclose(measure(shuffled(one), shuffled(two)).per_event, expected)
        np.testing.assert_allclose(measure(one.replace(values=-3 * one.values), two).per_event, expected)
        alone = [measure(one[e : e + 1], two[e : e + 1]).per_event[0] for e in range(40)]
        np.testing.assert_allclose(alone, expected)


def test_unrelated_methods_agree_by_chance(toy: ToyEvents) -> None:
    events = toy(1500, seed=2, smallest=3).replace(weight=np.ones(1500))
    one, two = make_map(events), make_map(events, 1)
    for found in (rank_agreement(one, two), top_agreement(one, two, k=3)):
        assert abs(found.mean.value - found.chance.value) < 3 * found.mean.error
    sizes = np.diff(one.offsets)
    assert top_agreement(one, two, k=3).chance.value == pytest.approx(np.mean(3 / sizes[sizes > 3]))


def test_ties_share_places(toy: ToyEvents) -> None:
    """A map that tells nothing apart agrees by chance, whatever the order of its edges."""
    events = toy(60)
    found = make_map(events)
    flat = found.replace(values=np.ones_like(found.values))
    top = top_agreement(found, flat, k=2)
    assert top.mean.value == pytest.approx(float(top.chance.value))
    assert rank_agreement(found, flat).left_out == 60


def test_matrix(toy: ToyEvents) -> None:
    events = toy(40)
    maps = {"attention": make_attention(events), "edge_ig": make_map(events), "other": make_map(events, 1)}
    maps["other"] = maps["other"].replace(concerns=("surrogate below stated fidelity",))
    found = agreement_matrix(maps)
    assert found.methods == ("attention", "edge_ig", "other")
    np.testing.assert_array_equal(np.diag(found.mean.value), 1.0)
    np.testing.assert_array_equal(found.mean.value, found.mean.value.T)
    one = rank_agreement(maps["attention"], maps["other"])
    assert (found.mean.value[0, 2], found.mean.error[2, 0]) == (one.mean.value, one.mean.error)
    assert found.left_out[0, 2] == one.left_out
    assert found.caveat == "surrogate below stated fidelity"
    assert agreement_matrix({"a": maps["attention"]}).caveat is None


def test_refuses(toy: ToyEvents) -> None:
    events = toy(20)
    found = make_map(events)
    with pytest.raises(ValueError, match="explain different events: 20 and 19"):
        rank_agreement(found, found[1:])
    with pytest.raises(ValueError, match="differ in entry"):
        rank_agreement(found, make_map(events.replace(entry=events.entry + 1)))
    with pytest.raises(ValueError, match="needs a pair axis; node_ig has particle"):
        rank_agreement(found, particle_map(events))
    broken = found.values.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="values of edge_ig are not finite"):
        rank_agreement(found, found.replace(values=broken))
    with pytest.raises(ValueError, match="k=0; at least one pair"):
        top_agreement(found, found, k=0)


def test_no_events(toy: ToyEvents) -> None:
    nothing = make_map(toy(0))
    assert np.isnan(rank_agreement(nothing, nothing).mean.value)
    assert np.isnan(top_agreement(nothing, nothing).mean.value)


def test_chance_where_most_pairs_are_zero(toy: ToyEvents) -> None:
    """Values shuffled among the pairs that are not 0: the overlap is that of chance, not k / m."""
    events = toy(1500, smallest=4).replace(weight=np.ones(1500))
    one, two = make_map(events), make_map(events, seed=1)
    chosen = np.random.default_rng(0).random(len(one.values)) < 0.25
    found = top_agreement(*(m.replace(values=np.where(chosen, m.values, 0)) for m in (one, two)))
    assert found.mean.value == pytest.approx(float(found.chance.value), abs=4 * float(found.mean.error))
    assert found.chance.value > 1.3 * top_agreement(one, two).chance.value
