"""The analysis scripts run as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ANALYSES = sorted((Path(__file__).parents[1] / "analyses").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", ANALYSES, ids=lambda p: p.stem)
def test_quick_run_writes_numbers_and_figures(script: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, script, "--quick", "--out", tmp_path / "run"], check=True, cwd=tmp_path)
    name = script.stem
    numbers = json.loads((tmp_path / "run" / f"{name}.json").read_text())["numbers"]
    assert numbers
    assert all(n["error"] > 0 or n["value"] == 0 for n in numbers.values())  # a column may be unused
    assert list((tmp_path / "run").glob(f"{name}_*.png"))
