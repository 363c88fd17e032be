"""Application of a trained run to any number of files: friend trees, and numbers of the whole population."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from hepxai.core.console import track
from hepxai.core.files import locked, write_json
from hepxai.datasets import CutFlow, DatasetCard
from hepxai.engine.application import Application, File, Partition
from hepxai.engine.engines import ENGINES, Engine, Function, Outcomes
from hepxai.engine.partition import FRIENDS, remove_changed, sums_file, sums_of, work_on, write_friend_of
from hepxai.engine.population import Population
from hepxai.export.friends import FriendPart, write_specification
from hepxai.run import Run
from hepxai.run.manifest import RunError

NUMBERS = "population.json"


@dataclass(frozen=True)
class Applied:
    """Result of an application.

    Attributes
    ----------
    folder : Path
        With ``friends/``, one tree for each file, and ``population.json``.
    population : Population
        Of all partitions that are done.
    cutflow : CutFlow
    failed : mapping of str to str
        Partitions that failed, or files without their friend tree, and the reason.
    """

    folder: Path
    population: Population
    cutflow: CutFlow
    failed: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Numbers of the population, the cut flow, and what failed."""
        sums = self.population
        scores = {name: one.to_json() for name, one in sums.scores.items()}
        maps = {
            name: {**one.about, "worst_checks": one.checks}
            | {kind: means.rows() for kind, means in one.means().items()}
            for name, one in sums.maps.items()
        }
        steps = [vars(row) for row in self.cutflow.rows]
        return {
            "events": sums.events,
            "cutflow": steps,
            "scores": scores,
            "maps": maps,
            "failed": self.failed,
        }


def apply_run(
    run: Run,
    source: DatasetCard | Sequence[str],
    folder: str | Path,
    *,
    sample: str | None = None,
    explanations: Sequence[str] | None = None,
    entries: int = 50_000,
    workers: int = 1,
    engine: str = "processes",
    scheduler: str | None = None,
) -> Applied:
    """Score and explain the events of any number of files with a trained run.

    One partition of entries is a job of its own, and its result does not depend on the others. The same call
    resumes after an interruption: partitions that are done are not repeated. A file that cannot be read does
    not stop the others.

    Parameters
    ----------
    run : Run
    source : DatasetCard or sequence of str
        Card that lists the files; or files, which the card of the run reads.
    folder : path
        New, empty, or that of an interrupted call. With a Dask cluster of several machines, run and folder
        must be on a file system that all of them have.
    sample : str, optional
        Sample of the run's card whose class and weight the events of the files have; by default they are
        unlabelled data.
    explanations : sequence of str, optional
        Explanations of the run that are made of the events; all by default, none if empty.
    entries : int
        Largest partition. A worker holds the events and explanations of one partition in memory.
    workers : int
        Processes.
    engine : str
        "processes" of this machine, or "dask".
    scheduler : str, optional
        Address of a Dask scheduler.

    Returns
    -------
    Applied

    Raises
    ------
    RunError
        The folder is of something else, or the run has no such explanation.
    ValueError
        Unknown engine, or a scheduler without Dask.
    """
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}; choose one of {', '.join(ENGINES)}")
    if scheduler is not None and engine != "dask":
        raise ValueError("a scheduler is of Dask; add engine='dask' (--engine dask)")
    if entries < 1 or workers < 1:
        raise ValueError(f"entries={entries}, workers={workers}; at least 1 of each is needed")
    if sample is not None and isinstance(source, DatasetCard):
        raise ValueError(f"sample={sample!r}: a card says itself which samples its files are; leave it out")
    with locked(Path(folder), RunError):
        application = Application.start(Path(folder), run, source, sample, explanations, entries)
        with ENGINES[engine](workers, scheduler) as chosen:
            return _Work(application, chosen).do()


@dataclass(frozen=True)
class _Work:
    application: Application
    engine: Engine

    def do(self) -> Applied:
        files = self.application.files()
        partitions = {file: self.application.partitions(file) for file in files}
        self._remove_changed([p for f in files if not self._friend(f).is_file() for p in partitions[f]])
        failed = self._partitions([p for several in partitions.values() for p in several])
        whole = [f for f in files if all(self._done(p) for p in partitions[f])]
        failed |= self._friends(whole)
        self._specification(whole)
        return self._numbers([p for several in partitions.values() for p in several], failed)

    def _remove_changed(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            if remove_changed(self.application.folder, partition):
                warnings.warn(
                    f"{partition}: its files were changed or removed; it is done anew", stacklevel=4
                )

    def _done(self, partition: Partition) -> bool:
        return sums_file(self.application.folder, partition).is_file()

    def _partitions(self, partitions: Sequence[Partition]) -> dict[str, str]:
        todo = {p.name: p for p in partitions if not self._done(p)}
        with track("partitions", len(partitions), show=True, done=len(partitions) - len(todo)) as advance:
            failed = {}
            for name, problem in self._run(work_on, todo):
                advance(1, str(todo[name]))
                if problem is not None:
                    failed[str(todo[name])] = _sentence(problem)
        return failed

    def _friends(self, files: Sequence[File]) -> dict[str, str]:
        friends = {f.source: f for f in files if not self._friend(f).is_file()}
        outcomes = self._run(write_friend_of, friends)
        return {name: _sentence(problem) for name, problem in outcomes if problem is not None}

    def _run(self, function: Function, todo: Mapping[str, Any]) -> Outcomes:
        jobs = {name: (str(self.application.folder.absolute()), of) for name, of in todo.items()}
        return self.engine(function, jobs) if jobs else iter(())

    def _friend(self, file: File) -> Path:
        return self.application.folder / FRIENDS / self.application.friend_name(file)

    def _specification(self, files: Sequence[File]) -> None:
        """Files that open the friend trees, of the files that have one."""
        if not files:
            return
        run, names = self.application.run, self.application.settings["explanations"]
        about = ((f.source, f.entries or 0, f.sample) for f in files)
        sources, sizes, samples = zip(*about, strict=True)
        none = run.events[:0].replace(files=sources, file_entries=sizes, samples=samples)
        scores, spread = run.score_events(none)
        maps = [m.replace(method=n) for n, m in run.explain_events(none, names).items()]
        branches = FriendPart(0, 0, none, maps, run.friend_scores(scores, spread)).branches()
        write_specification(self.application.folder / FRIENDS, none, branches)

    def _numbers(self, partitions: Sequence[Partition], failed: Mapping[str, str]) -> Applied:
        parts = [sums_of(self.application.folder, p) for p in partitions if self._done(p)]
        population = reduce(lambda a, b: a + b, (p for p, _ in parts), Population())
        cutflow = reduce(lambda a, b: a + b, (c for _, c in parts), CutFlow())
        result = Applied(self.application.folder, population, cutflow, failed)
        write_json(self.application.folder / NUMBERS, result.to_json())
        return result


def _sentence(problem: Exception) -> str:
    return f"{problem}" if str(problem) else type(problem).__name__
