"""Axes of data and simulation against loops; comparisons of a model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from explained_models import build_table
from mass_rule import MassRule, dimuon_events
from toy_events import make_events
from toy_maps import make_attention, make_map, particle_map

from hepxai.attribution import Attribution
from hepxai.core.formatting import measured
from hepxai.core.jagged import parents
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError
from hepxai.metrics.two_sample import EventTable
from hepxai.models.ensemble import Ensemble
from hepxai.models.network import NetworkModel
from hepxai.studies.data_comparison import DataComparison, compare_with_data
from hepxai.studies.data_comparison.axes import attribution_columns, input_table
from hepxai.studies.data_comparison.figures import differing_axes
from hepxai.studies.data_comparison.numbers import LevelComparison, compare_tables, explain_samples

# --- axes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toys() -> Events:
    return make_events(25, seed=4)


def slow_pair_sum(attribution: Attribution, event: int, one: str, other: str) -> float:
    events, pairs, total = attribution.events, attribution.pairs, 0.0
    assert pairs is not None
    for p in range(len(pairs.src)):
        ends = (pairs.src[p], pairs.dst[p])
        types = sorted(events.schema.types[events.type[i]] for i in ends)
        if events.parent[ends[0]] == event and types == sorted((one, other)):
            total += float(attribution.values[p])
    return total


def test_pairs_are_summed_by_types(toys: Events) -> None:
    attribution = make_map(toys)
    columns = attribution_columns(attribution)
    assert len(columns) == 10  # pairs of four types without an order
    for one, other in (("muon", "jet"), ("muon", "muon"), ("electron", "met")):
        found = next(v for n, v in columns.items() if n.endswith(f": {one}–{other}"))
        np.testing.assert_allclose(
            found, [slow_pair_sum(attribution, e, one, other) for e in range(len(toys))]
        )
    np.testing.assert_allclose(sum(columns.values()), attribution.sum("pair").values)


def test_particles_are_summed_by_type_and_by_feature(toys: Events) -> None:
    plain = particle_map(toys)
    columns = attribution_columns(plain)
    assert [n.partition(": ")[2] for n in columns] == list(toys.schema.types)
    np.testing.assert_allclose(sum(columns.values()), plain.sum("particle").values)
    values = np.random.default_rng(1).normal(size=toys.particles.shape)
    by_feature = Attribution(values, ("particle", "feature"), toys, "node_ig", "signal",
                             labels={"feature": toys.schema.features})  # fmt: skip
    columns = attribution_columns(by_feature)
    assert len(columns) == 4 * (1 + 5)
    muons = next(v for n, v in columns.items() if n.endswith(": muon btag"))
    chosen = toys.type == 1
    np.testing.assert_allclose(
        muons, np.bincount(toys.parent[chosen], values[chosen, 4], minlength=len(toys))
    )


def test_attention_is_relative_and_averaged(toys: Events) -> None:
    """Uniform attention is 1 for every pair of types, NaN without such a pair."""
    attention = make_attention(toys, heads=1)
    receiver = attention.pairs.dst if attention.pairs is not None else np.zeros(0)
    uniform = 1 / np.bincount(receiver, minlength=toys.n_particles)[receiver]
    columns = attribution_columns(attention.replace(values=uniform[:, None, None]))
    values = np.stack([*columns.values()])
    np.testing.assert_allclose(values[np.isfinite(values)], 1)
    assert np.isnan(values).any()


def test_one_type_is_divided_by_rank() -> None:
    events = make_events(12, seed=2, smallest=1)
    single = events.replace(type=np.zeros_like(events.type))
    schema = {"types": ("hit",), "collections": ("Hit",)}
    single = single.replace(schema=type(events.schema)(**{**vars(events.schema), **schema}))
    columns = attribution_columns(particle_map(single))
    assert [n.partition(": ")[2] for n in columns] == ["hit 1", "hit 2", "hit 3", "hit 4", "hit 5+"]
    np.testing.assert_allclose(sum(columns.values()), particle_map(single).sum("particle").values)


def test_columns_and_rows_of_maps(toys: Events) -> None:
    values = np.random.default_rng(2).normal(size=(len(toys), 2))
    table = Attribution(
        values, ("event", "feature"), toys, "feature_ig", "signal", labels={"feature": ("ht", "njet")}
    )
    assert [n.partition(": ")[2] for n in attribution_columns(table)] == ["ht", "njet"]
    pixels = Attribution(np.ones((len(toys), 3, 7)), ("event", "row", "column"), toys, "image_ig", "signal")
    columns = attribution_columns(pixels)
    assert [n.partition(": ")[2] for n in columns] == ["row 1", "row 2", "row 3"]
    assert np.all(columns["image ig: row 1"] == 7)
    wide = Attribution(np.ones((len(toys), 99, 7)), ("event", "row", "column"), toys, "image_ig", "signal")
    with pytest.raises(ValueError, match="image_ig has 99 values per event, and at most 64 are compared"):
        attribution_columns(wide)


def test_inputs_by_hand(toys: Events) -> None:
    table = input_table(toys)
    column = {n: table.values[:, k] for k, n in enumerate(table.names)}
    for e in range(len(toys)):
        rows = np.arange(toys.offsets[e], toys.offsets[e + 1])
        jets = rows[toys.type[rows] == 2]
        jets = jets[np.argsort(-toys.p4[jets, 0])]
        assert column["number of jets"][e] == len(jets)
        for place in (0, 1):
            expected = toys.particles[jets[place], 4] if len(jets) > place else np.nan
            np.testing.assert_equal(column[f"jet {place + 1} btag"][e], np.float64(expected))
        expected = toys.p4[jets, 1].mean(dtype=np.float64) if len(jets) else np.nan
        assert column["mean jet eta"][e] == pytest.approx(expected, nan_ok=True)
    np.testing.assert_array_equal(column["ht"], toys.globals[:, 0])


# --- comparison ----------------------------------------------------------------------------------


def as_data(events: Events) -> Events:
    """Events without labels and with weight 1, as `data_card` reads them."""
    schema = type(events.schema)(**{**vars(events.schema), "classes": ("data",)})
    none = np.zeros(len(events), dtype=np.int64)
    return events.replace(schema=schema, label=none, weight=np.ones(len(events)), truth={})


def halves(n: int = 400, *, muon_scale: float = 1.0) -> tuple[Events, Events]:
    """Simulation and data from the same distribution, but for the muons' pt."""
    events = dimuon_events(n, seed=1)
    events = events.replace(weight=np.ones(n))
    data = as_data(events[n // 2 :])
    scale = np.where(data.is_type("muon"), muon_scale, 1.0)[:, None]
    p4 = data.p4 * np.where(np.arange(4) == 0, scale, 1.0).astype(np.float32)
    return events[: n // 2], data.replace(p4=p4)


def test_equal_samples_show_no_difference() -> None:
    simulation, data = halves()
    found = compare_with_data(MassRule(), simulation, data, [], draws=199)
    assert found.target == "signal"
    assert found.explanation.axes.names == ("score signal",)
    assert found.explanation.p_value > 0.05
    assert found.inputs.p_value > 0.05
    assert "no difference" in str(found)


def test_score_of_scaled_muons_differs() -> None:
    simulation, data = halves(muon_scale=1.4)
    found = compare_with_data(MassRule(), simulation, data, [], draws=199)
    assert found.explanation.axes.p_global[0] == 1 / 200
    assert found.explanation.axes.pull[0] > 3
    worst = found.inputs.rows()[0]
    assert "muon" in worst["axis"]
    assert worst["p_global"] < 0.05
    assert all(a["p_global"] > 0.05 for a in found.inputs.rows() if "jet" in a["axis"])
    verdicts = found.verdicts()
    assert verdicts[0].startswith("the explanation differs (p = ")
    assert verdicts[1].startswith("the inputs differ (p = ")
    content = json.loads(json.dumps(found.to_json()))
    assert content["data_events"] == content["simulation_events"] == 200
    assert content["explanation"]["axes"][0]["axis"] == "score signal"
    assert len(found.rows()) == 1 + len(found.inputs.axes.names)


def test_explainers_are_prepared_on_the_simulation() -> None:
    """A baseline of the data would hide the difference: the mean gradient is over the simulation only."""
    simulation = make_events(80, seed=1)
    simulation = simulation.replace(weight=np.ones(80))
    data = as_data(make_events(60, seed=2))
    model = build_table(simulation)
    settings: dict[str, Any] = {"feature_ig": {"baseline": "mean"}}

    def values(**samples: Events) -> dict[str, Any]:
        tables = explain_samples(model, simulation, samples, settings).tables
        return {name: table.values for name, table in tables.items()}

    alone, both = values(s=simulation), values(s=simulation, d=data)
    np.testing.assert_array_equal(both["s"], alone["s"])
    moved = data.replace(globals=data.globals + 1)
    np.testing.assert_allclose(values(d=moved[:30])["d"], values(d=moved)["d"][:30], atol=1e-5)


def test_labels_of_the_simulation_are_not_used(model: NetworkModel) -> None:
    simulation, data = make_events(60, seed=1), as_data(make_events(60, seed=2))
    simulation = simulation.replace(weight=np.ones(60))
    swapped = simulation.replace(label=1 - simulation.label)
    one, other = (compare_with_data(model, s, data, ["edge_ig"], draws=49) for s in (simulation, swapped))
    assert one.to_json() == other.to_json()
    axes = one.explanation.axes
    assert len(axes.names) + len(axes.left_out) == 11


def test_trainings_are_averaged(model: NetworkModel) -> None:
    simulation, data = make_events(60, seed=1).replace(weight=np.ones(60)), as_data(make_events(60, seed=2))
    one = compare_with_data(model, simulation, data, ["edge_ig"], draws=49)
    two = compare_with_data(Ensemble((model, model)), simulation, data, ["edge_ig"], draws=49)
    np.testing.assert_allclose(two.explanation.data.values, one.explanation.data.values, atol=1e-6)


def test_few_events_warn_and_have_no_classifier(model: NetworkModel) -> None:
    simulation, data = make_events(80, seed=1).replace(weight=np.ones(80)), as_data(make_events(30, seed=2))
    with pytest.warns(UserWarning, match="data: only 30 effective events; a comparison says little below 50"):
        found = compare_with_data(model, simulation, data, ["edge_ig"], draws=49)
    assert found.explanation.classifier is None
    assert found.explanation.p_value == found.explanation.axes.p_value
    stored = found.to_json()
    assert stored["inputs"]["classifier"] == {}
    assert stored["concerns"] == list(found.concerns)
    assert "concern: data: only 30 effective events; a comparison says little" in str(found)
    left_out = found.explanation.axes.left_out
    assert stored["explanation"]["left_out"] == list(left_out)
    if left_out:
        assert f"{len(left_out)} left out: effectively fewer than 20 events" in found.verdicts()[0]


@pytest.mark.filterwarnings("ignore::hepxai.explainers.base.CheckWarning")
def test_concerns_and_settings_of_the_attributions_are_stored(
    model: NetworkModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(EXPLAINERS["edge_ig"]()), "concerns", lambda *_: ("not complete",))
    simulation, data = make_events(60, seed=1).replace(weight=np.ones(60)), as_data(make_events(60, seed=2))
    found = compare_with_data(model, simulation, data, {"edge_ig": {"steps": 7}}, draws=49, seed=3)
    assert found.concerns == ("edge_ig, data: not complete", "edge_ig, simulation: not complete")
    assert found.verdicts()[-1] == "concern: edge_ig, simulation: not complete"
    stored = json.loads(json.dumps(found.to_json()))
    assert stored["settings"]["edge_ig"]["steps"] == 7
    assert (stored["draws"], stored["seed"]) == (49, 3)
    assert stored["verdicts"] == found.verdicts()


def test_a_difference_that_was_not_seen_is_not_called_absent() -> None:
    """Jets are no input of the rule; but the tests cannot say so, only how well the scores agree."""
    simulation, data = halves()
    scale = np.where(data.is_type("jet"), 1.6, 1.0)[:, None].astype(np.float32)
    data = data.replace(p4=data.p4 * np.where(np.arange(4) == 0, scale, 1.0).astype(np.float32))
    found = compare_with_data(MassRule(), simulation, data, [], draws=199)
    assert found.inputs.differs
    assert not found.explanation.differs
    axes = found.explanation.axes
    error = np.hypot(axes.first.error[0], axes.second.error[0])
    sentence = found.verdicts()[2]
    assert "was not seen in the explanation, which is no proof that it does not reach the network" in sentence
    difference = measured(axes.first.value[0] - axes.second.value[0], error)
    assert sentence.endswith(f"mean score, data less simulation: {difference}")
    equal = compare_with_data(MassRule(), *halves(), [], draws=199)
    assert len(equal.verdicts()) == 2


def small_level(draws: int, *, shift: float = 5.0) -> LevelComparison:
    """Two samples of 30 events, too few for the classifier."""
    values = np.random.default_rng(1).normal(size=(2, 30, 1)) + np.array([0, shift])[:, None, None]
    return compare_tables(*(EventTable(("x",), v, np.ones(30)) for v in values), draws=draws)


def test_one_rule_of_rejection() -> None:
    """The smallest p-value of 19 draws is .05, which rejects: this test has the size of 5 % exactly."""
    level = small_level(19)
    assert level.p_value == pytest.approx(0.05)
    assert level.differs
    assert DataComparison("signal", level, level).verdicts()[0].startswith("the explanation differs (p = ")
    assert not small_level(18).differs


def test_a_level_without_axes_is_not_called_equal() -> None:
    level = small_level(9, shift=0.0)
    empty = compare_tables(*(t.columns(np.zeros(1, dtype=bool)) for t in (level.data, level.simulation)))
    found = DataComparison("signal", empty, level)
    assert found.verdicts()[0] == "the explanation cannot be compared: no axis varies enough"
    sparse = compare_tables(level.data[:10], level.simulation[:10], draws=9)
    assert DataComparison("signal", sparse, level).verdicts()[0] == (
        "the explanation cannot be compared: no axis varies enough (1 left out: effectively fewer than 20 "
        "events differ from the commonest value)"
    )


def test_refusals(model: NetworkModel) -> None:
    simulation, data = make_events(60, seed=1).replace(weight=np.ones(60)), as_data(make_events(60, seed=2))
    with pytest.raises(CannotExplainError, match="tree_shap does not explain this model; these methods work"):
        compare_with_data(model, simulation, data, ["tree_shap"])
    with pytest.raises(KeyError, match="no method 'edge_gi'"):
        compare_with_data(model, simulation, data, ["edge_gi"])
    other = type(data.schema)(**{**vars(data.schema), "units": ("MeV", "", "rad", "", "")})
    with pytest.raises(ValueError, match="the model was trained on units"):
        compare_with_data(model, simulation, data.replace(schema=other), ["edge_ig"])


def test_figure_shows_every_value_of_a_discrete_axis() -> None:
    rng = np.random.default_rng(0)
    tables = [
        EventTable(("x", "count"), np.stack([rng.normal(size=n), rng.poisson(1, n)], axis=1), np.ones(n))
        for n in (200, 300)
    ]
    level = compare_tables(*tables, draws=49)
    figure = differing_axes(DataComparison("signal", level, level), number=2)
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert sorted(filter(None, labels)) == ["count", "x"]
    by_count = figure.axes[labels.index("count") - 2]
    points = by_count.containers[0].lines[0].get_xdata()
    np.testing.assert_allclose(points, np.unique(np.concatenate([t.values[:, 1] for t in tables])))


def test_parents_of_kept_pairs_are_events(toys: Events) -> None:
    """Selections keep their events: the axes of a part are those of the whole, 0 elsewhere."""
    attribution = make_map(toys)
    part = attribution.select(pair=("muon", "jet"))
    assert len(parents(part.offsets)) == len(part.values)
    whole, of_part = attribution_columns(attribution), attribution_columns(part)
    for name, column in of_part.items():
        np.testing.assert_allclose(column, whole[name] if name.endswith("muon–jet") else 0)
