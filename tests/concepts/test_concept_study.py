"""Figures, and the folder of the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import typed
from planted_concepts import bar_events, bar_model

from hepxai.concepts.figures import score_on_image, tcav_bars, typical_events
from hepxai.concepts.ice import ice
from hepxai.concepts.study import ConceptStudy
from hepxai.concepts.tcav import tcav
from hepxai.datasets import DatasetCard
from hepxai.explainers.base import CheckWarning
from hepxai.models.card import ModelCard
from hepxai.plots.style import canvas
from hepxai.run import Run

FILES = {"choice.json", "choice.png", "concepts.csv", "concepts.safetensors", "tcav.json"}
FILES |= {"tcav_derivative.png", "tcav_score.png", "typical_events.png"}


def test_folder_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepxai.concepts.choice.NUMBERS", (2, 3))
    events = bar_events(60)
    study = ConceptStudy(bar_model(events), events[:40], events[40:], tmp_path)
    with pytest.warns(CheckWarning, match="the largest that was tried"):
        lines = list(study.run())
    assert {p.name for p in tmp_path.iterdir()} == FILES
    assert "smallest number" in lines[0]
    table = (tmp_path / "concepts.csv").read_text().splitlines()
    assert len(table) == 1 + int(lines[0].split()[0]) * 3
    monkeypatch.setattr(ConceptStudy, "_draw", lambda *_: None)
    monkeypatch.setattr("hepxai.concepts.study.ice", None)  # nothing is computed again
    monkeypatch.setattr("hepxai.concepts.study.tcav", None)
    monkeypatch.setattr("hepxai.concepts.study.choose_concepts", None)
    assert list(study.run()) == lines


def test_figures_have_every_concept_and_class() -> None:
    events = bar_events(30)
    concepts = ice(bar_model(events), events, concepts=2)
    figure = typical_events(concepts, events, number=2)
    assert len(figure.axes) == 4
    assert figure.get_supxlabel() == events.image_layout().columns.feature
    scores = tcav(bar_model(events), concepts.directions, events)
    assert [ax.get_title(loc="left").split(":")[0] for ax in tcav_bars(scores).axes[:3]] == list(
        scores.classes
    )


def test_a_wide_image_is_cut_around_its_largest_score() -> None:
    score = np.zeros((9, 384))
    score[3, 200] = 1
    ax = score_on_image(np.zeros((9, 384)), score, ax=canvas()[1][0, 0], columns=48)
    assert ax.get_xlim() == (175.5, 223.5)


def test_the_command_refuses_what_is_no_run(tmp_path: Path) -> None:
    result = typed("concepts", tmp_path, "--concepts", "many")
    assert result.exit_code == 2
    assert "a number, or auto" in result.stderr


KILLED = """
import sys
import hepxai.core.resume
from hepxai.cli import app
hepxai.core.resume.SECONDS = 0.0  # the state is written after every number
app(["concepts", sys.argv[1], "--events", "60", "--out", sys.argv[2]])
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hepxai.explainers.base.CheckWarning")
def test_a_killed_command_gives_the_same_files(tmp_path: Path) -> None:
    """`kill -9` while numbers of concepts of jets are compared; the same command again resumes."""
    model = ModelCard.find("image_cnn", ["training.epochs=2"])
    Run.start(tmp_path / "run", DatasetCard.find("jet_images"), model).train()
    folders = [tmp_path / name for name in ("whole", "killed")]
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen([*arguments, str(folders[1])], env=environment)
    while not list(folders[1].glob("choice_*.unfinished")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folders[1] / "choice.json").exists()
    for folder in folders:
        subprocess.run([*arguments, str(folder)], env=environment, check=True)
    whole, killed = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert set(whole) == FILES
    assert killed == whole
