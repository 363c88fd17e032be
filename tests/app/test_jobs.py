"""Calculations in processes of their own: progress, cancelling, limits of time and memory."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from hepxai.app import jobs
from hepxai.app.jobs import Job, Outcome
from hepxai.core.console import track


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    free = jobs._places._value
    yield
    assert jobs._places._value == free


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
    job = Job("k", slow_sum, 100_000)
    while not job.progress:
        job.poll()
        time.sleep(0.02)
    start = time.monotonic()
    process = job._process
    job.cancel()
    assert job.poll() == Outcome(error="cancelled")
    assert not process.is_alive()
    assert time.monotonic() - start < 5


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
    first = [Job("k", slow_sum, 100_000) for _ in range(jobs.AT_ONCE)]
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
    job = Job("k", slow_sum, 100_000)
    while not job.progress:
        job.poll()
        time.sleep(0.02)
    process = job._process
    del job
    process.join(5)
    assert not process.is_alive()
