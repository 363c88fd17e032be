"""Maps of several trainings as one map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hepxai.attribution import Attribution, Pairs
from hepxai.attribution.means import type_means
from hepxai.attribution.trainings import mean_of_trainings, spread_of_trainings, stack_trainings
from hepxai.core.estimate import total_error
from hepxai.events import Events
from hepxai.models.ensemble import Ensemble


def maps(events: Events, number: int = 3) -> list[Attribution]:
    rng = np.random.default_rng(4)
    size = (events.n_particles, len(events.schema.features))
    return [
        Attribution(rng.normal(size=size), ("particle", "feature"), events, "m", "signal")
        for _ in range(number)
    ]


def test_means_and_spreads_over_trainings(toy: Callable[..., Events]) -> None:
    singles = maps(toy())
    whole = stack_trainings(singles)
    values = np.stack([a.values for a in singles])
    np.testing.assert_allclose(mean_of_trainings(whole).values, values.mean(axis=0))
    spread = spread_of_trainings(whole)
    assert spread is not None
    np.testing.assert_allclose(spread, values.std(axis=0, ddof=1))
    means, each = type_means(whole), [type_means(a) for a in singles]
    np.testing.assert_allclose(means.value, np.mean([m.value for m in each], axis=0))
    np.testing.assert_allclose(means.spread["training"], np.std([m.value for m in each], axis=0, ddof=1))
    np.testing.assert_allclose(total_error(means), np.hypot(means.error, means.spread["training"]))
    np.testing.assert_allclose(means.error, type_means(mean_of_trainings(whole)).error)


def test_edges_that_a_training_lacks_count_as_0(toy: Callable[..., Events]) -> None:
    events = toy()
    first, second = events.offsets[0], events.offsets[0] + 1
    parts = []
    for src, dst in (([first], [second]), ([second], [first])):
        offsets = np.ones(len(events) + 1, dtype=np.int64)
        offsets[0] = 0
        pairs = Pairs(np.array(src), np.array(dst), offsets)
        parts.append(Attribution(np.array([2.0]), ("pair",), events, "m", "signal", pairs=pairs))
    whole = stack_trainings(parts)
    assert whole.pairs is not None
    order = np.argsort(whole.pairs.src)
    np.testing.assert_array_equal(whole.values[order], [[2.0, 0.0], [0.0, 2.0]])


def test_equal_concerns_are_joined(toy: Callable[..., Events]) -> None:
    """Also with other numbers, and two of one training (those of its folds) count once."""
    concerns = (["no order", "12.5 % did not converge", "3 % did not converge"], ["8 % did not converge"], [])
    singles = [a.replace(concerns=tuple(c)) for a, c in zip(maps(toy()), concerns, strict=True)]
    assert stack_trainings(singles).concerns == (
        "in 1 of 3 trainings: no order",
        "in 2 of 3 trainings (numbers of the first): 12.5 % did not converge",
    )


def test_neurons_and_other_events_are_refused(toy: Callable[..., Events]) -> None:
    events = toy()
    neurons = Attribution(np.zeros((len(events), 2)), ("event", "neuron"), events, "conductance", "signal")
    with pytest.raises(ValueError, match="neurons of two trainings do not correspond"):
        stack_trainings([neurons, neurons])
    one, other = maps(events, 2)
    with pytest.raises(ValueError, match="must explain the same events"):
        stack_trainings([one, other[np.arange(len(events) - 1)]])
    with pytest.raises(ValueError, match="one target, these have signal and background"):
        stack_trainings([one, other.replace(target="background")])


def test_an_ensemble_needs_models_of_one_kind() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        Ensemble(())
