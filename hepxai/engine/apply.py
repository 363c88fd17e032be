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
from hepxai.engine.engines import ENGINES, Engine, Function
from hepxai.engine.partition import (
    FRIENDS,
    process_partition,
    remove_changed,
    sums_file,
    sums_of,
    write_friend_of,
)
from hepxai.engine.population import Population
from hepxai.export.friends import FriendPart, write_specification
from hepxai.run import Run
from hepxai.run.manifest import RunError

NUMBERS = "population.json"
LOST = (
    "its result is not in the folder, although its job has ended; it must be on a file system that all "
    "workers share: the same command tries it again"
)


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
    notes : tuple of str
        On the inputs: files without entries, momenta and weights that look like a mistake.
    """

    folder: Path
    population: Population
    cutflow: CutFlow
    failed: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def concerns(self) -> dict[str, tuple[str, ...]]:
        """Sentences on failed checks, by name of the explanation, and those on the inputs."""
        maps = {name: one.concerns for name, one in self.population.maps.items()}
        return {name: texts for name, texts in {**maps, "inputs": self.notes}.items() if texts}

    def to_json(self) -> dict[str, Any]:
        """Numbers of the population, the cut flow, and what failed."""
        sums = self.population
        scores = {name: one.to_json() for name, one in sums.scores.items()}
        maps = {
            name: {**one.about, "checks": one.checks, "concerns": one.concerns}
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
        every = [p for several in partitions.values() for p in several]
        self._remove_changed([p for f in files if not self._friend(f).is_file() for p in partitions[f]])
        failed = self._partitions(every)
        failed |= self._friends([f for f in files if all(self._done(p) for p in partitions[f])])
        result = self._numbers(every, failed)
        self._specification([f for f in files if self._friend(f).is_file()])
        return result

    def _remove_changed(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            if remove_changed(self.application.folder, partition):
                warnings.warn(
                    f"{partition}: its files were changed or removed; it is done anew", stacklevel=4
                )

    def _done(self, partition: Partition) -> bool:
        return sums_file(self.application.folder, partition).is_file()

    def _partitions(self, partitions: Sequence[Partition]) -> dict[str, str]:
        todo = {str(p): p for p in partitions if not self._done(p)}
        failed = self._run("partitions", process_partition, todo, len(partitions))
        return failed | {n: LOST for n, p in todo.items() if n not in failed and not self._done(p)}

    def _friends(self, files: Sequence[File]) -> dict[str, str]:
        todo = {f.source: f for f in files if not self._friend(f).is_file()}
        failed = self._run("friend trees", write_friend_of, todo, len(files))
        return failed | {
            n: LOST for n, f in todo.items() if n not in failed and not self._friend(f).is_file()
        }

    def _run(self, what: str, function: Function, todo: Mapping[str, Any], total: int) -> dict[str, str]:
        """Do what is left, with a progress bar; what failed, and why."""
        folder, digest = str(self.application.folder.absolute()), self.application.digest
        jobs, failed = {name: (folder, digest, of) for name, of in todo.items()}, {}
        with track(what, total, show=True, done=total - len(todo)) as advance:
            for name, problem in self.engine(function, jobs) if jobs else ():
                advance(1, name)
                if problem is not None:
                    failed[name] = str(problem) or type(problem).__name__
        return failed

    def _friend(self, file: File) -> Path:
        return self.application.folder / FRIENDS / self.application.friend_name(file)

    def _specification(self, files: Sequence[File]) -> None:
        """Files that open the friend trees, of the files that have one."""
        if not files:
            return
        application, run = self.application, self.application.run
        none = application.no_events(files)
        maps = [m.replace(method=n) for n, m in application.no_maps(none).items()]
        scores = run.friend_scores(*run.score_events(none))
        part = FriendPart(0, 0, none, maps, scores, run.events.schema.classes)
        names = [application.friend_name(f) for f in files]
        write_specification(application.folder / FRIENDS, names, none, part.branches())

    def _numbers(self, partitions: Sequence[Partition], failed: Mapping[str, str]) -> Applied:
        parts = [sums_of(self.application.folder, p) for p in partitions if self._done(p)]
        population = reduce(lambda a, b: a + b, (p for p, *_ in parts), Population())
        cutflow = reduce(lambda a, b: a + b, (c for _, c, _ in parts), CutFlow())
        notes = tuple(dict.fromkeys(note for *_, several in parts for note in several))
        result = Applied(self.application.folder, population, cutflow, failed, notes)
        write_json(self.application.folder / NUMBERS, result.to_json())
        for what, texts in result.concerns().items():
            more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
            warnings.warn(f"{what}: {texts[0]}{more}; all are in {NUMBERS}", stacklevel=4)
        return result
