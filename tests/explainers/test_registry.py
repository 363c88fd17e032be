"""What every explainer must keep, whoever registered it."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from quick_settings import TABLES
from slow_reference import shuffle

import hepxai
from hepxai.attribution import Attribution
from hepxai.attribution.residuals import relative_residual
from hepxai.core import chunks
from hepxai.events import Events
from hepxai.explainers import (
    EXPLAINERS,
    CannotExplainError,
    Explainer,
    Part,
    Prepared,
    SettingError,
    batches,
    explain,
    register,
)
from hepxai.explainers.methods import validated_settings
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel

pytestmark = pytest.mark.filterwarnings("ignore:lrp. biases absorb")  # the test model has a large one
REGULAR = ("feature", "row", "column", "neuron", "head", "layer", "repeat")
CLOSE = {"rtol": 2e-4, "atol": 2e-6}
"""Of results in single precision whose sums run in another order."""


@pytest.fixture(params=sorted(EXPLAINERS))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(request: pytest.FixtureRequest, model: NetworkModel) -> Any:
    """The network, or the first of the others that the method can explain."""
    method = request.getfixturevalue("method") if "method" in request.fixturenames else "attention"
    names = ("table_model", "tree_model", "image_model", "soft_tree_model")
    others = (request.getfixturevalue(name) for name in names)
    return next(m for m in (model, *others) if EXPLAINERS[method].works_on(m))


@pytest.fixture
def settings(method: str, trained: Any) -> dict[str, Any]:
    """Few steps, so that this stays quick; a new method that needs nothing special needs no entry here."""
    quick: dict[str, Any] = {m: {"steps": 4} for m in ("conductance", "edge_ig", "feature_ig", "node_ig")}
    quick["surrogate"] = {"steps": 4, "trained": trained.surrogate}
    return (quick | TABLES).get(method, {})


@pytest.fixture
def prepared(method: str, settings: dict[str, Any], model: NetworkModel, events: Events) -> Prepared:
    """The method, prepared on the population."""
    return EXPLAINERS[method](**settings).prepare(model, events, "signal")


def by_name(found: Attribution, place: np.ndarray | None = None) -> dict[Any, np.ndarray]:
    """Values by event, particle or pair of particles; ``place`` renames the particles."""
    name = np.arange(found.events.n_particles) if place is None else place
    if found.axes[0] == "event":
        return dict(enumerate(found.values))
    if found.axes[0] == "particle":
        return {int(name[p]): v for p, v in enumerate(found.values)}
    ends = zip(found.pairs.src, found.pairs.dst, found.values, strict=True)
    return {(int(name[s]), int(name[d])): v for s, d, v in ends}


def assert_same(found: dict[Any, np.ndarray], expected: dict[Any, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, **CLOSE, err_msg=str(key))


# --- form ------------------------------------------------------------------------------------------


def test_axes_and_rows(prepared: Prepared, method: str, model: NetworkModel, events: Events) -> None:
    found = prepared.attribute(events)
    assert found.events is events
    assert (found.method, found.target) == (method, "signal")
    assert set(found.axes[1:]) <= set(REGULAR)
    assert found.values.shape == tuple(
        found.offsets[-1] if i == 0 else len(found.labels[a]) for i, a in enumerate(found.axes)
    )
    assert np.isfinite(found.values).all()
    assert found.values.any()
    if found.axes[0] == "particle":
        assert found.offsets is events.offsets
    if found.axes[0] == "pair":
        src, dst = found.pairs.src, found.pairs.dst
        event = np.repeat(np.arange(len(events)), np.diff(found.offsets))
        assert (src != dst).all()
        assert (events.parent[src] == event).all()
        assert (events.parent[dst] == event).all()
        assert len(by_name(found)) == len(found.values)


def test_settings_and_checks_are_json(
    method: str, settings: dict[str, Any], model: NetworkModel, events: Events
) -> None:
    found = explain(model, events, method, **settings)
    kept = json.loads(json.dumps(found.settings, allow_nan=False))
    assert all(isinstance(v, float) for v in found.checks.values())
    json.dumps(found.checks, allow_nan=False)
    assert "progress" not in kept
    fields = EXPLAINERS[method].model_fields
    again = explain(model, events, method, **{k: v for k, v in kept.items() if k in fields} | settings)
    assert np.array_equal(again.values, found.values)
    assert json.loads(json.dumps(again.settings)) == kept


def test_save_and_load(prepared: Prepared, model: NetworkModel, events: Events, tmp_path: Any) -> None:
    found = prepared.attribute(events)
    found.save(tmp_path / "map.safetensors")
    again = Attribution.load(tmp_path / "map.safetensors", events)
    assert np.array_equal(again.values, found.values)
    assert (again.axes, again.labels, again.method) == (found.axes, found.labels, found.method)


# --- completeness ----------------------------------------------------------------------------------


def test_residual_is_what_it_says(prepared: Prepared, model: NetworkModel, events: Events) -> None:
    """Sum of an event's attributions minus the change that they should add up to."""
    found = prepared.attribute(events)
    if found.residual is None:
        assert found.output_change is None
        assert "median_residual" not in prepared.checks(found)
        return
    for e in range(len(events)):
        own = found.values[found.offsets[e] : found.offsets[e + 1]]
        assert found.residual[e] == pytest.approx(float(own.sum()) - found.output_change[e], abs=1e-5)
    relative = relative_residual(found)
    assert np.isfinite(found.residual).all()
    assert prepared.checks(found)["median_residual"] == pytest.approx(
        np.nanquantile(relative, 0.5, method="higher")
    )


def test_completeness_by_default(
    method: str, settings: dict[str, Any], model: NetworkModel, events: Events
) -> None:
    """Left to itself, a method that promises completeness keeps it for the median event."""
    found = explain(model, events, method, **{k: v for k, v in settings.items() if k != "steps"})
    if found.residual is None:
        return
    if found.error is None or not found.error.any():
        assert found.checks["median_residual"] <= 0.01
    else:  # it samples: errors of the values of an event may all point the same way
        within = found.error.reshape(len(found.error), -1).sum(1)
        assert np.median(np.abs(found.residual) / within) < 1


# --- events by themselves ----------------------------------------------------------------------------


def test_order_of_particles(prepared: Prepared, model: NetworkModel, events: Events) -> None:
    """Permuting particles permutes the attribution."""
    shuffled, old = shuffle(events)
    found = prepared.attribute(shuffled)
    assert_same(by_name(found, old), by_name(prepared.attribute(events)))


def test_alone_as_in_the_batch(prepared: Prepared, model: NetworkModel, events: Events) -> None:
    whole = prepared.attribute(events)
    for e in range(0, len(events), 4):
        found = prepared.attribute(events[[e]])
        assert_same(by_name(found), by_name(whole[np.array([e])]))
        if whole.residual is not None:
            assert found.output_change == pytest.approx(whole.output_change[e], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("budget", [1, 60])
def test_chunks_do_not_matter(
    prepared: Prepared,
    model: NetworkModel,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
) -> None:
    whole = prepared.attribute(events)
    cut = chunks.chunk_rows
    assert len(cut(events.counts, budget)) > 1
    monkeypatch.setattr(batches, "chunk_rows", lambda counts: cut(counts, budget))
    found = prepared.attribute(events)
    assert_same(by_name(found), by_name(whole))
    if whole.residual is not None:
        np.testing.assert_allclose(found.output_change, whole.output_change, rtol=1e-3, atol=1e-5)


def test_the_same_event_again_and_again(prepared: Prepared, model: NetworkModel, events: Events) -> None:
    rows = np.array([7, 3, 7, 7])
    found = prepared.attribute(events[rows])
    one = by_name(found[np.array([0])])
    assert len(one) > 0
    for copy in (2, 3):
        assert_same(by_name(found[np.array([copy])]), one)


def test_empty_and_lonely_events(prepared: Prepared, model: NetworkModel, toy: Callable[..., Events]) -> None:
    lonely = toy(12, largest=1)
    found = prepared.attribute(lonely)
    assert np.isfinite(found.values).all()
    if found.axes[0] == "pair":
        assert len(found.values) == 0
    if found.residual is not None:
        assert np.isfinite(found.residual).all()
        if found.axes[0] != "event":  # the table of an event without particles has values, too
            np.testing.assert_allclose(found.residual[lonely.counts == 0], 0, atol=1e-6)
    nobody = prepared.attribute(toy(5, largest=0))
    assert nobody.values.shape[0] == (5 if found.axes[0] == "event" else 0)
    nothing = prepared.attribute(lonely[:0])
    assert len(nothing.values) == 0
    json.dumps(prepared.checks(nothing) | prepared.checks(nobody), allow_nan=False)


# --- the one verb ------------------------------------------------------------------------------------


class Bare:
    """Scores events and nothing else."""

    view = "table"
    outputs = ("score", "other")

    def logits(self, events: Events) -> np.ndarray:
        return np.zeros((len(events), 2))


def test_the_package_is_the_verb(model: NetworkModel, events: Events) -> None:
    found = hepxai.explain(model, events, "attention")
    assert np.array_equal(found.values, explain(model, events, "attention").values)
    assert hepxai.explainers.EXPLAINERS is EXPLAINERS


def test_unknown_method(model: NetworkModel, events: Events) -> None:
    with pytest.raises(
        KeyError, match=r"no method 'edgeig' \(did you mean 'edge_ig'\?\); these fit the model: .*attention, "
    ) as refused:
        explain(model, events, "edgeig")
    assert not {n for n, e in EXPLAINERS.items() if e.reads != "graph" and f" {n}," in str(refused.value)}


@pytest.mark.parametrize("view", ["graph", "table", "image"])
def test_an_unknown_method_of_a_run(view: str) -> None:
    """Methods of the view of the model are listed, and no others."""
    with pytest.raises(KeyError, match="no method 'no'; these fit the model: ") as refused:
        validated_settings(["no"], {}, view)
    listed = str(refused.value).partition("model: ")[2].strip('"').split(", ")
    assert listed == sorted(n for n, e in EXPLAINERS.items() if e.reads == view)


def test_unknown_target(method: str, settings: dict[str, Any], model: NetworkModel, events: Events) -> None:
    with pytest.raises(KeyError, match=r"target 'background' is not .*; the only one is signal"):
        explain(model, events, method, target="background", **settings)


def test_target_must_be_said_where_there_are_several(events: Events) -> None:
    with pytest.raises(KeyError, match="choose one of score, other"):
        explain(Bare(), events, "surrogate")


def test_unknown_setting(method: str, model: NetworkModel, events: Events) -> None:
    with pytest.raises(SettingError, match=f"^{method}.step=3; no such setting.*; it has .*progress"):
        explain(model, events, method, step=3)


def test_model_that_lacks_the_ability_says_what_works(events: Events) -> None:
    class One(Bare):
        outputs = ("score",)

    for name, missing in (
        ("attention", "attention"),
        ("edge_ig", "edge_layers, edge_path"),
        ("node_ig", "forward_cloud, neighbour_lists"),
    ):
        message = f"{name} needs .*; One has no {missing}; these methods work on it: surrogate$"
        with pytest.raises(CannotExplainError, match=message):
            explain(One(), events, name)
    with pytest.raises(CannotExplainError, match=r"no attention; these methods work on it: surrogate$"):
        explain(Bare(), events, "attention")  # a surrogate imitates a difference of several outputs
    with pytest.raises(CannotExplainError, match="no logits, outputs, view; no registered method works"):
        explain(object(), events, "surrogate")


def test_foreign_events_are_refused(
    method: str, settings: dict[str, Any], model: NetworkModel, events: Events
) -> None:
    """Same number of features, other meaning: nothing would crash, all would be wrong."""
    mev = dataclasses.replace(events.schema, units=("MeV", "", "rad", "", ""), global_units=("MeV", ""))
    with pytest.raises(ValueError, match="trained on units"):
        explain(model, events.replace(schema=mev), method, **settings)


@pytest.mark.parametrize("method", ["feature_ig", "gradient_shap", "kernel_shap", "lime"])
@pytest.mark.parametrize("largest_too", [True, False])
def test_a_refusal_counts_all_events(method: str, events: Events, largest_too: bool) -> None:
    """Not only the one that is scored to try the model."""
    card = ModelCard.model_validate({"kind": "dense", "widths": [4]})
    own, table = NetworkModel.build(card, events.schema), events.globals.copy()
    order = np.argsort(-events.counts, kind="stable")
    table[order[:7] if largest_too else order[1:8], 1] = np.nan
    with pytest.raises(
        ValueError, match=f"njet in 7 of {len(events)} events; give them a number on the card"
    ):
        explain(own, events.replace(globals=table), method)


@pytest.mark.parametrize("n", [0, 5])
def test_a_model_that_checks_is_asked_about_all(events: Events, n: int) -> None:
    class Careful(Bare):
        outputs = ("signal",)

        def check(self, events: Events) -> None:
            raise ValueError(f"all {len(events)} events are strange")

    with pytest.raises(ValueError, match=f"all {n} events are strange"):
        explain(Careful(), events[:n], "surrogate")


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="an explainer named 'edge_ig' exists"):
        register("edge_ig")(EXPLAINERS["edge_ig"])


def test_explainers_are_settings(method: str) -> None:
    explainer = EXPLAINERS[method]
    assert explainer.name == method
    with pytest.raises(ValidationError, match="frozen"):
        explainer().progress = True  # type: ignore[misc]
    assert explainer(progress=True).silent() == explainer()


def test_progress_is_shown(
    method: str,
    settings: dict[str, Any],
    model: NetworkModel,
    events: Events,
    capsys: pytest.CaptureFixture[str],
) -> None:
    explain(model, events, method, **settings)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    explain(model, events, method, progress=True, **settings)
    assert f"{len(events)}/{len(events)}" in capsys.readouterr().err


@pytest.mark.slow
def test_everything_survives_the_way_to_another_process(
    model: NetworkModel, events: Events, tmp_path: Path
) -> None:
    """As arguments of a function and back, by cloudpickle, which engines such as dask use."""
    cloudpickle = pytest.importorskip("cloudpickle")
    explainer = EXPLAINERS["edge_ig"](steps=4)
    (tmp_path / "there").write_bytes(cloudpickle.dumps((hepxai.explain, model, events, explainer)))
    script = f"""
import cloudpickle, pathlib, torch
torch.set_num_threads(1)
folder = pathlib.Path({str(tmp_path)!r})
explain, model, events, explainer = cloudpickle.loads((folder / "there").read_bytes())
made = explain(model, events, "edge_ig", steps=4), explainer.explain(model, events, "signal")
(folder / "back").write_bytes(cloudpickle.dumps(made))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    here = hepxai.explain(model, events, "edge_ig", steps=4)
    for there in pickle.loads((tmp_path / "back").read_bytes()):
        np.testing.assert_array_equal(there.values, here.values)
        assert there.settings == here.settings
    assert pickle.loads(pickle.dumps(hepxai.explain)) is hepxai.explain


def test_a_target_is_a_name(model: NetworkModel, events: Events) -> None:
    with pytest.raises(TypeError, match="target=0: a name is needed, of signal"):
        explain(model, events, "attention", target=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"axes": ("particles",)}, r"odd: axes\[0\]='particles'; one of event, particle, pair is needed"),
        (
            {"axes": ("event",), "reads": "tables"},
            "odd: reads='tables'; one of graph, table, image is needed",
        ),
    ],
)
def test_wrong_declarations_are_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register("odd")(type("Odd", (Explainer,), dict(attributes)))


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (lambda batch: np.zeros(3), TypeError, "attribute_batch returns ndarray; a Part is needed"),
        (lambda batch: Part(values=np.zeros(3)), ValueError, r"3 values for a batch of \d+ \(event axis\)"),
    ],
)
def test_wrong_parts_are_refused(
    part: Any, error: type[Exception], message: str, table_model: Any, events: Events, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        EXPLAINERS["feature_ig"], "attribute_batch", lambda self, prepared, batch: part(batch)
    )
    with pytest.raises(error, match=message):
        explain(table_model, events, "feature_ig", steps=2)
