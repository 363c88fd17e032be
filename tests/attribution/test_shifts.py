"""Systematic errors of measures, and the errors of paired changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toy_events import make_events

from hepxai.attribution import Attribution
from hepxai.attribution.means import type_means
from hepxai.attribution.shifts import paired_changes
from hepxai.attribution.spread import with_systematic
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import measured
from hepxai.events import Events


def toy_map(events: Events, values: np.ndarray) -> Attribution:
    return Attribution(values, ("event",), events, "toy", "signal")


def mean(attribution: Attribution) -> float:
    return float(attribution.population().value)


def test_a_source_counts_with_its_larger_side_and_sources_add_in_quadrature() -> None:
    def number(*values: float) -> Estimate:
        return Estimate(np.array(values), np.ones(len(values)), np.nan)

    varied = {"scale": [number(11, 20), number(8, 21)], "weight": [number(10, 20.5)]}
    spread = with_systematic(number(10, 20), varied).spread["syst"]
    np.testing.assert_allclose(spread, [2.0, np.hypot(1.0, 0.5)])


def test_measures_see_the_variations_that_a_map_carries_and_no_copy_does() -> None:
    events = make_events(40)
    rng = np.random.default_rng(0)
    nominal = Attribution(rng.normal(size=events.n_particles), ("particle",), events, "toy", "signal")
    up, down = (nominal.replace(values=nominal.values + shift) for shift in (0.3, -0.1))
    whole = nominal.replace(varied={"shift": (up, down)})
    assert type_means(nominal).spread == {}
    np.testing.assert_allclose(
        type_means(whole).spread["syst"], np.where(type_means(whole).entries, 0.3, np.nan)
    )
    assert float(whole.population().spread["syst"]) == pytest.approx(0.3)
    for copy in (whole.replace(values=whole.values * 2), whole[:20], whole.keep(whole.values > 0)):
        assert not copy.varied
    doubled = whole.apply(lambda a: a.replace(values=2 * a.values))
    assert float(doubled.population().spread["syst"]) == pytest.approx(0.6)
    some = events.label == 1
    assert "syst" not in whole.population(some).spread  # varied events are others
    assert float(whole.apply(lambda a: a[a.events.label == 1]).population().spread["syst"]) == pytest.approx(
        0.3
    )


def test_equal_populations_have_no_change_and_no_error() -> None:
    events = make_events(60)
    one = toy_map(events, np.random.default_rng(1).normal(size=60))
    change = paired_changes(one, [one], mean)[0]
    assert (float(change.value), float(change.error)) == (0.0, 0.0)


def test_the_error_is_that_of_the_differences() -> None:
    events, rng = make_events(4000), np.random.default_rng(2)
    events = dataclasses.replace(events, weight=np.ones(len(events)))
    values, moves = rng.normal(size=4000), rng.normal(0.1, 0.02, size=4000)
    change = paired_changes(toy_map(events, values), [toy_map(events, values + moves)], mean, blocks=400)[0]
    assert float(change.value) == pytest.approx(moves.mean())
    assert float(change.error) == pytest.approx(moves.std() / np.sqrt(4000), rel=0.1)
    assert float(change.error) < values.std() / np.sqrt(4000) / 10


@pytest.mark.parametrize("migrate", [False, True], ids=["same events", "some leave and come"])
def test_coverage_of_paired_changes(migrate: bool) -> None:
    """In toys, the true change is within one error in 68 % and within two in 95 %."""
    rng, pulls, number = np.random.default_rng(3), [], 300
    events = make_events(number)
    for _ in range(300):
        weight = rng.choice([1.0, 1.5, -0.5], p=[0.5, 0.4, 0.1], size=number)
        truth, slope = rng.normal(size=number), rng.normal(0.2, 0.3, size=number)
        before, after = truth, truth + slope
        rows = [np.arange(number)] * 2
        if migrate:
            rows = [np.flatnonzero(rng.random(number) > 0.1) for _ in range(2)]
        parts = [
            toy_map(events[r].replace(weight=weight[r]), values[r])
            for r, values in zip(rows, (before, after), strict=True)
        ]
        change = paired_changes(parts[0], [parts[1]], mean)[0]
        pulls.append((float(change.value) - 0.2) / float(change.error))
    within = [np.mean(np.abs(pulls) < k) for k in (1, 2)]
    assert abs(within[0] - 0.683) < 3 * np.sqrt(0.683 * 0.317 / 300) + 0.02  # Student's t of 20 blocks: .67
    assert within[1] > 0.91


def test_an_alternative_without_a_value_makes_the_error_unknown() -> None:
    nominal = Estimate(np.array([1.0, 2.0]), np.array([0.1, 0.1]), np.nan)
    lost = Estimate(np.array([np.nan, 2.5]), np.array([0.1, 0.1]), np.nan)
    for several in ([lost, nominal], [nominal, lost]):
        spread = with_systematic(nominal, {"scale": several}).spread["syst"]
        np.testing.assert_array_equal(spread, [np.nan, 0.5])
    assert measured(1.0, 0.1, float("nan")) == "1.00 ± 0.10 ± unknown"


def test_groups_by_rank_are_those_of_the_nominal_events() -> None:
    """Of one particle type, groups reach to the largest event, which a variation or a block may lack."""
    events = make_events(60)
    events = events.replace(
        type=np.zeros_like(events.type), schema=dataclasses.replace(events.schema, types=("jet",))
    )
    nominal = Attribution(np.ones(events.n_particles), ("particle",), events, "toy", "signal")
    few = nominal[events.counts < events.counts.max()]
    number = len(type_means(nominal).labels[1])
    assert type_means(nominal.replace(varied={"scale": (few,)})).spread["syst"].shape[1] == number
    most = int(events.counts.max())
    changes = paired_changes(nominal, [few], lambda a: type_means(a, most).value)
    assert np.asarray(changes[0].value).shape[1] == number


def test_means_of_other_groups_are_not_subtracted() -> None:
    one, two = (type_means(toy_particles(types)) for types in (("a", "b"), ("b", "a")))
    with pytest.raises(ValueError, match=r"no syst error: labels .* give the measure the same groups"):
        with_systematic(one, {"scale": [two]})


def toy_particles(types: tuple[str, ...]) -> Attribution:
    events = make_events(30)
    events = events.replace(type=events.type % 2, schema=dataclasses.replace(events.schema, types=types))
    return Attribution(np.ones(events.n_particles), ("particle",), events, "toy", "signal")
