"""Scheduling of chunks without a generator: order, stop, failures, interruption."""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
import simulate_helpers as helpers

from hepxai.cards import CardError
from hepxai.core.workers import open_executor
from hepxai.simulate import SimulationError, SimulationInterrupted
from hepxai.simulate.chunk import ChunkTask, store_chunk
from hepxai.simulate.workers import chunks_needed, run_chunks

SIMULATION = helpers.simulation()  # four channels


def task(index):
    return ChunkTask(SIMULATION, index, helpers.SHIPPED / ".chunks" / "signal" / f"{index}")


class _Instant(Executor):
    """Every job is done at once and selects ten events; one may fail."""

    def __init__(self, failing=None, error=None):
        self.failing, self.error, self.made = failing, error, []

    def submit(self, fn, job):
        future = Future()
        self.made.append(job.index)
        if job.index == self.failing:
            future.set_exception(self.error)
        else:
            future.set_result(10)
        return future


def test_stop_needs_a_whole_unbroken_cycle():
    assert chunks_needed({0: 5, 1: 5, 2: 5}, 2, 10) == 2
    assert chunks_needed({0: 5, 1: 4, 2: 5}, 2, 10) is None
    assert chunks_needed({0: 5, 1: 4, 2: 5, 3: 0}, 2, 10) == 4
    assert chunks_needed({0: 5, 2: 50, 3: 50}, 2, 10) is None
    assert chunks_needed({}, 1, 1) is None


def test_hopeless_selection_ends():
    with pytest.raises(SimulationError, match="no event of the first 40 chunks passed the selection"):
        chunks_needed(dict.fromkeys(range(40), 0), 2, 1)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_stop_does_not_depend_on_order_or_workers(number):
    def busy(job):
        time.sleep(0.01 * (7 * job.index % 5))
        return job.index % 4

    selected, told = {}, []
    with ThreadPoolExecutor(number) as executor:
        stop = run_chunks(task, busy, 11, executor, number, selected, told.append)
    assert stop == 8
    assert sum(selected[i] for i in range(stop)) == 12
    assert told == sorted(told)


def test_chunks_that_are_there_are_not_made_again():
    executor = _Instant()
    assert run_chunks(task, store_chunk, 40, executor, 2, {0: 10, 1: 10, 3: 10}, lambda n: None) == 4
    assert executor.made[0] == 2
    assert not {0, 1, 3} & set(executor.made)


def test_failure_names_chunk_seed_and_remedy():
    with pytest.raises(SimulationError) as error:
        run_chunks(task, store_chunk, 100, _Instant(3, OSError("disk full")), 1, {}, lambda n: None)
    seed = SIMULATION.seed(3)
    for part in ("'signal'", "chunk 3", f"seed {seed}", "OSError: disk full", "same command resumes"):
        assert part in str(error.value)


def test_killed_worker_is_reported():
    with pytest.raises(SimulationError, match=r"a worker died .* on sample 'signal', chunk 1"):
        run_chunks(task, store_chunk, 100, _Instant(1, BrokenProcessPool("gone")), 1, {}, lambda n: None)


def test_wrong_settings_are_reported_as_such():
    broken = _Instant(0, CardError("Pythia does not know x"))
    with pytest.raises(CardError, match="Pythia does not know"):
        run_chunks(task, store_chunk, 9, broken, 1, {}, lambda n: None)


def test_interruption_says_where_the_chunks_are():
    def interrupted(job):
        if job.index == 2:
            raise KeyboardInterrupt
        return 10

    made = {}
    with open_executor(1) as executor, pytest.raises(SimulationInterrupted, match=r"kept in .*\.chunks"):
        run_chunks(task, interrupted, 100, executor, 1, made, lambda n: None)
    assert made == {0: 10, 1: 10}


def test_number_of_workers_is_checked():
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        open_executor(0)
