"""Shares and agreement of maps over pixels: event by event with loops, exact cases, chance, bad input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.metrics import pixels
from hepxai.metrics.pixels import (
    LitPixels,
    dark_share,
    hit_rank_agreement,
    map_correlation,
    top_pixel_agreement,
    truth_share,
)

ToyEvents = Callable[..., Events]
LAYOUT = ImageLayout(
    ImageAxis("eta", (-1.5, -0.5, 0.5, 1.5)), ImageAxis("phi", (-2.0, -1.0, 0.0, 1.0, 2.0)), ("muon", "jet")
)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    drawn = toy(60, seed=2, largest=14)
    return drawn.replace(schema=dataclasses.replace(drawn.schema, image=LAYOUT))


def a_map(events: Events, seed: int = 0) -> Attribution:
    values = np.random.default_rng(seed).normal(size=(len(events), 3, 4))
    return Attribution(values, ("event", "row", "column"), events, f"map {seed}", "signal")


def test_lit_pixels_are_those_of_the_image(events: Events) -> None:
    lit = LitPixels.lit(events, "fromA")
    image = np.zeros((2, len(events), 12), dtype=bool)
    image[0][lit.event, lit.place] = True
    image[1][lit.event, lit.place] = lit.true
    for found, where in zip(image, (None, events.truth["fromA"]), strict=True):
        expected = events.image(where=where).sum(1).reshape(len(events), -1) > 0
        np.testing.assert_array_equal(found, expected)
    assert len(lit.place) == image[0].sum()


def test_one_line_says_what_was_found(events: Events) -> None:
    lit, share = LitPixels.lit(events, "fromA"), truth_share(a_map(events), "fromA")
    assert repr(lit) == f"<LitPixels: {len(lit.place)}, {lit.true.sum()} of them true, in 60 events>"
    figures = f"{share.among_hits:.3g} among hits, by chance {share.chance.value:.3g}"
    assert repr(share) == f"<TruthShare: {figures}, of 60 events, {share.left_out} left out>"


def test_shares_one_by_one(events: Events) -> None:
    found, values = a_map(events), np.abs(a_map(events).values).reshape(-1, 12)
    share = truth_share(found, "fromA")
    lit = events.image().sum(1).reshape(-1, 12) > 0
    true = events.image(where=events.truth["fromA"]).sum(1).reshape(-1, 12) > 0
    rows = [e for e in range(len(events)) if true[e].any()]
    among = np.array([values[e][true[e]].sum() / values[e][lit[e]].sum() for e in rows])
    np.testing.assert_allclose(share.per_event[rows], among)
    weight = events.weight[rows]
    for estimate, each in (
        (share.among_hits, among),
        (share.chance, np.array([true[e].sum() / lit[e].sum() for e in rows])),
        (share.of_all, np.array([values[e][true[e]].sum() / values[e].sum() for e in rows])),
    ):
        assert estimate.value == pytest.approx(np.average(each, weights=weight))
    assert share.left_out == len(events) - len(rows)
    assert np.isnan(share.per_event).sum() == share.left_out


def test_share_on_dark_pixels_one_by_one(events: Events) -> None:
    one, lit = a_map(events), events.image().sum(1) > 0
    values = np.abs(one.values) * (np.arange(len(events)) > 4)[:, None, None]  # some maps are 0: left out
    each = [v[~hit].sum() / v.sum() for v, hit in zip(values[5:], lit[5:], strict=True)]
    share = dark_share(one.replace(values=values))
    assert share.value == pytest.approx(np.average(each, weights=events.weight[5:]))
    assert dark_share(one.replace(values=values * lit)).value == 0


def test_a_map_that_treats_hits_alike_has_the_share_of_chance(events: Events) -> None:
    lit = (events.image().sum(1) > 0).astype(np.float64)
    share = truth_share(a_map(events).replace(values=-3 * lit), "fromA")
    assert share.among_hits.value == pytest.approx(share.chance.value)
    assert share.of_all.value == pytest.approx(share.chance.value)


def test_random_maps_have_the_share_of_chance(events: Events) -> None:
    many = events[np.tile(np.arange(len(events)), 30)]
    share = truth_share(a_map(many), "fromA")
    assert abs(share.among_hits.value - share.chance.value) < 4 * share.among_hits.error


def test_ranks_one_by_one(events: Events) -> None:
    one, two = a_map(events), a_map(events, 1)
    found = hit_rank_agreement(one, two).per_event
    lit = events.image().sum(1) > 0
    for e in range(len(events)):
        a, b = (np.abs(m.values[e][lit[e]]) for m in (one, two))
        if len(a) < 2:
            assert np.isnan(found[e])
        else:
            assert found[e] == pytest.approx(spearmanr(a, b).statistic)


def test_top_pixels_one_by_one(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "CHUNK", 7)
    one, two = a_map(events), a_map(events, 1)
    found = top_pixel_agreement(one, two, k=4)
    for e in range(len(events)):
        best = [set(np.argsort(-np.abs(m.values[e].ravel()))[:4]) for m in (one, two)]
        assert found.per_event[e] == pytest.approx(len(best[0] & best[1]) / 4)
    assert found.chance.value == pytest.approx(4 / 12)


def test_top_pixels_by_chance_where_dark_pixels_cannot_win(events: Events) -> None:
    many = events[np.tile(np.arange(len(events)), 40)].replace(weight=np.ones(40 * len(events)))
    lit = many.image().sum(1) > 0
    dark = [m.replace(values=np.where(lit, m.values, 0)) for m in (a_map(many), a_map(many, 1))]
    found = top_pixel_agreement(*dark, k=2)
    assert found.mean.value == pytest.approx(float(found.chance.value), abs=4 * float(found.mean.error))
    few = lit.reshape(len(many), -1).sum(1)
    expected = np.where(few >= 2, 2 / np.maximum(few, 1), np.nan)
    own = few >= 2
    assert top_pixel_agreement(*(d[own] for d in dark), k=2).chance.value == pytest.approx(
        expected[own].mean()
    )


def test_the_same_map_agrees_with_itself(events: Events) -> None:
    one = a_map(events)
    for measure in (hit_rank_agreement, top_pixel_agreement, map_correlation):
        assert measure(one, one).mean.value == pytest.approx(1)
    assert map_correlation(one, one.replace(values=-2 * one.values)).mean.value == pytest.approx(-1)


def test_correlation_one_by_one(events: Events) -> None:
    one, two = a_map(events), a_map(events, 1)
    found = map_correlation(one, two).per_event
    for e in range(len(events)):
        expected = np.corrcoef(one.values[e].ravel(), two.values[e].ravel())[0, 1]
        assert found[e] == pytest.approx(expected)


def test_events_without_weight_do_not_count(events: Events) -> None:
    weight = events.weight * (np.arange(len(events)) % 2)
    share = truth_share(a_map(events.replace(weight=weight)), "fromA")
    half = truth_share(a_map(events)[1::2], "fromA")
    assert share.among_hits.value == pytest.approx(half.among_hits.value)
    assert share.among_hits.error == pytest.approx(half.among_hits.error)


def test_maps_of_one_value_are_left_out(events: Events) -> None:
    same = a_map(events).replace(values=np.ones((len(events), 3, 4)))
    for measure in (hit_rank_agreement, top_pixel_agreement, map_correlation):
        assert measure(same, a_map(events)).left_out == len(events)
    assert truth_share(same.replace(values=0 * same.values), "fromA").left_out == len(events)


def test_bad_input(events: Events) -> None:
    found = a_map(events)
    with pytest.raises(KeyError, match="no truth 'fromB'; there is fromA"):
        truth_share(found, "fromB")
    small = found.replace(values=np.zeros((len(events), 1, 2)))
    with pytest.raises(ValueError, match="has 1 x 2 pixels, the image 3 x 4; explain with upsample=True"):
        truth_share(small, "fromA")
    with pytest.raises(ValueError, match="needs a map over pixels"):
        truth_share(found.sum("column"), "fromA")
    with pytest.raises(ValueError, match="k=12; from 1 to 11 of 12 pixels"):
        top_pixel_agreement(found, found, k=12)
    with pytest.raises(ValueError, match="explain different events"):
        hit_rank_agreement(found, found[:-1])
    with pytest.raises(ValueError, match="are not finite"):
        truth_share(found.replace(values=found.values * np.nan), "fromA")
