"""Method of a foreign package: known to the command line, a run, its friend trees and the report."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import hepxai.explainers

ROOT = Path(__file__).parents[2]
METHOD = '''
"""Gradient of every column times its spread in the population."""

from dataclasses import dataclass

import torch

from hepxai.explainers import Explainer, Part, Prepared, register
from hepxai.models.protocols import DifferentiableTable


@dataclass(frozen=True, kw_only=True)
class PreparedSpread(Prepared):
    spread: torch.Tensor


@register("column_spread")
class ColumnSpread(Explainer):
    title = "column spread"
    axes = ("event", "feature")
    reads = "table"
    needs = DifferentiableTable

    def prepare(self, model, events, target):
        spread = torch.as_tensor(events.table()[0].std(axis=0))
        return PreparedSpread(explainer=self, model=model, target=target, spread=spread)

    def attribute_batch(self, prepared, batch):
        x = batch.x.requires_grad_(True)
        score = prepared.output(prepared.model.forward_table(x))
        return Part(values=torch.autograd.grad(score.sum(), x)[0] * prepared.spread)
'''
COMMANDS = """
import hepxai.report.write
from typer.testing import CliRunner
from hepxai.cli import app

hepxai.report.write._save = lambda *_: hepxai.report.write.Printed("data:,", ())  # drawing takes long

small = ["--set", "model.training.epochs=1", "--set", "model.widths=[4]", "--events", "60"]
run = ["run", "charged_higgs", "dense", "-o", "out", "-m", "column_spread", *small]
for words in (["explain", "--help"], run):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    print(result.output)
    assert result.exit_code == 0, result.exception
"""


def test_a_foreign_package_adds_a_method(tmp_path: Path) -> None:
    package, info = tmp_path / "spreads", tmp_path / "spreads-1.0.dist-info"
    for folder in (package, info):
        folder.mkdir()
    (package / "__init__.py").write_text(METHOD, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spreads\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[hepxai.explainers]\nspreads = spreads\n", encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "column_spread" in done.stdout.partition("friend trees")[0]
    run = tmp_path / "out"
    assert [f.name for f in run.rglob("column_spread.safetensors")]
    friends = list((run / "friends").glob("*.root"))
    assert friends
    import uproot

    with uproot.open(friends[0]) as file:
        assert any(name.startswith("hepxai_column_spread") for name in file["hepxai"].keys())  # noqa: SIM118
    assert "column spread" in (run / "report.html").read_text(encoding="utf-8").lower()


def test_a_broken_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = metadata.EntryPoint("lost", "a_package_that_is_gone", hepxai.explainers.ENTRY_POINTS)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: [broken])
    with pytest.warns(UserWarning, match=r"a_package_that_is_gone cannot be imported .* mend or remove"):
        importlib.reload(hepxai.explainers)
    assert "edge_ig" in hepxai.explainers.EXPLAINERS
