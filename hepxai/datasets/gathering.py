"""Values at stored positions: cross references such as NanoAOD's ``Muon_genPartIdx``."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np

from hepxai.datasets.columns import Array, flatten

_EXACT = 2**53  # doubles hold all whole numbers up to here


class RowError(IndexError):
    """Invalid value in the event at position ``row``."""

    def __init__(self, row: int, text: str) -> None:
        self.row = row
        super().__init__(text)


def kind_of(value: Any) -> str:
    """Kind code of numpy: b, i, u or f for numbers, another letter for anything else."""
    if isinstance(value, ak.Array):
        dtype = getattr(_leaf(value.layout), "dtype", None)
        return dtype.kind if dtype is not None else "O"
    return np.asarray(value).dtype.kind


def _leaf(layout: Any) -> Any:
    while hasattr(layout, "content"):
        layout = layout.content
    return layout


def refuse_rounding(values: Any) -> None:
    """Refuse whole numbers that would be rounded as doubles.

    Raises
    ------
    TypeError
    """
    if kind_of(values) not in "iu":
        return
    flat = np.asarray(ak.flatten(values, axis=None) if isinstance(values, ak.Array) else values)
    if flat.size and (flat.max() > _EXACT or flat.min() < -_EXACT):
        raise TypeError(
            "whole numbers beyond 2^53 would be rounded, because NaN for missing values needs doubles; give "
            "a whole number for missing values, as in take(x, argmax(x), 0)"
        )


def gather(values: Any, positions: Any, none: Any = None) -> Any:
    """Values of a collection at positions in it, one for each position.

    Parameters
    ----------
    values : awkward array, [E, var]
        Numbers or records, in the order to which the positions refer.
    positions : number, ndarray [E] or awkward array [E, var ...]
        Whole numbers; -1 means none.
    none : number, optional
        Value at position -1; by default NaN, for conditions false.

    Raises
    ------
    TypeError
        If there is not one value per particle, or positions are not whole numbers.
    RowError
        If a position is not in the collection.
    """
    if not isinstance(values, ak.Array) or values.ndim != 2:
        raise TypeError(
            "take(x, i) needs one value per particle as x; for lists write for example take(sum(x), i)"
        )
    if kind_of(positions) not in "iu":
        raise TypeError(
            "take(x, i) needs whole numbers, the positions, as i; for a condition write x[condition]"
        )
    where = positions if isinstance(positions, ak.Array) else np.broadcast_to(positions, len(values))
    if values.fields:
        if none is not None:
            raise TypeError("take(x, i, value) is for numbers; write for example take(x, i).pt")
        return ak.zip({n: gather(values[n], where) for n in values.fields}, depth_limit=where.ndim)
    content, offsets = flatten(values)
    events = ak.broadcast_arrays(ak.Array(np.arange(len(values))), ak.Array(where))[0]
    event, position = (np.asarray(ak.flatten(v, axis=None), dtype=np.int64) for v in (events, where))
    _refuse_outside(position, event, np.diff(offsets)[event], isinstance(positions, ak.Array))
    present = position >= 0
    gathered = _blank(content, len(position), none)
    gathered[present] = content[offsets[event[present]] + position[present]]
    return _shaped(gathered, where)


def _refuse_outside(position: Array, event: Array, size: Array, from_branch: bool) -> None:
    outside = (position < -1) | (position >= size)
    if outside.any():
        first = int(np.argmax(outside))
        remedy = (
            f"if it means none, write missing: {{BRANCH: {{values: [{position[first]}], replace: -1}}}} for "
            "the branch of positions"
        )
        raise RowError(
            int(event[first]),
            f"position {position[first]} among {size[first]} particles ({outside.sum()} such in this chunk); "
            f"{remedy if from_branch else 'write nth(x, i), which gives NaN there'}",
        )


def _blank(content: Array, size: int, none: Any) -> Array:
    """Array of the value for missing entries; doubles if that is NaN."""
    if none is None and content.dtype.kind in "iu":
        refuse_rounding(content)
    default = False if content.dtype.kind == "b" else np.nan
    value = np.asarray(default if none is None else none)
    return np.full(size, value, dtype=np.result_type(content, value))


def _shaped(flat: Array, like: Any) -> Any:
    """Flat values, nested like another array."""
    if like.ndim == 1:
        return flat
    return ak.unflatten(_shaped(flat, ak.flatten(like)), ak.num(like))
