"""Progress bar of a simulation: selected events, rate, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Report = Callable[[int], None]


class _Rate(ProgressColumn):
    """Selected events per second."""

    def render(self, task: Task) -> Text:
        # Chunks arrive in bursts, so the mean since the start says more than the latest steps.
        return Text(f"{task.completed / task.elapsed:.0f} events/s" if task.elapsed else "")


@contextmanager
def track(*, shown: bool = True) -> Iterator[Callable[[str, int], Report]]:
    """Give a function that opens a bar for a sample; the bar is told the number of selected events so far."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} selected"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not shown) as progress:

        def opened(sample: str, target: int) -> Report:
            bar = progress.add_task(sample, total=target)
            return lambda selected: progress.update(bar, completed=selected)

        yield opened
