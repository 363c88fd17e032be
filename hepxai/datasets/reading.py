"""Reading ROOT files into `Events`: chunk by chunk, columnar, nothing skipped."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import awkward as ak
import numpy as np

from hepxai.core.arguments import check_type
from hepxai.core.binning import bin_of
from hepxai.core.console import track
from hepxai.datasets.branches import is_rntuple, one_line_error, read_error
from hepxai.datasets.building import EventBuilder
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.columns import ReadError
from hepxai.datasets.cutflow import CutFlow
from hepxai.datasets.planning import FilePlan, plan_files
from hepxai.datasets.quality import weight_warnings
from hepxai.datasets.sources import FileInfo, opened, readable
from hepxai.events import Events


@dataclass(frozen=True)
class Reading:
    """Events of a card, with cut flow and files.

    Attributes
    ----------
    events : Events
    cutflow : CutFlow
    files : tuple of FileInfo
    notes : tuple of str
        Files without entries, events numbered by entry, momenta and weights that look like a mistake.
    """

    events: Events
    cutflow: CutFlow
    files: tuple[FileInfo, ...]
    notes: tuple[str, ...]

    def inputs(self) -> list[dict[str, Any]]:
        """Files with their hash, entries and size in bytes, for JSON."""
        return [
            {"file": str(f), "sha256": f.sha256(), "entries": f.entries, "bytes": f.size} for f in self.files
        ]

    def changed_since(self, inputs: Iterable[Mapping[str, Any]]) -> str | None:
        """First file that differs from earlier `inputs`, and the difference; None if all are equal."""
        before, now = (
            {f["file"]: (f["sha256"], f["entries"]) for f in files} for files in (inputs, self.inputs())
        )
        for file in sorted(before.keys() | now.keys()):
            if before.get(file) != now.get(file):
                return f"{file} {'is gone' if file not in now else 'changed' if file in before else 'is new'}"
        return None


@dataclass
class ReadLog:
    """Cut flow, files and notes, collected while files are read."""

    cutflow: CutFlow = field(default_factory=CutFlow)
    files: tuple[FileInfo, ...] = ()
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)  # momenta and weights that look like a mistake


def read(
    card: DatasetCard,
    *,
    limit: int | None = None,
    chunk: str | int = "50 MB",
    progress: bool = False,
) -> Reading:
    """Read all events that a card selects.

    Parameters
    ----------
    card : DatasetCard
    limit : int, optional
        Entries to read in each sample; all by default.
    chunk : str or int
        Memory ("50 MB") or entries to read at a time. The result does not depend on it.
    progress : bool
        Draw a progress bar.

    Raises
    ------
    CardError
        If the card names branches that the files do not have.
    ReadError
        If a file cannot be read whole, holds values that cannot be used, or nothing is selected.
    """
    ledger = ReadLog()
    chunks = list(iterate(card, limit=limit, chunk=chunk, progress=progress, ledger=ledger))
    events = Events.concatenate(chunks)
    _require_events(card, events, ledger.cutflow)
    if limit is None:
        _require_binned(card, events)
    ledger.doubts += weight_warnings(events)
    for doubt in ledger.doubts:
        warnings.warn(doubt, stacklevel=2)
    return Reading(events, ledger.cutflow, ledger.files, (*ledger.notes, *ledger.doubts))


def iterate(
    card: DatasetCard,
    *,
    limit: int | None = None,
    chunk: str | int = "50 MB",
    progress: bool = False,
    ledger: ReadLog | None = None,
) -> Iterator[Events]:
    """Read chunk by chunk with flat memory; see `read`. Chunks without selected events have length 0."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it should be at least 1, or None for all entries")
    check_type(card, DatasetCard, "read(card)", "first", "hepxai.DatasetCard.find(name or path) gives one")
    ledger = ledger or ReadLog()
    plans = plan_files(card)
    ledger.files = tuple(p.info for p in plans)
    ledger.notes += [note for p in plans for note in p.notes]
    builder = EventBuilder(card, ledger.files, ledger.cutflow)
    stops = _stops(plans, limit)
    with track("reading", sum(stops), show=progress) as advance:
        for number, (plan, stop) in enumerate(zip(plans, stops, strict=True)):
            for start, arrays in _chunks(plan, stop, chunk):
                yield builder.events(plan.context(card, arrays, start), number, plan.identity)
                advance(len(arrays))
    builder.refuse_duplicates()
    ledger.doubts += builder.momenta.warnings()


def read_entries(card: DatasetCard, start: int, stop: int) -> tuple[Events, ReadLog]:
    """Read the entries from ``start`` to ``stop`` of the one file of a card, which may select none.

    Raises
    ------
    CardError, ReadError
        As of `read`.
    """
    (plan,) = plan_files(card)
    log = ReadLog(files=(plan.info,), notes=plan.notes)
    builder = EventBuilder(card, log.files, log.cutflow)
    chunks = [
        builder.events(plan.context(card, arrays, first), 0, plan.identity)
        for first, arrays in _chunks(plan, stop, "50 MB", start)
    ]
    builder.refuse_duplicates()
    events = Events.concatenate(chunks)
    log.doubts = [*builder.momenta.warnings(), *weight_warnings(events)]
    return events, log


def _stops(plans: list[FilePlan], limit: int | None) -> list[int]:
    """Entries to read of every file, ``limit`` in each sample."""
    left: dict[str, float] = {}
    stops = []
    for info in (p.info for p in plans):
        room = left.get(info.sample, math.inf if limit is None else limit)
        stops.append(int(min(room, info.entries)))
        left[info.sample] = room - stops[-1]
    return stops


def _require_events(card: DatasetCard, events: Events, cutflow: CutFlow) -> None:
    if not len(events):
        steps = "; ".join(f"{r.sample}, {r.step}: {r.entries}" for r in cutflow.rows)
        raise ReadError(
            f"no event passes the selection of {card.name} ({steps}); loosen selection: on the card"
        )
    counts = dict(zip(card.classes, np.bincount(events.label, minlength=len(card.classes)), strict=True))
    if empty := [name for name, n in counts.items() if not n]:
        have = ", ".join(f"{n} of {name}" for name, n in counts.items() if n)
        raise ReadError(
            f"no event of class {empty[0]!r} is left, only {have}; loosen selection:, check labels:, "
            "or take the class off the card"
        )


def _require_binned(card: DatasetCard, events: Events) -> None:
    """Refuse bins or an axis of the profile that hold no event, before a model is trained."""
    focus = card.focus
    if focus is None or focus.observer is None:
        return
    values = events.observers[focus.observer]
    values = values[np.isfinite(values)]
    if focus.edges is not None and len(values) and not (bin_of(values, np.array(focus.edges)) >= 0).any():
        reach = f"{values.min():.4g} to {values.max():.4g}"
        text = f"no event is inside: {focus.observer} goes from {reach}; choose edges that reach it"
        raise card.error(("focus", "edges"), text)
    if focus.scale == "log" and len(values) and not (values > 0).any():
        text = f"{focus.observer} is never above 0, as a logarithmic axis needs; write scale: linear"
        raise card.error(("focus", "scale"), text)


def _chunks(plan: FilePlan, stop: int, chunk: str | int, start: int = 0) -> Iterator[tuple[int, ak.Array]]:
    """First entry and columns of every chunk."""
    if start >= stop:
        return
    with opened(plan.info.path, plan.info.tree) as tree:
        with readable(str(plan.info)):
            steps = tree.iterate(sorted(plan.needed), step_size=chunk, entry_start=start, entry_stop=stop)
        while start < stop:
            with readable(str(plan.info)), _blamed(tree, plan, start, stop):
                arrays = next(steps)
            yield start, arrays
            start += len(arrays)


@contextmanager
def _blamed(tree: Any, plan: FilePlan, start: int, stop: int) -> Iterator[None]:
    """Name the branch that uproot cannot read although its bytes are whole, if that is the error."""
    try:
        yield
    except MemoryError:
        raise
    except Exception:
        branches = {} if is_rntuple(tree) else {name: tree[name] for name in sorted(plan.needed)}
        if any(read_error(branch, start, stop) for branch in branches.values()):
            raise
        for name, branch in branches.items():
            try:
                branch.array(entry_start=start, entry_stop=stop)
            except MemoryError:
                raise
            except Exception as problem:
                raise ReadError(
                    f"{plan.info}: uproot cannot read branch {name} ({one_line_error(problem)}), although "
                    "its bytes are whole; leave it off the card"
                ) from problem
        raise
