"""A trained run applied to files: a folder with what to do, the parts that are done, and the results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.means import most_particles, profile_edges
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.cards import dump_card, load_card
from hepxai.core.files import holds_only, write_json, write_text
from hepxai.core.fingerprint import fingerprint
from hepxai.datasets import DatasetCard, ReadError, card_of_file, card_of_files
from hepxai.datasets.building import schema_of
from hepxai.datasets.data_card import absolute_paths
from hepxai.datasets.sources import find_files, opened
from hepxai.engine.population import Frame
from hepxai.events import Events
from hepxai.events.splits import ALL_FOLDS
from hepxai.export.rootspec import friend_names
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.run import EnsembleRun, Run
from hepxai.run.manifest import RunError
from hepxai.run.with_data import same_events

SETTINGS, CARD = "apply.json", "dataset.yaml"
BINS = 50
"""Bins of the histograms of scores."""


@dataclass(frozen=True)
class File:
    """Tree of a file, and its number among the files.

    Attributes
    ----------
    number : int
    path, tree, sample : str
    entries : int or None
        None if it cannot be opened.
    uuid : str or None
        Of the ROOT file; another one was written since.
    """

    number: int
    path: str
    tree: str
    sample: str
    entries: int | None
    uuid: str | None

    @property
    def source(self) -> str:
        """``path:tree``."""
        return f"{self.path}:{self.tree}"


@dataclass(frozen=True)
class Partition:
    """Entries of a file, the unit of work.

    Attributes
    ----------
    file : File
    start, stop : int
        Both 0 for a file that is empty or cannot be opened.
    """

    file: File
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of its folder; names sort as files and entries do."""
        return f"{self.file.number:06d}-{self.start:012d}-{self.stop:012d}"

    def __str__(self) -> str:
        entries = f", entries {self.start:,} to {self.stop:,}" if self.start < self.stop else ""
        return f"{self.file.source}{entries}"


@dataclass(frozen=True)
class Application:
    """Folder in which a run is applied to files.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    @staticmethod
    def start(
        folder: Path,
        run: Run,
        source: DatasetCard | Sequence[str],
        sample: str | None,
        names: Sequence[str] | None,
        entries: int,
    ) -> Application:
        """Begin in a new or empty folder, or resume.

        Parameters
        ----------
        folder : Path
        run : Run
        source : DatasetCard or sequence of str
            Card that lists the files, or files.
        sample : str, optional
            Of the files.
        names : sequence of str, optional
            Explanations of the run to repeat on the files; all by default.
        entries : int
            Largest partition.

        Raises
        ------
        RunError
            If the folder holds something else, or work on other files or with other settings; if the run has
            several folds; if it has no such explanation.
        """
        if isinstance(run.card, PythonCard):
            raise RunError(
                f"{run.folder} has a model of your own Python, which the workers of an engine cannot load; "
                "list the files on a data-set card, and give it to `hepxai run CARD --model FILE.py:FUNCTION`"
            )
        if run.dataset.split.fold == ALL_FOLDS:
            raise RunError(
                f"{run.folder} scores each event by the networks of its fold, and other files have none; "
                "apply the run of one fold, as in members/fold1"
            )
        card = same_events(run, source) if isinstance(source, DatasetCard) else run.dataset
        files = () if isinstance(source, DatasetCard) else source
        chosen, maps = list(run.maps() if names is None else names), run.maps()
        if missing := [name for name in chosen if name not in maps]:
            have = ", ".join(maps) or "none"
            raise RunError(
                f"{run.folder} has no explanation {missing[0]!r}, only {have}; "
                f"`hepxai explain {run.folder} -m {missing[0]}` makes it"
            )
        application = Application(folder)
        application.__dict__["run"] = run  # where cached_property keeps it
        listed = {"files": absolute_paths(files), "sample": sample}
        application._begin(run, card, listed, chosen, entries)
        return application

    def _begin(
        self,
        run: Run,
        card: DatasetCard,
        listed: dict[str, Any],
        names: Sequence[str],
        entries: int,
    ) -> None:
        reading = _listing(card, listed)
        settings: dict[str, Any] = {
            "run": str(run.folder.absolute()),
            "run_files": files_of(run),
            "hepxai": version("hepxai"),
            "explanations": names,
            "entries": entries,
            "listed": listed,
            "frame": asdict(frame_of(run, reading)),
            "files": [asdict(file) for file in _files(reading)],
        }
        if (self.folder / SETTINGS).exists():
            self._check_same(settings, dump_card(card))
            return
        if not holds_only(self.folder, {CARD: dump_card(card)}, (".lock", SETTINGS)):
            raise RunError(f"{self.folder} holds something else; choose a new or empty folder with --out")
        write_text(self.folder / CARD, dump_card(card))
        write_json(self.folder / SETTINGS, settings)

    def _check_same(self, settings: dict[str, Any], card: str) -> None:
        """Refuse other settings or files; a file that could not be opened may have come back."""
        before, now = (json.loads(json.dumps(content)) for content in (self.settings, settings))
        merged = [
            new if old["entries"] is None else old if new["entries"] is None else None
            for old, new in zip(before["files"], now["files"], strict=False)
        ]
        for content in (before, now):
            content["files"] = [m or f for m, f in zip(merged, content["files"], strict=False)]
        differing = [key for key in now if before.get(key) != now[key]]
        differing += [CARD] if (self.folder / CARD).read_text(encoding="utf-8") != card else []
        if differing:
            raise RunError(
                f"{self.folder} was begun with another {differing[0].replace('_', ' ')}; choose another "
                "--out, or remove the folder to start afresh"
            )
        write_json(self.folder / SETTINGS, now)
        self.__dict__.pop("settings")

    # --- what to do --------------------------------------------------------------------------

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Content of ``apply.json``."""
        settings: dict[str, Any] = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
        return settings

    @cached_property
    def card(self) -> DatasetCard:
        """Card that lists the files."""
        return _listing(load_card(self.folder / CARD, DatasetCard), self.settings["listed"])

    @cached_property
    def frame(self) -> Frame:
        """Groups and bins of the sums."""
        return Frame.from_json(self.settings["frame"])

    @cached_property
    def run(self) -> Run:
        """Run that is applied; its files are those of the beginning."""
        run = Run.open(self.settings["run"])
        if files_of(run) != self.settings["run_files"]:
            raise RunError(
                f"{run.folder} has changed since {self.folder} was begun; choose another --out "
                "for its new state"
            )
        return run

    @property
    def digest(self) -> str:
        """Hash of what is to be done; the files that could not be opened do not count."""
        files = [{**f, "entries": None, "uuid": None} for f in self.settings["files"]]
        card = (self.folder / CARD).read_text(encoding="utf-8")
        return fingerprint({**self.settings, "files": files}, card)

    def no_events(self, files: Sequence[File]) -> Events:
        """No event of these files, with the columns that their events have."""
        schema, none = schema_of(self.card), self.run.events[:0]
        masks = {name for particles in self.card.particles.values() for name in particles.truth}
        return none.replace(
            schema=schema,
            targets=np.zeros((0, len(schema.targets)), dtype=np.float32),
            observers={n: c for n, c in none.observers.items() if n in self.card.observers},
            truth={n: c for n, c in none.truth.items() if n in masks},
            files=tuple(f.source for f in files),
            file_entries=tuple(f.entries or 0 for f in files),
            samples=tuple(f.sample for f in files),
        )

    def no_maps(self, none: Events) -> dict[str, Attribution]:
        """Explanations of no event, with the axes and the columns that those of events have."""
        maps = self.run.maps()
        return {name: maps[name][:0].replace(events=none) for name in self.settings["explanations"]}

    def files(self) -> list[File]:
        """Files, with the entries that they had when they could be opened."""
        return [File(**file) for file in self.settings["files"]]

    def partitions(self, file: File) -> list[Partition]:
        """Partitions of a file, by rising entries."""
        size, entries = self.settings["entries"], file.entries or 0
        starts = range(0, max(entries, 1), size)
        return [Partition(file, start, min(start + size, entries)) for start in starts]

    def friend_name(self, file: File) -> str:
        """Name of the friend tree's file."""
        return friend_names([f.source for f in self.files()])[file.number]

    def card_of(self, file: File) -> DatasetCard:
        """Card that reads one file."""
        return card_of_file(self.card, file.path, file.tree, file.sample)


def _listing(card: DatasetCard, listed: Mapping[str, Any]) -> DatasetCard:
    """Card that lists the files that were given, or the card itself if none were."""
    return card_of_files(card, listed["files"], listed["sample"]) if listed["files"] else card


def _files(card: DatasetCard) -> list[File]:
    """Files of a card; those that cannot be opened have no number of entries."""
    return [
        File(number, listed.path, listed.tree, listed.sample, *_entries(listed.path, listed.tree))
        for number, listed in enumerate(find_files(card))
    ]


def _entries(path: str, tree: str) -> tuple[int | None, str | None]:
    try:
        with opened(path, tree) as content:
            return int(content.num_entries), str(content.file.uuid)
    except ReadError:
        return None, None


def files_of(run: Run) -> dict[str, str]:
    """Files that a run and its trainings rely on, with their hashes."""
    members = run.members.values() if isinstance(run, EnsembleRun) else ()
    folders = {"": run, **{f"{m.folder.name}/": m for m in members}}
    return {
        f"{at}{name}": digest for at, one in folders.items() for name, digest in one.manifest.names().items()
    }


def frame_of(run: Run, card: DatasetCard) -> Frame:
    """Groups and bins that suit the events of a run, with a profile if the card asks for one."""
    edges = {}
    for name, scores in zip(run.outputs, run.scores.T, strict=True):
        low, high = float(scores.min()), float(scores.max())
        edges[name] = tuple(np.linspace(low, high if high > low else low + 1, BINS + 1).tolist())
    focus, most = card.focus, most_particles(run.events)
    pairs = [mean_of_trainings(m) for m in run.maps().values() if m.axes[0] == "pair"]
    if focus is None or focus.observer is None or not pairs:
        return Frame(most, edges)
    if focus.observer not in pairs[0].events.observers:
        raise RunError(
            f"focus: the events of {run.folder} have no observer {focus.observer!r}; take one of its card"
        )
    bins = focus.edges or profile_edges(pairs[0], focus.pair, focus.observer, scale=focus.scale).tolist()
    return Frame(most, edges, focus.pair, focus.observer, tuple(bins))
