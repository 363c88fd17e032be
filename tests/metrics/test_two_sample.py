"""Two-sample tests against loops, scipy and toys."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import cramervonmises_2samp

from hepxai.metrics.two_sample import AxisTests, EventTable, compare_axes, compare_by_classifier

Array = NDArray[np.float64]
Pair = tuple[EventTable, EventTable]
NAMES = ("x", "twin", "steps", "gaps")


def tables(n1: int, n2: int, seed: int, *, shift: float = 0.0, weights: str = "signed") -> Pair:
    """Four axes, two of them correlated, one with ties, one with NaN; weights of the second sample vary.

    The weights depend on the axes: events of the second sample come from a wider distribution, and their
    weights, of both signs, make it that of the first.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for n, is_data in ((n1, True), (n2, weights == "one")):
        width = 1.0 if is_data else 1.4
        x = rng.normal(0, width, n) + shift * (len(parts) == 0)
        density = np.exp(-(x**2) / 2 * (1 - 1 / width**2)) * width
        sign = np.ones(n) if is_data else rng.choice([1.0, -1.0], n, p=[0.9, 0.1]) / 0.8
        steps, gaps = rng.poisson(1.5, n), np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n))
        columns = np.stack([x, x + 0.3 * rng.normal(size=n), steps, gaps], axis=1)
        parts.append(EventTable(NAMES, columns, np.ones(n) if is_data else density * sign))
    return parts[0], parts[1]


def slow_statistic(first: EventTable, second: EventTable, column: int) -> float:
    """The formula, threshold by threshold."""
    samples = []
    for table in (first, second):
        use = np.isfinite(table.values[:, column])
        samples.append((table.values[use, column], table.weight[use]))
    everything = np.concatenate([values for values, _ in samples])
    total = 0.0
    for threshold in everything:
        one, two = (weight[values <= threshold].sum() / weight.sum() for values, weight in samples)
        total += (one - two) ** 2 / len(everything)
    n1, n2 = (weight.sum() ** 2 / (weight**2).sum() for _, weight in samples)
    return total * n1 * n2 / (n1 + n2)


@pytest.mark.parametrize("weights", ["one", "signed"])
def test_statistic_is_the_formula(weights: str) -> None:
    first, second = tables(40, 60, 1, weights=weights)
    result = compare_axes(first, second, draws=9)
    assert result.names == NAMES
    for k in range(len(NAMES)):
        assert result.statistic[k] == pytest.approx(slow_statistic(first, second, k), rel=1e-12)


def test_statistic_is_the_classical_one_without_weights() -> None:
    first, second = tables(50, 80, 2, weights="one")
    reference = cramervonmises_2samp(first.values[:, 0], second.values[:, 0])
    result = compare_axes(first, second, draws=1999)
    assert result.statistic[0] == pytest.approx(reference.statistic, rel=1e-9)
    assert result.p_local[0] == pytest.approx(reference.pvalue, abs=0.04)


def same_statistic(one: AxisTests, other: AxisTests) -> None:
    np.testing.assert_allclose(one.statistic, other.statistic, rtol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: EventTable(t.names, np.exp(t.values), t.weight),
        lambda t: EventTable(t.names, t.values * 7 - 3, t.weight * 5),
        lambda t: t[np.random.default_rng(0).permutation(len(t.weight))],
    ],
    ids=["monotone", "scales", "order of events"],
)
def test_invariances(change: Callable[[EventTable], EventTable]) -> None:
    first, second = tables(60, 90, 3)
    same_statistic(compare_axes(first, second, draws=9), compare_axes(change(first), change(second), draws=9))


def test_swapped_samples_differ_in_the_sign_of_the_pull() -> None:
    first, second = tables(60, 90, 4)
    one, other = compare_axes(first, second, draws=9), compare_axes(second, first, draws=9)
    same_statistic(one, other)
    np.testing.assert_allclose(one.pull, -other.pull)


def test_events_of_weight_zero_and_nan_do_not_count() -> None:
    first, second = tables(60, 90, 5)
    gaps = np.isfinite(second.values[:, 3])
    alone = compare_axes(first.columns(np.array([3])), second[gaps].columns(np.array([3])), draws=9)
    assert compare_axes(first, second, draws=9).statistic[3] == pytest.approx(alone.statistic[0])


def test_blocks_of_draws_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tables(30, 40, 6)
    whole = compare_axes(first, second, draws=50)
    monkeypatch.setattr("hepxai.metrics.two_sample.BLOCK", 300)
    np.testing.assert_array_equal(compare_axes(first, second, draws=50).p_global, whole.p_global)


# --- size and power --------------------------------------------------------------------------------


def rejections(toys: int, test: Callable[[int], Array | float]) -> Array:
    """Share of p-values up to 5 %, of each kind."""
    return np.mean([np.atleast_1d(test(seed)) <= 0.05 for seed in range(toys)], axis=0)


def is_five_percent(share: Array, toys: int) -> None:
    """Within three binomial errors of .05."""
    assert np.all(abs(share - 0.05) < 3 * np.sqrt(0.05 * 0.95 / toys)), share


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n1", "n2", "weights"), [(60, 60, "one"), (80, 320, "signed"), (250, 120, "signed")]
)
def test_size_is_five_percent(n1: int, n2: int, weights: str) -> None:
    """Local and global, with other weights and another number of events in the two samples."""
    result = rejections(400, lambda s: _p_values(compare_axes(*tables(n1, n2, s, weights=weights), draws=99)))
    is_five_percent(result, 400)


def _p_values(tests: AxisTests) -> Array:
    return np.append(tests.p_local, tests.p_value)


@pytest.mark.slow
def test_permutations_would_reject_equal_distributions() -> None:
    """The alternative that the docstring refuses: few events of large signed weights, many of weight 1."""

    def both(seed: int) -> Array:
        rng = np.random.default_rng(seed)
        value = rng.normal(size=(460, 1))
        weight = np.append(np.ones(400), rng.choice([3.0, -1.0], 60))
        member = np.arange(460) < 400
        members = [member, *(rng.permutation(member) for _ in range(99))]
        distance = np.array([_distance(value[:, 0], weight, m) for m in members])
        samples = (EventTable(("x",), value[m], weight[m]) for m in (member, ~member))
        return np.array([np.mean(distance >= distance[0]), compare_axes(*samples, draws=99).p_value])

    by_permutation, by_signs = rejections(200, both)
    assert by_permutation > 0.2
    assert by_signs < 0.1


def _distance(value: Array, weight: Array, member: NDArray[np.bool_]) -> float:
    """Distance of the weighted means of a sample and of the other."""
    one, two = (np.average(value[m], weights=weight[m]) for m in (member, ~member))
    return float(abs(one - two))


@pytest.mark.slow
def test_size_of_the_classifier_is_five_percent() -> None:
    result = rejections(200, lambda s: compare_by_classifier(*tables(150, 300, s), seed=s).p_value)
    is_five_percent(result, 200)


@pytest.mark.slow
def test_other_axes_keep_their_size_beside_a_different_one() -> None:
    """Step-down: the family-wise error of the equal axes."""
    p = np.array([compare_axes(*tables(100, 200, s, shift=2.0), draws=99).p_global for s in range(200)])
    assert (p[:, :2] <= 0.05).all()
    assert np.mean((p[:, 2:] <= 0.05).any(axis=1)) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
def test_size_with_more_axes_than_draws() -> None:
    names = tuple(map(str, range(60)))

    def p_value(seed: int) -> float:
        rng = np.random.default_rng(seed)
        return compare_axes(
            *(EventTable(names, rng.normal(size=(n, 60)), np.ones(n)) for n in (60, 90)), draws=39
        ).p_value

    is_five_percent(rejections(300, p_value), 300)


def test_look_elsewhere_takes_correlation_into_account() -> None:
    """Ten copies of an axis are one axis."""
    first, second = (t.columns(np.array([0])) for t in tables(80, 80, 7, shift=0.25))
    alone = compare_axes(first, second, draws=199)
    copies = [
        EventTable(tuple(map(str, range(10))), np.repeat(t.values, 10, axis=1), t.weight)
        for t in (first, second)
    ]
    many = compare_axes(*copies, draws=199)
    np.testing.assert_allclose(many.p_global, alone.p_local[0])
    assert np.all(many.p_global >= many.p_local)


def test_names_the_axis_that_differs() -> None:
    result = compare_axes(*tables(200, 400, 8, shift=0.7), draws=199)
    assert set(np.array(result.names)[result.p_global < 0.05]) == {"x", "twin"}
    assert result.p_value == result.p_global.min()
    assert result.pull[0] > 3


def test_classifier_sees_what_no_axis_shows() -> None:
    """Two normal axes, correlated in one sample only."""
    rng = np.random.default_rng(1)
    x, y, z = rng.normal(size=(3, 800))
    first = EventTable(("a", "b"), np.stack([x, 0.8 * x + 0.6 * y], axis=1), np.ones(800))
    second = EventTable(("a", "b"), np.stack([z, y], axis=1), np.ones(800))
    assert compare_axes(first, second, draws=99).p_value > 0.05
    result = compare_by_classifier(first, second)
    assert result.p_value < 1e-4
    assert result.auc.value > 0.6


def test_constant_axes_are_left_out() -> None:
    first, second = tables(50, 50, 9)
    wide = [
        EventTable((*NAMES, "one"), np.column_stack([t.values, np.ones(50)]), t.weight)
        for t in (first, second)
    ]
    assert compare_axes(*wide, draws=9).names == NAMES
    assert compare_by_classifier(*wide).auc.value == compare_by_classifier(first, second).auc.value
    none = [t.columns(np.zeros(4, dtype=bool)) for t in (first, second)]
    assert compare_axes(*none, draws=9).p_value == 1
    with pytest.raises(ValueError, match="none of 0 axes varies"):
        compare_by_classifier(*none)


# --- few events on an axis -----------------------------------------------------------------------


def with_axis(table: EventTable, values: Array, weight: Array | None = None) -> EventTable:
    """The table and one more axis."""
    columns = np.column_stack([table.values, values])
    return EventTable((*table.names, "rare"), columns, table.weight if weight is None else weight)


@pytest.mark.parametrize("elsewhere", [np.nan, 0.0], ids=["missing", "zero"])
@pytest.mark.parametrize(("number", "kept"), [(0, False), (1, False), (10, False), (15, False), (40, True)])
def test_axes_with_few_events_are_left_out(elsewhere: float, number: int, kept: bool) -> None:
    first, second = tables(300, 300, 11, weights="one")
    values = np.random.default_rng(12).normal(size=(2, 300))
    values[:, number:] = elsewhere
    result = compare_axes(with_axis(first, values[0]), with_axis(second, values[1]), draws=19)
    assert result.left_out == (() if kept else ("rare",) if number else ())
    assert result.names == ((*NAMES, "rare") if kept else NAMES)
    assert len(result.p_local) == len(result.p_global) == len(result.first.value) == len(result.names)


def test_an_axis_without_events_in_one_sample_does_not_abort() -> None:
    first, second = tables(60, 60, 13, weights="one")
    rare = np.random.default_rng(1).normal(size=60)
    result = compare_axes(with_axis(first, np.full(60, np.nan)), with_axis(second, rare), draws=9)
    assert result.left_out == ("rare",)
    negative = np.where(np.arange(60) < 30, np.nan, rare)
    weight = np.where(np.arange(60) < 30, 3.0, -1.0)  # the sum of the axis is negative
    result = compare_axes(with_axis(first, negative, weight), with_axis(second, rare), draws=9)
    assert result.left_out[-1] == "rare"


def test_particles_that_one_sample_lacks_are_seen() -> None:
    """Zero in all data, filled in half of the simulation: a real difference is not left out."""
    first, second = tables(100, 300, 14, weights="one")
    rare = np.where(np.arange(300) % 2, 1.0, 0.0)
    result = compare_axes(with_axis(first, np.zeros(100)), with_axis(second, rare), draws=199)
    assert result.left_out == ()
    assert result.p_global[result.names.index("rare")] == 1 / 200


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [np.nan, 0.0], ids=["missing", "zero"])
def test_size_with_sparse_axes(elsewhere: float) -> None:
    """Axes filled in 1 to 50 of 100 events, beside 1,000 events with as large a share."""
    shares = np.array([0.01, 0.03, 0.1, 0.4, 0.5])

    def sample(n: int, rng: np.random.Generator) -> EventTable:
        values = np.where(rng.random((n, 5)) < shares, rng.normal(size=(n, 5)), elsewhere)
        return EventTable(tuple("abcde"), values, np.ones(n))

    def p_values(seed: int) -> Array:
        rng = np.random.default_rng(seed)
        tests = compare_axes(sample(100, rng), sample(1000, rng), draws=99)
        local = dict(zip(tests.names, tests.p_local, strict=True))
        return np.array([tests.p_value, local["d"], local["e"]])

    is_five_percent(rejections(300, p_values), 300)


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "weight", "message"),
    [
        (np.zeros((3, 2)), np.ones(3), "values have shape (3, 2), for 3 weights and 1 names"),
        (np.zeros((2, 1)), np.ones(3), "values have shape (2, 1), for 3 weights"),
        (np.full((2, 1), np.inf), np.ones(2), "values are finite or NaN"),
        (np.zeros((2, 1)), np.array([1, np.nan]), "values are finite or NaN, and weights finite"),
        (np.zeros((2, 1)), np.array([1.0, -1.0]), "the weights of 2 events sum to 0"),
        (np.zeros((0, 1)), np.zeros(0), "the weights of 0 events sum to 0"),
    ],
)
def test_bad_tables(values: Array, weight: Array, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        EventTable(("x",), values, weight)


def test_bad_pairs() -> None:
    first, second = tables(50, 50, 10)
    with pytest.raises(ValueError, match=r"different axes \(x\)"):
        compare_axes(first, second.columns(np.array([1, 2, 3])))
    with pytest.raises(ValueError, match="30 events are too few for a classifier; give at least 40"):
        compare_by_classifier(first[np.arange(30)], second)
