"""Events given as a baseline: their weighted mean, or their rows; events of another kind are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from hepxai.events import Events
from hepxai.explainers import SettingError, explain
from hepxai.explainers.graph.node_ig import background_mean
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.image import ImageModel
from hepxai.models.wrappers.table import SklearnModel, TableModel


def other_schema(events: Events, **changes: Any) -> Events:
    return events.replace(schema=dataclasses.replace(events.schema, **changes))


def test_of_the_table(table_model: TableModel, events: Events) -> None:
    background = events[events.label == 0]
    for method in ("feature_ig", "conductance"):
        expected = explain(table_model, events, method, baseline="background_mean", steps=4)
        attribution = explain(table_model, events, method, baseline=background, steps=4)
        np.testing.assert_array_equal(attribution.values, expected.values)
        assert attribution.settings["baseline"] == expected.settings["baseline_values"]
    with pytest.raises(ValueError, match=r"explained events have globals \('ht', 'njet'\), those of the b"):
        explain(table_model, events, "feature_ig", baseline=other_schema(background, globals=("njet", "ht")))
    with pytest.raises(ValueError, match="no event of the events to average for the baseline"):
        explain(table_model, events, "feature_ig", baseline=events[:0])


def test_of_particles(model: NetworkModel, events: Events) -> None:
    background = events[events.label == 0]
    attribution = explain(model, events[:4], "node_ig", baseline=background, steps=2)
    np.testing.assert_allclose(attribution.settings["baseline_values"], background_mean(background))
    assert attribution.settings["baseline"] == f"mean of {len(background)} events"
    other = other_schema(background, units=("MeV", *background.schema.units[1:]))
    with pytest.raises(ValueError, match=r"explained events have units .*, those of the baseline .*MeV"):
        explain(model, events[:4], "node_ig", baseline=other)


def test_of_images(image_model: ImageModel, events: Events) -> None:
    background = events[events.label == 0]
    mean = np.average(background.image(), axis=0, weights=background.weight)
    expected = explain(image_model, events[:4], "image_ig", baseline=mean, steps=3)
    attribution = explain(image_model, events[:4], "image_ig", baseline=background, steps=3)
    np.testing.assert_allclose(attribution.values, expected.values, atol=1e-7)
    with pytest.raises(ValueError, match="weights of 0 events sum to zero: they have no mean image"):
        explain(image_model, events[:4], "image_ig", baseline=background[:0])


def test_rows_of_events(events: Events) -> None:
    trees = GradientBoostingClassifier(n_estimators=3).fit(events.globals, events.label)
    model = SklearnModel(trees, ("signal",), events.schema)
    background = events[events.label == 0]
    background = background.replace(weight=np.ones(len(background)))  # as those of an array
    for method in ("tree_shap", "kernel_shap"):
        more = {"baseline": "interventional"} if method == "tree_shap" else {}
        expected = explain(model, events[:3], method, rows=background.globals, **more)
        attribution = explain(model, events[:3], method, rows=background, **more)
        np.testing.assert_array_equal(attribution.values, expected.values)
        with pytest.raises(ValueError, match=r"have global_units .*; read both with one"):
            explain(
                model, events[:3], method, rows=other_schema(background, global_units=("MeV", "")), **more
            )
    with pytest.raises(SettingError, match="give background events as rows="):
        explain(model, events, "tree_shap", baseline=background)
    with pytest.raises(SettingError, match=r"kernel_shap.baseline=.*; no such setting.*; it has .*rows"):
        explain(model, events, "kernel_shap", baseline=background)
