"""Explanations in a run folder: the reported population of events, and others that are set aside."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepxai.core.chunks import evenly_spread
from hepxai.core.console import say
from hepxai.core.files import read_tensors, replacing, sha256
from hepxai.core.fingerprint import fingerprint
from hepxai.core.jagged import IntArray
from hepxai.events import SPLITS, Events
from hepxai.run.manifest import EXPLAINED, POPULATION, VARIATIONS, Manifest, RunError

PRODUCTS = (
    "report.html",
    "numbers.json",
    "histograms.root",
    "templates.root",
    "workspace.json",
    "figures",
    "friends",
    "comparison",
)
"""Files and folders of a run that are made from its explanations."""


@dataclass(frozen=True)
class Populations:
    """Explanations of one population of events at a time; those of other populations are set aside.

    Attributes
    ----------
    folder : Path
        Run folder.
    """

    folder: Path

    def stored(self) -> dict[str, Path]:
        """Files of the current population by method, and the one that lists its events."""
        files = (self.folder / n for n in Manifest(self.folder).names() if n.startswith(f"{EXPLAINED}/"))
        return {f.stem: f for f in files if f.is_file()}

    def holds(self, key: str, rows: IntArray) -> bool:
        """True if there is an explanation of these events, current or set aside."""
        current = self.rows()
        if current is not None and np.array_equal(current, rows):
            return key in self.stored()
        return (self.aside(rows) / f"{key}.safetensors").is_file()

    def rows(self) -> IntArray | None:
        """Rows of the explained events; None without an explanation."""
        file = self.stored().get(POPULATION)
        return None if file is None else read_tensors(file)[0]["rows"]

    def aside(self, rows: IntArray) -> Path:
        """Folder for the explanations of these events while the run reports on others."""
        digest = fingerprint(rows.astype(np.int64))[:12]
        return self.folder / f"{EXPLAINED}-of-{len(rows)}-{digest}"

    def choose(self, events: Events, split: str, maximum: int | None) -> IntArray:
        """Rows of the events to explain; all methods of a run share them.

        Parameters
        ----------
        events : Events
            All events of the run.
        split : str
        maximum : int, optional
            Number of events, evenly spread over the split; by default the explained events, or else all.
        """
        rows = np.flatnonzero(events.split == SPLITS.index(split))
        if len(rows) == 0:
            raise RunError(f"the {split} split is empty; there is nothing to explain")
        if maximum is not None and maximum < len(rows):
            return rows[evenly_spread(len(rows), maximum)]
        current = self.rows()
        if maximum is not None or current is None or not np.isin(current, rows).all():
            return rows
        if len(current) < len(rows):
            say(
                f"{len(current)} of the {len(rows)} {split} events, as for the other explanations of this "
                f"run; -n {len(rows)} explains all"
            )
        return current

    def switch(self, events: Events, rows: IntArray) -> None:
        """Set aside explanations of other events than ``rows``, restore those of ``rows``, and log it.

        Report, figures and friend trees of the other events are removed. Both populations stay complete if
        the process is killed.
        """
        current = self.rows()
        if current is None:
            self._restore(self.aside(rows))
        if current is None or np.array_equal(current, rows):
            return
        files, aside = self.stored(), self.aside(current)
        self._set_aside(files.values(), aside)
        remove_products(self.folder)
        self._restore(self.aside(rows))
        splits = " and ".join(SPLITS[s] for s in np.unique(events.split[current]))
        methods = ", ".join(sorted(files.keys() - {POPULATION}))
        say(
            f"this run now explains {len(rows)} other events: explanations of {len(current)} {splits} events "
            f"({methods}) are set aside in {aside} until those events are explained again; their report, "
            "figures, numbers and friend trees are removed, `hepxai report` writes new ones"
        )

    def remove(self, key: str) -> None:
        """Remove an explanation of the current events."""
        file = self.stored()[key]
        Manifest(self.folder).forget(f"{EXPLAINED}/{file.name}")
        file.unlink()

    def _set_aside(self, files: Iterable[Path], aside: Path) -> None:
        for file in files:
            _copy(file, aside / file.name)
        Manifest(aside).record(*(file.name for file in files))
        Manifest(self.folder).forget(*(f"{EXPLAINED}/{file.name}" for file in files))
        for file in files:
            file.unlink()

    def _restore(self, aside: Path) -> None:
        """Restore the files that are unchanged since they were set aside; the others are dropped."""
        hashes = Manifest(aside).names()
        unchanged = [f for f in sorted(aside.glob("*.safetensors")) if hashes.get(f.name) == sha256(f)]
        if POPULATION not in (file.stem for file in unchanged):
            return
        for file in unchanged:
            _copy(file, self.folder / EXPLAINED / file.name)
        Manifest(self.folder).record(*(f"{EXPLAINED}/{file.name}" for file in unchanged))
        shutil.rmtree(aside)


def remove_products(folder: Path) -> None:
    """Remove what was made from the explanations of a run."""
    varied = [f for f in (folder / VARIATIONS).glob("*") if f.is_dir() and not f.is_symlink()]
    for product in (one / name for one in (folder, *varied) for name in PRODUCTS):
        if product.is_dir() and not product.is_symlink():
            shutil.rmtree(product)
        else:
            product.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)
