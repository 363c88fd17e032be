"""Figures, and the folder of the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import typed
from planted_concepts import bar_events, bar_model

from hepxai.concepts.figures import score_on_image, tcav_bars, typical_events
from hepxai.concepts.ice import ice
from hepxai.concepts.study import ConceptStudy
from hepxai.concepts.tcav import tcav
from hepxai.explainers.base import CheckWarning
from hepxai.plots.style import canvas

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
