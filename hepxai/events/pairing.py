"""Pairs of the same event in two readings, such as nominal and varied events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.events.events import Events


@dataclass(frozen=True)
class EventPairs:
    """Rows of the same events in two populations.

    Attributes
    ----------
    first, second : ndarray of int64, shape [B]
        Rows of the events that are in both, in the order of the first population.
    only_first, only_second : ndarray of int64
        Rows of the events that are in one population only, rising.
    """

    first: IntArray
    second: IntArray
    only_first: IntArray
    only_second: IntArray

    def __repr__(self) -> str:
        sizes = f"{len(self.first):,} in both, {len(self.only_first):,} only in the first"
        return f"<EventPairs: {sizes}, {len(self.only_second):,} only in the second>"


def pair_events(first: Events, second: Events) -> EventPairs:
    """Pair events of two populations by file and entry.

    Parameters
    ----------
    first, second : Events
        Of the same files, such as those of a card and of its variation.

    Raises
    ------
    ValueError
        If the files differ, or a population has an entry twice.
    """
    if (first.files, first.file_entries) != (second.files, second.file_entries):
        raise ValueError(
            "events of different files cannot be paired: "
            f"{_first_difference(first, second)}; read both with one data-set card and its variations"
        )
    one, other = _keys(first, "first"), _keys(second, "second")
    _, rows, partners = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    order = np.argsort(rows)
    rows, partners = rows[order], partners[order]
    return EventPairs(rows, partners, _others(rows, len(first)), _others(partners, len(second)))


def _keys(events: Events, which: str) -> IntArray:
    """One number per event for its file and entry."""
    keys = events.file * (max(events.file_entries, default=0) + 1) + events.entry
    if len(np.unique(keys)) != len(keys):
        order = np.argsort(keys, kind="stable")
        row = order[1:][np.diff(keys[order]) == 0][0]
        place = f"{events.files[events.file[row]]}: entry {events.entry[row]}"
        raise ValueError(f"{place} is twice in the {which} events; pair before drawing with repetition")
    return keys


def _others(rows: IntArray, size: int) -> IntArray:
    mask = np.ones(size, dtype=np.bool_)
    mask[rows] = False
    return np.flatnonzero(mask)


def _first_difference(first: Events, second: Events) -> str:
    if len(first.files) != len(second.files):
        return f"{len(first.files)} and {len(second.files)} files"
    sides = [list(zip(e.files, e.file_entries, strict=True)) for e in (first, second)]
    (a, n), (b, m) = next((x, y) for x, y in zip(*sides, strict=True) if x != y)
    return f"{a} with {n:,} entries and {b} with {m:,}"
