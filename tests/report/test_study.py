"""Shared parts of study scripts: options, stored results, the page and its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate
from hepxai.core.files import read_json, write_json
from hepxai.events import Events
from hepxai.metrics.columns import Ranking
from hepxai.report.study import StudyPage, stored, study_options


@pytest.fixture
def page(tmp_path: Path) -> StudyPage:
    return StudyPage(tmp_path, "study")


def number(value: float, error: float = 0.1) -> Estimate:
    return Estimate(np.asarray(value), np.asarray(error), 9.0)


def test_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    options = study_options(
        "/x/some_study.py",
        "Title.\n\nText.",
        dataset="charged_higgs",
        quick="few",
        overrides=["split.train=8"],
        options={"--model": {"default": "dense"}},
        arguments=["--quick", "--folder", str(tmp_path)],
    )
    assert (options.out, options.quick, options.workers) == (Path("some-study"), True, 1)
    assert (options.dataset.folder, options.dataset.split.train) == (str(tmp_path), 8)
    assert options.model == "dense"
    assert threads == [1]


def test_results_are_made_once(tmp_path: Path) -> None:
    """Other settings make another result; the state of an interrupted pass has its own file."""
    calls: list[Path] = []

    def result(setting: int) -> int:
        def make(unfinished: Path) -> int:
            calls.append(unfinished)
            return 10 * setting

        def save(value: int, path: Path) -> None:
            write_json(path, value)

        return stored(tmp_path / "sub" / "x.json", {"n": setting}, make=make, load=read_json, save=save)

    assert [result(1), result(1), result(2)] == [10, 10, 20]
    assert len(calls) == len(set(calls)) == 2
    assert {p.suffix for p in calls} == {".unfinished"}


def test_numbers_by_key(page: StudyPage) -> None:
    assert page.cells({"a": number(1.0), "b": number(2.0, 0.5)}) == ["1.00 ± 0.10", "2.00 ± 0.50"]
    assert page.cite("b") == "2.00 ± 0.50"
    with pytest.raises(ValueError, match="'a' already"):
        page.number("a", number(3.0))


def test_rankings_and_class_means(page: StudyPage, toy: Callable[..., Events]) -> None:
    events = toy(30)
    attribution = Attribution(np.arange(30.0), ("event",), events, "ig", "signal")
    assert len(page.class_cells("IG", attribution)) == 3
    ranking = Ranking(("x", "y"), np.array([1.0, 2.0]), np.array([0.1, 0.1]), "importance")
    assert page.ranking("gini", ranking) == ["y 2.00 ± 0.10", "x 1.00 ± 0.10"]
    assert list(page.numbers) == ["IG, background", "IG, signal", "IG, difference", "gini, y", "gini, x"]


def test_tables_are_rectangular(page: StudyPage) -> None:
    with pytest.raises(ValueError, match="1 cells in a row of a table with 2 columns"):
        page.table(("a", "b"), [["1"]], "caption")


def test_the_page_with_its_opening(page: StudyPage, toy: Callable[..., Events]) -> None:
    (page.folder / "script.md.in").write_text(
        "# {title}: {cite[x, y]} of {facts[events]}\n", encoding="utf-8"
    )
    events = toy(30)
    page.sample_facts(events)
    page.heading("Section")
    page.table(("|x|", "y"), [["1", page.number("x, y", number(1.5))]], "A table.")
    with page.panels("two", "Two panels. Both empty.", 1, 2) as (left, right):
        left.plot([1, 2])
        right.plot([2, 1])
    with page.axes("one", "One [panel].") as ax:
        ax.plot([1, 2])
    text = page.write_with(str(page.folder / "script.py"), title="Title").read_text(encoding="utf-8")
    signal, background = ((events.label == code).sum() for code in (1, 0))
    assert text.startswith(
        f"# Title: 1.50 ± 0.10 of {signal} signal, {background} background\n\n## Section\n"
    )
    assert "| \\|x\\| | y |\n| --- | --- |\n| 1 | 1.50 ± 0.10 |\n\n*A table.*" in text
    assert "![Two panels](study_two.png)\n\n*Two panels. Both empty.*" in text
    assert "![One (panel)](study_one.png)" in text
    assert all((page.folder / f"study_{key}.png").stat().st_size for key in ("one", "two"))
    content = json.loads((page.folder / "study.json").read_text(encoding="utf-8"))
    assert content["numbers"]["x, y"] == {"value": 1.5, "error": 0.1, "n_eff": 9.0}
    assert content["facts"]["split"].endswith("test")
