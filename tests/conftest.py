"""Toy events that every test can share, and one thread of torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from toy_events import make_events

from hepxai.events import Events

torch.set_num_threads(1)


@pytest.fixture
def toy() -> Callable[..., Events]:
    """Factory of toy events."""
    return make_events
