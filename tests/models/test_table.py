"""Models of the event-level table that a user brings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import hepxai
from hepxai.events import Events
from hepxai.models import DifferentiableTable, HasNeurons, Model, Tabular
from hepxai.models.losses import distance, event_loss
from hepxai.models.wrappers.table import SklearnModel, TableModel


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(60, seed=2)


def forest(events: Events, **settings: Any) -> RandomForestClassifier:
    trees = RandomForestClassifier(n_estimators=5, random_state=0, **settings)
    return trees.fit(events.globals, events.label)


# --- torch -------------------------------------------------------------------------------------------


def test_torch_module(events: Events) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 1)).train()
    model = hepxai.TableModel(net, ("signal",), events.schema)
    assert isinstance(model, Model | Tabular)
    assert isinstance(model, DifferentiableTable)
    assert isinstance(model, HasNeurons)
    assert model.view == "table"
    assert model.hidden_layers == ("0",)
    expected = net[2](net[0](torch.as_tensor(events.globals))).detach()
    np.testing.assert_allclose(model.logits(events), expected, rtol=1e-6, atol=1e-7)
    assert net.training
    assert net[1].training
    assert model.logits(events[:0]).shape == (0, 1)


def test_one_output_without_an_axis(events: Events) -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1)

    found = TableModel(Flat(), ("signal",), events.schema).logits(events)
    np.testing.assert_allclose(found, events.globals.sum(1)[:, None], rtol=1e-5, atol=1e-6)


def test_rows_are_scored_in_parts(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TableModel(nn.Linear(2, 1), ("signal",), events.schema)
    trees = SklearnModel(forest(events), ("signal",), events.schema, clip=0.01)
    whole = [m.score_table(events.globals) for m in (model, trees)]
    monkeypatch.setattr("hepxai.models.wrappers.table.ROWS", 7)
    for before, m in zip(whole, (model, trees), strict=True):
        np.testing.assert_allclose(m.score_table(events.globals), before, rtol=1e-6)


def test_read_only_tables(events: Events) -> None:
    table = events.globals.copy()
    table.flags.writeable = False
    TableModel(nn.Linear(2, 1), ("signal",), events.schema).logits(events.replace(globals=table))


def test_wrong_number_of_outputs(events: Events) -> None:
    model = TableModel(nn.Linear(2, 3), ("signal",), events.schema)
    with pytest.raises(ValueError, match=r"the module returned \(60, 3\) for 60 events and \('signal',\)"):
        model.logits(events)


def test_unknown_loss(events: Events) -> None:
    with pytest.raises(ValueError, match=r"^loss='mea'; choose one of cross_entropy, mae, mse$"):
        TableModel(nn.Linear(2, 1), ("signal",), events.schema, loss="mea")
    outputs = torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"^loss='mea' is no distance; choose mae or mse$"):
        distance(outputs, outputs, "mea")
    with pytest.raises(ValueError, match=r"^loss='mea'; choose one of"):
        event_loss("mea", outputs, events)


def test_unknown_layer(events: Events) -> None:
    with pytest.raises(ValueError, match="the module has no layer 'hidden'; it has 0, 1"):
        TableModel(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), ("signal",), events.schema, ("hidden",))


# --- scikit-learn ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingClassifier(max_iter=5),
        GradientBoostingClassifier(n_estimators=5),
        LogisticRegression(),
    ],
)
def test_log_odds_are_those_of_the_probability(events: Events, estimator: Any) -> None:
    model = hepxai.SklearnModel(estimator.fit(events.globals, events.label), ("signal",), events.schema)
    assert isinstance(model, Tabular)
    assert not isinstance(model, DifferentiableTable)
    found = model.logits(events)
    p = estimator.predict_proba(events.globals)[:, 1]
    np.testing.assert_allclose(1 / (1 + np.exp(-found[:, 0])), p, rtol=1e-5)
    assert model.logits(events[:0]).shape == (0, 1)


def test_probabilities_of_a_forest_are_clipped_and_said(events: Events) -> None:
    model = SklearnModel(forest(events), ("signal",), events.schema, clip=0.01)
    p = model.estimator.predict_proba(events.globals)[:, 1]
    sure = int(((p == 0) | (p == 1)).sum())
    assert sure > 0
    with pytest.warns(UserWarning, match=f"{sure} of 60 events have a probability within 0.01 of 0 or 1"):
        found = model.logits(events)
    inside = np.clip(p, 0.01, 0.99)
    np.testing.assert_allclose(found[:, 0], np.log(inside / (1 - inside)))
    model.logits(events[(p > 0) & (p < 1)])  # nothing to say


def test_three_classes(events: Events) -> None:
    label = np.arange(60) % 3
    trees = RandomForestClassifier(n_estimators=9, max_depth=2, random_state=0).fit(events.globals, label)
    model = SklearnModel(trees, ("a", "b", "c"), events.schema)
    p = trees.predict_proba(events.globals)
    np.testing.assert_allclose(model.logits(events), np.log(p))
    boosted = HistGradientBoostingClassifier(max_iter=3).fit(events.globals, label)
    found = SklearnModel(boosted, ("a", "b", "c"), events.schema).logits(events)
    assert np.array_equal(found, boosted.decision_function(events.globals))


def test_regressor(events: Events) -> None:
    line = LinearRegression().fit(events.globals, events.observers["mass_mumu"])
    found = SklearnModel(line, ("mass",), events.schema).logits(events)
    np.testing.assert_allclose(found[:, 0], line.predict(events.globals))


def test_one_class(events: Events) -> None:
    trees = forest(events[events.label == 1])
    with pytest.raises(ValueError, match=r"fitted on one class only: \[.*1.*\]"):
        SklearnModel(trees, ("signal",), events.schema)


def test_estimators_that_do_not_fit(events: Events) -> None:
    schema = events.schema
    with pytest.raises(ValueError, match="a classifier of 2 classes has 1 outputs, named are"):
        SklearnModel(forest(events), ("background", "signal"), schema)
    with pytest.raises(ValueError, match="LogisticRegression is not fitted: call its fit first"):
        SklearnModel(LogisticRegression(), ("signal",), schema)
    narrow = LogisticRegression().fit(events.globals[:, :1], events.label)
    with pytest.raises(ValueError, match="fitted on 1 columns; the globals are ht, njet"):
        SklearnModel(narrow, ("signal",), schema)
    with pytest.raises(ValueError, match=r"clip=0; it must be above 0 and below 0\.5"):
        SklearnModel(forest(events), ("signal",), schema, clip=0)
    named = LogisticRegression().fit(events.globals, events.label)
    named.feature_names_in_ = np.array(["njet", "ht"], dtype=object)
    with pytest.raises(ValueError, match="fitted on njet, ht; the globals are ht, njet"):
        SklearnModel(named, ("signal",), schema)


@pytest.mark.parametrize("prefix", ["Column_", "f"])  # LightGBM's and xgboost's
def test_placeholders_for_columns(events: Events, prefix: str) -> None:
    named = LogisticRegression().fit(events.globals, events.label)
    named.feature_names_in_ = np.array([f"{prefix}0", f"{prefix}1"], dtype=object)
    SklearnModel(named, ("signal",), events.schema)
    theirs = dataclasses.replace(events.schema, globals=(f"{prefix}1", f"{prefix}0"))
    with pytest.raises(ValueError, match=f"fitted on {prefix}0, {prefix}1; the globals are {prefix}1, "):
        SklearnModel(named, ("signal",), theirs)
    named.feature_names_in_ = np.array([f"{prefix}1", f"{prefix}0"], dtype=object)
    with pytest.raises(ValueError, match=f"fitted on {prefix}1, {prefix}0; the globals are ht, njet"):
        SklearnModel(named, ("signal",), events.schema)


# --- other tables ------------------------------------------------------------------------------------


OTHERS = (
    ({"globals": ("njet", "ht")}, "these events have them in another order: njet, ht"),
    ({"globals": ("ht", "met")}, "these events lack njet, they have beside met"),
    ({"global_units": ("MeV", "")}, r"trained on units \('GeV', ''\) .* these events have \('MeV', ''\)"),
)


@pytest.mark.parametrize(("changes", "message"), OTHERS)
def test_other_tables_are_refused(events: Events, changes: dict[str, Any], message: str) -> None:
    other = events.replace(schema=dataclasses.replace(events.schema, **changes))
    estimator = LogisticRegression().fit(events.globals, events.label)
    for model in (
        TableModel(nn.Linear(2, 1), ("signal",), events.schema),
        SklearnModel(estimator, ("signal",), events.schema),
    ):
        with pytest.raises(ValueError, match=message):
            model.logits(other)


def test_a_missing_column(events: Events) -> None:
    schema = dataclasses.replace(events.schema, globals=("ht",), global_units=("GeV",))
    with pytest.raises(ValueError, match="trained on the globals ht, njet; these events lack njet; read"):
        TableModel(nn.Linear(2, 1), ("signal",), events.schema).logits(
            events.replace(schema=schema, globals=events.globals[:, :1])
        )


def test_no_table(events: Events) -> None:
    schema = dataclasses.replace(events.schema, globals=(), global_units=())
    with pytest.raises(ValueError, match="the data-set card declares no `globals`"):
        TableModel(nn.Linear(2, 1), ("signal",), schema)


# --- classes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        HistGradientBoostingClassifier(max_iter=3),
        RandomForestClassifier(5, max_depth=2),
    ],
)
@pytest.mark.parametrize("names", [("zbkg", "sig"), ("bkg", "sig"), (1, -1), ("signal", "background")])
def test_classes_of_any_name_and_order(events: Events, estimator: Any, names: tuple[Any, Any]) -> None:
    """What `classes` says is followed: the score is that of the card's second class, in any order."""
    estimator.set_params(random_state=0)
    right = SklearnModel(clone(estimator).fit(events.globals, events.label), ("signal",), events.schema)
    renamed = clone(estimator).fit(events.globals, np.array(names)[events.label])
    assert list(renamed.classes_) == sorted(names)
    if set(names) == {"background", "signal"}:
        events = events.replace(schema=dataclasses.replace(events.schema, classes=names))
        model = SklearnModel(renamed, ("background",), events.schema)
    else:
        message = (
            f"classes of the estimator are {', '.join(map(str, sorted(names)))}, those of the card backg"
        )
        with pytest.raises(
            ValueError, match=message + r".* Fit it on the numbers of events\.label, or give c"
        ):
            SklearnModel(renamed, ("signal",), events.schema)
        order = tuple(events.schema.classes[names.index(c)] for c in sorted(names))
        model = SklearnModel(renamed, ("signal",), events.schema, classes=order)
    np.testing.assert_allclose(model.logits(events), right.score_table(events.globals), atol=1e-6)


def test_several_classes_in_another_order(events: Events) -> None:
    label = np.arange(60) % 3
    schema = dataclasses.replace(events.schema, classes=("w", "top", "qcd"))
    right = SklearnModel(forest_of(events, label), schema.classes, schema)
    model = SklearnModel(forest_of(events, np.array(schema.classes)[label]), schema.classes, schema)
    np.testing.assert_allclose(model.score_table(events.globals), right.score_table(events.globals))
    with pytest.raises(ValueError, match=r"this classifier scores w, top, qcd, .*give outputs=\('w', 'top'"):
        SklearnModel(forest_of(events, label), ("qcd", "top", "w"), schema)
    one_against_all = forest_of(events, label == 2)
    assert SklearnModel(one_against_all, ("qcd",), schema).class_order == (0, 1)
    with pytest.raises(ValueError, match=r"classes=.*; a name for each of 0, 1, 2 is needed"):
        SklearnModel(forest_of(events, label), schema.classes, schema, classes=("w", "top"))


def forest_of(events: Events, label: Any) -> RandomForestClassifier:
    trees = RandomForestClassifier(n_estimators=5, max_depth=2, random_state=0)
    return trees.fit(events.globals, np.where(np.arange(60) < 57, label, label[:1]))


def test_what_predicts_nothing_is_refused(events: Events) -> None:
    with pytest.raises(TypeError, match="StandardScaler predicts nothing"):
        SklearnModel(StandardScaler().fit(events.globals), ("signal",), events.schema)
