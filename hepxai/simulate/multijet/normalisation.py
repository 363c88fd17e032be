"""What an event of each slice weighs: the cross section of the slice over the hard processes made in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepxai.simulate.collection import FloatArray
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
        Before the veto, pb: mean over the chunks, by the number of their hard processes. The error is
        statistical: that of Pythia, or that from the scatter of the chunks where it is larger (Pythia's is
        too small for chunks of some ten events).
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
    value, error = _mean(*np.array([(c.cross_section, c.error, c.generated) for c in known]).T)
    generated, selected = (sum(getattr(c, n) for c in chunks) for n in ("generated", "selected"))
    return Normalisation(name, generated, selected, value, error)


def _mean(values: FloatArray, errors: FloatArray, sizes: FloatArray) -> tuple[float, float]:
    """Mean of values by ``sizes``, and its error."""
    share = sizes / sizes.sum()
    mean = float(share @ values)
    stated, scattered = np.sum((share * errors) ** 2), np.sum((share * (values - mean)) ** 2)
    few = len(values) / max(len(values) - 1, 1)
    return mean, math.sqrt(max(stated, few * scattered))
