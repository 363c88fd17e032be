"""The analysis scripts run as a user runs them."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hepxai.metrics import efficiency

ROOT = Path(__file__).parents[1]
ANALYSES = sorted((ROOT / "analyses").glob("*.py"))
STUDIES = sorted((ROOT / "docs").glob("*_study.md"))


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "analyses")
    return importlib.import_module(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("script", ANALYSES, ids=lambda p: p.stem)
def test_quick_run_writes_numbers_and_figures(script: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, script, "--quick", "--out", tmp_path / "run"], check=True, cwd=tmp_path)
    name = script.stem
    numbers = json.loads((tmp_path / "run" / f"{name}.json").read_text())["numbers"]
    assert numbers
    assert all(n["error"] > 0 or n["value"] == 0 for n in numbers.values())  # a column may be unused
    assert list((tmp_path / "run").glob(f"{name}_*.png"))


@pytest.mark.parametrize("page", STUDIES, ids=lambda p: p.stem)
def test_study_pages_say_what_their_numbers_rest_on(page: Path) -> None:
    name, text = page.stem.removesuffix("_study"), page.read_text(encoding="utf-8")
    stored = json.loads((page.parent / "studies" / name / f"{name}.json").read_text(encoding="utf-8"))
    assert re.search(r"its\s(\d+)\snumbers", text)[1] == str(len(stored["numbers"]))
    for opening in (text, (ROOT / "analyses" / f"{name}.md.in").read_text(encoding="utf-8")):
        rest = opening.partition("**Errors and samples.**")[2].partition("\n\n")[0]
        assert all(word in rest for word in ("seed", "test", "alidation", "statistical")), rest


@pytest.mark.parametrize("script", ["training_influence"], indirect=True)
@pytest.mark.parametrize("images", [3, 20, 10_000])
def test_an_image_in_many_lists_counts_once(script: ModuleType, images: int) -> None:
    """100 lists of 3 of so many images: the error is the spread of toys."""
    rng = np.random.default_rng(1)
    toys = []
    for _ in range(400):
        event, image = rng.uniform(3, 20, 100), rng.uniform(3, 20, images)
        rows = np.argsort(rng.random((100, images)))[:, :3] if images < 100 else rng.choice(images, (100, 3))
        toys.append(script.mean_of_lists(np.abs(image[rows] - event[:, None]), rows))
    value, error = (np.array([float(getattr(t, name)) for t in toys]) for name in ("value", "error"))
    assert error.mean() == pytest.approx(value.std(), rel=0.15)


@pytest.mark.parametrize("script", ["trigger"], indirect=True)
def test_nothing_passes_is_an_upper_limit(script: ModuleType) -> None:
    found = efficiency(np.zeros(7565, dtype=bool), np.ones(7565))
    assert script.upper_limit(found) == pytest.approx(1 - 0.05 ** (1 / 7565), rel=1e-9)
    assert script.fakes(found) == "< 0.0004"
