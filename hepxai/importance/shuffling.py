"""Who gets whose values when columns are dealt out anew: anyone's, or those of an event alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hepxai.core.chunks import evenly_spread
from hepxai.core.jagged import IntArray

Table = NDArray[np.float32]
FIT = 20_000
"""Events that cells are found on, evenly spread, at most."""
CELLS = 256
SMALLEST = 20
"""Events of the fit in a cell, at least."""
LARGEST = 1e30
"""Sums of that many are finite in single precision."""


def among_all(size: int, repeats: int, seed: int) -> list[IntArray]:
    """For each repeat, the event whose values an event gets: a random permutation."""
    return [np.random.default_rng([seed, r]).permutation(size) for r in range(repeats)]


def permute_within_cells(cell: IntArray, orders: Sequence[IntArray]) -> list[IntArray]:
    """Orders as random as those given in which every event gets the values of one in its own cell."""
    place = np.argsort(cell, kind="stable")
    found = []
    for order in orders:
        permuted_scores = np.empty_like(order)
        permuted_scores[place] = order[np.argsort(cell[order], kind="stable")]
        found.append(permuted_scores)
    return found


def cells(table: Table, columns: IntArray) -> IntArray:
    """Cells of events that are alike in what the other columns say about some columns, ``[E]``.

    A regression tree predicts the ranks of the values of ``columns`` from all others; its leaves are the
    cells, so that they are fine in what is correlated and know nothing of what is not. The cells of every
    second event are found on the events between: in cells of its own making, noise looks correlated.

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
    found = np.arange(len(table)) % 2
    if not others.shape[1]:
        return np.zeros_like(found)
    for half in (0, 1) if len(table) > 1 else ():
        own = np.flatnonzero(found % 2 != half)
        own = own[evenly_spread(len(own), FIT)]
        values = table[np.ix_(own, columns)]
        ranks = rankdata(np.where(np.isnan(values), -np.inf, values), axis=0)
        tree = DecisionTreeRegressor(max_leaf_nodes=CELLS, min_samples_leaf=SMALLEST, random_state=0)
        found[half::2] += 2 * tree.fit(others[own], ranks).apply(others[half::2])
    return found
