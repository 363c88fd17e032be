"""Index arithmetic for jagged arrays: flat content, offsets, no Python loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def offsets_from_counts(counts: NDArray[np.integer]) -> IntArray:
    """Offsets ``[E+1]`` of a jagged array whose rows have ``counts`` entries."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def distinct(values: IntArray) -> IntArray:
    """Different values, rising."""
    # Asked for the index numpy sorts; without it fills a hash table, which takes fifty times as long.
    return np.unique(values, return_index=True)[0]


def row_numbers(which: Any, rows: int) -> IntArray:
    """Row numbers selected by a position, several positions, a slice or a mask.

    Raises
    ------
    IndexError
        If a position is not there, or a mask has another length.
    TypeError
        If it is none of these.
    """
    if isinstance(which, slice):
        return np.arange(rows)[which]
    index = np.asarray(which) if np.size(which) else np.zeros(0, dtype=np.asarray(which).dtype)
    if index.dtype.kind == "b":
        if index.shape != (rows,):
            raise IndexError(
                f"a mask of shape {index.shape} for {rows} events; write one condition per event"
            )
        return np.flatnonzero(index)
    if index.ndim > 1 or (index.dtype.kind not in "iu" and index.size):
        raise TypeError(
            f"events[{which!r:.40}]; write positions, a slice or a mask, as in events[events.label == 1]"
        )
    numbers = np.atleast_1d(index).astype(np.int64)
    if (outside := (numbers < -rows) | (numbers >= rows)).any():
        raise IndexError(f"no event {numbers[outside][0]} among {rows}; positions are 0 to {rows - 1}")
    return np.where(numbers < 0, numbers + rows, numbers)


def parents(offsets: IntArray) -> IntArray:
    """Row number of every flat entry, ``[N]``."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def local_index(offsets: IntArray) -> IntArray:
    """Position of every flat entry inside its own row, ``[N]``."""
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))


def repetition(keys: IntArray) -> IntArray:
    """Number of earlier entries with the same key, ``[N]``."""
    order = np.argsort(keys, kind="stable")
    number = np.empty(len(keys), dtype=np.int64)
    number[order] = local_index(offsets_from_counts(np.unique(keys, return_counts=True)[1]))
    return number


def take_rows(offsets: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Flat indices of the entries of ``rows``, and the offsets of the result."""
    counts = np.diff(offsets)[rows]
    taken = offsets_from_counts(counts)
    return np.repeat(offsets[:-1][rows] - taken[:-1], counts) + np.arange(taken[-1]), taken


def interleave(parts: Sequence[IntArray]) -> tuple[IntArray, IntArray, IntArray]:
    """Order of the entries of several jagged arrays with the same rows, row by row and part by part.

    Parameters
    ----------
    parts : sequence of ndarray, shape [E+1]
        Offsets of each jagged array.

    Returns
    -------
    order : ndarray of int64, shape [N]
        Places in the concatenated content of the parts.
    part : ndarray of int64, shape [N]
    offsets : ndarray of int64, shape [E+1]
    """
    number, rows = len(parts), len(parts[0]) - 1
    by_part = offsets_from_counts(np.concatenate([np.diff(p) for p in parts]))
    row_first = np.arange(number * rows).reshape(number, rows).T
    order, ends = take_rows(by_part, row_first.ravel())
    part = np.repeat(np.tile(np.arange(number), rows), np.diff(ends))
    return order, part, np.ascontiguousarray(ends[::number])


def all_pairs(offsets: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Every ordered pair of different entries of a row.

    Returns
    -------
    src, dst : ndarray of int64, shape [P]
        Flat indices. Pairs are ordered by row, then ``dst``, then ``src``.
    pair_offsets : ndarray of int64, shape [E+1]
    """
    counts = np.diff(offsets)
    pair_offsets = offsets_from_counts(counts * np.maximum(counts - 1, 0))
    row = parents(pair_offsets)
    position = local_index(pair_offsets)
    others = np.maximum(counts[row] - 1, 1)
    dst, src = position // others, position % others
    src += src >= dst
    return offsets[row] + src, offsets[row] + dst, pair_offsets


def row_sum(values: NDArray[Any], offsets: IntArray) -> NDArray[np.float64]:
    """Sum of the entries of every row, 0 for an empty one. Shape ``[E, ...]``."""
    total = np.zeros((len(offsets) - 1, *values.shape[1:]), dtype=np.float64)
    filled = np.diff(offsets) > 0
    if filled.any():
        total[filled] = np.add.reduceat(values, offsets[:-1][filled], axis=0, dtype=np.float64)
    return total
