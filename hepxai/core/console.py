"""Progress bars and log lines of long passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Advance(Protocol):
    """Advances a progress bar by some steps, with a status beside it."""

    def __call__(self, steps: int, status: str = "") -> None:
        """Advance the bar."""


@contextmanager
def track(name: str, total: int, *, show: bool, done: int = 0) -> Iterator[Advance]:
    """Yield a function ``advance(steps, status)``; draws a bar if ``show``."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    with Progress(*columns, console=_console(), disable=not show) as bar:
        task = bar.add_task(name, total=total, completed=done, status="")

        def advance(steps: int, status: str = "") -> None:
            bar.update(task, advance=steps, status=status)

        yield advance


def say(text: str) -> None:
    """Log a line through the progress display."""
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    return Console(stderr=True)
