"""Checks that the columns of events fit each other, and that codes and weights are possible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.events.schema import P4, SPLITS

Columns = Mapping[str, NDArray[Any]]


def check_columns(events: Any, of_events: Columns, of_particles: Columns) -> None:
    """Refuse columns of `Events` that do not line up: a misaligned event is a wrong result.

    Parameters
    ----------
    events : Events
    of_events, of_particles : mapping of str to ndarray
        Their columns with a row for each event, and for each particle.

    Raises
    ------
    ValueError
    """
    for kind, number, columns in (
        ("events", len(events), of_events),
        ("particles", events.n_particles, of_particles),
    ):
        for name, column in columns.items():
            if len(column) != number:
                raise ValueError(f"{name} has {len(column)} rows for {number} {kind}")
    if events.offsets[0] != 0 or np.any(np.diff(events.offsets) < 0):
        raise ValueError("offsets must start at 0 and never decrease")
    schema = events.schema
    tables = {"particles": schema.features, "p4": P4, "globals": schema.globals, "targets": schema.targets}
    for name, names in tables.items():
        if getattr(events, name).shape[1:] != (len(names),):
            raise ValueError(f"{name} has shape {getattr(events, name).shape} for the columns {names}")
    _check_files(events)
    _check_codes(events)
    if (odd := np.flatnonzero(~np.isfinite(events.weight))).size:
        bad = f"the weight of event {odd[0]} is {events.weight[odd[0]]} ({odd.size} such)"
        raise ValueError(f"{bad}; write finite weights, 0 for events that do not count")


def _check_files(events: Any) -> None:
    of_files = {"numbers of entries": events.file_entries, "samples": events.samples or events.files}
    for name, column in of_files.items():
        if len(column) != len(events.files):
            raise ValueError(f"{len(column)} {name} for {len(events.files)} files; give one for each")


def _check_codes(events: Any) -> None:
    """Refuse codes out of range."""
    schema = events.schema
    names_of = {"label": schema.classes, "split": SPLITS, "file": events.files, "type": schema.types}
    for name, names in names_of.items():
        column = getattr(events, name)
        if names and (odd := column[(column < 0) | (column >= len(names))]).size:
            numbers = f"write 0 to {len(names) - 1}, for {', '.join(names[:9])}"
            raise ValueError(f"{name} holds {odd[0]} ({odd.size} such); {numbers}")
