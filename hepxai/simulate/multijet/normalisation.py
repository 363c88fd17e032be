"""What an event of each slice weighs: the cross section of the slice over the hard processes made in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hepxai.simulate.multijet.chunk import SliceChunk
from hepxai.simulate.workers import SimulationError


@dataclass(frozen=True)
class Normalisation:
    """One slice of a sample, all chunks together.

    Attributes
    ----------
    name : str
    generated, selected : int
    cross_section, error : float
        Before the veto, pb: mean over the chunks, by the number of their hard processes, with its
        statistical error.
    """

    name: str
    generated: int
    selected: int
    cross_section: float
    error: float

    @property
    def weight(self) -> float:
        """Of an event to which Pythia gives one, pb."""
        return self.cross_section / self.generated

    def summary(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "name": self.name,
            "generated": self.generated,
            "selected": self.selected,
            "cross_section_pb": self.cross_section,
            "cross_section_error_pb": self.error,
            "weight_pb": self.weight,
        }


def normalise(names: Sequence[str], chunks: Iterable[SliceChunk]) -> list[Normalisation]:
    """Normalisation of every slice.

    Parameters
    ----------
    names : sequence of str
        Of the slices.
    chunks : iterable of SliceChunk
        In order: they cycle over the slices. Read one after the other.

    Raises
    ------
    SimulationError
        If no event of a slice survived the veto: Pythia then knows no cross section.
    """
    parts: list[list[SliceChunk]] = [[] for _ in names]
    for index, chunk in enumerate(chunks):
        parts[index % len(names)].append(SliceChunk({}, *_numbers(chunk)))
    return [_combined(name, part) for name, part in zip(names, parts, strict=True)]


def _numbers(chunk: SliceChunk) -> tuple[Any, ...]:
    return chunk.cutflow, chunk.failures, chunk.cross_section, chunk.error


def _combined(name: str, chunks: Sequence[SliceChunk]) -> Normalisation:
    known = [c for c in chunks if math.isfinite(c.cross_section)]
    if not known:
        raise SimulationError(
            f"slice {name!r}: no event survived the veto, so its cross section is unknown: "
            "raise its number of events, loosen the veto, or leave the slice out"
        )
    total = sum(c.generated for c in known)
    value = sum(c.generated * c.cross_section for c in known) / total
    error = math.sqrt(sum((c.generated * c.error) ** 2 for c in known)) / total
    return Normalisation(
        name, sum(c.generated for c in chunks), sum(c.selected for c in chunks), value, error
    )
