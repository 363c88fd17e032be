"""Binary decision trees of every library in one form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Nodes:
    """A binary tree whose root is node 0.

    Attributes
    ----------
    feature : ndarray of int, shape [M]
        Column of the cut; negative for a leaf.
    threshold : ndarray, shape [M]
        Events with ``x <= threshold`` go left.
    missing_left : ndarray of bool, shape [M]
        Events with NaN go left.
    left, right : ndarray of int, shape [M]
    value : ndarray, shape [M]
        Contribution of a leaf to the score.
    size : ndarray, shape [M]
        Training events in the node, or their sum of second derivatives of the loss.
    gain : ndarray, shape [M]
        Decrease of the loss by the cut; 0 for a leaf.
    categories : mapping of int to (ndarray of int, bool)
        For each cut in a categorical column, categories, and whether it is those that go left.
    """

    feature: IntArray
    threshold: Array
    missing_left: Mask
    left: IntArray
    right: IntArray
    value: Array
    size: Array
    gain: Array
    categories: Mapping[int, tuple[IntArray, bool]] = field(default_factory=dict)

    def times(self, factor: float) -> Nodes:
        """Tree with its values multiplied."""
        return self if factor == 1 else dataclasses.replace(self, value=factor * self.value)

    def leaves(self) -> IntArray:
        """Numbers of the leaves from left to right."""
        leaves, stack = [], [0]
        while stack:
            node = stack.pop()
            if self.feature[node] < 0:
                leaves.append(node)
            else:
                stack += [int(self.right[node]), int(self.left[node])]
        return np.array(leaves, dtype=np.int64)

    def goes_left(self, node: int, x: NDArray[np.floating]) -> Mask:
        """Decisions ``[E]`` of a node for a table ``[E, G]``."""
        values = x[:, self.feature[node]]
        if node in self.categories:
            listed, goes_left = self.categories[node]
            left: Mask = np.isin(np.trunc(values), listed) == goes_left
            left[np.isnan(values)] = False
        else:
            left = values <= self.threshold[node]
        return left | np.isnan(values) if self.missing_left[node] else left

    def leaf_paths(
        self, x: NDArray[np.floating], sources: IntArray
    ) -> Iterator[tuple[int, dict[int, tuple[Mask, float]]]]:
        """Leaves with, for each column cut on the way, the events that pass its cuts, and their share.

        Parameters
        ----------
        x : ndarray, shape [E, T]
            Columns as the tree numbers them.
        sources : ndarray of int, shape [T]
            Column of the event-level table that each of them is a function of.

        Yields
        ------
        leaf : int
        cuts : dict of int to (ndarray of bool ``[E]``, float)
            The share is that of the training events of a node that its child on the way has, multiplied
            over the column's cuts.
        """
        stack: list[tuple[int, dict[int, tuple[Mask, float]]]] = [(0, {})]
        while stack:
            node, cuts = stack.pop()
            if self.feature[node] < 0:
                yield node, cuts
                continue
            column = int(sources[self.feature[node]])
            passes, share = cuts.get(column, (np.True_, 1.0))
            left, children = self.goes_left(node, x), [int(self.left[node]), int(self.right[node])]
            part = _shares(self.size[children])
            for child, goes, share_of_child in zip(children, (left, ~left), part, strict=True):
                stack.append((child, cuts | {column: (passes & goes, share * share_of_child)}))

    def score(self, x: NDArray[np.floating]) -> Array:
        """Value of the leaf of every event, ``[E]``."""
        score = np.empty(len(x))
        stack = [(0, np.arange(len(x)))]
        while stack:
            node, rows = stack.pop()
            if self.feature[node] < 0:
                score[rows] = self.value[node]
            elif len(rows):
                left = self.goes_left(node, x[rows])
                stack += [(int(self.left[node]), rows[left]), (int(self.right[node]), rows[~left])]
        return score

    def check(self, columns: int) -> None:
        """Refuse, with a ValueError, arrays that are no tree on a table of that many columns."""
        sizes = {len(a) for a in (self.feature, self.threshold, self.left, self.right, self.value, self.size)}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(f"the arrays of a tree have the lengths {sorted(sizes)}")
        if (wrong := self.feature[self.feature >= columns]).size:
            raise ValueError(f"a cut reads column {wrong[0]} of a table with {columns} columns")
        visited, level = np.zeros(len(self.feature), dtype=np.int64), np.zeros(1, dtype=np.int64)
        while len(level := level[self.feature[level] >= 0]):
            level = np.concatenate([self.left[level], self.right[level]])
            if level.min() < 1 or level.max() >= len(visited):
                raise ValueError(f"a cut leads to a node that is none of {len(visited)}")
            np.add.at(visited, level, 1)
            if visited.max() > 1:
                raise ValueError("two cuts lead to one node, as in a cycle")


def _shares(sizes: Array) -> list[float]:
    """Shares of two children; halves where no event of the training reached them."""
    total = float(sizes.sum())
    return [float(size) / total for size in sizes] if total > 0 else [0.5, 0.5]


def histogram_nodes(predictor: Any, scale: float = 1.0) -> Nodes:
    """Tree of scikit-learn's HistGradientBoosting, leaves times a factor; categories come first there."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    sets = predictor.raw_left_cat_bitsets
    cuts = np.flatnonzero(~leaf & nodes["is_categorical"].astype(bool))
    return Nodes(
        feature=np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)),
        threshold=nodes["num_threshold"],
        missing_left=nodes["missing_go_to_left"].astype(bool),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        value=scale * nodes["value"],
        size=nodes["count"].astype(np.float64),
        gain=np.where(leaf, 0.0, nodes["gain"]),
        categories={int(n): (bits_of(sets[nodes["bitset_idx"][n]]), True) for n in cuts},
    )


def bits_of(words: IntArray) -> IntArray:
    """Numbers of the bits that are set in 32-bit words."""
    return np.flatnonzero((words.astype(np.int64)[:, None] >> np.arange(32)) & 1)


def cart_nodes(tree: Any, value: Array) -> Nodes:
    """Tree of scikit-learn's GradientBoosting, RandomForest, ExtraTrees or DecisionTree; values ``[M]``."""
    return Nodes(
        feature=np.where(tree.children_left < 0, -1, tree.feature),
        threshold=tree.threshold,
        missing_left=getattr(tree, "missing_go_to_left", np.zeros(tree.node_count)).astype(bool),
        left=tree.children_left,
        right=tree.children_right,
        value=value,
        size=tree.n_node_samples.astype(np.float64),
        gain=_decrease(tree),
    )


def _decrease(tree: Any) -> Array:
    """Decrease of impurity by each cut, times the share of the training events in the node."""
    part = tree.weighted_n_node_samples * tree.impurity / tree.weighted_n_node_samples[0]
    cut = tree.children_left >= 0
    decrease = np.zeros(tree.node_count)
    decrease[cut] = part[cut] - part[tree.children_left[cut]] - part[tree.children_right[cut]]
    return decrease
