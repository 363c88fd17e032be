"""Worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from hepxai.core.console import Queue, name_job, relay_to, relayed, say

R = TypeVar("R")


class WorkerError(RuntimeError):
    """A worker process died."""


class _Serial(Executor):
    """Executor that runs every job immediately in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def run_jobs(
    function: Callable[..., R], jobs: Mapping[str, tuple[Any, ...]], workers: int, *, show: bool = True
) -> dict[str, R]:
    """Results of ``function(*arguments)`` of several jobs, in worker processes.

    Parameters
    ----------
    function : callable
        At the top level of a module.
    jobs : mapping of str to tuple
        Name, which stands before the progress bars of a job, and arguments.
    workers : int
        Processes; with one, this process itself.
    show : bool
        Show the progress bars of all processes.

    Raises
    ------
    WorkerError
        If a process died. What a job raises is raised here; the other jobs are then stopped.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        return {name: function(*arguments) for name, arguments in jobs.items()}
    context = context_with(function.__module__)
    queue: Any = context.SimpleQueue()
    with relayed(queue, show=show), worker_pool(workers, queue, context) as executor:
        futures = {n: executor.submit(_named, n, function, a) for n, a in jobs.items()}
        for future in wait(futures.values(), return_when=FIRST_EXCEPTION).done:
            future.result()  # raises what the job raised, while others still run
        return {name: future.result() for name, future in futures.items()}


def context_with(module: str) -> BaseContext:
    """Context whose processes are copies of one that has imported a module, where the system allows it.

    The imports of a network cost seconds, which every spawned process would spend again.
    """
    if sys.platform != "linux":  # frameworks of macOS do not survive a fork
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])  # of the first call in this process
    return context


@contextmanager
def worker_pool(
    workers: int, queue: Queue | None = None, context: BaseContext | None = None
) -> Iterator[Executor]:
    """Executor whose processes are stopped at the end of the context, also those that still work.

    Raises
    ------
    WorkerError
        If a process died.
    """
    before = set(multiprocessing.active_children())
    executor = open_executor(workers, queue, context)
    try:
        yield executor
    except BrokenProcessPool:
        raise WorkerError(
            "a worker process died (killed, or out of memory); nothing is lost: the same command resumes"
        ) from None
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()


def _named(name: str, function: Callable[..., R], arguments: tuple[Any, ...]) -> R:
    name_job(name)
    return function(*arguments)


def open_executor(workers: int, queue: Queue | None = None, context: BaseContext | None = None) -> Executor:
    """Executor with processes of its own; with one worker, this process itself.

    Parameters
    ----------
    workers : int
    queue : Queue, optional
        For the progress of the processes; see `hepxai.core.console.relayed`.
    context : BaseContext, optional
        How processes start; by default each is spawned.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers == 1:
        return _Serial()
    context = context or multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker, initargs=(queue,))


def _prepare_worker(queue: Queue | None) -> None:
    if queue is not None:
        relay_to(queue)
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    # Ctrl-C reaches every process of the terminal; only the parent decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
