"""Ordered pairs of particles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray
from hepxai.events import Events


@dataclass(frozen=True)
class Pairs:
    """Ordered particle pairs: messages flow from ``src`` to ``dst``.

    Attributes
    ----------
    src, dst : ndarray of int64, shape [P]
        Flat particle indices into the events.
    offsets : ndarray of int64, shape [E+1]
    """

    src: IntArray
    dst: IntArray
    offsets: IntArray

    def __post_init__(self) -> None:
        if not len(self.src) == len(self.dst) == self.offsets[-1]:
            raise ValueError(f"{len(self.src)} and {len(self.dst)} rows of ends for {self.offsets[-1]} pairs")

    @staticmethod
    def complete(events: Events) -> Pairs:
        """All ordered pairs of different particles of each event."""
        return Pairs(*events.pairs())

    def between(self, events: Events, types: tuple[str, str]) -> NDArray[np.bool_]:
        """Mask of the pairs of two particle types, in either order, ``[P]``."""
        a, b = (events.is_type(t) for t in types)
        return np.asarray((a[self.src] & b[self.dst]) | (b[self.src] & a[self.dst]))
