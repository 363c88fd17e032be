"""Rankings of columns: against scipy, with errors, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.stats import spearmanr

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.metrics.agreement import agreement_matrix
from hepxai.metrics.columns import Ranking, column_agreement, ranking_agreement
from hepxai.metrics.importance import Importance

NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture
def make_map(toy: Callable[..., Events]) -> Callable[..., Attribution]:
    def make(seed: int = 0, names: tuple[str, ...] = NAMES, n: int = 50) -> Attribution:
        values = np.random.default_rng(seed).normal(size=(n, len(names)))
        events = toy(n, seed=1, largest=1)
        labels = {"feature": names}
        return Attribution(values, ("event", "feature"), events, f"method{seed}", "signal", labels=labels)

    return make


def test_agreement_of_each_event_is_spearmans(make_map: Callable[..., Attribution]) -> None:
    one, two = make_map(0), make_map(1)
    found = column_agreement(one, two)
    expected = [
        spearmanr(np.abs(a), np.abs(b)).statistic for a, b in zip(one.values, two.values, strict=True)
    ]
    np.testing.assert_allclose(found.per_event, expected, atol=1e-12)
    weight = one.events.weight
    assert found.mean.value == pytest.approx(np.sum(weight * expected) / weight.sum())
    assert abs(found.mean.value) < 4 * found.mean.error  # unrelated
    assert (found.chance.value, found.left_out) == (0, 0)


def test_columns_are_matched_by_name(make_map: Callable[..., Attribution]) -> None:
    one = make_map(0)
    turned = one.replace(values=-one.values[:, ::-1], labels={"feature": NAMES[::-1]})
    assert column_agreement(one, turned).mean.value == pytest.approx(1)
    matrix = agreement_matrix({"one": one, "turned": turned}, column_agreement)
    np.testing.assert_allclose(matrix.mean.value, 1)


def test_events_without_an_order_are_left_out(make_map: Callable[..., Attribution]) -> None:
    flat = make_map(0)
    flat.values[:7] = 2.0
    found = column_agreement(flat, make_map(1))
    assert found.left_out == 7
    assert np.isnan(found.per_event[:7]).all()


def test_ranking_of_an_attribution(make_map: Callable[..., Attribution]) -> None:
    """Weighted mean of |value|, with the error of `population`."""
    found = make_map(0)
    own = found.events.label == 1
    ranking, weight = Ranking.of(found, own), found.events.weight[own]
    expected = np.average(np.abs(found.values[own]), axis=0, weights=weight)
    np.testing.assert_allclose(ranking.value, expected)
    assert (ranking.error > 0).all()
    assert ranking.names == NAMES
    assert ranking.what == "mean |attribution| to signal [logit]"
    assert (np.diff(ranking.value[ranking.order()]) <= 0).all()


def test_ranking_of_an_importance() -> None:
    repeats = np.array([[0.1, 0.3], [0.5, 0.5]])
    found = Ranking.of(Importance(("a", "b"), {}, "auc", "signal", 0.9, repeats, np.array([0.1, 0.2])))
    np.testing.assert_allclose(found.value, [0.2, 0.5])
    assert (found.what, found.order().tolist()) == ("importance [auc]", [1, 0])


def simple(value: list[float], error: float = 0.0, names: tuple[str, ...] = NAMES) -> Ranking:
    return Ranking(names, np.array(value), np.full(len(value), error), "importance")


def test_mean_of_trainings_has_their_spread_which_counts_in_agreements() -> None:
    one, other = simple([5.0, 4, 3, 2, 1], 0.1), simple([5.0, 4, 1, 2, 3], 0.3)
    mean = Ranking.mean_of([one, other])
    np.testing.assert_allclose(mean.value, [5, 4, 2, 2, 2])
    np.testing.assert_allclose(mean.error, 0.2)
    np.testing.assert_allclose(mean.spread["training"], [0, 0, np.sqrt(2), 0, np.sqrt(2)])
    assert not Ranking.mean_of([one]).spread
    errors = [
        float(ranking_agreement({"one": one, "mean": m}).mean.error[0, 1])
        for m in (Ranking.mean_of([one, one]), mean)
    ]
    assert errors[0] == 0 < errors[1]


def test_agreement_of_populations_is_spearmans() -> None:
    one, two = simple([5, 4, 3, 2, 1]), simple([1, 5, 3, 2, 4], names=tuple("edcba"))
    found = ranking_agreement({"one": one, "two": two, "again": one})
    expected = spearmanr([5, 4, 3, 2, 1], [4, 2, 3, 5, 1]).statistic
    assert found.mean.value[0, 1] == pytest.approx(expected)
    np.testing.assert_allclose(found.mean.value[0, 2], 1)
    np.testing.assert_allclose(np.diag(found.mean.value), 1)
    np.testing.assert_allclose(found.mean.error, 0, atol=1e-15)
    assert (found.left_out == 0).all()


def test_errors_say_whether_the_order_is_certain() -> None:
    """Nothing, where the numbers are far apart; where they are not, what drawing them anew gives."""
    far = ranking_agreement({"one": simple([5, 4, 3, 2, 1], 0.01), "two": simple([1, 2, 3, 4, 5], 0.01)})
    assert (far.mean.error == 0).all()
    value, other = np.array([5.0, 4.6, 4.4, 4.1, 4.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    near = ranking_agreement({"one": simple(list(value), 0.3), "two": simple(list(other))}, seed=3)
    rng = np.random.default_rng(0)
    toys = [spearmanr(rng.normal(value, 0.3), other).statistic for _ in range(500)]
    assert near.mean.error[0, 1] == pytest.approx(np.std(toys), rel=0.15)
    assert near.mean.error[0, 1] == near.mean.error[1, 0]
    unknown = Ranking(NAMES, value, np.full(5, np.nan), "gini")
    assert ranking_agreement({"one": unknown, "two": unknown}).mean.error[0, 1] == 0


def test_no_method_and_equal_importances() -> None:
    assert ranking_agreement({}).mean.value.shape == (0, 0)
    flat = ranking_agreement({"one": simple([1, 1, 1, 1, 1]), "two": simple([5, 4, 3, 2, 1])})
    assert np.isnan(flat.mean.value[0, 1])
    assert flat.mean.value[0, 0] == 1


# --- bad input -----------------------------------------------------------------------------------------


def test_what_cannot_be_compared(make_map: Callable[..., Attribution], toy: Callable[..., Events]) -> None:
    one = make_map(0)
    with pytest.raises(ValueError, match="rank different columns; only one has e, f"):
        column_agreement(one, make_map(1, names=(*NAMES[:4], "f")))
    with pytest.raises(ValueError, match="explain different events"):
        column_agreement(one, make_map(1)[1:])
    particles = Attribution(np.zeros(one.events.n_particles), ("particle",), one.events, "node_ig", "signal")
    for call in (partial(column_agreement, one), Ranking.of):
        with pytest.raises(ValueError, match="one number per event and column; node_ig has particle"):
            call(particles)
    broken = one.replace(values=np.full_like(one.values, np.nan))
    with pytest.raises(ValueError, match="250 of 250 values of method0 are not finite"):
        Ranking.of(broken)
    with pytest.raises(ValueError, match="one and two rank different columns; only one has a \\+ b"):
        ranking_agreement({"one": simple([1.0], names=("c",)), "two": simple([1, 2], names=("c", "a + b"))})
    with pytest.raises(ValueError, match="two: an importance is not finite"):
        ranking_agreement({"one": simple([1, 2, 3, 4, 5]), "two": simple([1, 2, 3, 4, np.nan])})


def test_weights_that_cancel_give_no_ranking(make_map: Callable[..., Attribution]) -> None:
    found = make_map()
    signs = np.where(np.arange(len(found.events)) % 2 == 0, 1.0, -1.0)
    signs[-1] = -signs[:-1].sum()
    with pytest.raises(ValueError, match=r"weights of the .* sum to zero"):
        Ranking.of(found.replace(events=found.events.replace(weight=signs)))
