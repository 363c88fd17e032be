"""Calculations in processes of their own: cancelled at any time, limited in time and memory."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver
from typing import Any, NamedTuple

from hepxai.app.limits import MEMORY, PARALLEL, SECONDS
from hepxai.core.console import Message, relay_to

_places = threading.BoundedSemaphore(PARALLEL)
_context: Any = None
_lock = threading.Lock()
log = logging.getLogger(__name__)

EXPECTED = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RuntimeError, ImportError)
"""Errors about input, whose message is a sentence for the user."""


class Outcome(NamedTuple):
    """End of a calculation: a value with warnings, or a sentence about what went wrong."""

    value: Any = None
    warnings: tuple[str, ...] = ()
    error: str = ""


class _Pipe:
    """Sends the state of progress bars through a pipe, at most ten times a second."""

    def __init__(self, connection: Any) -> None:
        self.connection, self.last = connection, 0.0

    def put(self, item: Message) -> None:
        """Send, unless another one was sent just now."""
        now = time.monotonic()
        if now - self.last > 0.1:
            self.last = now
            self.connection.send(item)

    def get(self) -> Message:
        """Only the other end receives."""
        raise NotImplementedError

    def empty(self) -> bool:
        """Only the other end receives."""
        return True


class _State:
    """What a job and the thread that watches its process share."""

    def __init__(self) -> None:
        self.progress, self.what = 0.0, ""
        self.outcome: Outcome | None = None
        self.process: Any = None


class Job:
    """A calculation in a process. A thread takes its messages, holds the time limit and frees its place.

    Attributes
    ----------
    key : str
        Of its result.
    """

    def __init__(self, key: str, function: Callable[..., Any], *arguments: Any) -> None:
        self.key = key
        self._call, self._state = (function, arguments), _State()

    @property
    def progress(self) -> float:
        """Share that is done; 0 before the first message."""
        return self._state.progress

    @property
    def what(self) -> str:
        """Name of the current step."""
        return self._state.what

    @property
    def outcome(self) -> Outcome | None:
        """End of the calculation; None while it works."""
        return self._state.outcome

    def poll(self) -> Outcome | None:
        """Outcome, or None while it works or waits for its turn; to be called repeatedly."""
        if self.outcome is None and self._state.process is None:
            self._begin()
        return self.outcome

    def cancel(self) -> None:
        """Stop; the page shows that it was stopped."""
        if self._state.outcome is None:
            self._state.outcome = Outcome(error="cancelled")
            if self._state.process is not None:
                self._state.process.kill()

    def _begin(self) -> None:
        state = self._state
        if not _places.acquire(blocking=False):
            state.what = "waiting for other calculations"
            return
        try:
            context = _processes()
            connection, other = context.Pipe(duplex=False)
            state.process = context.Process(target=_run, args=(other, *self._call), daemon=True)
            state.process.start()
            other.close()
        except BaseException:
            state.process = None
            _places.release()
            raise
        state.what = "starting"
        arguments = (state, connection, time.monotonic() + SECONDS)
        threading.Thread(target=_watch, args=arguments, daemon=True).start()

    def __del__(self) -> None:
        with suppress(Exception):
            self.cancel()


def _watch(state: _State, connection: Any, deadline: float) -> None:
    """Take the messages of a process until it ends or its time is over; then free its place."""
    outcome: Outcome | None = None
    try:
        while outcome is None:
            if (left := deadline - time.monotonic()) <= 0:
                outcome = Outcome(
                    error=f"stopped after {SECONDS / 60:g} minutes; take fewer events, or fewer steps"
                )
            elif connection.poll(min(left, 1.0)):
                message = connection.recv()
                if isinstance(message, Outcome):
                    outcome = message
                else:
                    state.what, state.progress = message.bar, min(message.done / max(message.total, 1), 1.0)
    except Exception:  # the pipe ends, or what came through it cannot be read
        outcome = Outcome(
            error="the calculation ended without a result: it needs too much memory, or a file is damaged; "
            "take fewer events or a smaller file"
        )
    finally:
        state.process.kill()
        state.process.join(5)
        connection.close()
        _places.release()
        state.outcome = state.outcome or outcome


def prepare() -> None:
    """Start the process that all others are copies of, in the background; it imports the package once."""
    _processes()
    forkserver.ensure_running()


def _processes() -> Any:
    """Context whose processes are copies of one that has imported the package already."""
    global _context
    with _lock:
        if _context is None:
            _context = multiprocessing.get_context("forkserver")
            _context.set_forkserver_preload(["hepxai.app.work"])
        return _context


def _run(connection: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _limit_memory()
    relay_to(_Pipe(connection))
    outcome = outcome_of(function, arguments)
    try:
        connection.send(outcome)
    except (MemoryError, ValueError):
        connection.send(Outcome(error="the result is too large; take fewer events"))


def _die_with_parent() -> None:
    """A cancelled or closed page leaves no process behind."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _limit_memory() -> None:
    if not sys.platform.startswith("linux"):  # others do not hold it
        return
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[5]) * resource.getpagesize()
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))


def outcome_of(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """Value of a function with its warnings, or a sentence about its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            value = function(*arguments)
        except MemoryError:
            return Outcome(error="not enough memory; take fewer events or a smaller file")
        except EXPECTED as problem:
            text = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
            if "memory" in str(text).lower() and isinstance(problem, RuntimeError):
                return Outcome(error="not enough memory; take fewer events or a smaller file")
            return Outcome(error=str(text) or type(problem).__name__)
        except Exception as problem:  # parsers of foreign files raise anything
            log.exception("unexpected error")
            name = type(problem).__name__
            return Outcome(
                error=f"{name}: this file or setting cannot be used; try another, and report the case"
            )
    about_input = [w for w in caught if issubclass(w.category, UserWarning | RuntimeWarning)]
    return Outcome(value, tuple(dict.fromkeys(str(w.message) for w in about_input)))
