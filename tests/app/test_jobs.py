"""Calculations in processes of their own: progress, cancelling, limits of time and memory."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from hepxai.app import examples, jobs
from hepxai.app.jobs import Job, Outcome
from hepxai.core.console import track


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    free = jobs._places._value
    yield
    assert waited(lambda: jobs._places._value == free)


def waited(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """True as soon as a condition holds; False if it does not in time."""
    start = time.monotonic()
    while not condition() and time.monotonic() - start < seconds:
        time.sleep(0.02)
    return condition()


def begun(*arguments: Any) -> Job:
    """Job that has made progress."""
    job = Job("k", *arguments)
    while not job.progress:
        job.poll()
        time.sleep(0.02)
    return job


def is_gone(process: Any) -> bool:
    return waited(lambda: not Path(f"/proc/{process.pid}").exists())


def slow_sum(n: int) -> int:
    """Sum with progress."""
    warnings.warn("not quite right", UserWarning, stacklevel=1)
    with track("adding", n, show=True) as advance:
        for _ in range(n):
            time.sleep(0.02)
            advance(1)
    return n


def refuse() -> None:
    """Raise."""
    raise KeyError("no such thing; take another")


def crash() -> None:
    """Die as by a damaged file in compiled code."""
    os._exit(11)


def fill() -> int:
    """More memory than there is."""
    return int(np.ones(2**32).sum())


def end_of(job: Job, seconds: float = 60) -> Outcome:
    start = time.monotonic()
    while (outcome := job.poll()) is None and time.monotonic() - start < seconds:
        time.sleep(0.02)
    assert outcome is not None
    return outcome


def test_progress_and_result() -> None:
    job, shares = Job("k", slow_sum, 40), set()
    while (outcome := job.poll()) is None:
        shares.add(job.progress)
        time.sleep(0.02)
    assert outcome == Outcome(40, ("not quite right",))
    assert len(shares) > 2
    assert job.what == "adding"


def test_cancel_is_at_once() -> None:
    job = begun(slow_sum, 100_000)
    job.cancel()
    assert job.poll() == Outcome(error="cancelled")
    assert is_gone(job._state.process)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [(refuse, "no such thing; take another"), (crash, "ended without a result: it needs too much memory")],
)
def test_errors_are_sentences(function: Callable[[], Any], sentence: str) -> None:
    assert sentence in end_of(Job("k", function)).error


def test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SECONDS", 1)
    assert end_of(Job("k", slow_sum, 100_000)).error.startswith("stopped after")


def test_memory() -> None:
    assert "not enough memory; take fewer events" in end_of(Job("k", fill)).error


def test_others_wait_for_their_turn() -> None:
    first = [Job("k", slow_sum, 100_000) for _ in range(jobs.PARALLEL)]
    for job in first:
        job.poll()
    last = Job("k", slow_sum, 1)
    assert last.poll() is None
    assert last.what == "waiting for other calculations"
    for job in first:
        job.cancel()
    assert end_of(last).value == 1


def test_unexpected_errors_have_no_traceback() -> None:
    def strange() -> None:
        raise AssertionError("/secret/path")

    outcome = jobs.outcome_of(strange, ())
    assert "secret" not in outcome.error
    assert "cannot be used" in outcome.error


def test_a_job_that_nobody_wants_any_more_ends() -> None:
    job = begun(slow_sum, 100_000)
    process = job._state.process
    del job
    assert is_gone(process)


@pytest.mark.parametrize(("steps", "limit"), [(3, 60), (100_000, 1)])
def test_a_job_that_nobody_asks_about_frees_its_place(
    steps: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the page shows something else; by its end, or by the limit of time."""
    monkeypatch.setattr(jobs, "SECONDS", limit)
    free, job = jobs._places._value, Job("k", slow_sum, steps)
    job.poll()
    assert jobs._places._value == free - 1
    assert waited(lambda: jobs._places._value == free, 60)
    assert job.outcome is not None


def test_a_session_waits_for_the_example_that_another_one_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []

    class Finished:
        folder = tmp_path / "table"

        @staticmethod
        def start(folder: Path, *_: object) -> type[Finished]:
            begun.append(folder)
            return Finished

        @staticmethod
        def train() -> None: ...

    monkeypatch.setattr(examples, "Run", Finished)
    with FileLock(tmp_path / ".table.lock"):
        waiting = threading.Thread(target=examples.train, args=("table", tmp_path), daemon=True)
        waiting.start()
        waiting.join(0.5)
        assert not begun
    waiting.join(10)
    assert begun == [tmp_path / "table"]
