"""Shapley values of decision trees, leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import beta

from hepxai.core.jagged import IntArray
from hepxai.models.table.decision_trees import Array, Mask, Nodes

PATTERN_PAIRS = 2**20
"""Largest number of elements of an intermediate array, such as pairs of an event and a background pattern."""
COUNTED_COLUMNS = 14
"""Columns of a path up to which all patterns are counted; for more columns, codes are sorted."""
Table = NDArray[np.floating]


@dataclass(frozen=True)
class Patterns:
    """Distinct patterns of passed columns among the rows of a table, for one leaf.

    Attributes
    ----------
    passes : ndarray, shape [U, d]
        1 where a column's cuts are passed, for each of the patterns that occur.
    pattern : ndarray of int, shape [E]
        Pattern of each row.
    """

    passes: Array
    pattern: IntArray

    @staticmethod
    def of(masks: Sequence[Mask]) -> Patterns:
        """Patterns of rows, from the d masks ``[E]`` of rows that pass the cuts of a column."""
        if len(masks) > 63:  # more than the bits of a code
            packed, pattern = np.unique(np.packbits(masks, axis=0), axis=1, return_inverse=True)
            passes = np.unpackbits(packed, axis=0, count=len(masks)).T
            return Patterns(passes.astype(np.float64), pattern.reshape(-1))
        code = np.zeros(len(masks[0]), dtype=np.int64)
        for bit, mask in enumerate(masks):
            code |= mask.astype(np.int64) << bit
        if len(masks) > COUNTED_COLUMNS:
            codes, pattern = np.unique(code, return_inverse=True)
        else:
            codes = np.flatnonzero(np.bincount(code, minlength=2 ** len(masks)))
            numbers = np.zeros(2 ** len(masks), dtype=np.int64)
            numbers[codes] = np.arange(len(codes))
            pattern = numbers[code]
        return Patterns(((codes[:, None] >> np.arange(len(masks))) & 1).astype(np.float64), pattern)


@dataclass(frozen=True)
class BackgroundLeaf:
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
    def of(masks: Sequence[Mask], weight: Array) -> BackgroundLeaf:
        """Leaf with the background rows of these masks."""
        patterns = Patterns.of(masks)
        return BackgroundLeaf(patterns.passes, np.bincount(patterns.pattern, weight).astype(np.float64))

    def mean(self) -> float:
        """Share of the rows that reach the leaf: v(∅)."""
        return float(self.weight @ self.passes.all(axis=1))

    def values(self, passes: Array) -> Array:
        """Shapley values ``[U, d]`` of patterns of events."""
        return _in_chunks(self._values, passes, len(self.weight))

    def _values(self, x: Array) -> Array:
        rows, fails, columns = self.passes, 1 - self.passes, x.shape[1]
        a, b = (x @ fails.T).astype(np.int64), ((1 - x) @ rows.T).astype(np.int64)
        weight = np.where((1 - x) @ fails.T > 0, 0.0, self.weight)
        share = beta(*np.ogrid[1 : columns + 1, 1 : columns + 2])  # (i-1)! (j-1)! / (i+j-1)!
        gain = np.where(a > 0, share[np.maximum(a - 1, 0), b], 0.0) * weight
        loss = np.where(b > 0, share[np.maximum(b - 1, 0), a], 0.0) * weight
        return np.asarray(x * (gain @ fails) - (1 - x) * (loss @ rows))


@dataclass(frozen=True)
class PathDependentLeaf:
    """Game of a leaf whose unknown columns pass with the training fraction.

    ``v(S) = Π_{f ∈ S} 1[x_f passes] Π_{f ∉ S} p_f``; a Shapley value is
    ``∫_0^1 (1[x_f passes] - p_f) Π_{g ≠ f} (t 1[x_g passes] + (1-t) p_g) dt`` [Owen, Management Science 18
    (1972) P-64], exact by Gauss–Legendre quadrature.

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
        return _in_chunks(self._values, passes, len(self.share) * ((len(self.share) + 1) // 2))

    def _values(self, passes: Array) -> Array:
        node, weight = np.polynomial.legendre.leggauss((len(self.share) + 1) // 2)
        t = (node + 1) / 2
        factor = t * passes[..., None] + (1 - t) * self.share[:, None]
        ahead, behind = np.ones_like(factor), np.ones_like(factor)
        np.cumprod(factor[:, :-1], axis=1, out=ahead[:, 1:])
        np.cumprod(factor[:, :0:-1], axis=1, out=behind[:, -2::-1])
        return np.asarray((passes - self.share) * ((ahead * behind) @ weight / 2))


LeafShapley = BackgroundLeaf | PathDependentLeaf


@dataclass(frozen=True)
class TreeShapley:
    """Shapley values of a sum of trees: each leaf is a game of its own.

    Rows are grouped by pattern, so the cost does not scale with events × background rows [Nadel and
    Wettenstein, From Decision Trees to Boolean Logic, arXiv:2511.09376].

    Attributes
    ----------
    trees : sequence of Nodes
    sources : ndarray of int, shape [T]
        Column of the event-level table that each column of the trees is a function of.
    leaves : sequence of sequence of LeafShapley
        For each tree and each of its leaves, in the order of `Nodes.leaf_paths`.
    expected : float
        v(∅): sum over the leaves of their value times the share of the background that reaches them.
    """

    trees: Sequence[Nodes]
    sources: IntArray
    leaves: Sequence[Sequence[LeafShapley]]
    expected: float

    @staticmethod
    def of(
        trees: Sequence[Nodes], sources: IntArray, rows: Table | None, weight: Array | None
    ) -> TreeShapley:
        """Leaves with background rows ``[K, T]`` of weights with sum 1; without rows, path-dependent."""
        x = np.zeros((1, len(sources))) if rows is None else np.asfortranarray(rows)
        leaves: list[list[LeafShapley]] = []
        expected = 0.0
        for tree in trees:
            leaves.append([])
            for node, cuts in tree.leaf_paths(x, sources):
                leaves[-1].append(leaf := _leaf(cuts, weight))
                expected += float(tree.value[node]) * leaf.mean()
        return TreeShapley(trees, sources, leaves, expected)

    def values(self, x: Table, columns: int) -> Array:
        """Shapley values ``[E, G]`` of events whose columns are those of the trees, ``[E, T]``."""
        total, x = np.zeros((columns, len(x))), np.asfortranarray(x)
        for tree, leaves in zip(self.trees, self.leaves, strict=True):
            for (node, cuts), leaf in zip(tree.leaf_paths(x, self.sources), leaves, strict=True):
                if not cuts or tree.value[node] == 0:
                    continue
                patterns = Patterns.of([passes for passes, _ in cuts.values()])
                values = tree.value[node] * leaf.values(patterns.passes).T
                total[list(cuts)] += values[:, patterns.pattern]
        return total.T


def _leaf(cuts: Mapping[int, tuple[Mask, float]], weight: Array | None) -> LeafShapley:
    if weight is None or not cuts:
        return PathDependentLeaf(np.array([share for _, share in cuts.values()]))
    return BackgroundLeaf.of([passes for passes, _ in cuts.values()], weight)


def _in_chunks(values: Callable[[Array], Array], passes: Array, elements: int) -> Array:
    """Values of patterns, a few at a time; ``elements`` is the size of the largest array per pattern."""
    size = max(1, PATTERN_PAIRS // elements)
    parts = [values(passes[i : i + size]) for i in range(0, len(passes), size)]
    return np.concatenate(parts) if parts else np.zeros_like(passes)
