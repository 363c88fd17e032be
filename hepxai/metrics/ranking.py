"""Ranks of the entries of every event, ties included, without a loop over events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Array
from hepxai.core.jagged import IntArray, parents, row_sum


@dataclass(frozen=True)
class Places:
    """Place of each entry in its row, largest value first.

    Attributes
    ----------
    above : ndarray of int64, shape [N]
        Entries of the row that are larger.
    ties : ndarray of int64, shape [N]
        Entries of the row that are equal, itself included.
    order : ndarray of int64, shape [N]
        Flat positions, row by row, largest first.
    offsets : ndarray of int64, shape [E+1]
    """

    above: IntArray
    ties: IntArray
    order: IntArray
    offsets: IntArray

    @staticmethod
    def of(values: NDArray[np.floating], offsets: IntArray) -> Places:
        """Places of ``values`` inside the rows that ``offsets`` cut."""
        row = parents(offsets)
        order = np.lexsort((-values, row))  # rows are in order already: it sorts inside them
        sorted_values = values[order]
        begins = np.ones(len(values), dtype=bool)
        begins[1:] = (np.diff(sorted_values) != 0) | (np.diff(row) != 0)
        group = np.cumsum(begins) - 1
        start = np.flatnonzero(begins)
        size = np.diff(np.append(start, len(values)))
        above, ties = np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.int64)
        above[order] = (start - offsets[row[start]])[group]
        ties[order] = size[group]
        return Places(above, ties, order, offsets)

    @property
    def rank(self) -> Array:
        """Rank in the row, 1 for the smallest; the mean of their ranks for equal values."""
        size = np.repeat(np.diff(self.offsets), np.diff(self.offsets))
        return np.asarray(size - self.above - 0.5 * (self.ties - 1), dtype=np.float64)

    def among_top(self, k: int) -> Array:
        """1 for the k largest of each row, 0 for others; values tied at the last place share it equally."""
        return np.asarray(np.clip((k - self.above) / self.ties, 0.0, 1.0))

    def at_least(self, flags: NDArray[np.bool_]) -> Array:
        """Number of flagged entries of the row that are at least as large, for each entry."""
        so_far = np.concatenate([[0], np.cumsum(flags[self.order])])
        first = np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return np.asarray(so_far[first + self.above + self.ties] - so_far[first], dtype=np.float64)


def rank_correlation(x: NDArray[np.floating], y: NDArray[np.floating], offsets: IntArray) -> Array:
    """Spearman's ρ of every row: Pearson's correlation of the ranks; NaN if one of them is constant."""
    size = np.diff(offsets)
    middle = np.repeat(0.5 * (size + 1), size)  # the mean of the ranks, also with ties
    rx, ry = (Places.of(v, offsets).rank - middle for v in (x, y))
    spread = row_sum(rx**2, offsets) * row_sum(ry**2, offsets)
    return np.asarray(row_sum(rx * ry, offsets) / np.sqrt(np.where(spread > 0, spread, np.nan)))
