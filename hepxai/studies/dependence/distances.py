"""Sums over all pairs of events of absolute differences, in O(n log n) and flat memory."""

from __future__ import annotations

import numpy as np

from hepxai.core.estimate import Array
from hepxai.core.jagged import IntArray


def absolute_sums(x: Array, weight: Array) -> Array:
    """Σ_j w_j |x_i - x_j| for every i, ``[n]``."""
    order = np.argsort(x, kind="stable")
    s, w = x[order], weight[order]
    below, moment = np.cumsum(w), np.cumsum(w * s)
    result = np.empty(len(x))
    result[order] = s * (2 * below - below[-1]) - 2 * moment + moment[-1]
    return result


def absolute_products(x: Array, y: Array, weight: Array) -> Array:
    """Σ_j w_j |x_i - x_j| |y_i - y_j| for every i, ``[n]``.

    The sum of w (x_i - x_j)(y_i - y_j) over all j, less twice that over the j that differ from i in
    opposite directions. Of equal values the difference is 0, so that it does not matter how ties rank.
    """
    moments = weight[:, None] * np.stack([np.ones(len(x)), x, y, x * y], axis=1)
    everything = moments.sum(axis=0)
    up_to = [_ranked_below(v, moments) for v in (x, y)]
    lower = _below_in_both(x, y, moments)
    # Lower or higher in both = all - (lower in x) - (lower in y) + 2 (lower in both).
    same = everything - up_to[0] - up_to[1] + 2 * lower
    return _products(x, y, 2 * same - everything)


def _products(x: Array, y: Array, moments: Array) -> Array:
    """Σ w (x - x_j)(y - y_j) from the sums of w, w x_j, w y_j, w x_j y_j."""
    w, wx, wy, wxy = moments.T
    return np.asarray(x * y * w - x * wy - y * wx + wxy)


def _ranked_below(x: Array, moments: Array) -> Array:
    """Sums over the events that rank lower in x, for every event ``[n, ...]``."""
    order = np.argsort(x, kind="stable")
    result = np.empty_like(moments)
    result[order] = np.cumsum(moments[order], axis=0) - moments[order]
    return result


def _rank(x: Array) -> IntArray:
    rank = np.empty(len(x), dtype=np.int64)
    rank[np.argsort(x, kind="stable")] = np.arange(len(x))
    return rank


def _below_in_both(x: Array, y: Array, moments: Array) -> Array:
    """Sums over the events that rank lower in x and in y: a merge sort, all blocks of a level at once."""
    by_x = np.argsort(x, kind="stable")
    rank, sums = _rank(y)[by_x], np.zeros_like(moments)
    position, size = np.arange(len(x)), 1
    while size < len(x):
        order = np.argsort(position // (2 * size) * len(x) + rank)  # by block, then by y
        left = order // size % 2 == 0
        before = np.cumsum(np.where(left[:, None], moments[by_x[order]], 0.0), axis=0)
        start = position // (2 * size) * (2 * size)
        earlier = np.where(start[:, None] > 0, before[start - 1], 0.0)
        sums[order] += np.where(left[:, None], 0.0, before - earlier)
        size *= 2
    in_order = np.empty_like(sums)
    in_order[by_x] = sums
    return in_order
