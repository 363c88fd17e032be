"""Engines: jobs on the processes of this machine, or on a Dask cluster of many machines."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

from hepxai.core.console import relayed
from hepxai.core.extras import import_extra
from hepxai.core.workers import context_with, worker_pool

Jobs = Mapping[str, tuple[Any, ...]]
Outcomes = Iterator[tuple[str, Exception | None]]
Function = Callable[..., None]
Engine = Callable[[Function, Jobs], Outcomes]
RETRIES = 2
"""Times that a failed job is tried again."""


def on_processes(function: Function, jobs: Jobs, workers: int) -> Outcomes:
    """Names of jobs as they end, each with its error or None.

    A job that fails is tried again. Those that were under way when a process died are done one by one.

    Parameters
    ----------
    function : callable
        At the top level of a module.
    jobs : mapping of str to tuple
        Name and arguments.
    workers : int
        Processes; with one, this process.
    """
    waiting, tries, suspects = deque(jobs), Counter[str](), set[str]()
    context: Any = context_with(function.__module__)
    while waiting:
        queue = context.SimpleQueue() if workers > 1 else None
        silence = relayed(queue, show=False) if queue is not None else nullcontext()
        batch = deque([waiting.popleft()]) if waiting[0] in suspects else waiting
        with silence, worker_pool(workers, queue, context) as executor:
            for name, problem in _until_broken(executor, function, jobs, batch, workers):
                if isinstance(problem, BrokenProcessPool) and name not in suspects:
                    suspects.add(name)  # another job may be to blame: next time it is alone
                    waiting.appendleft(name)
                    continue
                tries[name] += 1
                if problem is not None and tries[name] <= RETRIES:
                    waiting.append(name)
                else:
                    yield name, problem
        if batch is not waiting:
            waiting.extendleft(batch)  # not begun, for the new pool broke at once


def _until_broken(
    executor: Executor, function: Function, jobs: Jobs, waiting: deque[str], workers: int
) -> Outcomes:
    """Outcomes of waiting jobs, a few of them under way at a time, until all are done or a process died."""
    under_way: dict[Future[None], str] = {}
    broken = False
    while (waiting and not broken) or under_way:
        while waiting and not broken and len(under_way) < workers:
            try:
                under_way[executor.submit(function, *jobs[waiting[0]])] = waiting[0]
            except BrokenProcessPool:
                broken = True
            else:
                waiting.popleft()
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            problem = future.exception()
            broken |= isinstance(problem, BrokenProcessPool)
            yield under_way.pop(future), _as_exception(problem)


def _as_exception(problem: BaseException | None) -> Exception | None:
    if problem is None or isinstance(problem, Exception):
        return problem
    raise problem


def on_dask(function: Function, jobs: Jobs, client: Any) -> Outcomes:
    """As `on_processes`, on the workers of a Dask client.

    Folders in the arguments must be the same on all machines.
    """
    futures = {
        client.submit(function, *arguments, pure=False, retries=RETRIES): name
        for name, arguments in jobs.items()
    }
    for future in import_extra("distributed", "the engine dask", "dask").as_completed(futures):
        yield futures[future], _as_exception(future.exception())
        future.release()


@contextmanager
def _processes(workers: int, scheduler: str | None) -> Iterator[Engine]:
    yield partial(on_processes, workers=workers)


@contextmanager
def _dask(workers: int, scheduler: str | None) -> Iterator[Engine]:
    distributed = import_extra("distributed", "the engine dask", "dask")
    options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with ExitStack() as stack:
        if scheduler is None:
            scheduler = stack.enter_context(distributed.LocalCluster(**options)).scheduler_address
        yield partial(on_dask, client=stack.enter_context(distributed.Client(scheduler)))


ENGINES: dict[str, Callable[[int, str | None], AbstractContextManager[Engine]]] = {
    "processes": _processes,
    "dask": _dask,
}
"""Engines by name: ``with ENGINES[name](workers, scheduler) as engine: engine(function, jobs)``."""
