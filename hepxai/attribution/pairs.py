"""Ordered pairs of particles."""

from __future__ import annotations

from dataclasses import dataclass

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
