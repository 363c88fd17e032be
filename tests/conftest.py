"""Toy events that every test can share, and one thread of torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from toy_events import make_events

from hepxai.events import Events
from hepxai.report.write import Printed

mpl.use("Agg")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    """Close the figures that a test leaves open."""
    yield
    plt.close("all")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures: of a report that is tested for its text, printing the figures takes longest."""
    monkeypatch.setattr("hepxai.report.write._save", lambda *_: Printed("data:,", ()))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Browser for pages with scripts; for a module, because its event loop is in the way of others."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def toy() -> Callable[..., Events]:
    """Factory of toy events."""
    return make_events
