"""Axes of data and simulation against loops; comparisons of a model; the verb of a run and its command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import typed
from explained_models import build_table
from mass_rule import MassRule, dimuon_events
from ntuples import CARD, make_columns, write_ttree
from toy_events import make_events
from toy_maps import make_attention, make_map, particle_map

from hepxai.attribution import Attribution
from hepxai.cards import CardError, dump_card, load_card
from hepxai.core.jagged import parents
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.explainers import CannotExplainError
from hepxai.metrics.two_sample import EventTable
from hepxai.models.card import ModelCard
from hepxai.models.ensemble import Ensemble
from hepxai.models.network import NetworkModel
from hepxai.run import Run
from hepxai.run.manifest import RunError
from hepxai.run.with_data import compare_run_with_data
from hepxai.studies.data_comparison import DataComparison, compare_with_data
from hepxai.studies.data_comparison.axes import attribution_columns, input_table
from hepxai.studies.data_comparison.figures import differing_axes
from hepxai.studies.data_comparison.numbers import compare_tables, explanation_tables

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
    _, alone = explanation_tables(model, simulation, {"s": simulation}, settings)
    _, tables = explanation_tables(model, simulation, {"s": simulation, "d": data}, settings)
    np.testing.assert_array_equal(tables["s"].values, alone["s"].values)
    moved = data.replace(globals=data.globals + 1)
    _, shifted = explanation_tables(model, simulation, {"d": moved}, settings)
    half = {"d": moved[:30]}
    np.testing.assert_allclose(
        explanation_tables(model, simulation, half, settings)[1]["d"].values,
        shifted["d"].values[:30],
        atol=1e-5,
    )


def test_labels_of_the_simulation_are_not_used(model: NetworkModel) -> None:
    simulation, data = make_events(60, seed=1), as_data(make_events(60, seed=2))
    simulation = simulation.replace(weight=np.ones(60))
    swapped = simulation.replace(label=1 - simulation.label)
    one, other = (compare_with_data(model, s, data, ["edge_ig"], draws=49) for s in (simulation, swapped))
    assert one.to_json() == other.to_json()
    assert len(one.explanation.axes.names) == 11


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
    assert found.to_json()["inputs"]["classifier"] == {}


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


# --- run and command -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of a small network on the small ntuples, and data beside them."""
    folder = tmp_path_factory.mktemp("data_run")
    for seed, name in enumerate(("background", "signal", "run1")):
        columns = make_columns(600, seed)
        if name == "run1":
            columns["Jet_pt"] = columns["Jet_pt"] * 2
            del columns["genWeight"], columns["Muon_fromA"]
        write_ttree(folder / f"{name}.root", columns)
    text = CARD.replace("train: 6, valid: 3, test: 1", "train: 3, valid: 1, test: 6")
    (folder / "card.yaml").write_text(text)
    card = load_card(folder / "card.yaml", DatasetCard)
    run = Run.start(folder / "run", card, ModelCard.find("dense", ["training.epochs=1", "widths=[4]"]))
    run.train(progress=False)
    (folder / "with_data.yaml").write_text(text + "data: [{name: run1, files: run1.root}]\n")
    return folder


def test_command(run_folder: Path) -> None:
    result = typed("data", str(run_folder / "run"), "--card", str(run_folder / "with_data.yaml"), "-n", "140")
    assert "the inputs differ" in result.output.replace("\n", " ")
    assert "ht" in result.output
    stored = json.loads((run_folder / "run" / "data" / "comparison.json").read_text())
    assert stored["data_events"] == 140
    assert stored["methods"] == ["feature_ig"]
    assert stored["inputs"]["axes"][0]["axis"] != "number of muons"
    for name in ("comparison.csv", "explanation.png", "inputs.png"):
        assert (run_folder / "run" / "data" / name).stat().st_size > 100


def test_refusals_of_a_run(run_folder: Path) -> None:
    run = Run.open(run_folder / "run")
    with pytest.raises(CardError, match="no data samples; list them"):
        compare_run_with_data(run)
    card = DatasetCard.find(run_folder / "with_data.yaml")
    other = DatasetCard.find(run_folder / "with_data.yaml", ["selection.met=met.pt > 6"])
    with pytest.raises(
        RunError, match=r"selection: of the card 'small' is not that of the run .*; add data:"
    ):
        compare_run_with_data(run, card=other)
    (run_folder / "copy.yaml").write_text(
        dump_card(run.dataset).replace("data: []", "data: [{name: a, files: run1.root}]")
    )
    found, _ = compare_run_with_data(
        run, card=DatasetCard.find(run_folder / "copy.yaml"), maximum=300, classes=["background"]
    )
    assert len(found.inputs.simulation.weight) <= 300
    with pytest.raises(RunError, match="no class 'signl'; there are background, signal"):
        compare_run_with_data(run, card=card, classes=["signl"])
    folds = DatasetCard.find(run_folder / "card.yaml", ["split.folds=2", "split.fold=all"])
    with pytest.raises(
        RunError, match="data have none; compare with the run of one fold, as in members/fold1"
    ):
        compare_run_with_data(Run(run.folder, folds, run.card), card=card)


def test_parents_of_kept_pairs_are_events(toys: Events) -> None:
    """Selections keep their events: the axes of a part are those of the whole, 0 elsewhere."""
    attribution = make_map(toys)
    part = attribution.select(pair=("muon", "jet"))
    assert len(parents(part.offsets)) == len(part.values)
    whole, of_part = attribution_columns(attribution), attribution_columns(part)
    for name, column in of_part.items():
        np.testing.assert_allclose(column, whole[name] if name.endswith("muon–jet") else 0)
