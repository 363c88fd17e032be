"""A run of a network that weaver trained, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot
from command_line import typed
from jetclass import DATA, PARTICLE_TRANSFORMER, write_jets

import hepxai.report
from hepxai.models.wrappers.weaver import network_of
from hepxai.models.wrappers.weaver_config import WeaverConfig
from hepxai.run import Run

pytest.importorskip("weaver", reason="needs weaver-core")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("weaver")
    (folder / "data.yaml").write_text(DATA)
    (folder / "network.py").write_text(PARTICLE_TRANSFORMER)
    torch.manual_seed(3)
    network = network_of(folder / "network.py", WeaverConfig.load(folder / "data.yaml"))
    torch.save(network.state_dict(), folder / "weights.pt")
    write_jets(folder / "jets.root", 150)
    return tuple(str(folder / n) for n in ("data.yaml", "network.py", "weights.pt", "jets.root"))


@pytest.mark.filterwarnings("ignore:left out of the attention")
def test_run_folder(files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hepxai.report, "write_report", lambda run, **_: run.folder)  # takes a minute
    words = ["--with", "edge_ig.steps=4", "-m", "edge_ig", "-m", "attention", "-n", "3", "-o"]
    result = typed("weaver", *files, *words, str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    run = Run.open(tmp_path / "run")
    assert "edge_ig_Hbb" in run.explained()
    assert run.scores.shape == (len(run.events), 5)
    test = json.loads((run.folder / "metrics.json").read_text())["test"]
    assert {"accuracy", "auc_Hbb_vs_QCD"} <= test.keys()
    (friend,) = (run.folder / "friends").glob("*.root")
    with uproot.open(friend) as file:
        branches = next(t for t in file.values() if hasattr(t, "arrays")).arrays(library="np")
    name = next(n for n in branches if n.endswith("score_Hbb"))
    np.testing.assert_allclose(branches[name][run.events.entry], run.scores[:, 1], rtol=1e-5)


def test_errors_are_one_line(files: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(DATA.replace("np.tanh(part_d0val)", "__import__('os')"))
    result = typed("weaver", str(tmp_path / "data.yaml"), *files[1:], "-o", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert "data.yaml:10: new_variables.part_d0" in " ".join(result.output.split())
