"""The analysis scripts run as a user runs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ANALYSES = sorted((ROOT / "analyses").glob("*.py"))
STUDIES = sorted((ROOT / "docs").glob("*_study.md"))


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
