"""Pages without a browser and without processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import hepxai.app
from hepxai.app import figures, folders, jobs, widgets
from hepxai.app.jobs import Outcome, outcome_of

SCRIPT = Path(hepxai.app.__file__).parent / "script" / "page.py"


class InlineJob:
    """A calculation that is done at once in this process."""

    def __init__(self, key: str, function: Callable[..., Any], *arguments: Any) -> None:
        self.key, self.progress, self.what = key, 1.0, ""
        self._call = (function, arguments)

    def poll(self) -> Outcome:
        """Outcome."""
        return outcome_of(*self._call)

    def cancel(self) -> None:
        """There is nothing to stop."""


class Pages:
    """Pages of a folder; remembers the files of every figure."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.figures: list[tuple[str, Any, list[str]]] = []
        self.images: list[bytes] = []
        monkeypatch.setenv(folders.TARGET, str(folder))
        monkeypatch.setattr(jobs, "Job", InlineJob)
        monkeypatch.setattr(jobs, "prepare", lambda: None)
        monkeypatch.setattr(figures, "DPI", 30)
        monkeypatch.setattr(widgets, "_downloads", self._remember)

    def _remember(self, name: str, files: Any, rows: Any, lines: Any) -> None:
        assert files.png[:4] == b"\x89PNG"
        assert files.pdf[:4] == b"%PDF"
        self.figures.append((name, rows, list(lines)))
        self.images.append(files.png)

    def show(self, **link: str) -> AppTest:
        """Page of a link, without errors."""
        self.figures.clear()
        self.images.clear()
        page = AppTest.from_file(str(SCRIPT), default_timeout=120)
        for name, value in link.items():
            page.query_params[name.replace("__", ".")] = value
        page.run()
        assert not page.exception
        return page


def texts(elements: Any) -> list[str]:
    """Plain text of elements: without the escapes of Markdown."""
    return [e.value.replace("\\", "") for e in elements]
