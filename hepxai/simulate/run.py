"""Simulate samples: Pythia, fast detector, selection, one ROOT file per sample."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol

from hepxai.core.console import Advance, track
from hepxai.core.workers import open_executor
from hepxai.simulate.chunk import Chunk, ChunkTask, load_chunk, store_chunk
from hepxai.simulate.config import SimulationConfig, load_config
from hepxai.simulate.output import write_sample
from hepxai.simulate.recipe import Recipe, check_output, recipe_of
from hepxai.simulate.workers import TaskT, alone_in, run_chunks


@dataclass(frozen=True)
class SampleResult:
    """One simulated sample.

    Attributes
    ----------
    path : Path
        ROOT file with the TTree ``Events``, the histograms ``cutflow`` and ``cutflow_weighted`` and the
        JSON string ``provenance``.
    generated, selected : int
        Number of events.
    cutflow : dict of str to int
        Events left after every step.
    reused : bool
        The file was there already, made by the same recipe for the same number of events.
    """

    path: Path
    generated: int
    selected: int
    cutflow: dict[str, int]
    reused: bool

    @property
    def efficiency(self) -> float:
        """Selected over generated events."""
        return self.selected / self.generated


def simulate(
    config_path: str | Path,
    out_dir: str | Path,
    events: int,
    *,
    workers: int = 1,
    samples: Sequence[str] | None = None,
    seed: int | None = None,
    progress: bool = True,
    keep_chunks: bool = False,
) -> dict[str, SampleResult]:
    """Simulate samples until each has at least ``events`` selected events.

    The events depend on the settings, the seed and ``events`` alone, not on the number of workers. A run
    that was stopped in any way goes on where it was when the same call is made again. With several workers
    the call must sit below ``if __name__ == "__main__":`` in a script, as always with spawned processes.

    Parameters
    ----------
    config_path : path
        ``simulate.yaml`` or the folder that holds it.
    out_dir : path
        Gets ``<sample>.root``, and ``.chunks`` while the simulation runs.
    events : int
        Selected events wanted; the sample ends with the first whole cycle over its decay channels that
        reaches this number.
    workers : int, default 1
        Processes.
    samples : sequence of str, optional
        Names of the samples to make; all by default.
    seed : int, optional
        Replaces the seed of the settings.
    progress : bool, default True
        Show a progress bar.
    keep_chunks : bool, default False
        Keep the chunk files, so that a later call for more events starts from them.

    Returns
    -------
    dict of str to SampleResult

    Raises
    ------
    ConfigError
        Settings that are missing or not valid, or that Pythia does not know.
    OutputExistsError
        An output file is there that was made in another way.
    SimulationError
        A chunk failed; the message names it and its seed.
    MissingExtraError
        Without pythia8mc or fastjet.
    """
    config = load_config(config_path, seed=seed)
    jobs = [
        Job(_Channels(config, n), recipe_of(config, n), Path(out_dir), events)
        for n in chosen(config.samples, samples)
    ]
    return run_jobs(jobs, workers, progress=progress, keep_chunks=keep_chunks)


def chosen(known: Iterable[str], samples: Sequence[str] | None) -> list[str]:
    """Names of the samples to make: all that are known, or those asked for, each once."""
    names = list(known if samples is None else dict.fromkeys(samples))
    if unknown := [n for n in names if n not in known]:
        raise ValueError(f"no sample {unknown[0]!r} in the settings; there are {', '.join(known)}")
    return names


class Production(Protocol[TaskT]):
    """How the chunks of one sample are made and put together."""

    @property
    def cycle(self) -> int:
        """Number of chunks that belong together: a sample has whole cycles."""

    def task(self, index: int, path: Path) -> TaskT:
        """Task of a chunk."""

    def store(self, task: TaskT, /) -> int:
        """Make a chunk and write its file; returns the number of selected events. Runs in the workers."""

    def load(self, task: TaskT) -> Chunk:
        """Read the file of a chunk."""

    def write(self, path: Path, tasks: Sequence[TaskT], provenance: dict[str, Any]) -> dict[str, Any]:
        """Write the sample from its finished chunks; returns the provenance as stored."""


@dataclass(frozen=True)
class _Channels:
    """Decay channels, of which equal numbers of events are generated."""

    config: SimulationConfig
    sample: str

    @property
    def cycle(self) -> int:
        return len(self.config.samples[self.sample].channels)

    def task(self, index: int, path: Path) -> ChunkTask:
        return ChunkTask(self.config, self.sample, index, path)

    def store(self, task: ChunkTask, /) -> int:
        return store_chunk(task)

    def load(self, task: ChunkTask) -> Chunk:
        return load_chunk(task)

    def write(self, path: Path, tasks: Sequence[ChunkTask], provenance: dict[str, Any]) -> dict[str, Any]:
        seeds = {"pythia_seeds": [tasks[0].seed, tasks[-1].seed]}
        return write_sample(path, map(load_chunk, tasks), {**provenance, **seeds})


def run_jobs(
    jobs: Sequence[Job[Any]], workers: int, *, progress: bool, keep_chunks: bool
) -> dict[str, SampleResult]:
    """Make samples, those that are there already excepted, with a progress bar for each."""
    done = {job.recipe.sample: job.existing() for job in jobs}  # complain before any work is done
    wanted = [job for job in jobs if done[job.recipe.sample] is None]
    if wanted:
        with alone_in(wanted[0].out_dir), open_executor(workers) as executor:
            for job in wanted:
                name = job.recipe.sample
                with track(name, job.events, show=progress) as advance:
                    done[name] = job.run(executor, workers, _Report(advance), keep_chunks=keep_chunks)
    return {name: result for name, result in done.items() if result is not None}


class _Report:
    """Is told the number of selected events so far, and shows it with the rate since it was first told."""

    def __init__(self, advance: Advance) -> None:
        self.advance, self.begun = advance, time.monotonic()
        self.first: int | None = None
        self.last = 0

    def __call__(self, selected: int) -> None:
        if self.first is None:  # events of an earlier call took no time in this one
            self.first, self.begun = selected, time.monotonic()
        # Chunks arrive in bursts, so the mean since the start says more than the latest steps.
        elapsed = time.monotonic() - self.begun
        rate = f", {(selected - self.first) / elapsed:.0f} events/s" if selected > self.first else ""
        self.advance(selected - self.last, f"selected{rate}")
        self.last = selected


@dataclass(frozen=True)
class Job(Generic[TaskT]):
    """One sample to make, until it has at least ``events`` selected events."""

    production: Production[TaskT]
    recipe: Recipe
    out_dir: Path
    events: int

    def __post_init__(self) -> None:
        if self.events < 1:
            raise ValueError(f"events must be at least 1, got {self.events}")

    @property
    def output(self) -> Path:
        """The ROOT file."""
        return self.out_dir / f"{self.recipe.sample}.root"

    @property
    def chunks(self) -> Path:
        """Where the chunks are kept while the sample is made."""
        return self.out_dir / ".chunks" / self.recipe.sample

    def task(self, index: int) -> TaskT:
        """Task of a chunk."""
        # The recipe is part of the name: chunks of other settings are never picked up.
        path = self.chunks / f"{index:06d}-{self.recipe.key[:16]}.safetensors"
        return self.production.task(index, path)

    def existing(self) -> SampleResult | None:
        """The sample if it is there; `OutputExistsError` if something else is."""
        found = check_output(self.output, self.recipe, self.events)
        return None if found is None else self._result(found, reused=True)

    def run(self, executor: Executor, workers: int, report: _Report, *, keep_chunks: bool) -> SampleResult:
        """Make the chunks that are missing, and the sample from them."""
        made, stored = self.production, self._stored()
        needed = run_chunks(self.task, made.store, made.cycle, self.events, executor, workers, stored, report)
        provenance = {**self.recipe.provenance(), "requested": self.events, "chunks": needed}
        found = made.write(self.output, [self.task(i) for i in range(needed)], provenance)
        if not keep_chunks:
            self._tidy()
        return self._result(found, reused=False)

    def _stored(self) -> dict[int, int]:
        """Selected events of the chunks that an earlier run left."""
        self.chunks.mkdir(parents=True, exist_ok=True)
        # Nobody should commit half a simulation.
        (self.chunks.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        stored = {}
        for path in sorted(self.chunks.glob(f"*-{self.recipe.key[:16]}.safetensors")):
            index = int(path.name.split("-")[0])
            try:
                stored[index] = self.production.load(self.task(index)).selected
            except (ValueError, KeyError):
                path.unlink()  # damaged by the disk, not by us: made again
        return stored

    def _tidy(self) -> None:
        shutil.rmtree(self.chunks)
        if not any(p.is_dir() for p in self.chunks.parent.iterdir()):
            shutil.rmtree(self.chunks.parent)

    def _result(self, found: dict[str, Any], *, reused: bool) -> SampleResult:
        return SampleResult(self.output, found["generated"], found["selected"], found["cutflow"], reused)
