"""Boosted trees taken apart, to score a table again in which a few columns were dealt out anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray
from hepxai.explainers.table.trees import BOOSTED, HISTOGRAM, family
from hepxai.models.protocols import HasTrees

Array = NDArray[np.float64]
Bits = NDArray[np.uint64]
ROWS = 8192
"""Events at a time: what is worked on stays in the cache."""
LEAVES = 63
"""Leaves in a piece of a tree: one bit each, and the lowest bit stays free."""
LARGEST = 512
"""Leaves of a tree from which on walking down to the leaf is faster than looking at all leaves."""
DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""Times a power of two, its upper six bits differ for all 64 of them, and are 0 for 1 and 0."""
ALL = np.uint64(2**64 - 1)
SAME = 1e-9
"""Relative difference from the model's own score that is rounding."""


@dataclass(frozen=True)
class Nodes:
    """A binary tree: children have larger numbers than their parent.

    Attributes
    ----------
    feature : ndarray of int, shape [M]
        Column that is asked for; negative for a leaf.
    threshold : ndarray, shape [M]
        Events with ``x <= threshold`` go left.
    missing_left : ndarray of bool, shape [M]
        Events with NaN go left.
    left, right : ndarray of int, shape [M]
    value : ndarray, shape [M]
        What a leaf adds to the score.
    """

    feature: IntArray
    threshold: Array
    missing_left: NDArray[np.bool_]
    left: IntArray
    right: IntArray
    value: Array

    def leaves(self) -> IntArray:
        """Numbers of the leaves from left to right."""
        found, open_ = [], [0]
        while open_:
            node = open_.pop()
            if self.feature[node] < 0:
                found.append(node)
            else:
                open_ += [int(self.right[node]), int(self.left[node])]
        return np.array(found, dtype=np.int64)


@dataclass(frozen=True)
class LeafBlock:
    """Up to ``LEAVES`` leaves of a tree: the answer to each question strikes out those beyond reach.

    Attributes
    ----------
    tables : mapping of int to ndarray of uint64, shape [bins]
        For each column that is asked for, the leaves that remain for each bin of it, as bits. The
        leaf of an event is what remains after all columns [Lucchese et al., QuickScorer, SIGIR 2015].
    values : ndarray, shape [64]
        Value of the leaf where `_leaf` looks it up; 0 where none remains, in another piece of the tree.
    """

    tables: Mapping[int, Bits]
    values: Array

    def score(self, remaining: Bits) -> Array:
        """Value of the one leaf that remains, 0 for none; overwrites what it is given."""
        np.multiply(remaining, DE_BRUIJN, out=remaining)
        np.right_shift(remaining, np.uint64(58), out=remaining)
        return np.take(self.values, remaining.view(np.int64), mode="clip")


@dataclass(frozen=True)
class Forest:
    """Boosted trees whose score is a constant plus one leaf of each.

    Attributes
    ----------
    edges : tuple of ndarray
        For each column, the thresholds of all trees.
    pieces : tuple of Piece
    codes : ndarray of int, shape [G, E]
        Bin of every value of the table: thresholds below it; one more than there are bins for NaN.
    constant : float
    """

    edges: tuple[Array, ...]
    pieces: tuple[LeafBlock, ...]
    codes: NDArray[np.unsignedinteger[Any]]
    constant: float

    @staticmethod
    def of(model: object, table: NDArray[np.float32], output: int, score: Array) -> Forest | None:
        """Trees of a model, or None where it has none of a kind that is known here.

        Parameters
        ----------
        model : object
            Of scikit-learn's GradientBoosting or HistGradientBoosting, without categorical columns.
        table : ndarray, shape [E, G]
        output : int
        score : ndarray, shape [E]
            Of the model for the table. If the trees do not add up to it, they are not understood.
        """
        trees = _trees(model.estimator, output) if isinstance(model, HasTrees) and len(table) else []
        if not trees or max(len(t.leaves()) for t in trees) > LARGEST:
            return None
        edges = _edges(trees, table.shape[1])
        forest = Forest(edges, tuple(p for t in trees for p in _pieces(t, edges)), _codes(table, edges), 0.0)
        rest = score - forest.score()
        constant = float(np.median(rest))
        understood = np.abs(rest - constant).max() <= SAME * max(1.0, float(np.abs(score).max()))
        return dataclasses.replace(forest, constant=constant) if understood else None

    def uses(self, columns: IntArray) -> bool:
        """Whether any tree asks for one of the columns."""
        return any(len(self.edges[c]) for c in columns)

    def score(self) -> Array:
        """Score of every event, ``[E]``."""
        found = np.full(self.codes.shape[1], self.constant)
        for rows in self._chunks():
            own = self.codes[:, rows].astype(np.int64)
            for piece in self.pieces:
                found[rows] += piece.score(_all([t[own[c]] for c, t in piece.tables.items()], ALL))
        return found

    def permuted_scores(
        self, groups: Sequence[IntArray], orders: Sequence[Sequence[IntArray]]
    ) -> list[Array]:
        """Scores with the columns of each group dealt out anew, ``[R, E]`` for each of them.

        Parameters
        ----------
        groups : sequence of ndarray
            Columns; none is in two groups.
        orders : sequence of sequence of ndarray, shape [E]
            For each group and each repeat, the event whose values an event gets.
        """
        size = self.codes.shape[1]
        whose = [np.array(order, dtype=np.int64).reshape(-1, size) for order in orders]
        owner = {int(c): g for g, columns in enumerate(groups) for c in columns}
        found = [np.full(order.shape, self.constant) for order in whose]
        for rows in self._chunks():
            own = self.codes[:, rows].astype(np.int64)
            other = {c: self.codes[c][whose[g][:, rows]].astype(np.int64) for c, g in owner.items()}
            as_is, parts = np.zeros((len(groups), own.shape[1])), [f[:, rows] for f in found]
            for piece in self.pieces:
                _add(piece, own, other, owner, as_is, parts)
            for part, same in zip(parts, as_is, strict=True):
                part += same
        return found

    def _chunks(self) -> Iterator[slice]:
        size = self.codes.shape[1]
        return (slice(start, min(start + ROWS, size)) for start in range(0, size, ROWS))


def _add(
    piece: LeafBlock,
    own: IntArray,
    other: Mapping[int, IntArray],
    owner: Mapping[int, int],
    as_is: Array,
    parts: Sequence[Array],
) -> None:
    """Add the value of a piece: only for groups that it asks for anything is worked out anew."""
    asked: dict[int, list[int]] = {}
    for column in piece.tables:
        asked.setdefault(owner.get(column, -1), []).append(column)
    kept = [_all([piece.tables[c][own[c]] for c in columns], ALL) for columns in asked.values()]
    rests, whole = _all_but_one(kept)
    untouched = np.ones(len(parts), dtype=bool)
    untouched[[g for g in asked if g >= 0]] = False
    as_is[untouched] += piece.score(whole)
    for (group, columns), rest in zip(asked.items(), rests, strict=True):
        if group >= 0:
            parts[group][...] += piece.score(_all([piece.tables[c][other[c]] for c in columns], rest))


def _all(masks: Sequence[Bits], start: Bits | np.uint64) -> Bits:
    """Bits that all have; the first one is overwritten."""
    found = masks[0]
    found &= start
    for mask in masks[1:]:
        found &= mask
    return found


def _all_but_one(masks: Sequence[Bits]) -> tuple[list[Bits], Bits]:
    """For each mask, the bits that all others have; and those that all have."""
    before = [np.full_like(masks[0], ALL)]
    for mask in masks:
        before.append(before[-1] & mask)
    behind, found = np.full_like(masks[0], ALL), []
    for mask, ahead in zip(reversed(masks), reversed(before[:-1]), strict=True):
        found.append(ahead & behind)
        behind &= mask
    return found[::-1], before[-1]


# --- taking trees apart ------------------------------------------------------------------------------


def _trees(estimator: Any, output: int) -> list[Nodes]:
    """Trees of one output of a gradient-boosted estimator of scikit-learn; none for others.

    Where columns hold categories, HistGradientBoosting counts them in another order.
    """
    kind = family(estimator)
    if kind is HISTOGRAM:
        numbers = getattr(estimator, "is_categorical_", None) is None
        return [_of_histograms(one[output].nodes) for one in estimator._predictors] if numbers else []
    if kind is BOOSTED:
        rate = float(estimator.learning_rate)
        return [_of_cart(tree.tree_, rate) for tree in estimator.estimators_[:, output]]
    return []


def _of_histograms(nodes: Any) -> Nodes:
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (nodes[k].astype(np.int64) for k in ("left", "right"))
    feature = np.where(leaf, -1, nodes["feature_idx"].astype(np.int64))
    missing = nodes["missing_go_to_left"].astype(bool)
    return Nodes(feature, nodes["num_threshold"], missing, left, right, nodes["value"])


def _of_cart(tree: Any, rate: float) -> Nodes:
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count)).astype(bool)
    feature = np.where(tree.children_left < 0, -1, tree.feature)
    value = rate * tree.value[:, 0, 0]
    return Nodes(feature, tree.threshold, missing, tree.children_left, tree.children_right, value)


def _edges(trees: Sequence[Nodes], columns: int) -> tuple[Array, ...]:
    feature = np.concatenate([t.feature for t in trees])
    threshold = np.concatenate([t.threshold for t in trees])
    return tuple(np.unique(threshold[feature == column]) for column in range(columns))


def _codes(table: NDArray[np.float32], edges: Sequence[Array]) -> NDArray[np.unsignedinteger[Any]]:
    largest = max(len(e) for e in edges) + 1
    found = np.empty(table.shape[::-1], dtype=np.min_scalar_type(largest))
    for code, column, known in zip(found, table.T, edges, strict=True):
        code[:] = np.searchsorted(known, column.astype(np.float64), side="left")
        code[np.isnan(column)] = len(known) + 1
    return found


def _pieces(tree: Nodes, edges: Sequence[Array]) -> Iterator[LeafBlock]:
    leaves = tree.leaves()
    for first in range(0, len(leaves), LEAVES):
        yield _piece(tree, leaves[first : first + LEAVES], edges)


def _piece(tree: Nodes, leaves: IntArray, edges: Sequence[Array]) -> LeafBlock:
    bit = np.uint64(2) << np.arange(len(leaves), dtype=np.uint64)
    below = np.zeros(len(tree.feature), dtype=np.uint64)
    below[leaves] = bit
    tables: dict[int, Bits] = {}
    for node in np.flatnonzero(tree.feature >= 0)[::-1]:
        left, right = below[tree.left[node]], below[tree.right[node]]
        below[node] = left | right
        if below[node]:
            column = int(tree.feature[node])
            table = tables.setdefault(column, np.full(len(edges[column]) + 2, ALL))
            table &= np.where(_goes_left(tree, node, edges[column]), ~right, ~left)
    values = np.zeros(64)
    values[((bit * DE_BRUIJN) >> np.uint64(58)).astype(np.int64)] = tree.value[leaves]
    first = next(iter(tables), 0)  # a tree of one leaf asks nothing
    tables.setdefault(first, np.full(len(edges[first]) + 2, ALL))
    tables[first] &= np.bitwise_or.reduce(bit)
    return LeafBlock(tables, values)


def _goes_left(tree: Nodes, node: int, edges: Array) -> NDArray[np.bool_]:
    """For each bin of the column that the node asks for, the last one being that of NaN."""
    at = np.searchsorted(edges, tree.threshold[node])
    found = np.asarray(np.arange(len(edges) + 2) <= at)
    found[-1] = tree.missing_left[node]
    return found
