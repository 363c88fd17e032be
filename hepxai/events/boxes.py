"""Boxes around objects in detector images, as flat columns with offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, parents, row_numbers, take_rows
from hepxai.events.events import Events

NONE = -1
"""Match of a box without one."""


@dataclass(frozen=True)
class Boxes:
    """Boxes in the images of events; event ``e`` owns the boxes ``offsets[e]:offsets[e+1]``.

    Attributes
    ----------
    offsets : ndarray of int64, shape [E+1]
    edges : ndarray of float32, shape [N, 4]
        Left, lower, right and upper edge in pixels: a pixel reaches from its number to the next one, columns
        to the right, rows upwards.
    label : ndarray of int64, shape [N]
        Index into ``classes``.
    score : ndarray of float64, shape [N]
        Probability of the class; 1 for true boxes.
    particle : ndarray of int64, shape [N]
        For true boxes their particle in the flat columns of the events; for detected ones that of the matched
        true box, -1 without one.
    classes : tuple of str
    """

    offsets: IntArray
    edges: NDArray[np.float32]
    label: IntArray
    score: NDArray[np.float64]
    particle: IntArray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("edges", "label", "score", "particle"):
            if len(getattr(self, name)) != self.offsets[-1]:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows for {self.offsets[-1]} boxes")

    @staticmethod
    def of(events: Events, particle: str, edges: Sequence[str], label: str, classes: Sequence[str]) -> Boxes:
        """True boxes: the particles of one type, with their edges and class as features.

        Raises
        ------
        KeyError
            If the events have no such type or feature.
        ValueError
            If a box is empty or outside the image, or its class is not one of ``classes``.
        """
        schema, flat = events.schema, np.flatnonzero(events.is_type(particle))
        values = events.particles[flat]
        corners = values[:, [schema.column(name) for name in edges]]
        codes = values[:, schema.column(label)]
        _, rows, columns = events.image_layout().shape
        outside = (corners[:, :2] < 0).any(1) | (corners[:, 2] > columns) | (corners[:, 3] > rows)
        if bad := int((outside | ~(corners[:, 2:] > corners[:, :2]).all(1)).sum()):
            raise ValueError(
                f"{bad} boxes of {particle} are empty or outside the image of {rows} x {columns} pixels; "
                f"look at {', '.join(edges)}"
            )
        if (odd := codes[~np.isin(codes, np.arange(len(classes)))]).size:
            raise ValueError(
                f"{label} holds {odd[0]:g} ({odd.size} such); write 0 to {len(classes) - 1}, for "
                f"{', '.join(classes)}"
            )
        offsets = np.searchsorted(events.parent[flat], np.arange(len(events) + 1))
        return Boxes(offsets, corners, codes.astype(np.int64), np.ones(len(flat)), flat, tuple(classes))

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __repr__(self) -> str:
        return f"<Boxes: {len(self):,} ({', '.join(self.classes)}) in {len(self.offsets) - 1:,} events>"

    @property
    def event(self) -> IntArray:
        """Event of every box, ``[N]``."""
        return parents(self.offsets)

    def keep(self, mask: NDArray[np.bool_]) -> Self:
        """Boxes where a mask ``[N]`` is true; events without any stay."""
        counts = np.bincount(self.event[mask], minlength=len(self.offsets) - 1)
        return self._rows(np.flatnonzero(mask), np.concatenate([[0], np.cumsum(counts)]))

    def __getitem__(self, which: int | slice | NDArray[np.generic] | Sequence[int]) -> Self:
        """Boxes of some of the events; ``particle`` still counts in the columns of all of them."""
        return self._rows(*take_rows(self.offsets, row_numbers(which, len(self.offsets) - 1)))

    def _rows(self, flat: IntArray, offsets: IntArray) -> Self:
        columns = (self.edges[flat], self.label[flat], self.score[flat], self.particle[flat])
        return type(self)(offsets, *columns, self.classes)


def overlaps(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union ``[P]`` of pairs of boxes, from their edges ``[P, 4]`` each."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = sides.clip(min=0).prod(1)
    union = sum((b[:, 2:] - b[:, :2]).prod(1) for b in (first, second)) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0))
