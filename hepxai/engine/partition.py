"""Work on one partition, and the friend tree of one file: functions of a folder and of what to do there."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from hepxai.attribution import Attribution
from hepxai.core.files import read_json, read_tensors, sha256, write_json, write_tensors
from hepxai.datasets import CutFlow, ReadError, ReadLog, read_entries
from hepxai.datasets.sources import opened
from hepxai.engine.application import Application, File, Partition
from hepxai.engine.population import Population
from hepxai.events import Events
from hepxai.export.friends import FriendPart, write_friend
from hepxai.run.ensemble import one_thread
from hepxai.run.manifest import RunError

PARTS, FRIENDS = "parts", "friends"
_TURN = threading.Lock()
"""Threads of one process take turns: models and settings of torch are shared."""
SUMS, EVENTS, SCORES = "sums.json", "events.safetensors", "scores.safetensors"


@lru_cache(maxsize=1)
def load_application(folder: str, digest: str) -> Application:
    """Application of a folder, loaded once in a process: its run, model and prepared explainers stay.

    Raises
    ------
    RunError
        If the folder has another `Application.digest`.
    """
    application = Application(Path(folder))
    if application.digest != digest:
        raise RunError(f"{folder} was replaced in the meantime; the same command starts afresh")
    return application


def sums_file(folder: Path, partition: Partition) -> Path:
    """File with the sums of a partition, which is there if the partition is done."""
    return folder / PARTS / partition.name / SUMS


def process_partition(folder: str, digest: str, partition: Partition) -> None:
    """Score and explain the events of a partition, and store them with their sums.

    A function of the run, of the file and of the entries: where and in which order partitions are done does
    not change a bit of the result.
    """
    application, done = load_application(folder, digest), sums_file(Path(folder), partition)
    if done.exists():
        return
    with _TURN, one_thread():
        events, log = _events(application, partition)
        scores, spread = application.run.score_events(events)
        names = application.settings["explanations"]
        maps = application.run.explain_events(events, names) if len(events) else application.no_maps(events)
    events.save(done.with_name(EVENTS))
    arrays = {"scores": scores} | ({} if spread is None else {"spread": spread})
    write_tensors(done.with_name(SCORES), arrays, {})
    for name, one in maps.items():
        one.save(done.with_name(f"{name}.safetensors"))
    by_output = dict(zip(application.run.outputs, scores.T, strict=True))
    empty = not len(events)
    population = Population() if empty else Population.of(events, by_output, maps, application.frame)
    hashes = {path.name: sha256(path) for path in sorted(done.parent.glob("*.safetensors"))}
    content: dict[str, Any] = {"files": hashes, "notes": [*log.notes, *log.doubts]}
    content |= {"cutflow": log.cutflow.to_json(), "population": population.to_json()}
    write_json(done, content)


def _events(application: Application, partition: Partition) -> tuple[Events, ReadLog]:
    file = partition.file
    if partition.start < partition.stop:
        return read_entries(application.card_of(file), partition.start, partition.stop)
    if file.entries is None:
        with opened(file.path, file.tree):
            raise ReadError(f"{file.source}: could not be opened before, and can now; give the command again")
    return application.no_events([file]), ReadLog()


def write_friend_of(folder: str, digest: str, file: File) -> None:
    """Write the friend tree of a file whose partitions are done; their explanations are then removed."""
    application = load_application(folder, digest)
    partitions = application.partitions(file)
    write_friend(
        application.folder / FRIENDS / application.friend_name(file), _parts(application, partitions)
    )
    for partition in partitions:
        for path in sums_file(application.folder, partition).parent.glob("*.safetensors"):
            path.unlink()


def _parts(application: Application, partitions: list[Partition]) -> Iterator[FriendPart]:
    for partition in partitions:
        folder = sums_file(application.folder, partition).parent
        events = Events.load(folder / EVENTS)
        arrays, _ = read_tensors(folder / SCORES)
        names = application.settings["explanations"]
        maps = [Attribution.load(folder / f"{n}.safetensors", events).replace(method=n) for n in names]
        scores = application.run.friend_scores(arrays["scores"], arrays.get("spread"))
        classes = application.run.events.schema.classes
        yield FriendPart(partition.start, partition.stop, events, maps, scores, classes)


def remove_changed(folder: Path, partition: Partition) -> bool:
    """Remove a partition that is done if one of its files was changed or is missing; True if so."""
    done = sums_file(folder, partition)
    if not done.is_file():
        return False
    files = {done.with_name(name): digest for name, digest in read_json(done)["files"].items()}
    changed = any(not path.is_file() or sha256(path) != digest for path, digest in files.items())
    if changed:
        shutil.rmtree(done.parent)
    return changed


def sums_of(folder: Path, partition: Partition) -> tuple[Population, CutFlow, list[str]]:
    """Stored sums of a partition, and its notes."""
    content: dict[str, Any] = read_json(sums_file(folder, partition))
    sums = Population.from_json(content["population"]), CutFlow.from_json(content["cutflow"])
    return *sums, content["notes"]
