"""Boosted trees, decomposed so that a table with a few shuffled columns can be rescored quickly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray
from hepxai.models.protocols import HasTrees
from hepxai.models.table.decision_trees import Nodes
from hepxai.models.wrappers.booster_files import UnsupportedTreesError
from hepxai.models.wrappers.ensembles import BOOSTED, BOOSTERS, HISTOGRAM, Ensemble, MixedColumnsError, family

Array = NDArray[np.float64]
Bits = NDArray[np.uint64]
ROWS = 8192
"""Events at a time: their bits stay in the cache."""
LEAVES = 63
"""Leaves in a block: one bit each, and the lowest bit stays free."""
LARGEST = 512
"""Leaves of a tree above which a walk from the root is faster."""
DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""De Bruijn number: the upper six bits of its product with a power of two identify it; 0 for 1 and for 0."""
ALL = np.uint64(2**64 - 1)
SAME, SAME_SINGLE = 1e-9, 1e-5
"""Relative difference from the model's own score that is rounding, in double and in single precision."""


@dataclass(frozen=True)
class LeafBlock:
    """Up to ``LEAVES`` leaves of a tree; each cut excludes those that an event cannot reach.

    Attributes
    ----------
    tables : mapping of int to ndarray of uint64, shape [bins]
        For each column with a cut, the leaves that remain for each bin of it, as bits. The leaf of an event
        is the one that remains after all columns [Lucchese et al., QuickScorer, SIGIR 2015].
    values : ndarray, shape [64]
        Value of the leaf at its hash; 0 where none remains, in another block of the tree.
    """

    tables: Mapping[int, Bits]
    values: Array

    def score(self, remaining: Bits) -> Array:
        """Value of the one leaf that remains, 0 for none; overwrites ``remaining``."""
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
    blocks : tuple of LeafBlock
    codes : ndarray of int, shape [G, E]
        Bin of every value of the table: thresholds below it; one more than there are bins for NaN.
    constant : float
    """

    edges: tuple[Array, ...]
    blocks: tuple[LeafBlock, ...]
    codes: NDArray[np.unsignedinteger[Any]]
    constant: float

    @staticmethod
    def of(model: object, table: NDArray[np.float32], output: int, score: Array) -> Forest | None:
        """Trees of a model, or None for a model of another kind.

        Parameters
        ----------
        model : object
            Of scikit-learn's GradientBoosting or HistGradientBoosting, without categorical columns.
        table : ndarray, shape [E, G]
        output : int
        score : ndarray, shape [E]
            Of the model for the table; None is returned where the trees do not add up to it.
        """
        trees = _trees(model, output) if isinstance(model, HasTrees) and len(table) else []
        if not trees or max(len(t.leaves()) for t in trees) > LARGEST:
            return None
        edges = _edges(trees, table.shape[1])
        forest = Forest(edges, tuple(b for t in trees for b in _blocks(t, edges)), _codes(table, edges), 0.0)
        rest = score - forest.score()
        constant = float(np.median(rest))
        rounding = SAME_SINGLE if _single_precision(score) else SAME
        adds_up = np.abs(rest - constant).max() <= rounding * max(1.0, float(np.abs(score).max()))
        return dataclasses.replace(forest, constant=constant) if adds_up else None

    def uses(self, columns: IntArray) -> bool:
        """True if any tree cuts in one of the columns."""
        return any(len(self.edges[c]) for c in columns)

    def score(self) -> Array:
        """Score of every event, ``[E]``."""
        nothing, same = np.zeros(0, dtype=np.int64), np.arange(self.codes.shape[1])
        ((score,),) = self.permuted_scores([nothing], [[same]])
        return np.asarray(score)

    def permuted_scores(
        self, groups: Sequence[IntArray], orders: Sequence[Sequence[IntArray]]
    ) -> list[Array]:
        """Scores with the columns of each group shuffled, ``[R, E]`` for each of them.

        Parameters
        ----------
        groups : sequence of ndarray
            Columns; none is in two groups.
        orders : sequence of sequence of ndarray, shape [E]
            For each group and each repeat, the event whose values an event gets.
        """
        size = self.codes.shape[1]
        sources = [np.array(order, dtype=np.int64).reshape(-1, size) for order in orders]
        group_of = {int(c): g for g, columns in enumerate(groups) for c in columns}
        scores = [np.full(order.shape, self.constant) for order in sources]
        for start in range(0, size, ROWS):
            rows = slice(start, start + ROWS)
            codes = self.codes[:, rows].astype(np.int64)
            shuffled = {c: self.codes[c][sources[g][:, rows]].astype(np.int64) for c, g in group_of.items()}
            unchanged, parts = np.zeros((len(groups), codes.shape[1])), [s[:, rows] for s in scores]
            for block in self.blocks:
                _add(block, codes, shuffled, group_of, unchanged, parts)
            for part, same in zip(parts, unchanged, strict=True):
                part += same
        return scores


def _add(
    block: LeafBlock,
    codes: IntArray,
    shuffled: Mapping[int, IntArray],
    group_of: Mapping[int, int],
    unchanged: Array,
    parts: Sequence[Array],
) -> None:
    """Add the value of a block; only groups with a cut in it are scored again."""
    cuts: dict[int, list[int]] = {}
    for column in block.tables:
        cuts.setdefault(group_of.get(column, -1), []).append(column)
    masks = [_all([block.tables[c][codes[c]] for c in columns], ALL) for columns in cuts.values()]
    rests, whole = _all_but_one(masks)
    untouched = np.ones(len(parts), dtype=bool)
    untouched[[g for g in cuts if g >= 0]] = False
    unchanged[untouched] += block.score(whole)
    for (group, columns), rest in zip(cuts.items(), rests, strict=True):
        if group >= 0:
            parts[group][...] += block.score(_all([block.tables[c][shuffled[c]] for c in columns], rest))


def _all(masks: Sequence[Bits], start: Bits | np.uint64) -> Bits:
    """Bits that all have; the first one is overwritten."""
    common = masks[0]
    common &= start
    for mask in masks[1:]:
        common &= mask
    return common


def _all_but_one(masks: Sequence[Bits]) -> tuple[list[Bits], Bits]:
    """For each mask, the bits that all others have; and those that all have."""
    before = [np.full_like(masks[0], ALL)]
    for mask in masks:
        before.append(before[-1] & mask)
    behind, others = np.full_like(masks[0], ALL), []
    for mask, ahead in zip(reversed(masks), reversed(before[:-1]), strict=True):
        others.append(ahead & behind)
        behind &= mask
    return others[::-1], before[-1]


# --- decomposition of trees ---------------------------------------------------------------------------


def _trees(model: HasTrees, output: int) -> list[Nodes]:
    """Trees of one output of a boosted model; none for others, and for pipelines."""
    if family(model.estimator) not in (BOOSTED, HISTOGRAM, BOOSTERS):
        return []
    try:
        ensemble = Ensemble.of(model.estimator)
        trees = ensemble.trees(ensemble.weights(model, np.eye(len(model.outputs))[output]))
    except (MixedColumnsError, UnsupportedTreesError):
        return []
    plain = not ensemble.transformers and not any(tree.categories for tree in trees)
    return trees if plain else []


def _single_precision(score: Array) -> bool:
    """True for scores that were added in single precision, as XGBoost does."""
    return bool((score == score.astype(np.float32)).all())


def _edges(trees: Sequence[Nodes], columns: int) -> tuple[Array, ...]:
    feature = np.concatenate([t.feature for t in trees])
    threshold = np.concatenate([t.threshold for t in trees])
    return tuple(np.unique(threshold[feature == column]) for column in range(columns))


def _codes(table: NDArray[np.float32], edges: Sequence[Array]) -> NDArray[np.unsignedinteger[Any]]:
    largest = max(len(e) for e in edges) + 1
    codes = np.empty(table.shape[::-1], dtype=np.min_scalar_type(largest))
    for code, column, cuts in zip(codes, table.T, edges, strict=True):
        code[:] = np.searchsorted(cuts, column.astype(np.float64), side="left")
        code[np.isnan(column)] = len(cuts) + 1
    return codes


def _blocks(tree: Nodes, edges: Sequence[Array]) -> list[LeafBlock]:
    leaves = tree.leaves()
    return [_block(tree, leaves[i : i + LEAVES], edges) for i in range(0, len(leaves), LEAVES)]


def _block(tree: Nodes, leaves: IntArray, edges: Sequence[Array]) -> LeafBlock:
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
    first = next(iter(tables), 0)  # a tree of one leaf has no cut
    tables.setdefault(first, np.full(len(edges[first]) + 2, ALL))
    tables[first] &= np.bitwise_or.reduce(bit)
    return LeafBlock(tables, values)


def _goes_left(tree: Nodes, node: int, edges: Array) -> NDArray[np.bool_]:
    """True for each bin of the node's column that goes left; the last bin is that of NaN."""
    at = np.searchsorted(edges, tree.threshold[node])
    left = np.asarray(np.arange(len(edges) + 2) <= at)
    left[-1] = tree.missing_left[node]
    return left
