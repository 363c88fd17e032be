"""Simulate samples of multijet events: chunks in parallel, one weighted ROOT file per sample."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hepxai.core.files import sha256
from hepxai.simulate.config import digest
from hepxai.simulate.generator import import_generator
from hepxai.simulate.multijet.chunk import (
    COLLECTIONS,
    EVENT_COLUMNS,
    ChunkTask,
    SliceChunk,
    load_chunk,
    store_chunk,
)
from hepxai.simulate.multijet.config import MultijetConfig, load_multijet
from hepxai.simulate.multijet.normalisation import Normalisation, normalise
from hepxai.simulate.output import Layout, write_sample
from hepxai.simulate.recipe import Recipe
from hepxai.simulate.run import Job, SampleResult, chosen, run_jobs

_PACKAGES = ("pythia8mc", "fastjet", "awkward", "numpy", "scipy")
# The modules that decide what the events are; a change in another one leaves finished chunks valid.
_SOURCES = ("chunk", "generation", "jets", "truth", "veto")
_SHARED = ("collection", "generator", "jets", "response", "truth")
_LAYOUT = Layout(EVENT_COLUMNS, COLLECTIONS)


def simulate_multijet(
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

    The events depend on the settings, the seed and ``events`` alone, not on the number of workers. Their
    ``genWeight`` is Pythia's weight times the cross section of their slice [pb] over the hard processes
    generated in it, so that the weights of a file add up to the selected cross section; it is settled when
    the chunks are put together. A run that was stopped in any way goes on where it was when the same call is
    made again. With several workers the call must sit below ``if __name__ == "__main__":`` in a script.

    Parameters
    ----------
    config_path : path
        ``simulate.yaml`` or the folder that holds it.
    out_dir : path
        Gets ``<sample>.root``, and ``.chunks`` while the simulation runs.
    events : int
        Selected events wanted; the sample ends with the first whole cycle over its slices that reaches this
        number.
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
        A chunk failed, or a slice has too few events to be weighted; the message names it.
    MissingExtraError
        Without pythia8mc or fastjet.
    """
    config = load_multijet(config_path, seed=seed)
    jobs = [
        Job(_Slices(config, name), _recipe(config, name), Path(out_dir), events)
        for name in chosen(config.samples, samples)
    ]
    return run_jobs(jobs, workers, progress=progress, keep_chunks=keep_chunks)


def _recipe(config: MultijetConfig, sample: str) -> Recipe:
    for package in ("pythia8mc", "fastjet"):
        import_generator(package)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    here = Path(__file__).parent
    code = {f"multijet.{name}": sha256(here / f"{name}.py") for name in _SOURCES}
    code |= {name: sha256(here.parent / f"{name}.py") for name in _SHARED}
    return Recipe(sample, config.settings_of(sample), versions, digest(code))


@dataclass(frozen=True)
class _Slices:
    """Slices of the phase space, each with a fixed number of hard processes per chunk."""

    config: MultijetConfig
    sample: str

    @property
    def cycle(self) -> int:
        return len(self.config.samples[self.sample].slices)

    def task(self, index: int, path: Path) -> ChunkTask:
        return ChunkTask(self.config, self.sample, index, path)

    def store(self, task: ChunkTask, /) -> int:
        return store_chunk(task)

    def load(self, task: ChunkTask) -> SliceChunk:
        return load_chunk(task)

    def write(self, path: Path, tasks: Sequence[ChunkTask], provenance: dict[str, Any]) -> dict[str, Any]:
        names = [part.name for part in self.config.samples[self.sample].slices]
        slices = normalise(names, map(load_chunk, tasks))
        stored = {
            **provenance,
            "pythia_seeds": [tasks[0].seed, tasks[-1].seed],
            "slices": [part.summary() for part in slices],
        }
        return write_sample(path, _weighted(tasks, slices), stored, _LAYOUT)


def _weighted(tasks: Sequence[ChunkTask], slices: Sequence[Normalisation]) -> Iterator[SliceChunk]:
    """Chunks with weights in pb."""
    for task in tasks:
        chunk, weight = load_chunk(task), slices[task.slice].weight
        flow = chunk.cutflow
        scaled = replace(
            flow, sum_weights=weight * flow.sum_weights, sum_weights2=weight**2 * flow.sum_weights2
        )
        weights = (chunk.columns["genWeight"] * weight).astype(np.float32)
        yield replace(chunk, columns={**chunk.columns, "genWeight": weights}, cutflow=scaled)
