"""KernelSHAP: against the definition set by set, errors that cover, and the silent traps of the library."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from slow_tables import interventional
from torch import Tensor, nn

from hepxai.core.extras import MissingExtraError
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, SettingError, explain
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.table import SklearnModel, TableModel


class Interaction(nn.Module):
    """Linear, and one product of two columns; 20 is far from any probability."""

    def forward(self, x: Tensor) -> Tensor:
        return 20 + x[:, 0] - 0.5 * x[:, 3] + 2 * x[:, 1] * x[:, 2]


@pytest.fixture
def events(wide_table: Events) -> Events:
    return wide_table


@pytest.fixture
def interaction(events: Events) -> TableModel:
    return TableModel(Interaction(), ("signal",), events.schema)


def test_equals_the_definition(interaction: TableModel, events: Events) -> None:
    trees = HistGradientBoostingClassifier(max_iter=5).fit(events.globals, events.label)
    for model in (interaction, SklearnModel(trees, ("signal",), events.schema)):
        found = explain(model, events[:6], "kernel_shap", rows=events.globals[50:70])
        expected = [
            interventional(lambda x, m=model: m.score_table(x)[:, 0], x, events.globals[50:70])
            for x in events.globals[:6]
        ]
        np.testing.assert_allclose(found.values, expected, atol=1e-4)
        assert (found.error == 0).all()


def test_equals_trees(events: Events) -> None:
    trees = HistGradientBoostingClassifier(max_iter=5).fit(events.globals, events.label)
    model = SklearnModel(trees, ("signal",), events.schema)
    settings = {"sample": "all", "size": 30, "seed": 3}
    kernel = explain(model, events[:20], "kernel_shap", **settings)
    exact = explain(model, events[:20], "tree_shap", baseline="interventional", **settings)
    np.testing.assert_allclose(kernel.values, exact.values, atol=1e-5)
    assert kernel.settings["expected"] == pytest.approx(exact.settings["expected"])


def test_adds_up_to_the_score(interaction: TableModel, events: Events) -> None:
    found = explain(interaction, events[:30], "kernel_shap")
    total = found.values.sum(1) + found.settings["expected"]
    np.testing.assert_allclose(total, interaction.logits(events[:30])[:, 0], rtol=1e-6)
    assert found.checks["p90_residual"] < 1e-5


@pytest.fixture
def many(toy: Any) -> tuple[TableModel, Events]:
    """14 columns: more sets than are sampled. The last two say nothing."""
    plain, rng = toy(40, seed=8, largest=0), np.random.default_rng(8)
    names = tuple(f"c{i}" for i in range(14))
    schema = dataclasses.replace(plain.schema, globals=names, global_units=("",) * 14)
    events = plain.replace(schema=schema, globals=rng.normal(size=(40, 14)).astype(np.float32))

    class Pairs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 20 + x[:, 0] + sum(x[:, i] * x[:, i + 1] for i in range(1, 11, 2)) + x[:, 11] ** 2

    return TableModel(Pairs(), ("signal",), schema), events


def exact_pairs(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """By hand: a product is shared, ½[(a - a')(b + b') …] in the mean over rows; a square is its column's."""
    found = np.zeros((len(x), 14))
    found[:, 0] = x[:, 0] - rows[:, 0].mean()
    for i in range(1, 11, 2):
        a, b, p, q = x[:, i, None], x[:, i + 1, None], rows[:, i], rows[:, i + 1]
        found[:, i] = ((a - p) * (b + q) / 2).mean(1)
        found[:, i + 1] = ((b - q) * (a + p) / 2).mean(1)
    found[:, 11] = x[:, 11] ** 2 - (rows[:, 11] ** 2).mean()
    return found


def test_sampled_values_are_right_within_their_errors(many: tuple[TableModel, Events]) -> None:
    model, events = many
    rows = events.globals[20:40]
    found = explain(model, events[:20], "kernel_shap", rows=rows, samples=1200)
    expected = exact_pairs(events.globals[:20].astype(float), rows.astype(float))
    assert (found.error[:, 1:11] > 0).all()
    pull = (found.values - expected)[:, 1:11] / found.error[:, 1:11]
    # With four runs the pulls follow Student's t with three degrees of freedom: 92 % are within 2.64.
    assert np.mean(np.abs(pull) < 2.64) > 0.86
    assert np.abs(found.values - expected).max() < 0.5
    assert np.abs(found.values[:, 12:]).max() < 0.3
    assert found.checks["p90_residual"] < 1e-4


def test_more_than_ten_columns_get_something(many: tuple[TableModel, Events]) -> None:
    """The library's default leaves the others at 0."""
    model, events = many
    found = explain(model, events[:3], "kernel_shap", size=5, samples=600)
    assert (found.values[:, :12] != 0).all()


def test_other_seeds_other_sets(many: tuple[TableModel, Events]) -> None:
    model, events = many
    one, again, other = (
        explain(model, events[:2], "kernel_shap", rows=events.globals[:5], samples=400, seed=s)
        for s in (1, 1, 2)
    )
    assert np.array_equal(one.values, again.values)
    assert not np.array_equal(one.values, other.values)


def test_several_outputs(events: Events) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 20 + x[:, :2] * x[:, 2:4]

    model = TableModel(Two(), ("a", "b"), events.schema)
    a = explain(model, events[:5], "kernel_shap", target="a")
    b = explain(model, events[:5], "kernel_shap", target="b")
    assert np.abs(a.values[:, [1, 3]]).max() < 1e-4
    assert np.abs(b.values[:, [0, 2]]).max() < 1e-4


# --- bad input -----------------------------------------------------------------------------------------


def test_bad_settings(many: tuple[TableModel, Events], interaction: TableModel, events: Events) -> None:
    for samples in (0, 2.5, True):
        with pytest.raises(SettingError, match=f"kernel_shap.samples={samples}; should be "):
            explain(interaction, events, "kernel_shap", samples=samples)
    model, wide = many
    with pytest.raises(ValueError, match="samples=100; at least 224 are needed for 14 columns"):
        explain(model, wide, "kernel_shap", samples=100)


def test_values_that_are_no_numbers(interaction: TableModel, events: Events) -> None:
    table = events.globals.copy()
    table[3, 1] = np.inf
    with pytest.raises(
        ValueError, match="score of 1 of 200 events is not finite; there, c1 is not finite either"
    ):
        explain(interaction, events.replace(globals=table), "kernel_shap")


def test_other_models_are_refused(model: NetworkModel, events: Events) -> None:
    with pytest.raises(CannotExplainError, match=r"kernel_shap needs Tabular; .* has no score_table"):
        explain(model, events, "kernel_shap")


def test_without_the_library(
    interaction: TableModel, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shap", "lime", "lime.lime_tabular"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, method in (("shap", "kernel_shap"), ("lime", "lime"), ("shap", "deep_shap")):
        with pytest.raises(MissingExtraError, match=rf'{method} needs {name} .*"hepxai\[shap\]"'):
            explain(interaction, events, method)
