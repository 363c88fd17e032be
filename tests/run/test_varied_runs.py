"""Runs under the systematic variations of a card: closure, resuming, and what the report makes of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot
from command_line import typed
from quick_settings import TABLES
from torch_geometric.nn import global_add_pool

import hepxai
from hepxai.attribution.reductions import of_class, reduced
from hepxai.cards import dump_card
from hepxai.datasets import DatasetCard
from hepxai.events import Schema, pair_events
from hepxai.explainers import EXPLAINERS
from hepxai.metrics import auc
from hepxai.models.card import ModelCard
from hepxai.report import write_report
from hepxai.report.systematics import systematics_section
from hepxai.report.view import RunView
from hepxai.run import Run
from hepxai.run.manifest import Manifest, RunError
from hepxai.run.varied import same_population

SMALL = ["training.epochs=2", *(f"convolutions.{i}.width=8" for i in range(3))]
SMALL += ["training.epoch_events=2000", "training.batch_size=256"]
FACTOR = "1 + 0.2 * (count(jet.btag > 0.5) - 1)"
SCALE = {"jet.pt": "pt * {}", "jet.mass": "mass * {}"}
VARIATIONS: dict[str, Any] = {
    "nothing": {"expressions": {k: e.format("1.0") for k, e in SCALE.items()}},
    "scale": {side: {"expressions": {k: e.format(f) for k, e in SCALE.items()}}
              for side, f in (("up", "1.1"), ("down", "0.9"))},
    "btag": {"weight": FACTOR},
}  # fmt: skip


def dataset(**changes: Any) -> DatasetCard:
    """Card whose cut on jets lets events leave and come."""
    card = DatasetCard.find("charged_higgs", ["particles.jet.cuts=pt > 40", "selection.two=count(jet) >= 2"])
    return DatasetCard.model_validate(card.model_dump() | {"variations": VARIATIONS} | changes)


def start(folder: Path, *more: str, data: DatasetCard | None = None) -> Run:
    return Run.start(folder, data or dataset(), ModelCard.find("transformer_edgeconv", [*SMALL, *more]))


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of one training under all variations; tests that change the folder copy it first."""
    run = start(tmp_path_factory.mktemp("varied") / "one")
    run.train(progress=False)
    run.explain(["edge_ig"], maximum=120, settings={"edge_ig": {"steps": 4}})
    run.vary()
    return run.folder


@pytest.fixture
def copied(varied: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(varied, tmp_path / "run"))


# --- closure ---------------------------------------------------------------------------------


def test_a_variation_of_zero_moves_nothing(varied: Path) -> None:
    run = Run.open(varied)
    same = run.variations["nothing"]
    np.testing.assert_array_equal(same.scores, run.scores)
    assert same.metrics() == Run.open(varied / "variations" / "nothing").metrics()
    for name, nominal in run.maps().items():
        np.testing.assert_array_equal(same.maps()[name].values, nominal.values)
        alone = nominal.replace(varied={"nothing": (same.maps()[name],)})
        assert not np.any(alone.population().spread["syst"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # networks of two epochs, few steps
def test_no_method_moves_under_a_variation_of_zero(copied: Path) -> None:
    """Every method for graphs that a run can explain with, exactly."""
    shutil.rmtree(copied / "explanations")
    shutil.rmtree(copied / "variations")
    run = Run.open(copied)
    methods = [name for name, explainer in EXPLAINERS.items() if explainer.works_on(run.model)]
    assert {"attention", "edge_ig", "node_ig", "surrogate", "shapley", "shapley_interaction"} <= set(methods)
    quick = {m: TABLES[m] for m in methods if m in TABLES} | {"surrogate": {"epochs": 1}}
    run.explain(methods, maximum=12, settings=quick)
    run.vary(["nothing"])
    same = run.variations["nothing"].maps()
    assert set(same) == set(run.maps())
    for name, nominal in run.maps().items():
        np.testing.assert_array_equal(same[name].values, nominal.values, err_msg=name)


@pytest.mark.slow
def test_a_killed_vary_resumes_with_the_same_numbers(varied: Path, copied: Path) -> None:
    shutil.rmtree(copied / "variations")
    command = [sys.executable, "-m", "hepxai", "vary", str(copied)]
    with subprocess.Popen(command, start_new_session=True) as process:
        while not list(copied.glob("variations/*/scores.safetensors")):
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    names = [path.name for path in (varied / "variations").iterdir()]
    complete = [n for n in names if (copied / "variations" / n / "friends").exists()]
    assert len(complete) < len(names)
    run, whole = Run.open(copied), Run.open(varied)
    run.vary()
    for name in names:
        resumed, uninterrupted = run.variations[name], whole.variations[name]
        np.testing.assert_array_equal(resumed.scores, uninterrupted.scores)
        for method, attribution in uninterrupted.maps().items():
            np.testing.assert_array_equal(resumed.maps()[method].values, attribution.values)


def test_a_weight_variation_is_a_reweighting(varied: Path) -> None:
    run = Run.open(varied)
    btag = run.variations["btag"]
    assert btag.events.fingerprint(values=True) == run.events.fingerprint(values=True)
    is_b = run.events.particles[:, run.events.schema.features.index("btag")] > 0.5
    jets = run.events.is_type("jet")
    number = np.add.reduceat((is_b & jets).astype(float), run.events.offsets[:-1])
    weight = run.events.weight * (1 + 0.2 * (number - 1))
    np.testing.assert_allclose(btag.events.weight, weight)
    rows = run.events.split == 2
    by_hand = auc(run.scores[rows, 0], run.events.label[rows] == 1, weight[rows])
    assert btag.metrics()["test"]["auc"]["value"] == pytest.approx(float(by_hand.value), abs=1e-12)
    nominal, map_of = run.maps()["edge_ig"], btag.maps()["edge_ig"]
    np.testing.assert_array_equal(map_of.values, nominal.values)
    assert float(map_of.population().value) != float(nominal.population().value)


class Sum(torch.nn.Module):
    """Sum of a weight times each feature of all particles."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.as_tensor(weight, dtype=torch.float32))

    def forward(self, batch: Any) -> torch.Tensor:
        return global_add_pool(batch.x @ self.weight, batch.batch, batch.num_graphs)[:, None]


def test_a_linear_network_moves_as_the_analytic_shift(tmp_path: Path) -> None:
    """Attribution w (x − x') with the nominal baseline x': jets change by w × 0.1 x, all others not."""
    data = dataset(selection={}, particles=DatasetCard.find("charged_higgs").model_dump()["particles"])
    schema = hepxai.read(data).events.schema
    weight = np.array([0.01 if f == "energy" else 0.0 for f in schema.features])

    def model(schema: Schema) -> Any:
        return hepxai.PygModel(Sum(weight), outputs=("signal",), schema=schema)

    run = Run.start(tmp_path / "run", data, model=model(schema))
    run.train()
    run.explain(["node_ig"], maximum=200, settings={"node_ig": {"steps": 2}})
    run.vary(["scale_up", "scale_down"])
    whole = run.explained()["node_ig"].apply(reduced)
    for name in ("signal", "background"):
        of = of_class(whole, name)
        jets = of.events.is_type("jet")
        energy = of.events.particles[:, schema.features.index("energy")]
        moved = of.apply(lambda a: a.select(particle="jet")).population()
        mean = np.average(energy[jets], weights=np.repeat(of.events.weight, of.events.counts)[jets])
        assert float(moved.spread["syst"]) == pytest.approx(0.1 * 0.01 * mean, rel=1e-4)
        still = of.apply(lambda a: a.select(particle="muon")).population()
        assert float(still.spread["syst"]) < 1e-6
    scores = [run.variations[f"scale_{side}"].scores for side in ("up", "down")]
    total = np.add.reduceat(
        np.where(run.events.is_type("jet"), run.events.particles[:, 0], 0), run.events.offsets[:-1]
    )
    assert schema.features[0] == "energy"
    np.testing.assert_allclose((scores[0] - scores[1])[:, 0], 0.2 * 0.01 * total, rtol=1e-3)


# --- events ----------------------------------------------------------------------------------


def test_events_that_leave_and_come(varied: Path) -> None:
    run = Run.open(varied)
    up, down = (run.variations[f"scale_{side}"] for side in ("up", "down"))
    assert len(down.events) < len(run.events) < len(up.events)
    pairs = pair_events(run.events, up.events)
    assert not len(pairs.only_first)
    assert len(pairs.only_second)
    explained, of_up = (r.maps()["edge_ig"].events for r in (run, up))
    both = pair_events(explained, of_up)
    assert not len(both.only_first)
    share = 120 / np.count_nonzero(run.events.split == 2)
    came = np.count_nonzero(up.events.split[pairs.only_second] == 2)
    assert len(both.only_second) == round(share * came)
    assert same_population(run.events, run.maps()["edge_ig"], up.events, up.maps()["edge_ig"])


def test_numbers_carry_the_larger_shift_of_each_source(varied: Path) -> None:
    run = Run.open(varied)
    value = {n: r.metrics()["test"]["auc"]["value"] for n, r in run.variations.items()}
    nominal = run.metrics()["test"]["auc"]
    scale = max(abs(value[f"scale_{s}"] - nominal["value"]) for s in ("up", "down"))
    assert nominal["syst"] == pytest.approx(np.hypot(scale, value["btag"] - nominal["value"]))
    assert set(run.explained()["edge_ig"].varied) == {"nothing", "scale", "btag"}
    reduced_map = run.explained()["edge_ig"].apply(reduced)
    assert "(syst)" in str(reduced_map.population())


# --- several trainings -----------------------------------------------------------------------


def test_several_trainings_under_variations(tmp_path: Path) -> None:
    run = start(tmp_path / "run", "training.trainings=2")
    run.train(progress=False, workers=1)
    run.explain(["attention"], maximum=60, workers=1)
    run.vary(["scale_up", "scale_down"], workers=1)
    up = Run.open(run.folder).variations["scale_up"]
    members = [m.variations["scale_up"] for m in run.members.values()]  # type: ignore[attr-defined]
    np.testing.assert_allclose(up.scores, np.mean([m.scores for m in members], axis=0))
    stacked = up.maps()["attention"]
    assert stacked.axes[-1] == "training"
    whole = Run.open(run.folder).explained()["attention"]
    spread = whole.apply(lambda a: reduced(a, keep="training")).population().spread
    assert set(spread) == {"training", "syst"}
    entry = Run.open(run.folder).metrics()["test"]["auc"]
    assert min(entry["training"], entry["syst"]) > 0


def test_all_folds_under_variations(tmp_path: Path) -> None:
    split = dataset().split.model_copy(update={"folds": 2, "fold": "all"})
    run = start(tmp_path / "run", data=dataset(split=split.model_dump()))
    run.train(progress=False, workers=1)
    run.explain(["attention"], maximum=60, workers=1)
    run.vary(["nothing", "scale_up"], workers=1)
    same = Run.open(run.folder).variations["nothing"]
    np.testing.assert_array_equal(same.scores, run.scores)
    np.testing.assert_array_equal(same.maps()["attention"].values, run.maps()["attention"].values)


# --- resuming, and what goes wrong -----------------------------------------------------------


def test_what_is_done_is_not_done_again(copied: Path) -> None:
    files = {f: f.stat().st_mtime_ns for f in (copied / "variations").rglob("*.safetensors")}
    assert len(files) > 10
    Run.open(copied).vary()
    assert files == {f: f.stat().st_mtime_ns for f in (copied / "variations").rglob("*.safetensors")}


def test_maps_of_other_events_give_a_warning_and_no_error(copied: Path) -> None:
    run = Run.open(copied)
    run.explain(["edge_ig"], maximum=50)
    with pytest.warns(UserWarning, match="edge_ig has no systematic error: .*hepxai vary"):
        assert not run.explained()["edge_ig"].varied
    run.vary()
    assert Run.open(copied).explained()["edge_ig"].varied.keys() == VARIATIONS.keys()


def test_maps_with_other_settings_give_no_error_until_they_are_varied_again(copied: Path) -> None:
    run = Run.open(copied)
    run.populations.remove("edge_ig")
    run.explain(["edge_ig"], settings={"edge_ig": {"steps": 6}})
    with pytest.warns(UserWarning, match="with other settings"):
        assert not run.explained()["edge_ig"].varied
    run.vary()
    again = Run.open(copied)
    assert again.explained()["edge_ig"].varied.keys() == VARIATIONS.keys()
    assert again.variations["scale_up"].maps()["edge_ig"].settings["steps"] == 6


def test_variations_may_come_after_the_training(copied: Path) -> None:
    """A card with one more source, and another definition of a source that was done."""
    shutil.rmtree(copied / "variations" / "btag")
    before = Run.open(copied).scores
    weight = {"btag": {"weight": "1 + 0.1 * count(jet.btag > 0.5)"}}
    more = VARIATIONS | weight | {"nothing": {"weight": "1.5"}}
    run = start(copied, data=dataset(variations=more))
    np.testing.assert_array_equal(run.scores, before)
    assert run.sources().keys() == {"scale"}  # that with another definition does not count
    run.vary(["btag", "nothing"])
    whole = Run.open(copied)
    assert whole.sources().keys() == more.keys()
    assert whole.variations["nothing"].events.weight.sum() == pytest.approx(1.5 * whole.events.weight.sum())
    with pytest.raises(RunError, match=r"another dataset\.yaml"):
        start(copied, data=dataset(variations=more, selection={}))


def test_resolutions_may_come_after_the_training(copied: Path) -> None:
    """A run that lacks them opens and takes those of a newer card, but no others."""
    card = dataset()
    plain = {n: p.model_copy(update={"resolutions": None}) for n, p in card.particles.items()}
    rewrite(copied, card.model_copy(update={"particles": plain}))
    with pytest.raises(ValueError, match="no resolutions for muon"):
        Run.open(copied).explain(["counterfactual"], maximum=120)
    run = start(copied)
    run.explain(["counterfactual"], maximum=120, settings={"counterfactual": {"steps": 1}})
    run.vary()
    whole = Run.open(copied)
    assert whole.maps().keys() == {"edge_ig", "counterfactual"}
    assert all(a.varied.keys() == VARIATIONS.keys() for a in whole.explained().values())
    muon = card.particles["muon"].model_copy(update={"resolutions": card.particles["jet"].resolutions})
    with pytest.raises(RunError, match=r"another dataset\.yaml"):
        start(copied, data=card.model_copy(update={"particles": {**card.particles, "muon": muon}}))


def rewrite(folder: Path, card: DatasetCard) -> None:
    """Put another data-set card into a run folder, and into those of its variations."""
    for name in (None, *card.variation_names):
        place = folder if name is None else folder / "variations" / name
        (place / "dataset.yaml").write_text(dump_card(card.varied(name)), encoding="utf-8")
        Manifest(place).record("dataset.yaml")


def test_a_source_with_one_of_two_sides_does_not_count(copied: Path) -> None:
    shutil.rmtree(copied / "variations" / "scale_up")
    run = Run.open(copied)
    assert run.sources().keys() == {"nothing", "btag"}
    section = systematics_section(RunView(run))
    assert "Not included, though on the card: scale_up" in " ".join(section.text)
    assert len(section.numbers["sources"]) == 2
    run.vary(["scale_up"])
    assert Run.open(copied).sources().keys() == VARIATIONS.keys()


def test_damaged_variations_are_refused(copied: Path) -> None:
    with (copied / "variations" / "btag" / "scores.safetensors").open("ab") as file:
        file.write(b"0")
    with pytest.raises(RunError, match=r"scores\.safetensors"):
        Run.open(copied).explained()


@pytest.mark.parametrize(
    ("names", "text"),
    [(["jes_up"], "no variation 'jes_up'; there are btag, nothing"), (["scale"], "'scale'")],
)
def test_unknown_variations(varied: Path, names: list[str], text: str) -> None:
    with pytest.raises(RunError, match=text):
        Run.open(varied).vary(names)


def test_cards_without_variations(tmp_path: Path) -> None:
    run = start(tmp_path / "run", data=dataset(variations={}))
    with pytest.raises(RunError, match="the data-set card has no variations; start a run with a card"):
        run.vary()
    shifted = start(tmp_path / "shifted", data=dataset().varied("scale_up"))
    with pytest.raises(RunError, match="is itself under scale_up"):
        shifted.vary()


# --- products --------------------------------------------------------------------------------


def test_friends_of_varied_events(copied: Path) -> None:
    Run.open(copied).friends(variations=True)
    for name in VARIATIONS.keys() - {"scale"}:
        assert len(list((copied / "variations" / name / "friends").glob("*.root"))) == 2
    folders = (copied / "friends", copied / "variations" / "scale_up" / "friends")
    files = [next(folder.glob("*_signal.root")) for folder in folders]
    nominal, up = (uproot.open(f)["hepxai"].arrays(library="np") for f in files)
    assert len(nominal["hepxai_score"]) == len(up["hepxai_score"])
    came = up["hepxai_selected"] & ~nominal["hepxai_selected"]
    assert came.any()
    assert (nominal["hepxai_score"][came] == -999).all()
    assert (up["hepxai_score"][came] != -999).all()


def test_the_report_has_the_sources_and_the_templates(copied: Path) -> None:
    page = write_report(Run.open(copied))
    numbers = json.loads((copied / "numbers.json").read_text())["sections"]
    systematics = numbers["systematics"]
    rows = {(m["of"], m["what"]): m for m in systematics["numbers"]}
    merit = rows["model", "AUC"]
    run = Run.open(copied)
    changes = [c["value"] for c in merit["changes"]["scale"]]
    nominal = run.metrics()["test"]["auc"]["value"]
    expected = [
        run.variations[f"scale_{s}"].metrics()["test"]["auc"]["value"] - nominal for s in ("up", "down")
    ]
    np.testing.assert_allclose(changes, expected)
    assert merit["syst"] == pytest.approx(run.metrics()["test"]["auc"]["syst"])
    assert all(c["error"] == 0 for m in rows.values() for c in m["changes"]["nothing"])
    text = page.read_text()
    assert "Leading sources" in text
    assert "± systematic" in text
    with uproot.open(copied / "templates.root") as file:
        h, up = (file[f"score/signal/{n}"].values() for n in ("nominal", "nothing"))
        np.testing.assert_array_equal(h, up)
        test = run.events.where("test")
        assert h.sum() == pytest.approx(test.weight[test.label == 1].sum())
    channels = json.loads((copied / "workspace.json").read_text())["channels"]
    assert [c["name"] for c in channels] == ["score"]
    assert {s["name"] for c in channels for s in c["samples"]} == {"signal", "background"}


def test_the_command_line(copied: Path) -> None:
    shutil.rmtree(copied / "variations")
    result = typed("vary", copied, "-v", "btag", "--friends")
    assert result.exit_code == 0, result.output
    assert [*(copied / "variations" / "btag" / "friends").glob("*_signal.root")]
    assert Run.open(copied).sources().keys() == {"btag"}
