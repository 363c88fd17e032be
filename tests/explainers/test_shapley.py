"""Shapley values and interactions: definitions in loops, axioms, captum, and errors of the sampling."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from slow_reference import double, shuffle, with_counts
from slow_shapley import (
    Set,
    Toy,
    additive,
    game,
    plus,
    rough,
    slow_interaction,
    slow_value,
    without_others,
)
from torch import Tensor, nn
from torch_geometric.nn import global_max_pool, global_mean_pool

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, coalitions, explain
from hepxai.explainers.graph import shapley
from hepxai.models.graph.cloud import Cloud
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.pyg import PygModel

METHODS = ("shapley", "shapley_interaction")
LARGE = 13
"""Particles of an event that is sampled by default, and can be worked out all the same."""

ToyEvents = Callable[..., Events]


def interactions(found: Attribution, e: int) -> np.ndarray:
    """Entries of one event as a matrix ``[dst, src]``."""
    own, n = slice(found.offsets[e], found.offsets[e + 1]), found.events.counts[e]
    matrix = np.zeros((n, n))
    first = found.events.offsets[e]
    matrix[found.pairs.dst[own] - first, found.pairs.src[own] - first] = found.values[own]
    return matrix


@pytest.fixture
def exact(toy: ToyEvents, make_model: Callable[..., NetworkModel]) -> tuple[NetworkModel, Events]:
    """A network with neighbours that are searched anew, in double precision, and small events."""
    events = with_counts(toy(80, seed=1), [4, 0, 1, 6, 2, 5, 3, 6])
    model = make_model(
        events,
        {"kind": "transformer", "width": 8, "heads": 2},
        {"kind": "dynamic_edge", "width": 8, "neighbours": 2},
        {"kind": "dynamic_edge", "width": 8, "neighbours": 3, "aggregation": "max"},
    )
    model.network.double()
    return model, double(events)


# --- from the definitions ------------------------------------------------------------------------


def test_equals_the_definitions(exact: tuple[NetworkModel, Events]) -> None:
    model, events = exact
    values, pairs = (explain(model, events, method) for method in METHODS)
    assert not values.error.any()
    assert not pairs.error.any()
    for e in range(len(events)):
        n, v = int(events.counts[e]), game(model, events[[e]])
        expected = [slow_value(v, n, i) for i in range(n)]
        own = slice(events.offsets[e], events.offsets[e + 1])
        np.testing.assert_allclose(values.values[own], expected, rtol=1e-9, atol=1e-12)
        found = interactions(pairs, e)
        for i, j in combinations(range(n), 2):
            half = slow_interaction(v, n, i, j) / 2
            assert found[i, j] == found[j, i] == pytest.approx(half, rel=1e-9, abs=1e-12)


def test_equals_the_mean_over_all_orders(exact: tuple[NetworkModel, Events]) -> None:
    """What a particle adds to those before it, in the mean over all permutations."""
    model, events = exact
    event = events[[0]]
    v, orders = game(model, event), list(permutations(range(event.n_particles)))
    total = np.zeros(event.n_particles)
    for order in orders:
        for k, i in enumerate(order):
            total[i] += v[plus(order[:k], i)] - v[plus(order[:k])]
    np.testing.assert_allclose(explain(model, event, "shapley").values, total / len(orders), rtol=1e-9)


def test_equals_captum(exact: tuple[NetworkModel, Events]) -> None:
    """Captum's exact ShapleyValues, which sums in single precision, on a function of a mask."""
    model, events = exact
    for e in (0, 2, 4, 6):
        event = events[[e]]

        def score(inside: Tensor, event: Events = event) -> Tensor:
            kept = tuple(np.flatnonzero(inside[0].numpy()).tolist())
            return torch.as_tensor(model.logits(without_others(event, kept))[:, 0])

        everybody = torch.ones(1, event.n_particles, dtype=torch.float64)
        expected = ShapleyValues(score).attribute(everybody)[0]
        np.testing.assert_allclose(explain(model, event, "shapley").values, expected, rtol=1e-6, atol=1e-8)


def test_one_and_two_particles(exact: tuple[NetworkModel, Events]) -> None:
    model, events = exact
    one, two = events[[2]], events[[4]]
    v = game(model, one)
    assert explain(model, one, "shapley").values == pytest.approx([v[(0,)] - v[()]])
    assert len(explain(model, one, "shapley_interaction").values) == 0
    v = game(model, two)
    together = v[(0, 1)] - v[(0,)] - v[(1,)] + v[()]
    expected = [v[(i,)] - v[()] + together / 2 for i in (0, 1)]
    assert explain(model, two, "shapley").values == pytest.approx(expected)
    assert explain(model, two, "shapley_interaction").values == pytest.approx([together / 2] * 2)


def test_completeness(exact: tuple[NetworkModel, Events]) -> None:
    """Both sums, from scores of the model itself."""
    model, events = exact
    values, pairs = (explain(model, events, method) for method in METHODS)
    scores, nothing = model.logits(events)[:, 0], float(model.logits(without_others(events[[0]], ()))[0, 0])
    assert values.settings["empty"] == pytest.approx(nothing)
    np.testing.assert_allclose(values.output_change, scores - nothing, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(values.sum("particle").values, scores - nothing, rtol=1e-9, atol=1e-12)
    for e in range(len(events)):
        n, v = int(events.counts[e]), game(model, events[[e]])
        everybody = tuple(range(n))
        last = [v[everybody] - v[tuple(p for p in everybody if p != i)] for i in everybody]
        first = [v[(i,)] - v[()] for i in everybody]
        assert pairs.output_change[e] == pytest.approx((sum(last) - sum(first)) / 2, rel=1e-9, abs=1e-12)
    for found in (values, pairs):
        assert np.abs(found.residual).max() < 1e-12
        assert found.checks["p90_residual"] < 1e-9


def test_main_effects_and_interactions_make_the_score(exact: tuple[NetworkModel, Events]) -> None:
    """SHAP's interaction matrix: the rows add up to the values, and all of it to the change of the score."""
    model, events = exact
    values, pairs = (explain(model, events, method) for method in METHODS)
    received = np.zeros(events.n_particles)
    np.add.at(received, pairs.pairs.dst, pairs.values)
    main = values.values - received
    total = Attribution(main, ("particle",), events, "main", "signal").sum("particle").values
    np.testing.assert_allclose(total + pairs.sum("pair").values, values.output_change, atol=1e-12)


# --- axioms --------------------------------------------------------------------------------------


@pytest.fixture(params=[2, 12], ids=["sampled", "exact"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Everything of more than two particles sampled, or nothing."""
    return {"exact_up_to": request.param, "repeats": 16}


@pytest.fixture
def wide(toy: ToyEvents) -> Events:
    """Events of which much has to be sampled, if exact_up_to says so."""
    return double(toy(6, seed=4, smallest=10, largest=12))


def test_what_does_not_matter_gets_nothing(wide: Events, settings: dict[str, Any]) -> None:
    nobody = wide.particles[:, 3] == 0
    assert 5 < nobody.sum() < len(nobody) - 5
    values, pairs = (explain(Toy(rough), wide, method, **settings) for method in METHODS)
    assert np.abs(values.values[nobody]).max() < 1e-15
    assert np.abs(values.error[nobody]).max() < 1e-15
    assert np.abs(values.values[~nobody]).min() > 1e-6
    idle = nobody[pairs.pairs.src] | nobody[pairs.pairs.dst]
    assert np.abs(pairs.values[idle]).max() < 1e-14
    assert np.abs(pairs.values[~idle]).max() > 1e-3


def test_an_additive_score_is_taken_apart(wide: Events, settings: dict[str, Any]) -> None:
    values, pairs = (explain(Toy(additive), wide, method, **settings) for method in METHODS)
    np.testing.assert_allclose(values.values, wide.particles[:, 0], rtol=1e-10)
    np.testing.assert_allclose(pairs.values, 0, atol=1e-9)


def test_a_planted_pair_is_found(wide: Events, settings: dict[str, Any]) -> None:
    """The score is the product of two quantities that only two particles have."""
    particles = wide.particles.copy()
    particles[:, :2] = 0
    first = wide.offsets[:-1] + 1
    particles[first, 0], particles[first + 3, 1] = 3.0, 2.0
    events = wide.replace(particles=particles)

    def product(cloud: Cloud) -> Tensor:
        return cloud.event_sum(cloud.x)[:, :2].prod(1)

    values, pairs = (explain(Toy(product), events, method, **settings) for method in METHODS)
    expected = np.zeros(events.n_particles)
    expected[first] = expected[first + 3] = 3.0
    assert np.all(np.abs(values.values - expected) <= 6 * values.error + 1e-9)
    planted = np.isin(pairs.pairs.src, [first, first + 3]) & np.isin(pairs.pairs.dst, [first, first + 3])
    assert planted.sum() == 2 * len(events)
    np.testing.assert_allclose(pairs.values[planted], 3.0, rtol=1e-9)
    np.testing.assert_allclose(pairs.values[~planted], 0.0, atol=1e-9)


def test_equal_particles_get_equal_values(exact: tuple[NetworkModel, Events]) -> None:
    model, events = exact
    event = events[[3]]
    particles, p4 = event.particles.copy(), event.p4.copy()
    particles[4], p4[4] = particles[1], p4[1]
    twins = event.replace(particles=particles, p4=p4)
    values, pairs = (explain(model, twins, method) for method in METHODS)
    assert values.values[4] == pytest.approx(values.values[1], rel=1e-9)
    found = interactions(pairs, 0)
    for other in (0, 2, 3, 5):
        assert found[other, 4] == pytest.approx(found[other, 1], rel=1e-9)


def test_a_sum_of_scores_gives_the_sum_of_values(wide: Events, settings: dict[str, Any]) -> None:
    both = Toy(lambda c: torch.stack([rough(c), additive(c)], dim=1), outputs=("a", "b"))
    summed = Toy(lambda c: rough(c) + additive(c))
    for method in METHODS:
        parts = [explain(both, wide, method, target=t, **settings).values for t in ("a", "b")]
        np.testing.assert_allclose(explain(summed, wide, method, **settings).values, sum(parts), atol=1e-9)


# --- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_sampled_values_scatter_as_stated(toy: ToyEvents, method: str) -> None:
    """Without bias, and with the errors that they state: pulls of mean 0 and width 1."""
    events = double(toy(24, seed=8, smallest=LARGE, largest=LARGE))
    truth = explain(Toy(rough), events, method, exact_up_to=LARGE)
    pulls = []
    for seed in range(4):
        found = explain(Toy(rough), events, method, seed=seed)
        used = found.error > 1e-12
        pulls.append((found.values - truth.values)[used] / found.error[used])
        np.testing.assert_allclose(found.values[~used], truth.values[~used], atol=1e-9)
        assert found.error.max() < 0.3 * np.abs(truth.values).max()
    pull = np.concatenate(pulls)
    assert len(pull) > 500
    assert abs(pull.mean()) < 0.1
    assert 0.9 < pull.std() < 1.2
    assert 0.63 < np.mean(np.abs(pull) < 1) < 0.72
    assert 0.91 < np.mean(np.abs(pull) < 2) < 0.97


@pytest.mark.parametrize("method", METHODS)
def test_more_repeats_smaller_errors(toy: ToyEvents, method: str) -> None:
    """Errors fall at least as one over the square root; with repeats enough nothing is left to sample."""
    events = double(toy(4, seed=8, smallest=LARGE, largest=LARGE))
    few, many, all_sets = (explain(Toy(rough), events, method, repeats=r) for r in (16, 64, 2000))
    assert 0 < many.error.mean() < 0.5 * few.error.mean()
    assert not all_sets.error.any()
    whole = explain(Toy(rough), events, method, exact_up_to=LARGE)
    np.testing.assert_allclose(all_sets.values, whole.values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_event_alone_decides_about_its_sample(
    toy: ToyEvents, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same alone, in another batch, in chunks of any size; another seed or event, other numbers."""
    events = double(toy(8, seed=2, smallest=10, largest=LARGE))
    sampled = {"exact_up_to": 2, "repeats": 16}
    whole = explain(Toy(rough), events, method, **sampled)
    assert (whole.error > 0).any()
    for rows in ([3], [7, 3], [5, 0, 3, 3]):
        part, again = whole[np.array(rows)], explain(Toy(rough), events[rows], method, **sampled)
        np.testing.assert_allclose(again.values, part.values, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(again.error, part.error, rtol=1e-6, atol=1e-12)
    monkeypatch.setattr(shapley, "SCORES", 1)
    monkeypatch.setattr(coalitions, "BUDGET", 1000)
    cut = explain(Toy(rough), events, method, **sampled)
    np.testing.assert_allclose(cut.values, whole.values, rtol=1e-9, atol=1e-12)
    other = explain(Toy(rough), events, method, **sampled, seed=1)
    assert not np.allclose(other.values, whole.values, rtol=1e-3)
    renamed = explain(Toy(rough), events.replace(event=events.event + 1000), method, **sampled)
    assert not np.allclose(renamed.values, whole.values, rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_order_of_particles_when_sampled(toy: ToyEvents, method: str) -> None:
    """The permutations are of named particles, not of places."""
    events = double(toy(8, seed=2, smallest=10, largest=LARGE))
    shuffled, old = shuffle(events)
    whole, found = (explain(Toy(rough), e, method, exact_up_to=2, repeats=16) for e in (events, shuffled))
    if method == "shapley":
        np.testing.assert_allclose(found.values, whole.values[old], rtol=1e-9, atol=1e-12)
        return
    place = np.argsort(old)
    for e in range(len(events)):
        own = place[events.offsets[e] : events.offsets[e + 1]] - events.offsets[e]
        matrix = interactions(found, e)[np.ix_(own, own)]
        np.testing.assert_allclose(matrix, interactions(whole, e), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_do_not_matter_when_exact(
    model: NetworkModel, events: Events, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = explain(model, events, method)
    monkeypatch.setattr(shapley, "SCORES", 300)
    monkeypatch.setattr(coalitions, "BUDGET", 50)
    found = explain(model, events, method)
    np.testing.assert_allclose(found.values, whole.values, rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(found.output_change, whole.output_change, rtol=2e-4, atol=2e-6)


def test_large_events(toy: ToyEvents) -> None:
    """Far beyond what could be numbered by bits."""
    events = double(toy(2, seed=1, smallest=70, largest=70))
    found = explain(Toy(additive), events, "shapley", repeats=16)
    np.testing.assert_allclose(found.values, events.particles[:, 0], rtol=1e-9)
    pairs = explain(Toy(additive), events, "shapley_interaction", repeats=16)
    np.testing.assert_allclose(pairs.values, 0, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_more_than_the_budget_is_refused_with_remedies_that_work(toy: ToyEvents, method: str) -> None:
    """2^5 scores of an event of 5 particles; sampled, sizes 0, 1, n-1 and n and 16 · n permutations."""
    events = double(toy(20, seed=1, smallest=5, largest=5))
    with pytest.raises(ValueError, match=rf"{method}: 20 events .* need 640 scores") as error:
        explain(Toy(additive), events, method, max_evaluations=639)
    fit = int(re.search(r"the first (\d+) fit", str(error.value))[1])
    assert fit == 19
    assert len(explain(Toy(additive), events[:fit], method, max_evaluations=639).events) == fit
    explain(Toy(additive), events, method, max_evaluations=640)
    many = double(toy(4, seed=1, smallest=30, largest=30))
    with pytest.raises(ValueError, match="exact_up_to=2 and repeats=16 need") as error:
        explain(Toy(additive), many, method, max_evaluations=100)
    least = int(re.search(r"repeats=16 need ([\d,]+)", str(error.value))[1].replace(",", ""))
    assert least == 4 * (2 + 2 * 30 + 2 * 435 + 16 * 30 * (31 - 6))
    explain(Toy(additive), many, method, exact_up_to=2, repeats=16, max_evaluations=least)


def test_the_cost_is_said_beforehand(
    toy: ToyEvents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shapley, "LONG", 0.0)
    events = double(toy(4, seed=1, smallest=30, largest=30))
    found = explain(Toy(additive), events, "shapley", repeats=16)
    assert f"4 events of up to 30 particles need {4 * (2 + 60 + 870 + 16 * 30 * 25):,} scores" in (
        capsys.readouterr().err
    )
    assert "quiet" not in found.settings
    assert found.settings["max_evaluations"] is None
    explain(Toy(additive), events, "shapley", repeats=16, quiet=True)
    assert not capsys.readouterr().err


# --- what a model gives for nothing --------------------------------------------------------------


class Readout(nn.Module):
    """Scores graphs from the pooled features, as many PyG models do."""

    def __init__(self, *, guarded: bool, mean: bool) -> None:
        super().__init__()
        self.guarded, self.mean = guarded, mean

    def forward(self, batch: Any) -> Tensor:
        size = batch.num_graphs if self.guarded else None
        pool = global_mean_pool if self.mean else global_max_pool
        pooled = pool(batch.x, batch.batch, size=size)[:, 0]
        return pooled if self.mean else torch.log(pooled)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("guarded", "mean", "why"),
    [(False, True, "the module returned .* for 1 events"), (True, False, "the score is -?(inf|nan)")],
)
def test_model_without_a_score_for_nothing(
    toy: ToyEvents, method: str, guarded: bool, mean: bool, why: str
) -> None:
    events = toy(4, smallest=2, largest=4)
    model = PygModel(Readout(guarded=guarded, mean=mean), ("signal",))
    with pytest.raises(
        CannotExplainError,
        match=f"{method} needs .* PygModel gives none .*{why}.*empty=0.0.*size=batch.num_graphs",
    ):
        explain(model, events, method)
    found = explain(model, events, method, empty=0.5)
    assert found.settings["empty"] == 0.5
    assert np.isfinite(found.values).all()


def test_foreign_model_with_a_score_for_nothing(toy: ToyEvents) -> None:
    events = double(toy(10, seed=1, largest=6))
    found = explain(PygModel(Readout(guarded=True, mean=True), ("signal",)), events, "shapley")
    for e in np.flatnonzero(events.counts > 1)[:4]:
        event, n = events[[e]], int(events.counts[e])
        v = {s: float(np.mean(event.particles[list(s), 0])) if s else 0.0 for s in [(), *all_sets(n)]}
        own = slice(events.offsets[e], events.offsets[e + 1])
        np.testing.assert_allclose(found.values[own], [slow_value(v, n, i) for i in range(n)], rtol=1e-9)


def all_sets(n: int) -> list[Set]:
    return [s for k in range(1, n + 1) for s in combinations(range(n), k)]


def test_the_score_of_nothing_can_be_given(model: NetworkModel, events: Events) -> None:
    found = explain(model, events, "shapley", empty=2)
    np.testing.assert_allclose(
        found.output_change, np.where(events.counts, model.logits(events)[:, 0] - 2, 0), atol=1e-6
    )


def test_no_events_at_all(toy: ToyEvents, model: NetworkModel) -> None:
    none = toy(3)[:0]
    for method in METHODS:
        found = explain(model, none, method)
        assert found.values.shape == found.error.shape == (0,)
        assert found.checks == {"median_residual": 0.0, "p90_residual": 0.0}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"exact_up_to": 17}, "exact_up_to=17; should be less than or equal to 16"),
        ({"exact_up_to": 1}, "exact_up_to=1; should be greater than or equal to 2"),
        ({"exact_up_to": 8.0}, r"exact_up_to=8\.0; should be a valid integer"),
        ({"repeats": 15}, "repeats=15; should be greater than or equal to 16"),
        ({"repeats": True}, "repeats=True; should be a valid integer"),
        ({"seed": -1}, "seed=-1; should be greater than or equal to 0"),
        ({"seed": "x"}, "seed='x'; should be a valid integer"),
        ({"max_evaluations": 0}, "max_evaluations=0; should be greater than or equal to 1"),
        ({"empty": math.nan}, "empty=nan; should be a finite number"),
        ({"empty": "0"}, "empty='0'; should be a valid number"),
    ],
)
def test_wrong_settings(
    model: NetworkModel, events: Events, method: str, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explain(model, events, method, **wrong)


def test_boosted_trees_are_told(events: Events) -> None:
    class Table:
        view, outputs = "table", ("signal",)

        def logits(self, events: Events) -> np.ndarray:
            return np.zeros((len(events), 1))

    with pytest.raises(CannotExplainError, match="shapley needs Differentiable; Table has no forward_cloud"):
        explain(Table(), events, "shapley")


def test_selections_keep_errors(toy: ToyEvents) -> None:
    events = toy(5, seed=3, smallest=10, largest=12)
    found = explain(Toy(rough), events, "shapley_interaction", exact_up_to=2, repeats=16)
    muons = found.select(pair=("muon", "muon"))
    is_muon = events.is_type("muon")
    both = is_muon[found.pairs.src] & is_muon[found.pairs.dst]
    assert np.array_equal(muons.error, found.error[both])
    assert found.sum("pair").error is None
