"""What figures of merit of a map start from: one number per pair, pairs of two types, edges by their ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution, Pairs
from hepxai.core.jagged import IntArray, offsets_from_counts

Array = NDArray[np.float64]


def labels_of(attribution: Attribution, axis: str) -> tuple[str, ...]:
    """Names along a regular axis, numbered where the attribution has none."""
    size = attribution.values.shape[attribution.axis(axis)]
    return attribution.labels.get(axis) or tuple(f"{axis} {i + 1}" for i in range(size))


def reduced(attribution: Attribution, *, layer: str | None = None, head: str | None = None) -> Attribution:
    """Reduce to one number per particle or pair.

    A named layer or head is selected; heads, repeats and the like are averaged, features are summed.

    Raises
    ------
    ValueError
        If there are several layers and none was named: their mean has no meaning.
    """
    part = attribution.replace(labels={a: labels_of(attribution, a) for a in attribution.axes[1:]})
    part = part if layer is None else part.select(layer=layer)
    part = part if head is None else part.select(head=head)
    for axis in part.axes[1:]:
        if axis == "layer" and len(part.labels["layer"]) > 1:
            raise ValueError(f"name one layer of {', '.join(part.labels['layer'])}")
        part = part.sum(axis) if axis == "feature" else part.mean(axis)
    return part


def pairs_of(attribution: Attribution) -> Pairs:
    """Pairs of a "pair" axis, with an error for any other."""
    if attribution.axes[0] != "pair" or attribution.pairs is None:
        raise ValueError(f"needs a pair axis; {attribution.method} has {', '.join(attribution.axes)}")
    return attribution.pairs


def is_directed(attribution: Attribution) -> bool:
    """True if the two orders of a pair are separate values; False if each has half of one value."""
    return bool(attribution.settings.get("directed", True))


def whole_pairs(attribution: Attribution) -> Attribution:
    """Each pair once, with the sum of its two orders, if pairs have no direction; else the map as it is."""
    if attribution.axes[0] != "pair" or is_directed(attribution):
        return attribution
    pairs, events = pairs_of(attribution), attribution.events
    first, second = np.sort([pairs.src, pairs.dst], axis=0)
    keys = edge_keys(first, second, events.n_particles)
    once, place = np.unique(keys, return_inverse=True)
    second, first = np.divmod(once, max(events.n_particles, 1))
    offsets = offsets_from_counts(np.bincount(events.parent[second], minlength=len(events)))

    def total(column: NDArray[np.floating]) -> Array:
        both = np.zeros((len(once), *column.shape[1:]))
        np.add.at(both, place, column)
        return both

    error = None if attribution.error is None else total(attribution.error)  # the halves err together
    return attribution.replace(
        values=total(attribution.values), error=error, pairs=Pairs(first, second, offsets)
    )


def in_focus(attribution: Attribution, focus: tuple[str, str]) -> NDArray[np.bool_]:
    """Mask of the pairs of two types, in either order, ``[P]``."""
    pairs = pairs_of(attribution)
    a, b = (attribution.events.is_type(t) for t in focus)
    return np.asarray((a[pairs.src] & b[pairs.dst]) | (b[pairs.src] & a[pairs.dst]))


def finite(attribution: Attribution) -> Array:
    """Values in double precision, with an error if one is not finite: it would have no place in an order."""
    values = np.asarray(attribution.values, dtype=np.float64)
    if bad := int(np.count_nonzero(~np.isfinite(values))):
        raise ValueError(f"{bad} of {values.size} values of {attribution.method} are not finite")
    return values


def edge_keys(src: IntArray, dst: IntArray, particles: int) -> IntArray:
    """One number for each ordered pair of flat particle indices, sorted as ``(dst, src)``."""
    return dst * particles + src


def at_edges(attribution: Attribution, src: IntArray, dst: IntArray) -> Array:
    """Values of a map over pairs at given edges; 0 where the map has no such edge."""
    pairs, size = pairs_of(attribution), attribution.events.n_particles
    own = edge_keys(pairs.src, pairs.dst, size)
    order = np.argsort(own, kind="stable")
    asked = edge_keys(src, dst, size)
    place = np.minimum(np.searchsorted(own[order], asked), max(len(own) - 1, 0))
    if len(own) == 0:
        return np.zeros(len(asked))
    found = order[place]
    return np.where(own[found] == asked, attribution.values[found], 0.0).astype(np.float64)
