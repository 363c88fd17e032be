"""Columns of a chunk of entries: numpy where there is one value per event, awkward where there are many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, take_rows

if TYPE_CHECKING:
    from hepxai.datasets.branches import Column, Names

Array = NDArray[Any]


class ReadError(ValueError):
    """Data that cannot be used; the text names file, tree, branch and entry, and what to do."""


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
    """Particles whose fields are computed when somebody asks for more than how many there are."""

    offsets: IntArray
    compute: Callable[[], ak.Array]


def materialise(value: Any) -> Any:
    """Particles with their fields; anything else as it is."""
    return value.compute() if isinstance(value, Records) else value


def as_numpy(value: Any) -> Any:
    """An ndarray where there is one number per event, whatever computed it."""
    per_event = isinstance(value, ak.Array) and value.layout.purelist_depth == 1
    return ak.to_numpy(value) if per_event and value.layout.is_numpy else value


def take(values: Any, rows: IntArray) -> Any:
    """Values of some events; a number is the same for all."""
    if not isinstance(values, ak.Array):
        return values[rows] if np.ndim(values) else values
    if not _is_plain(values.layout):
        return values[rows]
    content, offsets = flatten(values)
    chosen, taken = take_rows(offsets, rows)
    return jagged(content[chosen], taken)


def _is_plain(layout: Any) -> bool:
    text = layout.parameters.get("__array__") is not None
    return bool(layout.is_list and not text and layout.content.is_numpy and not layout.content.parameters)


def column(array: ak.Array) -> Any:
    """Column in its simplest form; whole numbers as int64, so that differences cannot wrap around.

    Numbers from 2^63 on stay unsigned: `hepxai.datasets.operators` refuses what is not exact with them.
    """
    if "?" in str(array.type):
        array = ak.fill_none(array, np.nan, axis=-1)  # a value that is not there
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


class Branches:
    """Columns of a chunk, loaded when first asked for; ``used`` names those that were.

    Parameters
    ----------
    load : callable
        Awkward array of a column.
    names : Names
        Columns of the tree, by all their names.
    replace : mapping of str to callable
        What to do with the flat values of some columns (missing values).
    where : str
        ``path:tree``, for messages.
    start : int
        Entry number of the first row.
    """

    def __init__(
        self,
        load: Callable[[Column], ak.Array],
        *,
        names: Names,
        replace: Mapping[str, Callable[[Array], Array]],
        where: str,
        start: int = 0,
    ) -> None:
        self._load, self._replace, self._names = load, replace, names
        self.where, self.start = where, start
        self._cache: dict[Column, Any] = {}

    @property
    def all_names(self) -> frozenset[str]:
        """Names of all columns."""
        return self._names.all_names

    @property
    def used(self) -> tuple[Column, ...]:
        """Columns that were asked for."""
        return tuple(self._cache)

    def __getitem__(self, name: str) -> Any:
        wanted = self._names[name]
        if wanted not in self._cache:
            self._cache[wanted] = self._replaced(wanted.name, column(self._load(wanted)))
        return self._cache[wanted]

    def _replaced(self, name: str, value: Any) -> Any:
        if name not in self._replace:
            return value
        if not isinstance(value, ak.Array):
            return self._replace[name](value)
        content, offsets = flatten(value)
        return jagged(self._replace[name](content), offsets)
