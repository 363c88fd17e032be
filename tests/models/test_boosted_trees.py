"""Boosted trees of the card: storage without pickle, refusal of what is foreign."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import GradientBoostingRegressor

from hepxai.core.files import write_tensors
from hepxai.events import Events
from hepxai.models import BoostedTreesModel, DifferentiableTable, Model, NetworkModel, Tabular, load_model
from hepxai.models.card import BoostedTreesCard, ModelCard
from hepxai.models.protocols import HasTrees
from hepxai.models.storage import bytes_as_array
from hepxai.models.table.boosted_trees import (
    ALGORITHMS,
    dumped,
    first_trees,
    number_of_trees,
    scores_of,
    share_of_trees,
)
from hepxai.training import fit

ToyEvents = Callable[..., Events]


def make_card(algorithm: str = "hist_gradient_boosting", **keys: Any) -> BoostedTreesCard:
    training = {"trees": 12, "step": 5} | keys.pop("training", {})
    if algorithm != "hist_gradient_boosting":
        training |= {"negative_weights": "abs"}
    kind = {"kind": "boosted_trees", "algorithm": algorithm, "smallest_leaf": 5}
    card = ModelCard.model_validate(kind | {"training": training} | keys)
    assert isinstance(card, BoostedTreesCard)
    return card


def learnable(events: Events) -> Events:
    """The first column says what the class is; the second one knows nothing."""
    table = events.globals.copy()
    table[:, 0] += 2 * events.label
    return events.replace(globals=table)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return learnable(toy(300))


@pytest.fixture(params=ALGORITHMS)
def model(request: pytest.FixtureRequest, events: Events) -> BoostedTreesModel:
    found: BoostedTreesModel = fit(make_card(request.param), events)[0]
    return found


def three_classes(events: Events) -> Events:
    schema = dataclasses.replace(events.schema, classes=("qcd", "ttbar", "ttH"))
    return events.replace(schema=schema, label=np.arange(len(events)) % 3)


def test_protocols(model: BoostedTreesModel, events: Events) -> None:
    for ability in (Model, Tabular, HasTrees):
        assert isinstance(model, ability)
    assert not isinstance(model, DifferentiableTable)
    assert (model.view, model.outputs) == ("table", ("signal",))
    assert model.logits(events).shape == (300, 1)
    assert model.logits(events[:0]).shape == (0, 1)


@pytest.mark.filterwarnings("ignore:.*have a probability within:UserWarning")
def test_round_trip(model: BoostedTreesModel, events: Events, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    found = load_model(tmp_path / "model.safetensors")
    assert type(found) is BoostedTreesModel
    assert (found.card, found.schema) == (model.card, model.schema)
    assert np.array_equal(found.logits(events), model.logits(events))
    with pytest.raises(ValueError, match=r"holds boosted_trees, no network; use hepxai.models.load_model"):
        NetworkModel.load(tmp_path / "model.safetensors")


def test_a_network_is_loaded_by_the_same_door(events: Events, tmp_path: Path) -> None:
    net = NetworkModel.build(ModelCard.model_validate({"kind": "dense"}), events.schema)
    net.save(tmp_path / "model.safetensors")
    assert np.array_equal(load_model(tmp_path / "model.safetensors").logits(events), net.logits(events))


class _Harmless:
    """What a foreign file may hold."""


def _stored(path: Path, model: BoostedTreesModel, estimator: Any) -> Path:
    header = {"card": model.card.model_dump_json(), "schema": model.schema.to_json()}
    write_tensors(path, {"estimator": bytes_as_array(skops.io.dumps(estimator))}, header)
    return path


def test_foreign_types_are_refused_by_name(model: BoostedTreesModel, tmp_path: Path) -> None:
    """Before anything of them is made: no code of theirs is run."""
    command = first_trees(model.estimator, 5)
    command.feature_names_in_ = os.system
    with pytest.raises(ValueError, match=r"objects of type (posix|nt)\.system are no part of boosted"):
        load_model(_stored(tmp_path / "command", model, command))
    other = first_trees(model.estimator, 5)
    other.verbose = _Harmless()
    with pytest.raises(ValueError, match=r"objects of type .*_Harmless are .*; do not use the file"):
        load_model(_stored(tmp_path / "other", model, other))


def test_another_estimator_than_the_card_says(
    model: BoostedTreesModel, events: Events, tmp_path: Path
) -> None:
    line = GradientBoostingRegressor(n_estimators=2).fit(events.globals, events.weight)
    with pytest.raises(ValueError, match=r"holds a GradientBoostingRegressor, its card says .*Classifier"):
        load_model(_stored(tmp_path / "model", model, line))


def test_the_bytes_are_no_pickle(model: BoostedTreesModel) -> None:
    assert dumped(model.estimator).tobytes()[:2] == b"PK"  # a zip of JSON and .npy


# --- trees one by one --------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_first_trees_are_those_of_a_shorter_fit(events: Events, algorithm: str, classes: int) -> None:
    if classes == 3:
        events = three_classes(events)
    events = events.replace(weight=np.abs(events.weight))
    long, short = (
        fit(make_card(algorithm, training={"trees": n, "step": n, "seed": 3}), events)[0] for n in (12, 5)
    )
    cut = first_trees(long.estimator, 5)
    assert number_of_trees(cut) == 5
    assert number_of_trees(long.estimator) == 12
    x = events.globals
    assert np.array_equal(cut.predict_proba(x), short.estimator.predict_proba(x))
    shares = share_of_trees(cut, 0, x) + share_of_trees(long.estimator, 5, x)
    np.testing.assert_allclose(scores_of(long.estimator, shares, 1e-6), long.score_table(x), atol=1e-12)


# --- other tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"globals": ("njet", "ht")}, "these events have them in another order: njet, ht"),
        ({"globals": ("ht", "met")}, "these events lack njet, they have beside met"),
        ({"global_units": ("MeV", "")}, r"these events have \('MeV', ''\)"),
    ],
)
def test_other_tables_are_refused(
    model: BoostedTreesModel, events: Events, changes: dict[str, Any], message: str
) -> None:
    other = events.replace(schema=dataclasses.replace(events.schema, **changes))
    with pytest.raises(ValueError, match=message):
        model.logits(other)


def test_values_that_are_not_finite(model: BoostedTreesModel, events: Events) -> None:
    table = events.globals.copy()
    table[3:5, 1] = np.nan
    with pytest.raises(ValueError, match="not finite: njet in 2 of 300 events"):
        model.logits(events.replace(globals=table))


# --- cards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"algorithm": "adaboost"}, "'hist_gradient_boosting', 'gradient_boosting' or 'random_forest'"),
        ({"algorithm": "random_forest", "l2": 1.0}, "random_forest knows no l2; leave it out"),
        ({"algorithm": "gradient_boosting", "l2": 1.0}, "gradient_boosting knows no l2"),
        (
            {"algorithm": "random_forest", "training": {"learning_rate": 0.1}},
            "a random forest has no learning_rate; leave it out",
        ),
        (
            {"algorithm": "random_forest", "training": {"early_stopping": 5}},
            "a random forest has no early_stopping",
        ),
        ({"leaves": 1}, "greater than or equal to 2"),
        ({"training": {"symmetries": ["mirror"]}}, "unknown key"),
    ],
)
def test_refused_cards(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelCard.model_validate({"kind": "boosted_trees"} | keys)


def test_limits_of_a_tree(events: Events) -> None:
    """What is given replaces scikit-learn's own limits, all of them."""
    for algorithm in ALGORITHMS:
        deep = fit(make_card(algorithm, depth=2), events)[0].estimator
        plain = fit(make_card(algorithm), events)[0].estimator
        assert (deep.max_depth, deep.max_leaf_nodes) == (2, None)
        fresh = ALGORITHMS[algorithm]()
        assert (plain.max_depth, plain.max_leaf_nodes) == (fresh.max_depth, fresh.max_leaf_nodes)
