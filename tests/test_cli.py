"""The command line, as a user types it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from command_line import typed

import hepxai.simulate
import hepxai.training
from hepxai import __version__
from hepxai.cards import find_card
from hepxai.explainers import EXPLAINERS
from hepxai.report.section import number

TRAIN = ("train", "charged_higgs", "transformer_edgeconv", "-o", "OUT")
SMALL = ["-s", "model.training.epochs=1", "-s", "model.convolutions.0.width=8"]


def test_version() -> None:
    assert __version__ in typed("--version").stdout


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "run",
        "weaver",
        "train",
        "explain",
        "report",
        "flow",
        "inspect",
        "check",
        "simulate",
        "cards",
        "app",
    ],
)
def test_help(command: str) -> None:
    result = typed(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize("command", ["run", "weaver", "explain"])
def test_help_names_the_methods(command: str) -> None:
    shown = " ".join(typed(command, "--help").stdout.replace("│", " ").split())
    assert f"One of {', '.join(EXPLAINERS)}; may be repeated" in shown


def test_quick_commands_do_without_torch() -> None:
    """Importing it takes seconds."""
    commands = [
        ["--help"],
        ["--version"],
        ["cards"],
        ["cards", "transformer_edgeconv"],
        ["inspect", str(find_card("datasets", "charged_higgs").with_name("signal.root"))],
        ["check", "charged_higgs", "--entries", "50", "-s", "dataset.pair_features=[mass]"],
    ]
    script = f"""
import sys
from hepxai.cli import app
for words in {commands}:
    try:
        app(words)
    except SystemExit as end:
        assert not end.code, words
    slow = {{"torch", "torch_geometric", "matplotlib"}} & sys.modules.keys()
    assert not slow, (words, slow)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_is_a_program() -> None:
    words = [sys.executable, "-m", "hepxai", "cards", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "Usage: hepxai cards" in done.stdout


def test_cards_are_listed_and_printed() -> None:
    assert {"charged_higgs", "transformer_edgeconv"} <= set(typed("cards").stdout.split())
    assert "edge_dropout" in typed("cards", "transformer_edgeconv").stdout
    assert (
        typed("cards", "charged_higgs").stdout.rstrip()
        == find_card("datasets", "charged_higgs").read_text().rstrip()
    )


@pytest.mark.slow
def test_run_then_explain_then_report(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = ("run", "charged_higgs", "transformer_edgeconv", "-o", out, *SMALL, "-n", "60", "-m", "attention")
    result = typed(*run)
    assert result.exit_code == 0, result.output
    assert (out / "report.html").stat().st_size > 100_000
    assert re.search(r"figures .*(\d+)/\1 ", result.stderr), result.stderr
    again = typed(*run)
    assert again.exit_code == 0, again.output
    result = typed("explain", out, "-m", "edge_ig", "-w", "edge_ig.steps=4", "-n", "60")
    assert result.exit_code == 0, result.output
    assert "edge_ig: 60 events  median_residual" in result.stdout
    assert (out / "friends" / "friends.json").is_file()
    assert typed("report", out).exit_code == 0
    assert "edge_ig" in (out / "numbers.json").read_text()


def test_train_prints_a_table_of_figures_with_errors(tmp_path: Path) -> None:
    words = (*TRAIN[:-1], tmp_path / "run", *SMALL)
    result = typed(*words, columns=30)
    assert result.exit_code == 0, result.output
    header, *rows = (
        re.split(r"\s*[│┃]\s*", line)[1:-1] for line in result.stdout.splitlines() if " " in line
    )
    assert header == ["figure of merit", "train", "valid", "test"]
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [row[0] for row in rows] == list(figures["test"])
    for name, *cells in rows:  # one line for each, no number broken
        assert cells == [number(figures[s][name]) for s in header[1:]]


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_stopped_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    words = (*TRAIN[:-1], out, *SMALL, "-s", "model.training.epochs=2")
    with monkeypatch.context() as stopped:
        save = hepxai.training.loop.save
        stopped.setattr(hepxai.training.loop, "save", lambda *a: (save(*a), _stop()))
        result = typed(*words)
    assert result.exit_code == 130
    assert (
        result.stderr.splitlines()[-1] == f"stopped; the same command resumes from what is finished in {out}"
    )
    result = typed(*words)
    assert result.exit_code == 0, result.output
    assert "training resumes at epoch 2 of 2" in result.stderr


@pytest.mark.slow
def test_ctrl_c(tmp_path: Path) -> None:
    """As the terminal sends it."""
    out = tmp_path / "run"
    words = [*TRAIN[:-1], str(out), "-s", "model.convolutions.0.width=8"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hepxai", *words],
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets its background jobs, these tests perhaps among them, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 120
    while not (out / "checkpoint.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == f"stopped; the same command resumes from what is finished in {out}"
    assert "Traceback" not in errors


def test_stopped_reports_and_looks_and_simulations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepxai.run.Run.open", _stop)
    result = typed("report", tmp_path)
    assert (result.exit_code, result.stderr) == (
        130,
        "stopped; the same command writes the report from the start\n",
    )
    monkeypatch.setattr("hepxai.datasets.inspect_file", _stop)
    result = typed("inspect", "x.root")
    assert (result.exit_code, result.stderr) == (130, "stopped\n")
    monkeypatch.setattr(hepxai.simulate, "simulate", _stop)
    result = typed("simulate", "charged_higgs", "-o", tmp_path)
    assert (result.exit_code, result.stderr) == (
        130,
        f"stopped; the same command resumes from what is finished in {tmp_path}\n",
    )


def test_a_draft_needs_its_folder_before_anything_is_shown(tmp_path: Path) -> None:
    root = find_card("datasets", "charged_higgs").with_name("signal.root")
    result = typed("inspect", root, "--draft", tmp_path / "gone" / "card.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{tmp_path}/gone is no folder; make it first, or choose another place" in result.stderr


def test_a_folder_of_the_name_of_a_card_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_card("datasets", "charged_higgs").parent
    shutil.copytree(source, tmp_path / "charged_higgs")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = typed("check", "charged_higgs", "--entries", "50")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("warning: charged_higgs/card.yaml in the working folder is used, not")


def test_check_and_inspect_and_draft(tmp_path: Path) -> None:
    assert typed("check", "charged_higgs", "--entries", "100").exit_code == 0
    root = find_card("datasets", "charged_higgs").with_name("signal.root")
    draft = tmp_path / "card.yaml"
    result = typed("inspect", root, "--draft", draft)
    assert result.exit_code == 0, result.output
    assert "Muon_pt" in result.stdout
    assert "branches: Muon_{}" in draft.read_text()
    assert typed("inspect", root, "--draft", draft).exit_code == 2
    some = typed("inspect", root, "--match", "Muon_*", "--draft", tmp_path / "other.yaml")
    assert "Muon_pt" in some.stdout
    assert "Jet_pt" not in some.stdout
    assert (tmp_path / "other.yaml").read_text() == draft.read_text()  # a draft is of all branches
    lines = [line for line in some.stdout.splitlines() if line.startswith("Muon_")]
    assert all(len(line) < 120 and "float[]" in line for line in lines if "_pt" in line or "_eta" in line)


BAD = {
    "unknown card": (
        ("train", "charged_higs", "transformer_edgeconv", "-o", "OUT"),
        "did you mean 'charged_higgs'",
    ),
    "unknown key": (
        (*TRAIN, "-s", "model.edge_dropot=0.1"),
        "did you mean 'edge_dropout'",
    ),
    "no such group": (
        (*TRAIN, "-s", "edge_dropout=0.1"),
        "expected dataset.KEY=VALUE or model.KEY=VALUE",
    ),
    "a key without its card": (
        (*TRAIN, "-s", "training.epochs=3"),
        "(did you mean model.training.epochs=3?)",
    ),
    "a card misspelt": (
        (*TRAIN, "-s", "modle.training.epochs=3"),
        "(did you mean 'model'?)",
    ),
    "a key of a part": (
        (*TRAIN, "-s", "model.epochs=3"),
        "epochs: unknown key (did you mean training.epochs?)",
    ),
    "a particle misspelt": (
        (*TRAIN, "-s", "dataset.particles.muons.max=2"),
        "'particles.muons.max=2': particles.muons.branches: missing; add this key (did you mean 'muon'?)",
    ),
    "no number": (
        (*TRAIN, "-s", "model.training.epochs=three"),
        "training.epochs: found 'three'; should be a valid integer",
    ),
    "wrong value": (
        (*TRAIN, "-s", "model.edge_dropout=2"),
        "edge_dropout",
    ),
    "no run": (("explain", "OUT"), "is no run folder"),
    "no file": (("inspect", "OUT/nothing.root"), "does not exist"),
    "no settings": (("explain", "OUT", "-w", "steps=3"), "is no run folder"),
    "method misspelt": (
        ("run", "charged_higgs", "transformer_edgeconv", "-o", "OUT", "-m", "edgeig"),
        "no method 'edgeig' (did you mean 'edge_ig'?); these fit the model: attention, counterfactual, ",
    ),
    "setting misspelt": (
        ("run", "charged_higgs", "transformer_edgeconv", "-o", "OUT", "-w", "edge_ig.layr=x"),
        "edge_ig.layr='x'; no such setting (did you mean 'layer'?); it has layer, neighbours",
    ),
    "no generator": (("simulate", "nothing_here"), "no card 'nothing_here'"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_one_line_and_change_nothing(case: str, tmp_path: Path) -> None:
    words, message = BAD[case]
    out = tmp_path / "out"
    result = typed(*(w.replace("OUT", str(out)) for w in words))
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert message in result.output.replace("\n", " ")
    assert not out.exists()
