"""Runs of a model that the user's own Python makes: executed where it is named, and nowhere else."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot
from typer.testing import CliRunner

import hepxai.report
from hepxai.cli import app
from hepxai.datasets import DatasetCard, Reading, read
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models import PygModel
from hepxai.report import write_report
from hepxai.report.inputs import training_section
from hepxai.report.summary import summary
from hepxai.report.view import RunView
from hepxai.run import Run
from hepxai.run import run as run_module
from hepxai.run import stored as stored_module
from hepxai.run.manifest import RunError

CARD = "charged_higgs"
FILE = '''
"""A graph network of mine."""
import torch
from pathlib import Path
from torch_geometric.nn import SAGEConv, global_mean_pool
import hepxai
import my_sizes

with Path(__file__).with_name("executed").open("a") as executed:
    executed.write("x")

class Net(torch.nn.Module):
    def __init__(self, inputs):
        super().__init__()
        torch.manual_seed(my_sizes.SEED)
        self.conv, self.last = SAGEConv(inputs, my_sizes.WIDTH), torch.nn.Linear(my_sizes.WIDTH, OUTPUTS)

    def forward(self, batch):
        h = torch.tanh(self.conv(batch.x / 100, batch.edge_index))
        return self.last(global_mean_pool(h, batch.batch, batch.num_graphs))


def make(schema):
    """A graph network
    of mine.

    With details."""
    return hepxai.PygModel(Net(len(schema.features)), outputs=NAMES, schema=schema)
'''


@pytest.fixture(scope="module")
def reading() -> Reading:
    """Every eightieth event."""
    whole = read(DatasetCard.find(CARD))
    return dataclasses.replace(whole, events=whole.events[::80])


@pytest.fixture(autouse=True)
def quick(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, reading)


def hasten(patch: pytest.MonkeyPatch, reading: Reading) -> None:
    """Few events, and no figures: `test_the_report` has them."""
    for module in (run_module, stored_module):
        patch.setattr(module, "read", lambda *_, **__: reading)
    patch.setattr(hepxai.report, "write_report", lambda run, **_: run.folder)


def write(folder: Path, *, outputs: int = 1, names: str = '("signal",)', text: str = FILE) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "my_sizes.py").write_text("SEED, WIDTH = 5, 6\n", encoding="utf-8")
    path = folder / "my_model.py"
    path.write_text(text.replace("OUTPUTS", str(outputs)).replace("NAMES", names).lstrip(), encoding="utf-8")
    return path


def invoke(*words: str | Path) -> Any:
    return CliRunner(env={"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "500"}).invoke(
        app, [str(w) for w in words]
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, reading: Reading) -> Path:
    """A whole run, as the command makes it."""
    folder = tmp_path_factory.mktemp("own")
    path = write(folder)
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch, reading)
        result = invoke(
            "run",
            CARD,
            "--model",
            f"{path}:make",
            "--out",
            folder / "run",
            "-n",
            20,
            "-m",
            "edge_ig",
            "-m",
            "node_ig",
        )
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The same beside its file, which is at the same path: a copy of the folder alone."""
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))


def test_the_folder_is_that_of_a_run(finished: Path, reading: Reading) -> None:
    run = Run.open(finished / "run")
    assert set(run.explained()) == {"edge_ig", "node_ig"}
    assert run.metrics()["test"]["auc"]["error"] > 0
    tree = uproot.open(sorted((finished / "run" / "friends").glob("*.root"))[0])["hepxai"]
    rows = reading.events.file == 0
    found = tree["hepxai_score"].array(library="np")[reading.events.entry[rows]]
    np.testing.assert_allclose(found, run.scores[rows, 0], rtol=1e-6)
    card = run.cards()["model.yaml"]
    assert "kind: python" in card
    assert "description: A graph network of mine." in card
    assert "function: make" in card
    assert "sha256: " in card
    assert "module: Net, " in card


def test_what_the_report_says(finished: Path) -> None:
    view = RunView(Run.open(finished / "run"))
    assert view.title == f"{CARD}: what makes the model say signal?"
    assert "training events of this model are unknown" in view.warnings[0]
    assert "the model was not trained in this run" in training_section(view).text[0]
    assert summary(view)


@pytest.mark.slow
def test_the_report(finished: Path, tmp_path: Path) -> None:
    page = write_report(Run.open(finished / "run"), tmp_path).read_text(encoding="utf-8")
    assert "training events of this model are unknown" in page


def test_numbers_are_those_of_the_library(finished: Path) -> None:
    run = Run.open(finished / "run", model=f"{finished / 'my_model.py'}:make")
    np.testing.assert_allclose(run.scores, run.model.logits(run.events), rtol=1e-5)
    stored = run.explained()["edge_ig"]
    found = explain(run.model, stored.events, "edge_ig", steps=stored.settings["steps"])
    np.testing.assert_allclose(stored.values, found.values, rtol=1e-3, atol=1e-6)


def test_opening_executes_nothing(finished: Path, copied: Path) -> None:
    count = (finished / "executed").read_text()
    run = Run.open(copied)
    assert run.scores.shape == (len(run.events), 1)
    assert run.friends()
    result = invoke("explain", copied, "-m", "attention")
    assert result.exit_code == 2
    assert "own Python is executed only where you name it" in result.output
    with pytest.raises(
        RunError, match=r"hepxai explain .* --model .*my_model.py:make`, or Run.open\(.*model="
    ):
        _ = run.model
    assert (finished / "executed").read_text() == count


def test_the_way_to_start_afresh(copied: Path) -> None:
    (copied / "scores.safetensors").unlink()
    with pytest.raises(
        RunError, match=r"start afresh: `hepxai run \S+/dataset.yaml --model \S+my_model.py:make --out"
    ):
        Run.open(copied)


def test_explain_more(finished: Path, copied: Path) -> None:
    source = f"{finished / 'my_model.py'}:make"
    result = invoke(
        "explain", copied, "-m", "surrogate", "--model", source, "-n", 20, "-w", "surrogate.layer=graph_9"
    )
    assert result.exit_code == 2
    result = invoke("explain", copied, "-m", "node_ig", "-n", 10, "--model", source, "--split", "train")
    assert result.exit_code == 0, result.output
    explained = Run.open(copied).explained()
    assert set(explained) == {"node_ig"}
    assert (explained["node_ig"].events.split == 0).all()


def test_the_same_command_resumes(finished: Path, copied: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copied.rglob("*.safetensors")}
    again = write(finished.parent / "elsewhere")  # the same content at another place
    for path in (finished / "my_model.py", again):
        result = invoke("run", CARD, "--model", f"{path}:make", "--out", copied, "-n", 20, "-m", "edge_ig")
        assert result.exit_code == 0, result.output
        assert "kept" in result.output
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_changed_file_is_refused(finished: Path, tmp_path: Path, reading: Reading) -> None:
    path, data = write(tmp_path / "mine"), DatasetCard.find(CARD)
    Run.start(tmp_path / "run", data, model=f"{path}:make").train()
    path.write_text(path.read_text() + "\n# a comment\n")
    for again in (
        lambda: Run.start(tmp_path / "run", data, model=f"{path}:make"),
        lambda: Run.open(tmp_path / "run", model=f"{path}:make"),
    ):
        with pytest.raises(
            RunError, match=r"my_model.py was changed since the run in .*; choose another folder"
        ):
            again()
    write(tmp_path / "mine")
    Run.open(tmp_path / "run", model=f"{path}:make")  # put back: the remedy
    Run.start(tmp_path / "again", data, model=f"{path}:make")  # the other remedy


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    text = FILE.replace("my_sizes.SEED", 'int(Path(__file__).with_name("seed").read_text())')
    path, data, seed = write(tmp_path / "mine", text=text), DatasetCard.find(CARD), tmp_path / "mine" / "seed"
    seed.write_text("5")
    Run.start(tmp_path / "run", data, model=f"{path}:make").train()
    seed.write_text("6")
    for again in (
        lambda: Run.start(tmp_path / "run", data, model=f"{path}:make").train(),
        lambda: Run.open(tmp_path / "run", model=f"{path}:make"),
    ):
        with pytest.raises(
            RunError, match=r"gives other scores than in this run .*weights, or files that it reads"
        ):
            again()


def test_a_changed_module_beside_the_file_is_refused(tmp_path: Path) -> None:
    """Also one that leaves the scores as they are."""
    path, data = write(tmp_path / "mine"), DatasetCard.find(CARD)
    Run.start(tmp_path / "run", data, model=f"{path}:make").train()
    assert "my_sizes.py: " in (tmp_path / "run" / "model.yaml").read_text()
    (tmp_path / "mine" / "my_sizes.py").write_text("SEED, WIDTH = 5, 6  # a comment\n", encoding="utf-8")
    for again in (
        lambda: Run.start(tmp_path / "run", data, model=f"{path}:make"),
        lambda: Run.open(tmp_path / "run", model=f"{path}:make"),
    ):
        with pytest.raises(RunError, match=r"my_sizes.py was changed since the run in .*; choose another"):
            again()


def test_a_package_run_has_its_own_model(tmp_path: Path, finished: Path) -> None:
    from hepxai.models.card import ModelCard

    run = Run.start(tmp_path / "run", DatasetCard.find(CARD), ModelCard.find("dense", ["training.epochs=1"]))
    with pytest.raises(RunError, match="holds its own model, of kind dense; leave --model out"):
        Run.open(run.folder, model=f"{finished / 'my_model.py'}:make")
    run.train(progress=False)
    with pytest.raises(RunError, match=r"holds a run with another model\.yaml"):
        Run.start(run.folder, DatasetCard.find(CARD), model=f"{finished / 'my_model.py'}:make")


def test_all_folds_of_a_trained_model_are_refused(tmp_path: Path, finished: Path) -> None:
    card, source = DatasetCard.find(CARD, ["split.folds=2", "split.fold=all"]), finished / "my_model.py"
    with pytest.raises(
        RunError, match=r"this model is trained already: leave split.fold: all \(--folds\) out"
    ):
        Run.start(tmp_path / "run", card, model=f"{source}:make")


# --- outputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ['("background", "signal")', '("signal", "background")'])
def test_two_logits_are_their_difference(tmp_path: Path, names: str) -> None:
    path = write(tmp_path / "mine", outputs=2, names=names)
    run = Run.start(tmp_path / "run", DatasetCard.find(CARD), model=f"{path}:make")
    run.train()
    logits = run.model.logits(run.events)
    sign = 1 if names.startswith('("b') else -1
    np.testing.assert_allclose(run.scores[:, 0], sign * (logits[:, 1] - logits[:, 0]), rtol=1e-6)
    explained = run.explain(["node_ig"], maximum=5)
    (found,) = explained.values()
    assert found.target == "signal-background"
    assert run.friends()


class Plain:
    """The smallest model."""

    view, outputs = "graph", ("signal",)

    def __init__(self, score: Callable[[Events], np.ndarray] = lambda e: e.counts[:, None] * 1.0 - 8) -> None:
        self.score = score

    def logits(self, events: Events) -> np.ndarray:
        return self.score(events)


def test_a_model_from_memory(tmp_path: Path, reading: Reading) -> None:
    data, model = DatasetCard.find(CARD), Plain()
    run = Run.start(tmp_path / "run", data, model=model)
    run.train()
    np.testing.assert_array_equal(run.scores[:, 0], reading.events.counts - 8)
    with pytest.raises(
        RunError, match=r"an in-memory Plain, which is not stored; pass it again: Run.open\(.*, model=…\)"
    ):
        _ = Run.open(run.folder).model
    assert Run.open(run.folder, model=model).model is model
    with pytest.raises(RunError, match="gives other scores than in this run"):
        Run.open(run.folder, model=Plain(lambda e: e.counts[:, None] * 2.0))


def test_one_of_the_two(tmp_path: Path) -> None:
    for words in ((), ("dense", "--model", "x.py:make")):
        result = invoke("run", CARD, *words, "--out", tmp_path / "run")
        assert result.exit_code == 2
        assert "give one of the two: a model card, or --model" in result.output
    with pytest.raises(RunError, match="one of the two"):
        Run.start(tmp_path / "run", DatasetCard.find(CARD))
    result = invoke(
        "run", CARD, "--model", "x.py:make", "--set", "model.training.epochs=3", "--out", tmp_path / "r"
    )
    assert "a model of --model has no card to override" in result.output


# --- mistakes --------------------------------------------------------------------------------------

LINES = {
    "import nonsense_that_is_not_there\n": r"my_model.py:1: import failed with ModuleNotFoundError: .*nonsense",  # noqa: E501
    "x = 1\ndef make(schema)\n": r"my_model.py:2: import failed with SyntaxError",
    "def other(schema):\n    pass\n": r"my_model.py has no function 'make'; it has other",
    "make = 3\n": r"my_model.py has no function 'make'; it has no function",
    "def make():\n    pass\n": r"make is called with one argument, the schema of the events .*def make\(schema\)",  # noqa: E501
    "def make(schema):\n    pass\n": "gave None instead of a model; does the function end without a return",
    "def make(schema):\n    return 1 / 0\n": r"my_model.py:2: make\(schema\) failed with ZeroDivisionError",
    "import torch\ndef make(schema):\n    return torch.nn.Linear(1, 1)\n": (
        r"gave no model: Linear is a bare torch module; wrap it .*PygModel\(net"
    ),
    "def make(schema):\n    return 3\n": r"gave no model: a model has view, outputs and logits\(events\)",
}


@pytest.mark.parametrize("text", LINES)
def test_a_file_that_makes_no_model(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "mine", text=text)
    with pytest.raises(RunError, match=LINES[text]):
        Run.start(tmp_path / "run", DatasetCard.find(CARD), model=f"{path}:make")
    assert not (tmp_path / "run").exists()
    write(tmp_path / "mine")
    Run.start(tmp_path / "run", DatasetCard.find(CARD), model=f"{path}:make")  # once mended


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("absent.py:make", "there is no file absent.py"),
        ("my_model.py", "expected FILE.py:FUNCTION"),
        ("my_model:make", "expected FILE.py:FUNCTION"),
        ("my_model.py:", "expected FILE.py:FUNCTION"),
    ],
)
def test_a_source_that_is_none(tmp_path: Path, source: str, match: str) -> None:
    result = invoke("run", CARD, "--model", source, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert match in result.output


NAN = np.array([[np.nan]])
MODELS = {
    "not the classes of the events; name them outputs=('signal',) for one logit": {"outputs": ("score",)},
    "view='padded'; a run explains": {"view": "padded"},
    "has shape (3, 1) for": {"score": lambda e: np.zeros((min(len(e), 3), 1))},
    "has shape (232, 2) for 232 events and outputs ('signal',)": {"score": lambda e: np.zeros((len(e), 2))},
    "has shape (232,) for": {"score": lambda e: np.zeros(len(e))},
    "1 of 232 scores are NaN or infinite, first that of entry": {
        "score": lambda e: np.where(np.arange(len(e))[:, None] == 7, np.nan, 1.0)
    },
    "two scores of one event differ": {"score": lambda e: np.random.default_rng().random((len(e), 1))},
}


@pytest.mark.parametrize("message", MODELS)
def test_models_that_do_not_fit(tmp_path: Path, reading: Reading, message: str) -> None:
    changed = dict(MODELS[message])
    model = Plain(**{"score": changed.pop("score")} if "score" in changed else {})
    for name, value in changed.items():
        setattr(model, name, value)
    assert message.count("232") == 0 or len(reading.events) == 232
    with pytest.raises((RunError, ValueError)) as caught:
        Run.start(tmp_path / "run", DatasetCard.find(CARD), model=model).train()
    assert message in str(caught.value)
    Run.start(tmp_path / "run", DatasetCard.find(CARD), model=Plain()).train()  # the folder is still free


def test_a_module_of_another_width(tmp_path: Path) -> None:
    path = write(tmp_path / "mine", text=FILE.replace("len(schema.features)", "4"))
    with pytest.raises(
        ValueError, match=r"module failed on events with 10 features \(energy, .*mat1 and mat2"
    ):
        Run.start(tmp_path / "run", DatasetCard.find(CARD), model=f"{path}:make").train()


def test_a_model_with_another_schema(tmp_path: Path, toy: Callable[..., Events]) -> None:
    module = torch.nn.Linear(1, 1)
    model = PygModel(module, ("signal",), schema=toy(2).schema)
    with pytest.raises(
        ValueError, match=r"the model was trained on features .*'pt', .*these events have \('energy'"
    ):
        Run.start(tmp_path / "run", DatasetCard.find(CARD), model=model).train()


def test_a_method_that_the_model_cannot_do(tmp_path: Path) -> None:
    path = write(tmp_path / "mine")
    result = invoke("run", CARD, "--model", f"{path}:make", "--out", tmp_path / "run", "-m", "tree_shap")
    assert result.exit_code == 2
    assert "these methods work on it: attention, counterfactual, edge_ig, node_ig" in result.output
    assert not (tmp_path / "run" / "scores.safetensors").exists()
