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

from hepxai.attribution.means import most_particles, profile_edges
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.cards import dump_card, load_card
from hepxai.core.files import write_json, write_text
from hepxai.datasets import DatasetCard, ReadError, card_of_file, card_of_files
from hepxai.datasets.data_card import absolute_paths
from hepxai.datasets.sources import find_files, opened
from hepxai.engine.population import Frame
from hepxai.events.splits import ALL_FOLDS
from hepxai.export.rootspec import friend_names
from hepxai.run import Run
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
    """

    number: int
    path: str
    tree: str
    sample: str
    entries: int | None

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
            "run_files": run.manifest.names(),
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
        if self.folder.is_dir() and any(path.name != ".lock" for path in self.folder.iterdir()):
            raise RunError(f"{self.folder} holds something else; choose a new or empty folder with --out")
        write_text(self.folder / CARD, dump_card(card))
        write_json(self.folder / SETTINGS, settings)

    def _check_same(self, settings: dict[str, Any], card: str) -> None:
        """Refuse other settings or files; a file that could not be opened may have come back."""
        before, settings = read_back(self.settings), read_back(settings)
        lost = {f["number"] for f in before["files"] if f["entries"] is None}
        lost |= {f["number"] for f in settings["files"] if f["entries"] is None}
        for content in (before, settings):
            for file in content["files"]:
                file["entries"] = None if file["number"] in lost else file["entries"]
        differing = [key for key in settings if before.get(key) != settings[key]]
        if (self.folder / CARD).read_text(encoding="utf-8") != card:
            differing.append(CARD)
        if differing:
            raise RunError(
                f"{self.folder} was begun with another {differing[0].replace('_', ' ')}; choose another "
                "--out, or remove the folder to start afresh"
            )

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
        if run.manifest.names() != self.settings["run_files"]:
            raise RunError(
                f"{run.folder} has changed since {self.folder} was begun; choose another --out "
                "for its new state"
            )
        return run

    def files(self) -> list[File]:
        """Files, opened again for the number of their entries."""
        return list(_files(self.card))

    def partitions(self, file: File) -> list[Partition]:
        """Partitions of a file, by rising entries."""
        size, entries = self.settings["entries"], file.entries or 0
        starts = range(0, max(entries, 1), size)
        return [Partition(file, start, min(start + size, entries)) for start in starts]

    def friend_name(self, file: File) -> str:
        """Name of the friend tree's file."""
        sources = [f"{f['path']}:{f['tree']}" for f in self.settings["files"]]
        return friend_names(sources)[file.number]

    def card_of(self, file: File) -> DatasetCard:
        """Card that reads one file."""
        return card_of_file(self.card, file.path, file.tree, file.sample)


def _listing(card: DatasetCard, listed: Mapping[str, Any]) -> DatasetCard:
    """Card that lists the files that were given, or the card itself if none were."""
    return card_of_files(card, listed["files"], listed["sample"]) if listed["files"] else card


def read_back(value: Any) -> Any:
    """Copy of a value as JSON gives it back."""
    if isinstance(value, dict):
        return {str(k): read_back(v) for k, v in value.items()}
    return [read_back(v) for v in value] if isinstance(value, list | tuple) else value


def _files(card: DatasetCard) -> list[File]:
    """Files of a card; those that cannot be opened have no number of entries."""
    return [
        File(number, listed.path, listed.tree, listed.sample, _entries(listed.path, listed.tree))
        for number, listed in enumerate(find_files(card))
    ]


def _entries(path: str, tree: str) -> int | None:
    try:
        with opened(path, tree) as content:
            return int(content.num_entries)
    except ReadError:
        return None


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
    bins = focus.edges or profile_edges(pairs[0], focus.pair, focus.observer, scale=focus.scale).tolist()
    return Frame(most, edges, focus.pair, focus.observer, tuple(bins))
