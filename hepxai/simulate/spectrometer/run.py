"""Simulate samples of muon patterns: chunks in parallel, one ROOT file per sample."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from hepxai.core.console import Advance, track
from hepxai.core.files import sha256
from hepxai.core.workers import open_executor
from hepxai.simulate.config import digest
from hepxai.simulate.recipe import Recipe, check_output
from hepxai.simulate.run import SampleResult
from hepxai.simulate.spectrometer.chunk import ChunkTask, Columns, load_chunk, store_chunk
from hepxai.simulate.spectrometer.config import SpectrometerConfig, load_spectrometer
from hepxai.simulate.spectrometer.output import write_patterns
from hepxai.simulate.workers import SimulationError, SimulationInterrupted, alone_in

# The modules that decide what the events are; a change in another one leaves finished chunks valid.
_SOURCES = ("chunk", "digitisation", "propagation")


def simulate_patterns(
    config_path: str | Path,
    out_dir: str | Path,
    events: int,
    *,
    workers: int = 1,
    samples: Sequence[str] | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> dict[str, SampleResult]:
    """Simulate ``events`` events of each sample.

    The events depend on the settings and the seed alone: not on the number of workers, and fewer events
    are the first ones of more. A run that was stopped in any way goes on where it was when the same call is
    made again. With several workers the call must sit below ``if __name__ == "__main__":`` in a script.

    Parameters
    ----------
    config_path : path
        ``simulate.yaml`` or the folder that holds it.
    out_dir : path
        Gets ``<sample>.root``, and ``.chunks`` while the simulation runs.
    events : int
        Events of each sample.
    workers : int, default 1
        Processes.
    samples : sequence of str, optional
        Names of the samples to make; all by default.
    seed : int, optional
        Replaces the seed of the settings.
    progress : bool, default True
        Show a progress bar.

    Returns
    -------
    dict of str to SampleResult

    Raises
    ------
    ConfigError
        Settings that are missing or not valid.
    OutputExistsError
        An output file is there that was made in another way.
    SimulationError
        A chunk failed; the message names it.
    """
    if events < 1:
        raise ValueError(f"events must be at least 1, got {events}")
    config = load_spectrometer(config_path, seed=seed)
    jobs = [_Job(config, _recipe(config, n), Path(out_dir), events) for n in _chosen(config, samples)]
    wanted = [job for job in jobs if not job.exists()]  # complain before any work is done
    if wanted:
        with (
            alone_in(Path(out_dir)),
            open_executor(workers) as executor,
            track("muon patterns", events * len(wanted), show=progress) as advance,
        ):
            for job in wanted:
                job.run(executor, workers, advance)
    return {job.recipe.sample: job.result(reused=job not in wanted) for job in jobs}


def _chosen(config: SpectrometerConfig, samples: Sequence[str] | None) -> list[str]:
    names = list(config.samples if samples is None else dict.fromkeys(samples))
    if unknown := [n for n in names if n not in config.samples]:
        raise ValueError(f"no sample {unknown[0]!r} in the settings; there are {', '.join(config.samples)}")
    return names


def _recipe(config: SpectrometerConfig, sample: str) -> Recipe:
    versions = {"numpy": importlib.metadata.version("numpy")}
    code = {name: sha256(Path(__file__).with_name(f"{name}.py")) for name in _SOURCES}
    return Recipe(sample, config.settings_of(sample), versions, digest(code))


@dataclass(frozen=True)
class _Job:
    """One sample to make."""

    config: SpectrometerConfig
    recipe: Recipe
    out_dir: Path
    events: int

    @property
    def output(self) -> Path:
        return self.out_dir / f"{self.recipe.sample}.root"

    @property
    def chunks(self) -> Path:
        return self.out_dir / ".chunks" / self.recipe.sample

    def task(self, index: int) -> ChunkTask:
        # The recipe is part of the name: chunks of other settings are never picked up.
        path = self.chunks / f"{index:06d}-{self.recipe.key[:16]}.safetensors"
        return ChunkTask(self.config, self.recipe.sample, index, path)

    def tasks(self) -> list[ChunkTask]:
        return [self.task(i) for i in range(-(-self.events // self.config.chunk_events))]

    def used(self, index: int) -> int:
        """Events that the output takes from a chunk: all but from the last."""
        return min(self.config.chunk_events, self.events - index * self.config.chunk_events)

    def exists(self) -> bool:
        return check_output(self.output, self.recipe, self.events) is not None

    def run(self, executor: Executor, workers: int, advance: Advance) -> None:
        self._prepare()
        self._make(executor, workers, advance)
        provenance = {
            **self.recipe.provenance(),
            "requested": self.events,
            "generated": self.events,
            "selected": self.events,
            "chunks": len(self.tasks()),
        }
        write_patterns(self.output, self._stored(advance), provenance)
        self._tidy()

    def _prepare(self) -> None:
        self.chunks.mkdir(parents=True, exist_ok=True)
        # Nobody should commit half a simulation.
        (self.chunks.parent / ".gitignore").write_text("*\n", encoding="utf-8")

    def _make(self, executor: Executor, workers: int, advance: Advance) -> None:
        running: dict[Future[int], ChunkTask] = {}
        name = self.recipe.sample
        try:
            for task in self.tasks():
                if task.path.exists():
                    advance(self.used(task.index), name)
                    continue
                running[executor.submit(store_chunk, task)] = task
                if len(running) >= workers:
                    self._collect(running, advance)
            while running:
                self._collect(running, advance)
        except KeyboardInterrupt:
            raise SimulationInterrupted(f"stopped. {self._kept()}") from None
        finally:
            # Chunks still under way must not write after the caller has tidied up.
            for future in running:
                future.cancel()
            wait(running)

    def _collect(self, running: dict[Future[int], ChunkTask], advance: Advance) -> None:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            try:
                advance(self.used(future.result()), self.recipe.sample)
            except BrokenProcessPool:
                lost = f"a worker died (killed, or out of memory) on {task.describe()}"
                raise SimulationError(f"{lost}. {self._kept()}") from None
            except Exception as error:
                failed = f"{task.describe()} failed: {type(error).__name__}: {error}"
                raise SimulationError(f"{failed}. {self._kept()}") from error

    def _stored(self, advance: Advance) -> Iterator[Columns]:
        tasks = self.tasks()
        for task in tasks:
            advance(0, f"{self.recipe.sample}, writing {task.index + 1}/{len(tasks)}")
            yield self._load(task)

    def _load(self, task: ChunkTask) -> Columns:
        try:
            return load_chunk(task.path, self.used(task.index))
        except (ValueError, KeyError) as error:
            task.path.unlink()
            raise SimulationError(
                f"{task.describe()} was damaged on disk and is removed: give the same command again ({error})"
            ) from None

    def _kept(self) -> str:
        return f"Finished chunks are kept in {self.chunks}: the same command goes on from there"

    def _tidy(self) -> None:
        shutil.rmtree(self.chunks)
        if not any(p.is_dir() for p in self.chunks.parent.iterdir()):
            shutil.rmtree(self.chunks.parent)

    def result(self, *, reused: bool) -> SampleResult:
        return SampleResult(self.output, self.events, self.events, {"generated": self.events}, reused)
