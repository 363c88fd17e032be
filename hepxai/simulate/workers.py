"""Chunks in parallel, in an order and number that do not depend on the number of workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from hepxai.core.files import locked, refuse_links, remove_leftovers
from hepxai.simulate.config import ConfigError
from hepxai.simulate.generator import MissingExtraError

# After this many cycles over the channels without a single selected event there will be none.
_HOPELESS_CYCLES = 20


class Task(Protocol):
    """What a worker needs to make one chunk."""

    @property
    def index(self) -> int:
        """Number of the chunk, from 0."""

    @property
    def path(self) -> Path:
        """Where the chunk is kept."""

    def describe(self) -> str:
        """What it is, for messages."""


TaskT = TypeVar("TaskT", bound=Task)


class SimulationError(RuntimeError):
    """A chunk could not be made; the message names it, its seed and how to go on."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other simulations out of an output folder, and remove what dead ones left half-written.

    Raises
    ------
    SimulationError
        If another process simulates into it.
    """
    refuse_links(folder, ".chunks", ".chunks/*")
    with locked(folder, SimulationError):
        for pattern in ("*.root.*", ".chunks/*/*"):
            remove_leftovers(folder, pattern)
        yield


class SimulationInterrupted(KeyboardInterrupt):
    """The user stopped the simulation; finished chunks are kept."""


def run_chunks(
    task: Callable[[int], TaskT],
    store: Callable[[TaskT], int],
    channels: int,
    events: int,
    executor: Executor,
    workers: int,
    selected: dict[int, int],
    report: Callable[[int], None],
) -> int:
    """Make chunks until a whole cycle over the channels brings the selected events to ``events``.

    Parameters
    ----------
    task : callable
        Gives the task of a chunk.
    store : callable
        Makes a chunk, writes its file and returns the number of selected events.
    channels : int
        Length of a cycle: every channel gets the same number of generated events.
    events : int
        Selected events asked for.
    executor, workers
        Where the chunks are made, and how many at a time.
    selected : dict of int to int
        Selected events of chunks that are there already; grows.
    report : callable
        Told the number of selected events.

    Returns
    -------
    int
        Number of chunks, from the first, that make up the sample.
    """
    running: dict[Future[int], TaskT] = {}
    try:
        while (stop := chunks_needed(selected, channels, events)) is None:
            report(sum(selected.values()))
            busy = {t.index for t in running.values()} | selected.keys()
            for index in itertools.islice(_missing(busy), workers - len(running)):
                running[executor.submit(store, task(index))] = task(index)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                selected[running[future].index] = _outcome(future, running)
                del running[future]
        report(sum(selected.values()))
        return stop
    except KeyboardInterrupt:
        raise SimulationInterrupted(_kept("stopped", task(0))) from None
    finally:
        # Chunks still under way must not write after the caller has tidied up.
        for future in running:
            future.cancel()
        wait(running)


def chunks_needed(selected: Mapping[int, int], channels: int, events: int) -> int | None:
    """Length of the first unbroken run of whole cycles with enough selected events, if it is there.

    Raises
    ------
    SimulationError
        If many cycles selected nothing at all.
    """
    total = 0
    for index in itertools.takewhile(selected.__contains__, itertools.count()):
        total += selected[index]
        cycles, rest = divmod(index + 1, channels)
        if rest == 0 and total >= events:
            return index + 1
        if cycles >= _HOPELESS_CYCLES and total == 0:
            raise SimulationError(f"no event of the first {index + 1} chunks passed the selection: loosen it")
    return None


def _missing(busy: Iterable[int]) -> Iterator[int]:
    return itertools.filterfalse(set(busy).__contains__, itertools.count())


def _outcome(future: Future[int], running: Mapping[Future[int], TaskT]) -> int:
    try:
        return future.result()
    except (ConfigError, MissingExtraError):
        raise
    except BrokenProcessPool:
        lost = "; ".join(t.describe() for t in running.values())
        raise SimulationError(
            _kept(f"a worker died (killed, or out of memory) on {lost}", running[future])
        ) from None
    except Exception as error:
        failed = f"{running[future].describe()} failed: {type(error).__name__}: {error}"
        raise SimulationError(_kept(failed, running[future])) from error


def _kept(what: str, task: Task) -> str:
    return f"{what}. Finished chunks are kept in {task.path.parent}: the same command goes on from there"
