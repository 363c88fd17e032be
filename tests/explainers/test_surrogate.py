"""Surrogates: fidelity as measured by hand, a warning where it is low, then edges of the surrogate."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from hepxai.attribution.reductions import reduced
from hepxai.events import SPLITS, Events
from hepxai.explainers import explain
from hepxai.explainers.base import CheckWarning
from hepxai.explainers.graph.surrogate import SurrogateEdgeIG, fit_surrogate
from hepxai.explainers.methods import is_default_for
from hepxai.metrics import fidelity, rank_agreement
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.protocols import HasEdgeWeights


class TableModel:
    """A model of the user: no network, no particles, one score."""

    view = "table"
    outputs = ("score",)

    def logits(self, events: Events) -> NDArray[np.float64]:
        total = np.bincount(events.parent, weights=events.particles[:, 4], minlength=len(events))
        return np.asarray(8 * (total / np.maximum(events.counts, 1) - 0.75))[:, None]


def test_fidelity_is_measured_on_every_split(trained: Any) -> None:
    events = trained.events
    original, imitated = (m.logits(events)[:, 0] for m in (trained.model, trained.surrogate.model))
    assert list(trained.surrogate.fidelity) == list(SPLITS)
    for number, split in enumerate(SPLITS):
        own, found = events.split == number, trained.surrogate.fidelity[split]
        w, x, y = events.weight[own], imitated[own], original[own]
        assert found["agreement"].value == pytest.approx(np.average((x > 0) == (y > 0), weights=w))
        covariance = np.cov(x, y, aweights=w)
        correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
        assert found["logit_correlation"].value == pytest.approx(correlation)
        assert found["constant_agreement"].value == pytest.approx(
            max(np.average(y > 0, weights=w), np.average(y <= 0, weights=w))
        )
        assert found["auc"].value == pytest.approx(roc_auc_score(y > 0, x, sample_weight=w))
        assert all(0 < e.error < 0.2 for e in found.values())
    assert trained.surrogate.held_out == trained.surrogate.fidelity["test"]
    assert trained.surrogate.held_out["agreement"].value > 0.85


def test_maps_are_compared_where_the_original_has_edges(trained: Any) -> None:
    test = trained.events.where("test")
    one, two = (
        explain(m, test, "edge_ig", target=m.outputs[0]) for m in (trained.model, trained.surrogate.model)
    )
    found = trained.surrogate.held_out["map_agreement"]
    assert found.value == pytest.approx(float(rank_agreement(reduced(one), reduced(two)).mean.value))
    assert "map_agreement" not in trained.surrogate.fidelity["train"]


def test_explains_the_surrogate(trained: Any) -> None:
    test = trained.events.where("test")
    found = explain(trained.model, test, "surrogate", trained=trained.surrogate)
    direct = explain(trained.surrogate.model, test, "edge_ig")
    assert np.array_equal(found.values, direct.values)
    assert found.method == "surrogate"
    assert found.target == "signal"
    assert found.settings["layer"] == "graph_1"
    assert found.settings["steps"] == direct.settings["steps"]
    assert found.checks["fidelity_ok"] == 1
    assert found.checks["median_residual"] == direct.checks["median_residual"] <= 0.01
    for split, row in trained.surrogate.fidelity.items():
        for name, figure in row.items():
            assert found.checks[f"{split}_{name}"] == figure.value
            assert found.checks[f"{split}_{name}_error"] == figure.error


def test_settings_of_the_explanation(trained: Any) -> None:
    test = trained.events.where("test")
    settings = {"layer": "dynamic_edge_2", "neighbours": "dynamic", "steps": 3}
    found = explain(trained.model, test, "surrogate", trained=trained.surrogate, **settings)
    direct = explain(trained.surrogate.model, test, "edge_ig", **settings)
    assert np.array_equal(found.values, direct.values)
    assert {k: found.settings[k] for k in direct.settings} == direct.settings
    assert found.settings["minimum_agreement"] == SurrogateEdgeIG().minimum_agreement


def worse(surrogate: Any, **figures: float) -> Any:
    """The surrogate with other figures of fidelity on the test split, and nothing else changed."""
    test = surrogate.fidelity["test"]
    changed = {
        k: dataclasses.replace(test[k], value=np.asarray(v), interval=None) for k, v in figures.items()
    }
    return dataclasses.replace(surrogate, fidelity={"test": test | changed})


def test_low_fidelity_warns(trained: Any) -> None:
    low = worse(trained.surrogate, agreement=0.7)
    with pytest.warns(
        CheckWarning, match=r"same decision in 0.700 ± .* \(wanted 0.8, a constant decision has 0.\d+"
    ) as w:
        found = explain(trained.model, trained.events[:20], "surrogate", trained=low)
    assert w[0].filename == __file__
    assert "below stated fidelity" in found.caveat
    assert found.checks["fidelity_ok"] == 0
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*below stated fidelity")
        fine = explain(trained.model, trained.events[:20], "surrogate", trained=low, minimum_agreement=0.3)
    assert fine.checks["fidelity_ok"] == 1


@pytest.mark.parametrize(
    "figures",
    [
        {"agreement": 1.0, "logit_correlation": -0.3},
        {"agreement": np.nan},
        {"constant_agreement": 1.0},  # whatever it says, a constant says it as well
    ],
)
def test_agreement_must_be_known_and_is_not_enough(trained: Any, figures: dict[str, float]) -> None:
    """Cancelling weights leave nothing known; an original that always says yes is easy to agree with."""
    with pytest.warns(CheckWarning, match="below stated fidelity"):
        found = explain(
            trained.model, trained.events[:20], "surrogate", trained=worse(trained.surrogate, **figures)
        )
    assert found.checks["fidelity_ok"] == 0


def test_any_model_has_a_surrogate(trained: Any) -> None:
    """Also one whose output has another name than the network's."""
    surrogate = fit_surrogate(TableModel(), trained.events, card=trained.surrogate_card)
    assert surrogate.held_out["agreement"].value > 0.8
    found = explain(TableModel(), trained.events[:30], "surrogate", trained=surrogate, minimum_agreement=0.8)
    assert found.target == "score"
    assert np.array_equal(found.values, explain(surrogate.model, trained.events[:30], "edge_ig").values)


def test_labels_are_not_used(trained: Any) -> None:
    blind = trained.events.replace(label=np.zeros(len(trained.events), dtype=np.int64))
    surrogate = fit_surrogate(trained.model, blind, card=trained.surrogate_card)
    for name, value in surrogate.model.network.state_dict().items():
        assert value.equal(trained.surrogate.model.network.state_dict()[name]), name


def test_trains_the_shipped_card_if_none_is_given(trained: Any, tmp_path: Path) -> None:
    """With a checkpoint, so that an interrupted run goes on; one epoch shows it."""
    from hepxai.explainers.graph import surrogate as module

    card = trained.surrogate_card
    shipped = type(card).find(module.CARD)
    assert [c.kind for c in shipped.convolutions] == ["graph", "dynamic_edge", "dynamic_edge"]
    assert shipped.edge_dropout == 0
    again = fit_surrogate(trained.model, trained.events, card=card, folder=tmp_path)
    assert (tmp_path / "checkpoint.safetensors").exists()
    kept = NetworkModel.load(tmp_path / "model.safetensors")
    assert np.array_equal(kept.logits(trained.events), again.model.logits(trained.events))


def test_settings_are_plain(trained: Any) -> None:
    found = explain(trained.model, trained.events[:20], "surrogate", trained=trained.surrogate)
    json.dumps(found.settings, allow_nan=False)
    json.dumps(found.checks, allow_nan=False)


def test_wrong_settings_fail_before_the_training(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepxai.explainers.graph.surrogate.fit", lambda *_, **__: pytest.fail("trained"))
    for settings, message in (({"steps": 0}, "steps=0"), ({"neighbours": "some"}, "should be 'frozen'")):
        with pytest.raises(ValueError, match=message):
            explain(trained.model, trained.events, "surrogate", **settings)


def test_one_logit_only(trained: Any) -> None:
    three = dataclasses.replace(trained.events.schema, classes=("a", "b", "c"))
    events = trained.events.replace(schema=three)
    model = NetworkModel.build(trained.surrogate_card, three)
    with pytest.raises(ValueError, match="imitates one logit; the model has a, b, c: give one, or a diff"):
        fit_surrogate(model, events)


def test_a_contrast_of_several_classes(trained: Any) -> None:
    three = dataclasses.replace(trained.events.schema, classes=("a", "b", "c"))
    events = trained.events.replace(schema=three)
    model = NetworkModel.build(trained.surrogate_card, three)
    surrogate = fit_surrogate(model, events, card=trained.surrogate_card, target="c-rest")
    z = model.logits(events)
    contrast, rows = z[:, 2] - z[:, :2].mean(axis=1), events.split == 2
    (imitated,) = surrogate.model.logits(events).T
    expected = np.corrcoef(imitated[rows], contrast[rows])[0, 1]
    found = fidelity(imitated[rows], contrast[rows], np.ones(rows.sum()))["logit_correlation"]
    assert float(found.value) == pytest.approx(expected)
    figures = fidelity(imitated[rows], contrast[rows], events.weight[rows])
    assert surrogate.fidelity["test"]["logit_correlation"] == figures["logit_correlation"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attribution = explain(model, events[:20], "surrogate", target="c-rest", trained=surrogate, steps=4)
    assert attribution.target == "c-rest"


def test_by_default_a_surrogate_is_of_a_classifier(events: Events) -> None:
    """A run without names of methods would stop at it."""
    card = ModelCard.model_validate({"convolutions": [{"kind": "graph", "width": 4}], "dense": [4]})
    numbers = dataclasses.replace(events.schema, targets=("t",), target_units=("GeV",))
    regression = card.model_copy(update={"training": card.training.model_copy(update={"loss": "mae"})})
    labelled = events.replace(schema=numbers, targets=np.ones((len(events), 1), dtype=np.float32))
    with pytest.raises(ValueError, match="not the values t of a regression, which edge_ig"):
        explain(NetworkModel.build(regression, numbers), labelled, "surrogate")
    three = dataclasses.replace(events.schema, classes=("background", "signal", "other"))
    for schema, settings, expected in (
        (events.schema, card, True),
        (three, card, True),
        (numbers, regression, False),
    ):
        model = NetworkModel.build(settings, schema)
        assert isinstance(model, HasEdgeWeights)
        assert is_default_for("surrogate", model) == SurrogateEdgeIG.works_on(model) == expected


def test_foreign_events_are_refused(trained: Any) -> None:
    units = dataclasses.replace(trained.events.schema, units=("MeV", "", "rad", "", ""))
    with pytest.raises(ValueError, match="trained on units"):
        explain(TableModel(), trained.events.replace(schema=units), "surrogate", trained=trained.surrogate)
