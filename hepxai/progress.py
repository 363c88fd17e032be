"""Progress bars for everything that takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def track(name: str, total: int, *, show: bool, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Yield a function ``advance(steps, status)``; draws a bar if ``show``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task(name, total=total, completed=done, status="")

        def advance(steps: int, status: str = "") -> None:
            bar.update(task, advance=steps, status=status)

        yield advance
