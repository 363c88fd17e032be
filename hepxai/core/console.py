"""Progress bars and log lines of long passes, also of those in worker processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

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


class Message(NamedTuple):
    """State of a bar of a worker process, or a line of text where there is no bar."""

    bar: str
    total: int = 0
    done: int = 0
    status: str = ""
    text: str = ""


class Queue(Protocol):
    """Queue between processes."""

    def put(self, item: Message) -> None:
        """Append."""

    def get(self) -> Message:
        """Take the first, waiting for one."""

    def empty(self) -> bool:
        """True if there is nothing to take."""


_send: Callable[[Message], None] | None = None
"""In a worker process: hands bars and lines to the process that started it."""
_job = ""


def relay_to(queue: Queue) -> None:
    """Show bars and lines of this process through another, which reads the queue by `relayed`."""
    global _send
    _send = queue.put


def name_job(name: str) -> None:
    """Name in front of the bars and lines that this worker process relays."""
    global _job
    _job = name


@contextmanager
def relayed(queue: Queue, *, show: bool) -> Iterator[None]:
    """Draw the bars and print the lines of worker processes while the context is open.

    Nothing waits for a process: one that was killed may hold the queue for ever.
    """
    done = threading.Event()
    with _progress(show=show) as bars:
        reader = threading.Thread(target=_draw, args=(queue, bars, done), daemon=True)
        reader.start()
        try:
            yield
        finally:
            done.set()
            reader.join(timeout=1)


def _draw(queue: Queue, bars: Progress, done: threading.Event) -> None:
    tasks: dict[str, Any] = {}
    while not (done.is_set() and queue.empty()):
        if queue.empty():
            done.wait(0.1)
            continue
        message = queue.get()
        if message.text:
            bars.console.print(message.text, markup=False, highlight=False, soft_wrap=True)
            continue
        if message.bar not in tasks:
            tasks[message.bar] = bars.add_task(message.bar, total=message.total, status="")
        bars.update(tasks[message.bar], completed=message.done, status=message.status)


@contextmanager
def track(name: str, total: int, *, show: bool, done: int = 0) -> Iterator[Advance]:
    """Yield a function ``advance(steps, status)``; draws a bar if ``show``."""
    if show and _send is not None:
        yield _relaying(_send, f"{_job} {name}".strip(), total, done)
        return
    with _progress(show=show) as bar:
        task = bar.add_task(name, total=total, completed=done, status="")

        def advance(steps: int, status: str = "") -> None:
            bar.update(task, advance=steps, status=status)

        yield advance


def _relaying(send: Callable[[Message], None], name: str, total: int, done: int) -> Advance:
    send(Message(name, total, done))

    def advance(steps: int, status: str = "") -> None:
        nonlocal done
        done += steps
        send(Message(name, total, done, status))

    return advance


def _progress(*, show: bool) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    return Progress(*columns, console=_console(), disable=not show)


def say(text: str) -> None:
    """Log a line through the progress display."""
    if _send is not None:
        _send(Message("", text=f"{_job}: {text}" if _job else text))
    else:
        _console().print(text, markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    return Console(stderr=True, force_jupyter=False)  # bars of a notebook would need ipywidgets
