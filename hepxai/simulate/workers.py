"""Chunks in parallel, in an order and number that do not depend on the number of workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from hepxai.cards import CardError
from hepxai.core.files import locked, refuse_links, remove_leftovers
from hepxai.simulate.chunk import ChunkTask
from hepxai.simulate.generator import MissingExtraError

# After this many cycles without a single selected event there will be none.
_HOPELESS_CYCLES = 20


class SimulationError(RuntimeError):
    """A chunk could not be made; the message names it, its seed and how to resume."""


class SimulationInterrupted(KeyboardInterrupt):
    """The user stopped the simulation; finished chunks are kept."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock an output folder against other simulations, and remove incomplete files of killed ones.

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


def run_chunks(
    task: Callable[[int], ChunkTask],
    store: Callable[[ChunkTask], int],
    events: int,
    executor: Executor,
    workers: int,
    selected: dict[int, int],
    report: Callable[[int], None],
) -> int:
    """Make chunks until a whole cycle of them brings the selected events to ``events``.

    Parameters
    ----------
    task : callable
        Gives the task of a chunk.
    store : callable
        Makes a chunk, writes its file and returns the number of selected events.
    events : int
        Requested number of selected events.
    executor, workers
        Executor that makes the chunks, and number of chunks at a time.
    selected : dict of int to int
        Selected events of the chunks that are stored already; grows.
    report : callable
        Called with the number of selected events.

    Returns
    -------
    int
        Number of chunks, from the first, that make up the sample.
    """
    simulation = task(0).simulation
    most = simulation.number_of_chunks(events)
    running: dict[Future[int], ChunkTask] = {}
    try:
        while (stop := chunks_needed(selected, simulation.cycle, events)) is None:
            report(sum(selected.values()))
            begun = {t.index for t in running.values()} | selected.keys()
            for index in itertools.islice(_missing(begun, most), workers - len(running)):
                running[executor.submit(store, task(index))] = task(index)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                selected[running[future].index] = _outcome(future, running)
                del running[future]
        report(sum(selected.values()))
        return stop
    except KeyboardInterrupt:
        raise SimulationInterrupted(_resumable("stopped", task(0))) from None
    finally:
        # Chunks still under way must not write after the caller has tidied up.
        for future in running:
            future.cancel()
        wait(running)


def chunks_needed(selected: Mapping[int, int], cycle: int, events: int) -> int | None:
    """Length of the first unbroken run of whole cycles with enough selected events; None without one.

    Raises
    ------
    SimulationError
        If many cycles selected nothing at all.
    """
    total = 0
    for index in itertools.takewhile(selected.__contains__, itertools.count()):
        total += selected[index]
        cycles, rest = divmod(index + 1, cycle)
        if rest == 0 and total >= events:
            return index + 1
        if cycles >= _HOPELESS_CYCLES and total == 0:
            raise SimulationError(f"no event of the first {index + 1} chunks passed the selection: loosen it")
    return None


def _missing(begun: Container[int], most: int | None) -> Iterator[int]:
    return (i for i in (itertools.count() if most is None else range(most)) if i not in begun)


def _outcome(future: Future[int], running: Mapping[Future[int], ChunkTask]) -> int:
    try:
        return future.result()
    except (CardError, MissingExtraError):
        raise
    except BrokenProcessPool:
        lost = "; ".join(t.describe() for t in running.values())
        died = f"a worker died (killed, or out of memory) on {lost}"
        raise SimulationError(_resumable(died, running[future])) from None
    except Exception as error:
        failed = f"{running[future].describe()} failed: {type(error).__name__}: {error}"
        raise SimulationError(_resumable(failed, running[future])) from error


def _resumable(text: str, task: ChunkTask) -> str:
    return f"{text}. Finished chunks are kept in {task.path.parent}: the same command resumes"
