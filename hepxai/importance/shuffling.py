"""Permutations of events: of all of them, or within cells of similar events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hepxai.core.chunks import evenly_spread
from hepxai.core.jagged import IntArray

Table = NDArray[np.float32]
FIT = 20_000
"""Largest number of events, evenly spread, from which cells are built."""
CELLS = 256
SMALLEST = 20
"""Smallest number of events of the fit in a cell."""
LARGEST = 1e30
"""Bound that keeps sums finite in single precision."""


def among_all(size: int, repeats: int, seed: int) -> list[IntArray]:
    """For each repeat, the event whose values an event gets: a random permutation."""
    return [np.random.default_rng([seed, r]).permutation(size) for r in range(repeats)]


def permute_within_cells(cell: IntArray, orders: Sequence[IntArray]) -> list[IntArray]:
    """Orders as random as those given in which every event gets the values of an event of its own cell."""
    place = np.argsort(cell, kind="stable")
    within = [np.empty_like(order) for order in orders]
    for inside, order in zip(within, orders, strict=True):
        inside[place] = order[np.argsort(cell[order], kind="stable")]
    return within


def cells(table: Table, columns: IntArray) -> IntArray:
    """Cells of events for which the other columns predict similar values of some columns, ``[E]``.

    A regression tree predicts the ranks of the values of ``columns`` from all others; its leaves are the
    cells, fine in correlated columns and independent of the others. The cells of every second event are
    found on the events between: in cells that an event helped to find, noise looks correlated.

    Parameters
    ----------
    table : ndarray, shape [E, G]
        NaN counts as the lowest value.
    columns : ndarray of int
    """
    from sklearn.tree import DecisionTreeRegressor  # slow to import

    others = np.nan_to_num(
        np.delete(table, columns, axis=1), nan=-np.inf, posinf=np.inf, neginf=-np.inf
    ).clip(-LARGEST, LARGEST)
    cell = np.arange(len(table)) % 2
    if not others.shape[1]:
        return np.zeros_like(cell)
    for half in (0, 1) if len(table) > 1 else ():
        fitted = np.flatnonzero(cell % 2 != half)
        fitted = fitted[evenly_spread(len(fitted), FIT)]
        values = table[np.ix_(fitted, columns)]
        ranks = rankdata(np.where(np.isnan(values), -np.inf, values), axis=0)
        tree = DecisionTreeRegressor(max_leaf_nodes=CELLS, min_samples_leaf=SMALLEST, random_state=0)
        cell[half::2] += 2 * tree.fit(others[fitted], ranks).apply(others[half::2])
    return cell
