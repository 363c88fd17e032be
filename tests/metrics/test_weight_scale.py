"""The unit of the weights does not matter: every figure that takes weights, with all of them scaled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from toy_maps import make_attention, make_map

from hepxai import metrics
from hepxai.core.estimate import Estimate, ratio_mean, weighted_mean
from hepxai.events import Events
from hepxai.metrics.likelihood import log_likelihood_ratio
from hepxai.metrics.null import NullDistribution
from hepxai.metrics.pooled import pooled_by_chance
from hepxai.studies.dependence.dependence import distance_correlation, if_independent
from hepxai.studies.dependence.sculpting import sculpting, shape, threshold_at

N = 400
RNG = np.random.default_rng(0)
SIGNAL = RNG.random(N) < 0.5
SCORE = RNG.normal(size=N) + SIGNAL
MASS = RNG.uniform(80, 100, N) + SCORE
WEIGHT = RNG.choice([1.0, -1.0], N, p=[0.9, 0.1]) * RNG.uniform(0.5, 1.5, N)
EDGES = np.linspace(80, 100, 5)

FIGURES: dict[str, Callable[[Any], Any]] = {
    "ratio_mean": lambda w: ratio_mean(SCORE, np.ones(N), w),
    "weighted_mean": lambda w: weighted_mean(SCORE, w, "scores", ""),
    "accuracy": lambda w: metrics.accuracy(SCORE, SIGNAL, w),
    "balanced_accuracy": lambda w: metrics.balanced_accuracy(SCORE, SIGNAL, w),
    "auc": lambda w: metrics.auc(SCORE, SIGNAL, w),
    "roc": lambda w: metrics.roc(SCORE, SIGNAL, w),
    "rejection": lambda w: metrics.rejection(SCORE, SIGNAL, w, 0.5),
    "fidelity": lambda w: metrics.fidelity(SCORE, MASS - 90, w),
    "efficiency": lambda w: metrics.efficiency(SCORE > 0, w),
    "turn_on": lambda w: metrics.turn_on(SCORE, MASS, w, edges=EDGES, threshold=0.5),
    "momentum_merit": lambda w: metrics.momentum_merit(MASS / 8, MASS / 8 + SCORE, w),
    "distance_correlation": lambda w: distance_correlation(SCORE, MASS, w),
    "if_independent": lambda w: if_independent(SCORE, MASS, w, draws=5),
    "profile": lambda w: metrics.profile(SCORE, MASS, w, EDGES),
    "correlation_ratio": lambda w: metrics.correlation_ratio(SCORE, MASS, w, EDGES),
    "shape": lambda w: shape(MASS, w, EDGES),
    "sculpting": lambda w: sculpting(SCORE, MASS, w, 0.5, EDGES),
    "threshold_at": lambda w: threshold_at(SCORE, w, 0.5),
    "log_likelihood_ratio": lambda w: log_likelihood_ratio(MASS, SIGNAL, w, np.linspace(70, 110, 60), MASS),
    "pooled_by_chance": lambda w: pooled_by_chance(SCORE, SIGNAL + 0.1, w, np.arange(N)),
}
MAPS: dict[str, Callable[[Any], Any]] = {
    "population": lambda a: a.population(),
    "pair_mean": lambda a: metrics.pair_mean(a, ("muon", "jet")),
    "isolation": lambda a: metrics.isolation(a, ("muon", "jet")),
    "attention_from_rest": lambda a: metrics.attention_from_rest(a, ("muon", "jet")),
    "explained_by": lambda a: metrics.explained_by(a, ("muon", "jet"), "mass_mumu", bins=2, draws=5),
    "find_truth": lambda a: metrics.find_truth(a, "fromA"),
    "rank_agreement": lambda a: metrics.rank_agreement(a, a.replace(values=np.roll(a.values, 1))),
    "top_agreement": lambda a: metrics.top_agreement(a, a.replace(values=np.roll(a.values, 1))),
}


def numbers(found: Any) -> Iterator[Any]:
    """All numbers of a result but weights themselves."""
    if isinstance(found, Estimate):
        yield from (found.value, found.error, found.n_eff, found.low, found.high)
    elif isinstance(found, NullDistribution):
        yield found.values
    elif dataclasses.is_dataclass(found):
        for f in dataclasses.fields(found):
            yield from numbers(getattr(found, f.name))
    elif isinstance(found, dict):
        yield from (n for v in found.values() for n in numbers(v))
    elif isinstance(found, tuple):
        yield from (n for v in found for n in numbers(v))
    elif found is not None and not isinstance(found, str):
        yield found


def same(found: Any, expected: Any) -> None:
    for one, other in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", FIGURES)
def test_of_scores(name: str, scale: float) -> None:
    same(FIGURES[name](scale * WEIGHT), FIGURES[name](WEIGHT))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", MAPS)
def test_of_maps(toy: Callable[..., Events], name: str, scale: float) -> None:
    events = toy(150, smallest=4)
    build = make_attention if name in ("isolation", "attention_from_rest") else make_map
    results = [MAPS[name](build(events.replace(weight=s * events.weight))) for s in (scale, 1.0)]
    same(*results)
