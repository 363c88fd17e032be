"""Overview of events for notebooks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepxai.core.html import html_table
from hepxai.core.jagged import IntArray
from hepxai.events.per_event import MEMORY
from hepxai.events.schema import Schema

LONGEST = 12
"""Features that are listed in full."""


def origin_of(files: tuple[str, ...], event: IntArray, entry: IntArray) -> str:
    """Number of files, or a remark on events in memory."""
    if files != (MEMORY,):
        return f"{len(files)} files"
    return f"in memory{', event numbers are rows' if np.array_equal(event, entry) else ''}"


def overview(
    schema: Schema,
    label: IntArray,
    weight: NDArray[np.float64],
    parent: IntArray,
    kind: IntArray,
    origin: str,
) -> str:
    """HTML of events, weights and particles of each class, and of the features with their units.

    Parameters
    ----------
    schema : Schema
    label, weight : ndarray, shape [E]
    parent, kind : ndarray, shape [N]
        Event and type of each particle.
    origin : str
        Source of the events, in words.
    """
    types = schema.types
    header = ["class", "events", "sum of weights", "negative weights", *(f"{t} per event" for t in types)]
    rows = []
    for code, name in enumerate(schema.classes):
        of_class = label == code
        number, w = int(of_class.sum()), weight[of_class]
        each = np.bincount(kind[of_class[parent]], minlength=len(types)) / max(number, 1)
        rows.append(
            [name, f"{number:,}", f"{w.sum():.6g}", f"{(w < 0).sum():,}", *(f"{n:.2f}" for n in each)]
        )
    return html_table("Events", header, rows, origin) + _columns(schema)


def _columns(schema: Schema) -> str:
    units = {"feature": schema.units, "global": schema.global_units, "target": schema.target_units}
    names = {"feature": schema.features, "global": schema.globals, "target": schema.targets}
    rows = [(kind, n, u) for kind in names for n, u in zip(names[kind], units[kind], strict=True)]
    more = f"and {len(rows) - LONGEST} more columns" if len(rows) > LONGEST else ""
    return html_table("Columns", ["", "name", "unit"], rows[:LONGEST], more)
