"""Shapley values of decision trees, leaf by leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import beta

from hepxai.core.jagged import IntArray
from hepxai.models.table.decision_trees import Array, Mask, Nodes

PAIRS = 2**20
"""Pairs of patterns, of an event and of a background row, that are held at a time."""
DENSE = 14
"""Columns of a path up to which all patterns are counted; for more columns, codes are sorted."""
Table = NDArray[np.floating]


@dataclass(frozen=True)
class Patterns:
    """Rows of a table as a leaf sees them, by the set of columns whose cuts they pass.

    Attributes
    ----------
    passes : ndarray, shape [U, d]
        1 where a column's cuts are passed, for each of the patterns that occur.
    place : ndarray of int, shape [E]
        Pattern of each row.
    """

    passes: Array
    place: IntArray

    @staticmethod
    def of(masks: Sequence[Mask]) -> Patterns:
        """Patterns of rows, from the d masks ``[E]`` of rows that pass the cuts of a column."""
        code = np.zeros(len(masks[0]), dtype=np.int64)
        for bit, mask in enumerate(masks):
            code |= mask.astype(np.int64) << bit
        if len(masks) > DENSE:
            codes, place = np.unique(code, return_inverse=True)
        else:
            codes = np.flatnonzero(np.bincount(code, minlength=2 ** len(masks)))
            places = np.zeros(2 ** len(masks), dtype=np.int64)
            places[codes] = np.arange(len(codes))
            place = places[code]
        return Patterns(((codes[:, None] >> np.arange(len(masks))) & 1).astype(np.float64), place)


@dataclass(frozen=True)
class RowsGame:
    """Game of a leaf in which the unknown columns come from background rows.

    ``v(S) = Σ_r w_r Π_{f ∈ S} 1[x_f passes] Π_{f ∉ S} 1[r_f passes]`` with Σ w_r = 1, weights of any sign.
    With A = columns that only the event passes and B = those that only the row passes, a row adds
    ``w (a-1)! b! / (a+b)!`` to each of A and ``-w a! (b-1)! / (a+b)!`` to each of B, or nothing if a column
    fails in both.

    Attributes
    ----------
    passes : ndarray, shape [R, d]
        Patterns of the rows, see `Patterns`.
    weight : ndarray, shape [R]
        Their sums of weights.
    """

    passes: Array
    weight: Array

    @staticmethod
    def of(masks: Sequence[Mask], weight: Array) -> RowsGame:
        """Game of the rows with these masks."""
        patterns = Patterns.of(masks)
        return RowsGame(patterns.passes, np.bincount(patterns.place, weight).astype(np.float64))

    def mean(self) -> float:
        """Share of the rows that reach the leaf: v(∅)."""
        return float(self.weight @ self.passes.all(axis=1))

    def values(self, passes: Array) -> Array:
        """Shapley values ``[U, d]`` of patterns of events."""
        size = max(1, PAIRS // len(self.weight))
        return np.concatenate([self._values(passes[i : i + size]) for i in range(0, len(passes), size)])

    def _values(self, x: Array) -> Array:
        rows, fails, columns = self.passes, 1 - self.passes, x.shape[1]
        a, b = (x @ fails.T).astype(np.int64), ((1 - x) @ rows.T).astype(np.int64)
        weight = np.where((1 - x) @ fails.T > 0, 0.0, self.weight)
        share = beta(*np.ogrid[1 : columns + 1, 1 : columns + 2])  # (i-1)! (j-1)! / (i+j-1)!
        gain = np.where(a > 0, share[np.maximum(a - 1, 0), b], 0.0) * weight
        loss = np.where(b > 0, share[np.maximum(b - 1, 0), a], 0.0) * weight
        return np.asarray(x * (gain @ fails) - (1 - x) * (loss @ rows))


@dataclass(frozen=True)
class SharesGame:
    """Game of a leaf in which an unknown column is passed with the share of the training events.

    ``v(S) = Π_{f ∈ S} 1[x_f passes] Π_{f ∉ S} p_f``; a Shapley value is
    ``∫_0^1 (1[x_f passes] - p_f) Π_{g ≠ f} (t 1[x_g passes] + (1-t) p_g) dt`` [Owen, Management Science 18
    (1972) P-64], exact by Gauss and Legendre.

    Attributes
    ----------
    share : ndarray, shape [d]
    """

    share: Array

    def mean(self) -> float:
        """Share of the training events that reach the leaf: v(∅)."""
        return float(self.share.prod())

    def values(self, passes: Array) -> Array:
        """Shapley values ``[U, d]`` of patterns of events."""
        node, weight = np.polynomial.legendre.leggauss((len(self.share) + 1) // 2)
        t = (node + 1) / 2
        factor = t * passes[..., None] + (1 - t) * self.share[:, None]
        ahead, behind = np.ones_like(factor), np.ones_like(factor)
        np.cumprod(factor[:, :-1], axis=1, out=ahead[:, 1:])
        np.cumprod(factor[:, :0:-1], axis=1, out=behind[:, -2::-1])
        return np.asarray((passes - self.share) * ((ahead * behind) @ weight / 2))


Game = RowsGame | SharesGame


@dataclass(frozen=True)
class TreeGames:
    """Shapley values of a sum of trees: each leaf is a game of its own.

    Rows count by the pattern of columns whose cuts they pass, so the numbers of events and of background rows
    do not multiply [Nadel and Wettenstein, From Decision Trees to Boolean Logic, arXiv:2511.09376].

    Attributes
    ----------
    trees : sequence of Nodes
    sources : ndarray of int, shape [T]
        Column of the event-level table that each column of the trees is a function of.
    games : sequence of sequence of Game
        For each tree and each of its leaves, in the order of `Nodes.leaf_paths`.
    expected : float
        v(∅): sum over the leaves of their value times the share of the background that reaches them.
    """

    trees: Sequence[Nodes]
    sources: IntArray
    games: Sequence[Sequence[Game]]
    expected: float

    @staticmethod
    def of(trees: Sequence[Nodes], sources: IntArray, rows: Table | None, weight: Array | None) -> TreeGames:
        """Games against background rows ``[K, T]`` of weights with sum 1; without rows, path-dependent."""
        x = np.zeros((1, len(sources))) if rows is None else np.asfortranarray(rows)
        games, expected = [], 0.0
        for tree in trees:
            games.append([_game(cuts, weight) for _, cuts in tree.leaf_paths(x, sources)])
            reached = (game.mean() for game in games[-1])
            leaves = (leaf for leaf, _ in tree.leaf_paths(x[:0], sources))
            expected += sum(
                float(tree.value[leaf]) * share for leaf, share in zip(leaves, reached, strict=True)
            )
        return TreeGames(trees, sources, games, expected)

    def values(self, x: Table, columns: int) -> Array:
        """Shapley values ``[E, G]`` of events whose columns are those of the trees, ``[E, T]``."""
        total, x = np.zeros((columns, len(x))), np.asfortranarray(x)
        for tree, games in zip(self.trees, self.games, strict=True):
            for (leaf, cuts), game in zip(tree.leaf_paths(x, self.sources), games, strict=True):
                if not cuts or tree.value[leaf] == 0:
                    continue
                patterns = Patterns.of([passes for passes, _ in cuts.values()])
                values = tree.value[leaf] * game.values(patterns.passes).T
                total[list(cuts)] += values[:, patterns.place]
        return total.T


def _game(cuts: Mapping[int, tuple[Mask, float]], weight: Array | None) -> Game:
    if weight is None or not cuts:
        return SharesGame(np.array([share for _, share in cuts.values()]))
    return RowsGame.of([passes for passes, _ in cuts.values()], weight)
