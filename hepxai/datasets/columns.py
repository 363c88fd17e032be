"""Columns of a chunk of entries: numpy where there is one value per event, awkward where there are many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, take_rows

Array = NDArray[Any]


class ReadError(ValueError):
    """Unusable data; the text names file, tree, branch and entry, and a remedy."""


class ExpressionError(ValueError):
    """Unusable expression; the text quotes the token."""

    row: int | None = None  # position of the event that it is about


class RowError(IndexError):
    """Invalid value in the event at position ``row``."""

    def __init__(self, row: int, text: str) -> None:
        self.row = row
        super().__init__(text)


def jagged(content: Array | ak.Array, offsets: IntArray) -> ak.Array:
    """Awkward array of flat values (or of flat lists) and offsets, without a copy."""
    inner = content.layout if isinstance(content, ak.Array) else ak.contents.NumpyArray(content)
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), inner))


def flatten(values: ak.Array) -> tuple[Array, IntArray]:
    """Flat values and offsets (from 0) of a jagged array of numbers; flat lists, where it is one of lists."""
    layout = values.layout.to_ListOffsetArray64(True)
    offsets = np.asarray(layout.offsets.data)
    content = layout.content[: offsets[-1]]
    if content.is_list:
        return ak.Array(content), offsets
    return np.asarray(ak.to_numpy(content, allow_missing=False)), offsets


def records(fields: Mapping[str, Array], offsets: IntArray) -> ak.Array:
    """Jagged records from flat values and offsets, without a copy."""
    contents = [ak.contents.NumpyArray(v) for v in fields.values()]
    rows = ak.contents.RecordArray(contents, list(fields), length=int(offsets[-1]))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), rows))


@dataclass(frozen=True)
class Records:
    """Particles whose fields are computed on demand: counting them needs the offsets only."""

    offsets: IntArray
    compute: Callable[[], ak.Array]


def take(values: Any, rows: IntArray) -> Any:
    """Values of some events; a number is the same for all."""
    if not isinstance(values, ak.Array):
        return values[rows] if np.ndim(values) else values
    if not _is_plain(values.layout):
        return values[rows]
    content, offsets = flatten(values)
    positions, taken = take_rows(offsets, rows)
    return jagged(content[positions], taken)


def _is_plain(layout: Any) -> bool:
    text = layout.parameters.get("__array__") is not None
    return bool(layout.is_list and not text and layout.content.is_numpy and not layout.content.parameters)


def column(array: ak.Array) -> Any:
    """Column in its simplest form; whole numbers as int64, so that differences cannot wrap around.

    Numbers from 2^63 on stay unsigned: `hepxai.datasets.vocabulary.refuse_unsigned` guards them.
    """
    if "?" in str(array.type):
        array = ak.fill_none(array, np.nan, axis=-1)  # None is a missing value
    layout = array.layout
    if layout.is_numpy and layout.purelist_depth == 1:
        return whole_numbers(np.asarray(layout.data))
    if layout.is_regular or layout.is_numpy:
        layout = ak.from_regular(array, axis=1).layout
    if not _is_plain(layout):
        return ak.Array(layout)
    content, offsets = flatten(ak.Array(layout))
    return jagged(whole_numbers(content), offsets)


def whole_numbers(content: Array) -> Array:
    """Values with whole numbers as int64, or as uint64 where they do not fit."""
    if content.dtype == np.uint64 and content.size and content.max() > np.iinfo(np.int64).max:
        return content
    return content.astype(np.int64, copy=False) if content.dtype.kind in "iu" else content


class Columns(dict[str, Any]):
    """Columns of a chunk by name, in their simplest form; converted when first used.

    Parameters
    ----------
    arrays : mapping of str to awkward array
        As read from the file, by the same names.
    all_names : frozenset of str
        Names of all columns of the tree.
    replace : mapping of str to callable
        Replacement of missing values: flat values to flat values.
    where : str
        ``path:tree``, for messages.
    entries : ndarray, [E]
        Entry number of every row.
    exchange : mapping of str to str, optional
        Names of the arrays that a variation puts in the place of others.

    Attributes
    ----------
    flat : dict of str to (ndarray, ndarray)
        Flat values and offsets of the columns with a list of numbers per event.
    """

    def __init__(
        self,
        arrays: Mapping[str, ak.Array],
        *,
        all_names: frozenset[str],
        replace: Mapping[str, Callable[[Array], Array]],
        where: str,
        entries: IntArray,
        exchange: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._arrays, self._replace, self._exchange = arrays, replace, exchange or {}
        self.all_names, self.where, self.entries = all_names, where, entries
        self.flat: dict[str, tuple[Array, IntArray]] = {}

    def __missing__(self, name: str) -> Any:
        value, replace = column(self._arrays[self._exchange.get(name, name)]), self._replace.get(name)
        if not isinstance(value, ak.Array):
            value = value if replace is None else replace(value)
        elif replace is not None or _is_plain(value.layout):
            content, offsets = flatten(value)
            if replace is not None:
                content = replace(content)
                value = jagged(content, offsets)
            self.flat[name] = content, offsets
        self[name] = value
        return value

    def take(self, rows: IntArray) -> Columns:
        """The same columns for some of the events."""
        return _Taken(self, rows)


class _Taken(Columns):
    """Columns for some of the events of a chunk."""

    def __init__(self, columns: Columns, rows: IntArray) -> None:
        names, where = columns.all_names, columns.where
        super().__init__({}, all_names=names, replace={}, where=where, entries=columns.entries[rows])
        self._columns, self._rows = columns, rows

    def __missing__(self, name: str) -> Any:
        value = take(self._columns[name], self._rows)
        if name in self._columns.flat:
            self.flat[name] = flatten(value)
        self[name] = value
        return value
