"""Shapley values of columns straight from the definition, set by set."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np


def slow_shapley(value: Callable[[frozenset[int]], float], columns: int) -> np.ndarray:
    """φ_f = Σ_{S ⊆ G∖f} s! (g-s-1)! / g! [v(S ∪ f) - v(S)] (Shapley, 1953)."""
    found = np.zeros(columns)
    for f in range(columns):
        others = [c for c in range(columns) if c != f]
        for s in range(columns):
            for chosen in combinations(others, s):
                known = frozenset(chosen)
                share = factorial(s) * factorial(columns - s - 1) / factorial(columns)
                found[f] += share * (value(known | {f}) - value(known))
    return found


def interventional(
    score: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    rows: np.ndarray,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """v(S): weighted mean score of the background rows that have the columns S of the event."""

    def value(known: frozenset[int]) -> float:
        mixed = rows.copy()
        mixed[:, sorted(known)] = x[sorted(known)]
        return float(np.average(score(mixed), weights=weight))

    return slow_shapley(value, len(x))


def path_dependent(trees: list[dict[str, Any]], x: np.ndarray) -> np.ndarray:
    """v(S): at a cut in a column that is not of S both sides, as the training events were shared out.

    Algorithm 1 of Lundberg et al., arXiv:1802.03888. A tree has left, right, feature, threshold, value and
    size (the weighted number of training events) of its nodes; the left of a leaf is -1.
    """

    def walk(tree: dict[str, Any], node: int, known: frozenset[int]) -> float:
        left, right = int(tree["left"][node]), int(tree["right"][node])
        if left < 0:
            return float(tree["value"][node])
        feature = int(tree["feature"][node])
        if feature in known:
            return walk(tree, left if x[feature] <= tree["threshold"][node] else right, known)
        both = (float(tree["size"][child]) * walk(tree, child, known) for child in (left, right))
        return sum(both) / float(tree["size"][left] + tree["size"][right])

    return slow_shapley(lambda known: sum(walk(t, 0, known) for t in trees), len(x))
