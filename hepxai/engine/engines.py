"""Engines: jobs on the processes of this machine, or on a Dask cluster of many machines."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from typing import Any

from hepxai.core.console import relayed
from hepxai.core.extras import import_extra
from hepxai.core.workers import context_with, worker_pool

Jobs = Mapping[str, tuple[Any, ...]]
Outcomes = Iterator[tuple[str, Exception | None]]
Function = Callable[..., None]
RETRIES = 2
"""Times that a failed job is tried again."""


def on_processes(function: Function, jobs: Jobs, workers: int, scheduler: str | None = None) -> Outcomes:
    """Names of jobs as they end, each with its error or None.

    A job that fails is tried again, and so are all that were under way when a process died.

    Parameters
    ----------
    function : callable
        At the top level of a module.
    jobs : mapping of str to tuple
        Name and arguments.
    workers : int
        Processes; with one, this process.
    scheduler : str, optional
        Not used.
    """
    waiting, tries = deque(jobs), Counter[str]()
    context: Any = context_with(function.__module__)
    while waiting:
        queue = context.SimpleQueue() if workers > 1 else None
        silence = relayed(queue, show=False) if queue is not None else nullcontext()
        with silence, worker_pool(workers, queue, context) as executor:
            for name, problem in _until_broken(executor, function, jobs, waiting, workers):
                tries[name] += 1
                if problem is not None and tries[name] <= RETRIES:
                    waiting.append(name)
                else:
                    yield name, problem


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


def on_dask(function: Function, jobs: Jobs, workers: int, scheduler: str | None = None) -> Outcomes:
    """As `on_processes`, on the workers of a Dask scheduler, or of a cluster of processes on this machine.

    Parameters
    ----------
    function, jobs
        As of `on_processes`. Folders in the arguments must be the same on all machines.
    workers : int
        Processes of a cluster on this machine.
    scheduler : str, optional
        Address, as in "tcp://host:8786"; by default a cluster is started here.
    """
    distributed = import_extra("distributed", "dask", "the engine dask")
    with _client(distributed, workers, scheduler) as client:
        futures = {
            client.submit(function, *arguments, key=f"hepxai-{name}", pure=False, retries=RETRIES): name
            for name, arguments in jobs.items()
        }
        for future in distributed.as_completed(futures):
            problem = future.exception()
            name = futures[future]
            future.release()
            yield name, problem


@contextmanager
def _client(distributed: Any, workers: int, scheduler: str | None) -> Iterator[Any]:
    if scheduler is not None:
        with distributed.Client(scheduler) as client:
            yield client
        return
    options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


ENGINES: dict[str, Callable[[Function, Jobs, int, str | None], Outcomes]] = {
    "processes": on_processes,
    "dask": on_dask,
}
"""Engines by name."""
