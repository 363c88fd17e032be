"""Weight of the events of each slice: its cross section over the hard processes generated in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hepxai.simulate.chunk import Chunk
from hepxai.simulate.collection import FloatArray
from hepxai.simulate.workers import SimulationError


def normalise(names: Sequence[str], chunks: Iterable[Chunk]) -> list[dict[str, Any]]:
    """Normalisation of every slice.

    Parameters
    ----------
    names : sequence of str
        Of the slices.
    chunks : iterable of Chunk
        In order: they cycle over the slices. Read one after the other.

    Returns
    -------
    list of dict
        ``name``, ``generated`` and ``selected`` events, ``cross_section_pb`` before the veto, which is the
        mean over the chunks by the number of their hard processes, ``cross_section_error_pb``, and
        ``weight_pb`` of an event to which Pythia gives one. The error is statistical: that of Pythia, or that
        from the scatter of the chunks where it is larger (Pythia's is too small for chunks of some ten
        events).

    Raises
    ------
    SimulationError
        If no event of a slice survived the veto: Pythia then knows no cross section.
    """
    without_columns = [replace(chunk, columns={}) for chunk in chunks]
    return [_combined(name, without_columns[i :: len(names)]) for i, name in enumerate(names)]


def _combined(name: str, chunks: Sequence[Chunk]) -> dict[str, Any]:
    numbers = [(c.numbers["cross_section"], c.numbers["error"], c.generated) for c in chunks]
    finite = [row for row in numbers if math.isfinite(row[0])]
    if not finite:
        raise SimulationError(
            f"slice {name!r}: no event survived the veto, so its cross section is unknown: "
            "raise its number of events, loosen the veto, or leave the slice out"
        )
    value, error = _mean(*np.array(finite).T)
    generated = sum(c.generated for c in chunks)
    return {
        "name": name,
        "generated": generated,
        "selected": sum(c.selected for c in chunks),
        "cross_section_pb": value,
        "cross_section_error_pb": error,
        "weight_pb": value / generated,
    }


def _mean(values: FloatArray, errors: FloatArray, sizes: FloatArray) -> tuple[float, float]:
    """Mean of values by ``sizes``, and its error."""
    share = sizes / sizes.sum()
    mean = float(share @ values)
    stated, scattered = np.sum((share * errors) ** 2), np.sum((share * (values - mean)) ** 2)
    few = len(values) / max(len(values) - 1, 1)
    return mean, math.sqrt(max(stated, few * scattered))
