"""The command line, as a user types it."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from hepxai.cli import app


def typed(*words: str | Path, columns: int = 200) -> Result:
    """Result of ``hepxai WORDS`` in a plain terminal."""
    runner = CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"})
    return runner.invoke(app, [str(w) for w in words])
