"""Where to write beside the markers of a figure, so that text covers neither markers nor other text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SIDES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)], dtype=np.float64)
GAP = 2.0


def label_centres(points: Array, radius: Array, size: Array, frame: tuple[float, float]) -> Array:
    """Centres of labels beside markers, one after the other, each on the side that hides the least.

    Parameters
    ----------
    points : ndarray, shape [N, 2]
        Centres of the markers, in points from the lower left corner of the frame.
    radius : ndarray, shape [N]
        Of the markers.
    size : ndarray, shape [N, 2]
        Width and height of the labels.
    frame : tuple of float
        Width and height of the frame, which labels should not leave.

    Returns
    -------
    ndarray, shape [N, 2]
    """
    markers = np.concatenate([points - radius[:, None], points + radius[:, None]], axis=1)
    centres = np.empty_like(points)
    boxes = np.empty((0, 4))
    for i in range(len(points)):
        candidates = points[i] + _offsets(radius[i], size[i])
        own = np.concatenate([candidates - size[i] / 2, candidates + size[i] / 2], axis=1)
        hidden = 3 * (size[i].prod() - _overlap(own, np.array([[0.0, 0.0, *frame]]))[:, 0])
        hidden += _overlap(own, np.delete(markers, i, axis=0)).sum(axis=1) + 2 * _overlap(own, boxes).sum(
            axis=1
        )
        best = int(np.argmin(hidden + 0.02 * size[i].prod() * np.arange(len(SIDES))))
        centres[i], boxes = candidates[best], np.append(boxes, own[best : best + 1], axis=0)
    return centres


def _offsets(radius: float, size: Array) -> Array:
    """From the marker to the label on every side; on the diagonals a little closer."""
    away = np.where(np.all(SIDES != 0, axis=1, keepdims=True), 0.7 * radius, radius + GAP)
    return np.asarray(SIDES * (away + size / 2))


def _overlap(a: Array, b: Array) -> Array:
    """Common area of boxes (left, bottom, right, top), ``[A, B]``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))
