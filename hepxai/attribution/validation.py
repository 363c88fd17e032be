"""Checks that the columns of an attribution fit its events and axes."""

from __future__ import annotations

from typing import Any

import numpy as np

JAGGED = ("particle", "pair", "self")
"""First axes whose length differs between events."""


def check_columns(attribution: Any) -> None:
    """Refuse an `Attribution` whose columns do not line up: a misaligned value is a wrong result.

    Raises
    ------
    ValueError
    """
    first, events, shape = attribution.axes[0], attribution.events, attribution.values.shape
    if len(shape) != len(attribution.axes):
        raise ValueError(f"values have {len(shape)} axes, names are {attribution.axes}")
    if first not in ("event", *JAGGED):
        raise ValueError(f"the first axis is {first!r}; it must be event, particle, pair or self")
    if shape[0] != attribution.offsets[-1]:
        raise ValueError(f"{shape[0]} rows for {attribution.offsets[-1]} {first}s")
    if len(attribution.offsets) != len(events) + 1:
        covered = len(attribution.offsets) - 1
        raise ValueError(f"the {first} axis covers {covered} events, not {len(events)}")
    columns = {name: getattr(attribution, name) for name in ("residual", "output_change")}
    for name, column in {**columns, **attribution.event_columns}.items():
        if column is not None and len(column) != len(events):
            raise ValueError(f"{name} has {len(column)} rows for {len(events)} events")
    if attribution.error is not None and attribution.error.shape != shape:
        raise ValueError(f"error has shape {attribution.error.shape} for values of {shape}")
    _check_self_loops(attribution)
    for axis, names in attribution.labels.items():
        if len(names) != shape[attribution.axis(axis)]:
            raise ValueError(f"{len(names)} labels for axis {axis} of {shape}")


def _check_self_loops(attribution: Any) -> None:
    pairs, loops = attribution.pairs, attribution.self_values
    if attribution.axes[0] == "pair" and pairs is not None:
        number = int(np.count_nonzero(pairs.src == pairs.dst))
        if number:
            raise ValueError(f"{number} pairs are a particle with itself: put these into self_values")
    shape = (attribution.events.n_particles, *attribution.values.shape[1:])
    if loops is not None and loops.shape != shape:
        raise ValueError(f"self_values have shape {loops.shape}, not {shape}")
