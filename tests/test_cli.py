"""The command line, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hepxai import __version__
from hepxai.cli import app

SMALL = ["-s", "model.training.epochs=1", "-s", "model.convolutions.0.width=8"]


def hepxai(*words: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(
        app, [str(w) for w in words]
    )


def test_version() -> None:
    assert __version__ in hepxai("--version").stdout


@pytest.mark.parametrize(
    "command", ["demo", "run", "train", "explain", "report", "inspect", "check", "simulate", "cards"]
)
def test_help(command: str) -> None:
    result = hepxai(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_cards_are_listed_and_printed() -> None:
    assert {"charged_higgs", "transformer_edgeconv"} <= set(hepxai("cards").stdout.split())
    assert "edge_dropout" in hepxai("cards", "transformer_edgeconv").stdout
    assert "mass_mumu" in hepxai("cards", "charged_higgs").stdout


def test_run_then_explain_then_report(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = ("run", "charged_higgs", "transformer_edgeconv", "-o", out, *SMALL, "-n", "60", "-m", "attention")
    result = hepxai(*run)
    assert result.exit_code == 0, result.output
    assert (out / "report.html").stat().st_size > 100_000
    again = hepxai(*run)
    assert again.exit_code == 0, again.output
    result = hepxai("explain", out, "-m", "edge_ig", "-w", "edge_ig.steps=4", "-n", "60")
    assert result.exit_code == 0, result.output
    assert "edge_ig: 60 events  median_residual" in result.stdout
    assert (out / "friends" / "friends.json").is_file()
    assert hepxai("report", out).exit_code == 0
    assert "edge_ig" in (out / "numbers.json").read_text()


def test_train_prints_figures_with_errors(tmp_path: Path) -> None:
    result = hepxai("train", "charged_higgs", "transformer_edgeconv", "-o", tmp_path / "run", *SMALL)
    assert result.exit_code == 0, result.output
    assert "test: accuracy 0." in result.stdout
    assert " ± " in result.stdout


def test_check_and_inspect_and_draft(tmp_path: Path) -> None:
    from hepxai.cards import find_card

    assert hepxai("check", "charged_higgs", "--entries", "100").exit_code == 0
    root = find_card("datasets", "charged_higgs").with_name("signal.root")
    draft = tmp_path / "card.yaml"
    result = hepxai("inspect", root, "--draft", draft)
    assert result.exit_code == 0, result.output
    assert "Muon_pt" in result.stdout
    assert "branches: Muon_{}" in draft.read_text()
    assert hepxai("inspect", root, "--draft", draft).exit_code == 2


BAD = {
    "unknown card": (
        ("train", "charged_higs", "transformer_edgeconv", "-o", "OUT"),
        "did you mean 'charged_higgs'",
    ),
    "unknown key": (
        ("train", "charged_higgs", "transformer_edgeconv", "-o", "OUT", "-s", "model.edge_dropot=0.1"),
        "did you mean 'edge_dropout'",
    ),
    "no such group": (
        ("train", "charged_higgs", "transformer_edgeconv", "-o", "OUT", "-s", "edge_dropout=0.1"),
        "expected dataset.KEY=VALUE or model.KEY=VALUE",
    ),
    "wrong value": (
        ("train", "charged_higgs", "transformer_edgeconv", "-o", "OUT", "-s", "model.edge_dropout=2"),
        "edge_dropout",
    ),
    "no run": (("explain", "OUT"), "is no run folder"),
    "no file": (("inspect", "OUT/nothing.root"), "does not exist"),
    "no settings": (("explain", "OUT", "-w", "steps=3"), "is no run folder"),
    "no generator": (("simulate", "nothing_here"), "no card 'nothing_here'"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_one_line_and_change_nothing(case: str, tmp_path: Path) -> None:
    words, message = BAD[case]
    out = tmp_path / "out"
    result = hepxai(*(w.replace("OUT", str(out)) for w in words))
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert message in result.output.replace("\n", " ")
    assert not out.exists()
