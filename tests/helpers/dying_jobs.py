"""Jobs whose process dies; a module of its own, because a new process imports it."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def die_once(folder: str, name: str) -> None:
    """Kill this process the first time."""
    mark = Path(folder) / name
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die(folder: str, name: str) -> None:
    """Kill this process if the job is called "b"."""
    if name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
