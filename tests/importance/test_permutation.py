"""Permutation importance: the formula in loops, scikit-learn's, its errors, and groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance as by_sklearn

from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError
from hepxai.importance import permutation as module
from hepxai.importance.permutation import permutation_importance
from hepxai.metrics.classification import accuracy, auc
from hepxai.metrics.columns import Ranking
from hepxai.models.ensemble import Ensemble
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.table import SklearnModel, TableModel
from hepxai.studies.overfitting.numbers import ImportanceShift

ToyEvents = Callable[..., Events]
NAMES = ("ht", "njet", "btag", "noise")
SLOPES = np.array([1.5, 0.4, -0.8, 0.0])


class Line:
    """The log-odds that the events were drawn from."""

    view = "table"
    outputs = ("signal",)

    def logits(self, events: Events) -> np.ndarray:
        return self.score_table(events.globals)

    def score_table(self, x: np.ndarray) -> np.ndarray:
        return (x @ SLOPES)[:, None]


def drawn(toy: ToyEvents, n: int, seed: int, *, signed: bool = False) -> Events:
    """Four columns, `ht` and `njet` go together; labels from `Line`, in single precision."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 1] = 0.9 * x[:, 0] + np.sqrt(1 - 0.81) * x[:, 1]
    label = (rng.random(n) < 1 / (1 + np.exp(-x @ SLOPES))).astype(np.int64)
    weight = rng.choice([1.0, -1.0], n, p=[0.85, 0.15]) * rng.uniform(0.5, 1.5, n) if signed else np.ones(n)
    events = toy(n, largest=0)
    schema = dataclasses.replace(events.schema, globals=NAMES, global_units=("",) * 4)
    return events.replace(schema=schema, globals=x, label=label, weight=weight)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return drawn(toy, 600, 1, signed=True)


def slow(events: Events, columns: list[int], metric: str, repeats: int, seed: int) -> np.ndarray:
    """Breiman's recipe, on a copy of the whole table."""
    signal, weight = events.label == 1, events.weight

    def value(x: np.ndarray) -> float:
        score = Line().score_table(x)[:, 0]
        if metric == "loss":
            p = 1 / (1 + np.exp(-score))
            return float(np.average(-np.log(np.where(signal, p, 1 - p)), weights=weight))
        return float({"auc": auc, "accuracy": accuracy}[metric](score, signal, weight).value)

    lost = []
    for r in range(repeats):
        order = np.random.default_rng([seed, r]).permutation(len(events))
        x = events.globals.copy()
        x[:, columns] = events.globals[order][:, columns]
        lost.append((value(x) - value(events.globals)) * (1 if metric == "loss" else -1))
    return np.array(lost)


@pytest.mark.parametrize("metric", ["auc", "accuracy", "loss"])
def test_equals_the_recipe(events: Events, metric: str) -> None:
    found = permutation_importance(Line(), events, metric=metric, repeats=3, seed=4)
    assert found.names == NAMES
    assert found.repeats.shape == (4, 3)
    for i in range(4):
        expected = slow(events, [i], metric, repeats=3, seed=4)
        np.testing.assert_allclose(found.repeats[i], expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.mean, found.repeats.mean(1))
    np.testing.assert_allclose(found.spread, found.repeats.std(1, ddof=1))


def test_score_is_the_metric(events: Events) -> None:
    signal, score = events.label == 1, Line().logits(events)[:, 0]
    for metric, function in (("auc", auc), ("accuracy", accuracy)):
        found = permutation_importance(Line(), events, metric=metric, repeats=1)
        assert found.score == pytest.approx(float(function(score, signal, events.weight).value))
        assert np.isnan(found.spread).all()
    loss = np.average(np.logaddexp(0, np.where(signal, -score, score)), weights=events.weight)
    assert permutation_importance(Line(), events, metric="loss", repeats=1).score == pytest.approx(loss)


@pytest.mark.parametrize(
    ("metric", "scoring"), [("auc", "roc_auc"), ("accuracy", "accuracy"), ("loss", "neg_log_loss")]
)
def test_agrees_with_sklearn(toy: ToyEvents, metric: str, scoring: str) -> None:
    train, test = drawn(toy, 2000, 2), drawn(toy, 1000, 3)
    trees = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(train.globals, train.label)
    found = permutation_importance(
        SklearnModel(trees, ("signal",), train.schema), test, metric=metric, repeats=15
    )
    expected = by_sklearn(trees, test.globals, test.label, scoring=scoring, n_repeats=15, random_state=0)
    # Both are means over shuffles of the same events; they differ by the shuffles only.
    of_shuffles = np.hypot(found.spread, expected.importances_std) / np.sqrt(15)
    assert (np.abs(found.mean - expected.importances_mean) < 4 * of_shuffles + 1e-9).all()
    assert [n for n, _ in found.ranked()][:2] == [NAMES[i] for i in np.argsort(-expected.importances_mean)][
        :2
    ]


@pytest.mark.parametrize("metric", ["auc", "accuracy", "loss"])
def test_errors_have_coverage(toy: ToyEvents, metric: str) -> None:
    """Pulls of many samples against the importance in a very large one."""
    truth = permutation_importance(Line(), drawn(toy, 100_000, 5, signed=True), metric=metric, repeats=2)
    pulls = []
    for seed in range(100):
        one = permutation_importance(Line(), drawn(toy, 400, 100 + seed, signed=True), metric=metric)
        pulls.append((one.mean - truth.mean)[:3] / one.error[:3])  # the last column has none at all
    width = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert (width > 0.82).all(), width
    assert (width < 1.2).all(), width


def test_importances_of_equal_samples_do_not_differ(toy: ToyEvents) -> None:
    """Size of the comparison of two samples: .06 measured over 200 toys."""
    found = []
    for seed in range(80):
        samples = (drawn(toy, n, 5000 + 2 * seed + n, signed=True) for n in (400, 251))
        shift = ImportanceShift(*(permutation_importance(Line(), s, seed=seed) for s in samples))
        found.append(shift.null.p_value(float(shift.distance.value)))
    assert np.mean(np.array(found) < 0.05) < 0.13
    assert np.median(found) == pytest.approx(0.5, abs=0.17)


def test_same_seed_same_numbers(events: Events) -> None:
    first, again, other = (permutation_importance(Line(), events, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.repeats, again.repeats)
    assert np.array_equal(first.error, again.error)
    assert not np.array_equal(first.repeats, other.repeats)


def test_a_column_does_not_depend_on_what_else_is_asked(events: Events) -> None:
    alone = permutation_importance(Line(), events)
    grouped = permutation_importance(Line(), events, groups={"jets": ["ht", "njet"]})
    assert grouped.names == ("jets", "btag", "noise")
    assert np.array_equal(alone.repeats[2], grouped.repeats[1])


def test_chunks_do_not_matter(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = permutation_importance(Line(), events)
    for rows in (1, 7, 600):
        monkeypatch.setattr(module, "ROWS", rows)
        np.testing.assert_allclose(permutation_importance(Line(), events).repeats, whole.repeats, atol=1e-12)


def test_the_table_is_left_alone_and_never_copied(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 50)
    before, sizes = events.globals.copy(), []

    class Watched(Line):
        def score_table(self, x: np.ndarray) -> np.ndarray:
            sizes.append(len(x))
            return super().score_table(x)

        def logits(self, events: Events) -> np.ndarray:
            return Line().logits(events)

    permutation_importance(Watched(), events)
    assert max(sizes) == 50
    assert np.array_equal(events.globals, before)


def test_events_of_weight_zero_do_not_matter_where_nothing_is_dealt_to_them(events: Events) -> None:
    """Their values are dealt out, too: only their own scores drop out."""
    weight = events.weight.copy()
    weight[::3] = 0
    found = permutation_importance(Line(), events.replace(weight=weight), repeats=2)
    label = events.label.copy()
    label[::3] = 1 - label[::3]
    other = permutation_importance(Line(), events.replace(weight=weight, label=label), repeats=2)
    np.testing.assert_allclose(found.repeats, other.repeats, atol=1e-12)
    np.testing.assert_allclose(found.error, other.error, rtol=1e-9)


def test_progress_is_shown(events: Events, capsys: pytest.CaptureFixture[str]) -> None:
    permutation_importance(Line(), events)
    assert capsys.readouterr().err == ""
    permutation_importance(Line(), events, progress=True)
    assert "20/20" in capsys.readouterr().err


# --- groups ------------------------------------------------------------------------------------------


def test_groups_are_permuted_together(events: Events) -> None:
    found = permutation_importance(Line(), events, groups={"jets": ("ht", "njet")}, repeats=2)
    np.testing.assert_allclose(found.repeats[0], slow(events, [0, 1], "auc", 2, 0), rtol=1e-5, atol=1e-9)
    assert found.members == {"jets": ("ht", "njet"), "btag": ("btag",), "noise": ("noise",)}


def test_groups_by_themselves(events: Events) -> None:
    found = permutation_importance(Line(), events, groups="auto")
    assert found.names == ("ht + njet", "btag", "noise")
    assert permutation_importance(Line(), events, groups="auto", threshold=0.99).names == NAMES


# --- edges and bad input -------------------------------------------------------------------------------


def test_a_constant_column_has_exactly_none(events: Events) -> None:
    table = events.globals.copy()
    table[:, 0] = 2.5
    found = permutation_importance(Line(), events.replace(globals=table))
    assert (found.repeats[0] == 0).all()
    assert found.error[0] == 0
    assert found.mean[2] > 0


def test_a_column_that_the_model_ignores_has_exactly_none(events: Events) -> None:
    found = permutation_importance(Line(), events)
    assert (found.repeats[3] == 0).all()
    assert found.error[3] == 0


def test_it_is_of_a_population_and_not_registered() -> None:
    assert "permutation" not in EXPLAINERS


def empty_column(events: Events) -> Events:
    table = events.globals.copy()
    table[:, 2] = np.nan
    return events.replace(globals=table)


def cancelling(events: Events) -> Events:
    return events.replace(
        weight=np.where(events.label == 1, 1 / events.label.sum(), -1 / (1 - events.label).sum())
    )


BAD: tuple[tuple[dict[str, Any], Callable[[Events], Events], type[Exception], str], ...] = (
    ({"metric": "f1"}, lambda e: e, ValueError, "metric 'f1'; choose one of auc, accuracy, loss"),
    ({"repeats": 0}, lambda e: e, ValueError, "repeats=0; at least 1 is needed"),
    ({"target": "top"}, lambda e: e, KeyError, "target 'top' is not an output of the model"),
    ({"groups": "all"}, lambda e: e, ValueError, "groups='all'; give 'auto' or a mapping"),
    (
        {"groups": {"g": ["ht", "btags"]}},
        lambda e: e,
        KeyError,
        "group 'g' has no column 'btags'.*mean 'btag'",
    ),
    ({"groups": {"g": []}}, lambda e: e, ValueError, r"group 'g' is \[\]; a list of columns is needed"),
    ({"groups": {"g": "ht"}}, lambda e: e, ValueError, "group 'g' is 'ht'; a list of columns is needed"),
    ({"groups": {"ht": ["njet"]}}, lambda e: e, ValueError, "group 'ht' has the name of a column"),
    ({"groups": "auto", "threshold": 0}, lambda e: e, ValueError, "threshold=0; a correlation above 0"),
    ({}, lambda e: e[e.label == 1], ValueError, "both classes are needed; (\\d+) of \\1 events are signal"),
    ({"metric": "loss"}, lambda e: e[e.label == 0], ValueError, "both classes are needed; 0 of"),
    ({}, lambda e: e[:0], ValueError, "both classes are needed; 0 of 0"),
    ({}, empty_column, ValueError, "all values of btag are NaN: look at its expression"),
    ({"metric": "accuracy"}, cancelling, ValueError, "weights must not sum to zero, neither in a class nor"),
    ({}, lambda e: e.replace(weight=e.weight * (e.label == 1)), ValueError, r"and 0 \(background\)"),
)


@pytest.mark.parametrize(("settings", "change", "error", "message"), BAD)
def test_bad_input(
    events: Events,
    settings: dict[str, Any],
    change: Callable[[Events], Events],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        permutation_importance(Line(), change(events), **settings)


def test_events_without_a_table(toy: ToyEvents) -> None:
    events = toy(20)
    schema = dataclasses.replace(events.schema, globals=(), global_units=())
    with pytest.raises(ValueError, match="the data-set card declares no `globals`"):
        permutation_importance(Line(), events.replace(schema=schema, globals=events.globals[:, :0]))


def test_a_model_of_graphs(model: NetworkModel, events: Events) -> None:
    with pytest.raises(CannotExplainError, match=r"permutation needs Tabular; \w+Model has no score_table"):
        permutation_importance(model, events)


def test_several_trainings_are_permuted_one_by_one(events: Events) -> None:
    ensemble = Ensemble((Line(), Line()))
    with pytest.raises(CannotExplainError, match=r"each of its \.models, and take .*Ranking\.mean_of"):
        permutation_importance(ensemble, events)
    mean = Ranking.mean_of([Ranking.of(permutation_importance(m, events)) for m in ensemble.models])
    assert not mean.spread["training"].any()


def test_scores_that_are_no_numbers_are_refused(events: Events) -> None:
    table = events.globals.copy()
    table[3, 0] = np.nan
    net = torch.nn.Linear(table.shape[1], 1)
    broken, name = events.replace(globals=table), events.schema.globals[0]
    with pytest.raises(ValueError, match=f"score of 1 of {len(events)} events is not finite; there, {name}"):
        permutation_importance(TableModel(net, ("signal",), events.schema), broken)


def test_groups_without_names_are_refused(events: Events) -> None:
    net = torch.nn.Linear(len(events.schema.globals), 1)
    groups: Any = [list(events.schema.globals[:2])]
    with pytest.raises(ValueError, match="give 'auto' or a mapping of names to columns"):
        permutation_importance(TableModel(net, ("signal",), events.schema), events, groups=groups)


# --- several classes, and numbers ------------------------------------------------------------------------


class Lines:
    """Three logits, or two numbers with units; ``common`` is added to all of them."""

    view = "table"

    def __init__(self, outputs: tuple[str, ...], common: float = 0.0) -> None:
        self.outputs, self.common = outputs, common
        self.slopes = np.random.default_rng(5).normal(size=(4, len(outputs)))

    def logits(self, events: Events) -> np.ndarray:
        return self.score_table(events.globals)

    def score_table(self, x: np.ndarray) -> np.ndarray:
        return x @ self.slopes + self.common * np.sin(3 * x[:, :1])


@pytest.fixture
def three(toy: ToyEvents) -> Events:
    events, outputs = drawn(toy, 500, 2, signed=True), ("ttbar", "ttz", "signal")
    label = (Lines(outputs).logits(events) + np.random.default_rng(0).gumbel(size=(500, 3))).argmax(axis=1)
    return events.replace(schema=dataclasses.replace(events.schema, classes=outputs), label=label)


def one_column(events: Events, value: Callable[[np.ndarray], float]) -> float:
    """Breiman's recipe for the first column: mean decrease over two repeats."""
    lost = []
    for r in range(2):
        x = events.globals.copy()
        x[:, 0] = x[np.random.default_rng([0, r]).permutation(len(x)), 0]
        lost.append(value(events.globals) - value(x))
    return float(np.mean(lost))


@pytest.mark.parametrize("target", ["signal", "signal-rest", "signal-ttbar"])
def test_classes(three: Events, target: str) -> None:
    """A class against all others by p/(1 - p), or two classes on their events."""
    model = Lines(three.schema.classes)
    events = three[three.label != 1] if target == "signal-ttbar" else three

    def value(x: np.ndarray) -> float:
        p = np.exp(model.score_table(x))
        score = p[:, 2] / (p[:, 0] if target == "signal-ttbar" else p[:, 0] + p[:, 1])
        return float(auc(score, events.label == 2, events.weight).value)

    result = permutation_importance(model, three, target=target, repeats=2)
    assert (result.target, result.metric) == (target, "auc")
    assert result.mean[0] == pytest.approx(one_column(events, value), abs=1e-12)
    shifted = permutation_importance(Lines(model.outputs, common=7.0), three, target=target, repeats=2)
    np.testing.assert_allclose(shifted.repeats, result.repeats, atol=1e-12)


@pytest.mark.parametrize("metric", [None, "mae", "mse"])
def test_regression(toy: ToyEvents, metric: str | None) -> None:
    """Increase of the mean error, on the events that have the target."""
    events, model = drawn(toy, 300, 3), Lines(("pt", "eta"))
    truth = model.logits(events) + np.random.default_rng(1).normal(size=(300, 2))
    truth[::7, 0] = np.nan
    schema = dataclasses.replace(events.schema, targets=("pt", "eta"), target_units=("GeV", ""))
    events = events.replace(schema=schema, targets=truth.astype(np.float32))
    with_target = events[np.isfinite(truth[:, 0])]
    power = 2 if metric == "mse" else 1

    def value(x: np.ndarray) -> float:
        return -float(np.mean(np.abs(model.score_table(x)[:, 0] - with_target.targets[:, 0]) ** power))

    result = permutation_importance(model, events, target="pt", metric=metric, repeats=2)
    assert result.metric == metric or (metric is None and result.metric == "mae")
    assert result.score == pytest.approx(-value(with_target.globals))
    assert result.mean[0] == pytest.approx(one_column(with_target, value))
    with pytest.raises(ValueError, match="metric 'auc'; choose one of mae, mse"):
        permutation_importance(model, events, target="pt", metric="auc")


def test_several_outputs_need_a_target(three: Events) -> None:
    with pytest.raises(KeyError, match="choose one of ttbar, ttz, signal, as target="):
        permutation_importance(Lines(three.schema.classes), three)
