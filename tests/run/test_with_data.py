"""Comparison of data with a run: the verb, its command, and the analysis of its power."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from command_line import typed
from ntuples import CARD, make_columns, write_ttree
from toy_events import make_events

from hepxai.cards import CardError, dump_card, load_card
from hepxai.core.files import sha256
from hepxai.datasets import DatasetCard
from hepxai.metrics.two_sample import SIGNIFICANT, EventTable
from hepxai.models.card import ModelCard
from hepxai.plots.label import STRIP
from hepxai.run import Run
from hepxai.run.manifest import RunError
from hepxai.run.with_data import compare_run_with_data
from hepxai.studies.data_comparison.figures import differing_axes

LABEL = "label: {experiment: CMS, text: Private work, com: 13}\n"


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
    text += LABEL
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


def test_figures_have_the_label_of_the_card(run_folder: Path) -> None:
    """The label adds a strip to the height."""
    run, text = Run.open(run_folder / "run"), (run_folder / "with_data.yaml").read_text()
    (run_folder / "no_label.yaml").write_text(text.replace(LABEL, ""))
    for name in ("with_data", "no_label"):  # that of the run stands in for a missing one
        card = DatasetCard.find(run_folder / f"{name}.yaml")
        comparison, path = compare_run_with_data(run, [], card=card, draws=9)
        for level in ("explanation", "inputs"):
            plain = differing_axes(comparison, level).get_size_inches()[1]
            height = plt.imread(path.with_name(f"{level}.png")).shape[0] / 110
            assert height == pytest.approx(plain + STRIP, abs=0.02)


def test_numbers_say_how_they_were_made(run_folder: Path) -> None:
    run, card = Run.open(run_folder / "run"), DatasetCard.find(run_folder / "with_data.yaml")
    _, path = compare_run_with_data(
        run, ["feature_ig"], card=card, settings={"feature_ig": {"steps": 9}}, draws=29, seed=4, maximum=150
    )
    stored = json.loads(path.read_text())
    assert (stored["draws"], stored["seed"], stored["maximum"]) == (29, 4, 150)
    assert stored["settings"]["feature_ig"]["steps"] == 9
    origin = stored["provenance"]
    (run_folder / "again.yaml").write_text(origin["data_card"])
    assert load_card(run_folder / "again.yaml", DatasetCard).data == card.data
    assert [Path(f["file"].partition(":")[0]).name for f in origin["data"]] == ["run1.root"]
    assert origin["data"][0]["sha256"] == sha256(run_folder / "run1.root")
    assert origin["run"]["inputs"] == run.reading.inputs()
    assert origin["run_files"]["model.safetensors"] == sha256(run.folder / "model.safetensors")


def test_cards_of_data_need_no_truth_but_the_same_image(run_folder: Path) -> None:
    run, text = Run.open(run_folder / "run"), (run_folder / "with_data.yaml").read_text()
    without = text.replace("    truth: {fromA: fromA}\n", "")
    without = without.replace(
        "iso: pfRelIso}", "iso: pfRelIso}\n    resolutions: {pt: 1, eta: 0.1, phi: 0.1}"
    )
    assert without.count("truth") == 0
    (run_folder / "no_truth.yaml").write_text(without)
    card = DatasetCard.find(run_folder / "no_truth.yaml")
    found, _ = compare_run_with_data(run, [], card=card, draws=9)
    assert len(found.inputs.data.weight) > 100
    image = (
        "image: {rows: {feature: eta, bins: [-3, 3]}, columns: {feature: phi, bins: [-4, 4]}, value: pt}\n"
    )
    (run_folder / "image.yaml").write_text(text + image)
    with pytest.raises(RunError, match="image: of the card 'small' is not that of the run"):
        compare_run_with_data(run, card=DatasetCard.find(run_folder / "image.yaml"))


def test_refusals_of_a_run(run_folder: Path) -> None:
    run = Run.open(run_folder / "run")
    with pytest.raises(CardError, match="no data samples; list them"):
        compare_run_with_data(run)
    card = DatasetCard.find(run_folder / "with_data.yaml")
    other = DatasetCard.find(run_folder / "with_data.yaml", ["selection.met=met.pt > 6"])
    with pytest.raises(
        RunError, match=r"selection: of the card 'small' is not that of the run .*; list the files in"
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


# --- analysis of size and power ------------------------------------------------------------------


@pytest.fixture(scope="module")
def analysis() -> Any:
    """The script that measures size and power."""
    path = Path(__file__).parents[2] / "analyses" / "data_and_simulation.py"
    spec = importlib.util.spec_from_file_location("data_and_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_analysis_can_reject_by_the_axes(analysis: Any) -> None:
    """Twice the smallest p-value is well below the limit; level and rule are those of the command."""
    assert 2 * 5 / (analysis.DRAWS + 1) <= SIGNIFICANT
    assert not any(name.startswith("LEVEL_") for name in vars(analysis))


def test_errors_of_overlapping_toys(analysis: Any) -> None:
    """Where the blocks differ, all toys of a block say little more than one of them."""
    block = np.arange(200) % analysis.BLOCKS
    by_block = analysis.rate(block == 0, "x")
    binomial = np.sqrt(0.25 * 0.75 / 200)
    assert by_block.value == 0.25
    assert by_block.error == pytest.approx(0.25)  # as four toys: √(.25 .75 / 3)
    assert by_block.high - by_block.low > 0.4
    equal = analysis.rate(np.arange(200) // analysis.BLOCKS % 4 == 0, "x")
    assert equal.error == pytest.approx(binomial, rel=0.1)
    assert analysis.rate(np.zeros(200, dtype=bool), "x").error > 0


def test_toys_of_different_blocks_share_no_event(analysis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    events = make_events(900, seed=5).replace(entry=np.arange(900), file=np.zeros(900, dtype=np.int64))
    drawn: list[set[float]] = []

    def record(data: EventTable, simulation: EventTable, **_: Any) -> None:
        assert not set(data.values[:, 0]) & set(simulation.values[:, 0])
        drawn.append({*data.values[:, 0], *simulation.values[:, 0]})

    monkeypatch.setattr(analysis, "compare_tables", record)
    number = EventTable(("entry",), np.arange(900.0)[:, None], np.ones(900))
    for seed in range(analysis.BLOCKS + 1):
        analysis.one_toy({"nominal": events}, {"inputs": {"nominal": number}}, "nominal", 0.0, seed)
    for seed in range(1, analysis.BLOCKS):
        assert not drawn[0] & drawn[seed]
    assert drawn[0] & drawn[analysis.BLOCKS]
