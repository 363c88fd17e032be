"""Copies of an event in which one column has other values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Array
from hepxai.events import Events

POINTS = 61


def with_values(events: Events, row: int, column: int | str, values: Array) -> Events:
    """One event several times, with these values in one of its columns.

    Parameters
    ----------
    events : Events
    row : int
        Position of the event.
    column : int or str
        Position or name of the column in the table.
    values : ndarray, shape [V]

    Returns
    -------
    Events
        V events.
    """
    many = events[np.full(len(values), row)]
    table = many.globals.copy()
    table[:, events.schema.globals.index(column) if isinstance(column, str) else column] = values
    return many.replace(globals=table)


def usual_range(values: NDArray[np.floating], value: float) -> tuple[float, float]:
    """Quantiles 0.5 % and 99.5 % of a column, widened to hold a value."""
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = (float(v) for v in np.quantile(finite, [0.005, 0.995])) if len(finite) else (0.0, 1.0)
    low, high = min(low, value), max(high, value)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def grid(low: float, high: float, *values: float) -> Array:
    """Evenly spaced points of a curve, then some single values, ``[POINTS + V]``."""
    return np.append(np.linspace(low, high, POINTS), values)
