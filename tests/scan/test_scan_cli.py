"""`hepxai scan`, as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import typed
from scan_helpers import SMALL

QUICK = [word for entry in (*SMALL, "training.epochs=1") for word in ("-s", f"model.{entry}")]


def test_help() -> None:
    result = typed("scan", "--help")
    assert result.exit_code == 0
    assert "--over" in result.stdout


@pytest.mark.slow
def test_scan_then_again_then_report(sliced: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    words = ("scan", sliced, "transformer_edgeconv", "-o", out, "--over", "edge_dropout=0.1,0.3", *QUICK)
    objectives = ("--objective", "valid_auc", "--objective", "pair_isolation:max")
    words = (*words, "--seeds", "2", *objectives, "-n", "50")
    result = typed(*words)
    assert result.exit_code == 0, result.output
    assert "isolation of the muon–muon pair" in result.stdout
    assert "Two seeds say too little of the scatter" in " ".join(result.stdout.split())
    assert "edge_dropout=0.3,seed=2" in result.stderr
    before = (out / "table.csv").read_bytes()
    (out / "scan.html").unlink()
    again = typed(*words)
    assert again.exit_code == 0, again.output
    assert "seed=2  " not in again.stderr  # nothing is done twice
    (out / "scan.html").unlink()
    assert typed("report", out).exit_code == 0
    assert (out / "scan.html").is_file()
    assert (out / "table.csv").read_bytes() == before


BAD = {
    "unknown entry": (["--over", "edge_dropot=0.1"], "did you mean 'edge_dropout'"),
    "refused value": (["--over", "edge_dropout=0.1,2"], "edge_dropout: found 2"),
    "test objective": (["--over", "edge_dropout=0.1", "--objective", "test_auc"], "cannot be an objective"),
    "unknown objective": (["--over", "edge_dropout=0.1", "--objective", "auc"], "no objective 'auc'"),
    "nothing": (["--over", "edge_dropout"], "expected KEY=VALUE"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_one_line_and_change_nothing(case: str, tmp_path: Path) -> None:
    words, message = BAD[case]
    out = tmp_path / "out"
    result = typed("scan", "charged_higgs", "transformer_edgeconv", "-o", out, *words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert message in result.output.replace("\n", " ")
    assert not out.exists()


def test_without_optuna_only_scans_are_missing() -> None:
    script = (
        "import sys; sys.modules['optuna'] = None\n"
        "import hepxai, hepxai.run\n"
        "from hepxai.cli import app\n"
        "app()\n"
    )
    words = ["scan", "charged_higgs", "transformer_edgeconv", "-o", "x", "--over", "edge_dropout=0"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'pip install "hepxai[scan]"' in done.stderr
    assert "Traceback" not in done.stderr
