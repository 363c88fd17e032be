"""All columns of `Events`, from those of the particles and those of the events; refusal of bad numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest
from hepxai.core.fingerprint import fingerprint
from hepxai.events.momenta import FEATURE_UNITS
from hepxai.events.per_event import PerEvent, per_event
from hepxai.events.schema import P4, Schema
from hepxai.events.splits import text_hash

Columns = dict[str, Any]


def complete(flat: Columns, schema: dict[str, Any], columns: PerEvent) -> Columns:
    """All columns of events: particles, and one row for each event."""
    for name in columns:
        if name not in PerEvent.__annotations__:
            hint = nearest(name, PerEvent.__annotations__)
            raise TypeError(f"no option {name!r}{hint}; there are {', '.join(PerEvent.__annotations__)}")
    units: Any = columns.get("units") or {}
    if isinstance(units, str):
        raise TypeError(f"units={units!r} is a text; give a mapping of names to units, as in {{'ht': 'GeV'}}")
    others, names = per_event(len(flat["offsets"]) - 1, **columns)
    _known_units(units, (*schema["features"], *names["globals"], *names["targets"]))
    of_features = tuple((FEATURE_UNITS | dict(units)).get(n, "") for n in schema["features"])
    full = Schema(**(schema | names), units=of_features, collections=schema["types"])
    if not columns.get("identity"):
        content = fingerprint(flat["offsets"], flat["particles"], flat["type"], others["globals"])
        others["run"] = np.full(len(others["run"]), text_hash(content) >> 32)
    return {"schema": full, **flat, **others}


def _known_units(units: Mapping[str, str], names: Sequence[str]) -> None:
    for name in units:
        if name not in names:
            raise ValueError(f"units: no column {name!r}{nearest(name, names)}; there are {', '.join(names)}")


def check_finite(table: NDArray[np.float32], names: Sequence[str], where: Callable[[int], str]) -> None:
    """Refuse values that are not finite; ``where`` names the particle of a row."""
    if len(bad := np.argwhere(~np.isfinite(table))):
        row, column = bad[0]
        raise ValueError(
            f"{names[column]} is {table[row, column]} for {where(row)} ({len(bad)} such); leave such "
            "particles out, or put a number in its place, as in np.nan_to_num(x, posinf=0, neginf=0)"
        )


def check_momenta(p4: NDArray[np.float32], where: Callable[[int], str]) -> None:
    """Refuse four-momenta that are not finite, or with pt below 0."""
    check_finite(p4, P4, where)
    if (bad := np.flatnonzero(p4[:, 0] < 0)).size:
        raise ValueError(
            f"pt is {p4[bad[0], 0]} for {where(bad[0])} ({bad.size} such); pt is not below 0: leave "
            "such particles out"
        )
    if (bad := np.flatnonzero(np.abs(p4[:, 2]) > 2 * np.pi + 1e-3)).size:
        raise ValueError(
            f"phi is {p4[bad[0], 2]} for {where(bad[0])} ({bad.size} such); expected radians: are the "
            "columns in the order of their names?"
        )


def narrow(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values in single precision; too large ones become infinite."""
    with np.errstate(over="ignore"):  # infinity is refused later
        return values.astype(np.float32)
