"""Simulation of samples: generator, fast detector, selection, one ROOT file per sample."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepxai.core.console import Advance, track
from hepxai.core.workers import open_executor
from hepxai.simulate.chunk import ChunkTask, Simulation, load_chunk, store_chunk
from hepxai.simulate.kinds import load_settings, simulation_of
from hepxai.simulate.output import write_sample
from hepxai.simulate.recipe import check_output, recipe_of
from hepxai.simulate.workers import alone_in, run_chunks


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
        True if an equal run had written the file before.
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
    path: str | Path,
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

    The events depend on the settings, the seed and ``events`` alone, not on the number of workers. An
    interrupted run resumes when the same call is made again. With several workers the call must sit below
    ``if __name__ == "__main__":`` in a script, as always with spawned processes.

    Parameters
    ----------
    path : path
        ``simulate.yaml`` or the folder that holds it.
    out_dir : path
        Gets ``<sample>.root``, and ``.chunks`` while the simulation runs.
    events : int
        Number of selected events. A sample ends with the first whole cycle over its decay channels or slices
        that reaches this number; muon patterns have exactly this number, and fewer are the first of more.
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
        With slices of the phase space, ``genWeight`` is Pythia's weight times the cross section of the slice
        [pb] over the hard processes generated in it: the weights of a file add up to the selected cross
        section.

    Raises
    ------
    CardError
        Settings that are missing or not valid, or that Pythia does not know.
    OutputExistsError
        An output file is there that was made in another way.
    SimulationError
        A chunk failed, or a slice has too few events to be weighted; the message names it and its seed.
    MissingExtraError
        Without pythia8mc or fastjet.
    """
    if events < 1:
        raise ValueError(f"events must be at least 1, got {events}")
    settings = load_settings(path, seed=seed)
    names = list(settings.samples if samples is None else dict.fromkeys(samples))
    if unknown := [n for n in names if n not in settings.samples]:
        raise ValueError(f"no sample {unknown[0]!r} in the settings; there are {', '.join(settings.samples)}")
    simulations = [simulation_of(settings, name) for name in names]
    jobs = {s.sample: _Job(s, recipe_of(s), Path(out_dir), events) for s in simulations}
    done = {name: job.existing() for name, job in jobs.items()}  # complain before any work is done
    if missing := [name for name, result in done.items() if result is None]:
        with alone_in(Path(out_dir)), open_executor(workers) as executor:
            for name in missing:
                with track(name, events, show=progress) as advance:
                    done[name] = jobs[name].run(executor, workers, advance, keep_chunks=keep_chunks)
    return {name: result for name, result in done.items() if result is not None}


class _Report:
    """Progress in selected events, with the rate since the first call."""

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
class _Job:
    """One sample with at least ``events`` selected events."""

    simulation: Simulation[Any]
    recipe: dict[str, Any]
    out_dir: Path
    events: int

    @property
    def output(self) -> Path:
        return self.out_dir / f"{self.simulation.sample}.root"

    @property
    def chunks(self) -> Path:
        return self.out_dir / ".chunks" / self.simulation.sample

    @property
    def key(self) -> str:
        return str(self.recipe["recipe"][:16])

    def task(self, index: int) -> ChunkTask:
        # The recipe is part of the name: chunks of other settings are never picked up.
        path = self.chunks / f"{index:06d}-{self.key}.safetensors"
        return ChunkTask(self.simulation, index, path)

    def existing(self) -> SampleResult | None:
        stored = check_output(self.output, self.recipe, self.events)
        return None if stored is None else self._result(stored, reused=True)

    def run(self, executor: Executor, workers: int, advance: Advance, *, keep_chunks: bool) -> SampleResult:
        stored, report = self._stored(), _Report(advance)
        needed = run_chunks(self.task, store_chunk, self.events, executor, workers, stored, report)
        advance(0, "writing")
        chunks, entries = self.simulation.assemble([self.task(i).path for i in range(needed)], self.events)
        provenance = self.recipe | {"requested": self.events, "chunks": needed} | entries
        written = write_sample(self.output, chunks, provenance, self.simulation.layout)
        if not keep_chunks:
            self._tidy()
        return self._result(written, reused=False)

    def _stored(self) -> dict[int, int]:
        """Selected events of the chunks that an earlier run left."""
        self.chunks.mkdir(parents=True, exist_ok=True)
        # Nobody should commit half a simulation.
        (self.chunks.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        stored = {}
        for path in sorted(self.chunks.glob(f"*-{self.key}.safetensors")):
            try:
                stored[int(path.name.split("-")[0])] = load_chunk(path).selected
            except (ValueError, KeyError):
                path.unlink()  # damaged by the disk, not by us: made again
        return stored

    def _tidy(self) -> None:
        shutil.rmtree(self.chunks)
        if not any(p.is_dir() for p in self.chunks.parent.iterdir()):
            shutil.rmtree(self.chunks.parent)

    def _result(self, stored: dict[str, Any], *, reused: bool) -> SampleResult:
        return SampleResult(self.output, stored["generated"], stored["selected"], stored["cutflow"], reused)
