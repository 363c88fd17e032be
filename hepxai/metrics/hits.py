"""Hits of detector images: occupancy, clusters, bending of tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Array, Estimate, ratio_mean
from hepxai.core.jagged import IntArray, distinct
from hepxai.events import Events

Mask = NDArray[np.bool_]


def lit_pixels(events: Events, where: Mask | None = None) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Lit pixels of all events, each once, in order.

    Parameters
    ----------
    events : Events
    where : ndarray of bool, shape [N], optional
        Particles that light them; all by default.

    Returns
    -------
    event, channel, row, column : ndarray of int64, shape [P]
    """
    shape = events.image_layout().shape
    pixel = events.pixels()
    lit = pixel >= 0 if where is None else (pixel >= 0) & where
    flat = distinct(events.parent[lit] * int(np.prod(shape)) + pixel[lit])
    return np.unravel_index(flat, (max(len(events), 1), *shape))  # type: ignore[return-value]


def occupancy(events: Events, where: Mask | None = None, *, together: bool = False) -> Array:
    """Weighted share of events that light each pixel, ``[T, R, C]``; NaN where the weights sum to zero.

    With ``together``, a pixel is lit if it is in any channel, ``[R, C]``.
    """
    event, *pixel = lit_pixels(events, where)
    shape: tuple[int, ...] = events.image_layout().shape
    place = np.ravel_multi_index(tuple(pixel), shape)
    if together:
        shape = shape[1:]
        event, place = np.divmod(distinct(event * np.prod(shape) + place % np.prod(shape)), np.prod(shape))
    filled = np.bincount(place, events.weight[event], minlength=int(np.prod(shape)))
    return np.asarray(filled.reshape(shape) / (events.weight.sum() or np.nan))


def hits_per_row(events: Events, where: Mask | None = None) -> Estimate:
    """Weighted mean number of lit pixels of each row, all channels together, ``[R]``."""
    event, _, row, _ = lit_pixels(events, where)
    rows = events.image_layout().rows.size
    counts = np.bincount(event * rows + row, minlength=len(events) * rows).reshape(len(events), rows)
    return ratio_mean(counts.astype(np.float64), np.ones(len(events)), events.weight)


def cluster_sizes(events: Events, where: Mask | None = None) -> tuple[IntArray, IntArray]:
    """Sizes of clusters: runs of neighbouring lit pixels of one row.

    Returns
    -------
    size, event : ndarray of int64, shape [K]
    """
    event, channel, row, column = lit_pixels(events, where)
    if not len(event):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    _, rows, columns = events.image_layout().shape
    line = (event * (channel.max() + 1) + channel) * rows + row
    place = line * (columns + 1) + column  # one dark column between rows, so that no cluster runs over
    first = np.flatnonzero(np.append(True, np.diff(place) != 1))
    return np.diff(np.append(first, len(place))), event[first]


def cluster_shares(events: Events, where: Mask | None = None, *, most: int = 4) -> Estimate:
    """Weighted shares of clusters of 1, 2, … and ``most`` or more pixels, ``[most]``."""
    size, event = cluster_sizes(events, where)
    kind = np.minimum(size, most) - 1
    counts = np.bincount(event * most + kind, minlength=len(events) * most).reshape(len(events), most)
    return ratio_mean(counts.astype(np.float64), counts.sum(axis=1), events.weight)


def bending(
    events: Events, inner: Sequence[int], outer: Sequence[int], where: Mask | None = None
) -> NDArray[np.float64]:
    """Mean column of the hits in the outer rows minus that in the inner ones, ``[E]``, in bins.

    In a magnetic field a measure of charge over momentum. NaN where one of them has no hit.

    Parameters
    ----------
    events : Events
    inner, outer : sequence of int
        Rows.
    where : ndarray of bool, shape [N], optional
        Hits that count, for example those of the true muon.
    """
    event, _, row, column = lit_pixels(events, where)
    means = list(_mean_columns(len(events), event, row, column, (inner, outer)))
    return np.asarray(means[1] - means[0])


def _mean_columns(
    n: int, event: IntArray, row: IntArray, column: IntArray, groups: Sequence[Sequence[int]]
) -> Iterator[Array]:
    for group in groups:
        rows = np.isin(row, group)
        count = np.bincount(event[rows], minlength=n)
        total = np.bincount(event[rows], column[rows], minlength=n)
        with np.errstate(invalid="ignore"):
            yield total / np.where(count > 0, count, np.nan)
