"""Toy events that every test can share, and one thread of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from toy_events import make_events

from hepxai.events import Events

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
    monkeypatch.setattr("hepxai.report.write._save", lambda *_: "data:,")


@pytest.fixture
def toy() -> Callable[..., Events]:
    """Factory of toy events."""
    return make_events
