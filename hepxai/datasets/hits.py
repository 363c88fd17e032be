"""Jagged detector hits of any ntuple as images: dense, or as coordinates of the lit pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest
from hepxai.datasets.columns import ReadError, flatten
from hepxai.datasets.sources import branch_names, opened, readable
from hepxai.jagged import IntArray, offsets_from_counts, parents

PixelType = Literal["uint8", "float32"]


@dataclass(frozen=True)
class HitAxis:
    """Rows or columns of the image, and the jagged branch that says where a hit lies.

    Attributes
    ----------
    branch : str
    bins : int or sequence of float
        A number: the branch holds integers from 0. Rising edges: the branch holds coordinates; a bin has its
        lower edge, the last one also its upper.
    """

    branch: str
    bins: int | Sequence[float]

    def __post_init__(self) -> None:
        if isinstance(self.bins, int):
            if self.bins < 1:
                raise ValueError(f"{self.branch}: an axis needs at least one bin, got {self.bins}")
        elif len(self.bins) < 2 or not all(a < b for a, b in pairwise(self.bins)):
            raise ValueError(f"{self.branch}: bin edges must be two or more, each above the one before")

    @property
    def size(self) -> int:
        """Number of bins."""
        return self.bins if isinstance(self.bins, int) else len(self.bins) - 1

    def index(self, values: NDArray[Any], where: str) -> IntArray:
        """Bin of every value, -1 where it lies outside (or is not a number)."""
        if isinstance(self.bins, int):
            # Without a single value there is no type to speak of.
            if values.size and not np.issubdtype(values.dtype, np.integer):
                raise ReadError(
                    f"{where}: branch {self.branch!r} holds {values.dtype}, not integers; give bin edges"
                )
            inside = (values >= 0) & (values < self.bins)
            return np.where(inside, values, -1).astype(np.int64)
        edges = np.asarray(self.bins, dtype=np.float64)
        inside = (values >= edges[0]) & (values <= edges[-1])
        found = np.minimum(np.searchsorted(edges, values, side="right") - 1, self.size - 1)
        return np.where(inside, found, -1).astype(np.int64)


@dataclass(frozen=True)
class HitLayout:
    """How the hits of an ntuple become an image.

    Attributes
    ----------
    rows, columns : HitAxis
    truth : str, optional
        Branch that is true (or not 0) for hits of particles and false for noise.
    noise : bool, default True
        Whether noise hits light pixels; False needs ``truth``.
    outside : {"error", "drop"}
        What to do with a hit outside the detector. Dropped ones are counted.
    """

    rows: HitAxis
    columns: HitAxis
    truth: str | None = None
    noise: bool = True
    outside: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        if not self.noise and self.truth is None:
            raise ValueError("images without noise hits need the truth branch that tells them apart")
        if self.outside not in ("error", "drop"):
            raise ValueError(f"outside: found {self.outside!r}; should be 'error' or 'drop'")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return self.rows.size, self.columns.size

    @property
    def branches(self) -> list[str]:
        """What is read."""
        names = (self.rows.branch, self.columns.branch, self.truth)
        return list(dict.fromkeys(n for n in names if n is not None))


@dataclass(frozen=True)
class HitImages:
    """Lit pixels of events, each once, by event, row and column.

    Attributes
    ----------
    events : int
        Number of events E, those without a hit included.
    shape : tuple of int
        Rows R and columns C.
    event, row, column : ndarray of int64, shape [P]
    truth : ndarray of bool or None, shape [P]
        Whether a hit of a particle is among those that light the pixel; None without a truth branch.
    hits, outside, noise : int
        Hits read; of these, dropped for lying outside; of the rest, left out as noise.
    """

    events: int
    shape: tuple[int, int]
    event: IntArray
    row: IntArray
    column: IntArray
    truth: NDArray[np.bool_] | None
    hits: int
    outside: int
    noise: int

    def __len__(self) -> int:
        return self.events

    def dense(self, dtype: PixelType = "float32") -> NDArray[Any]:
        """Images ``[E, 1, R, C]``, 1 where a pixel is lit."""
        images = np.zeros((self.events, 1, *self.shape), dtype=dtype)
        images[self.event, 0, self.row, self.column] = 1
        return images

    def truth_mask(self) -> NDArray[np.bool_]:
        """Pixels ``[E, 1, R, C]`` that a particle lit.

        Raises
        ------
        ValueError
            Without a truth branch.
        """
        if self.truth is None:
            raise ValueError("these hits were read without a truth branch; name one in the layout")
        mask = np.zeros((self.events, 1, *self.shape), dtype=np.bool_)
        mask[self.event[self.truth], 0, self.row[self.truth], self.column[self.truth]] = True
        return mask

    def offsets(self) -> IntArray:
        """Where the pixels of every event begin, ``[E+1]``."""
        return offsets_from_counts(np.bincount(self.event, minlength=self.events))


def images_of(arrays: ak.Array, layout: HitLayout, *, where: str = "hits") -> HitImages:
    """Images of events in memory.

    Parameters
    ----------
    arrays : awkward array
        Records with the branches of ``layout``, one list of hits per event.
    layout : HitLayout
    where : str, default "hits"
        What the arrays are, for messages; entries are counted from the first event.

    Raises
    ------
    ReadError
        For branches that are not lists of numbers of equal lengths, and for a hit outside the detector.
    """
    return _images(arrays, layout, where, 0)


def read_images(
    path: str | Path, tree: str, layout: HitLayout, *, step_size: int = 50_000
) -> Iterator[HitImages]:
    """Images of a ROOT file, chunk by chunk, in the order of its entries.

    Parameters
    ----------
    path : path
    tree : str
        TTree or RNTuple.
    layout : HitLayout
    step_size : int, default 50000
        Entries of a chunk.

    Raises
    ------
    ReadError
        For a file, tree or branch that is not there, and as in `images_of`; names the entry in the file.
    """
    where, start = f"{path}:{tree}", 0
    with opened(str(path), tree) as found:
        have = branch_names(found)
        if lacking := [b for b in layout.branches if b not in have]:
            hint = nearest(lacking[0], have) or f"; there are {', '.join(have[:20])}"
            raise ReadError(f"{where}: no branch {lacking[0]!r}{hint}")
        stream = found.iterate(layout.branches, step_size=step_size, library="ak")
        while (arrays := _next(stream, where)) is not None:
            yield _images(arrays, layout, where, start)
            start += len(arrays)


def _next(stream: Iterator[ak.Array], where: str) -> ak.Array | None:
    with readable(where):
        return next(stream, None)


def _images(arrays: ak.Array, layout: HitLayout, where: str, start: int) -> HitImages:
    flat, offsets = _flat(arrays, layout, where, start)
    event = parents(offsets)
    row, inside_rows = _located(layout.rows, flat, where)
    column, inside_columns = _located(layout.columns, flat, where)
    inside = inside_rows & inside_columns
    if layout.outside == "error" and not inside.all():
        _refuse(flat, layout, inside, event, f"{where}, entry {start + event[np.argmin(inside)]}")
    truth = None if layout.truth is None else flat[layout.truth].astype(np.bool_)
    kept = inside if layout.noise or truth is None else inside & truth
    lit, real = _unique(event[kept], row[kept], column[kept], None if truth is None else truth[kept], layout)
    return HitImages(
        len(arrays),
        layout.shape,
        *lit,
        real,
        hits=len(event),
        outside=int((~inside).sum()),
        noise=int((inside & ~kept).sum()),
    )


def _flat(
    arrays: ak.Array, layout: HitLayout, where: str, start: int
) -> tuple[dict[str, NDArray[Any]], IntArray]:
    found: dict[str, NDArray[Any]] = {}
    offsets = np.zeros(1, dtype=np.int64)
    for name in layout.branches:
        values, own = flatten(_lists(arrays[name], f"{where}: branch {name!r}"))
        if found and (differ := np.flatnonzero(own != offsets)).size:
            first = next(iter(found))
            raise ReadError(
                f"{where}, entry {start + differ[0] - 1}: {name!r} and {first!r} differ in number of hits"
            )
        found[name], offsets = values, own
    return found, offsets


def _lists(values: ak.Array, what: str) -> ak.Array:
    """Lists of numbers, laid out one after the other."""
    if values.ndim == 2:
        packed = ak.to_packed(ak.from_regular(values, axis=None))
        inner = packed.layout.content if packed.layout.is_list else packed.layout
        if packed.layout.is_list and (inner.is_numpy or inner.is_unknown):
            return packed
    raise ReadError(
        f"{what} must hold a list of hits per event, none missing; it holds {values.type.content}"
    )


def _located(axis: HitAxis, flat: dict[str, NDArray[Any]], where: str) -> tuple[IntArray, NDArray[np.bool_]]:
    index = axis.index(flat[axis.branch], where)
    return index, index >= 0


def _refuse(
    flat: dict[str, NDArray[Any]],
    layout: HitLayout,
    inside: NDArray[np.bool_],
    event: IntArray,
    entry: str,
) -> None:
    first = int(np.argmin(inside))
    at = ", ".join(f"{axis.branch} = {flat[axis.branch][first]}" for axis in (layout.rows, layout.columns))
    number, events = int((~inside).sum()), len(np.unique(event[~inside]))
    raise ReadError(
        f"{entry}: a hit at {at} lies outside the detector of {layout.shape[0]} rows and {layout.shape[1]} "
        f"columns, with {number} such hits in {events} events here; correct the bins, or drop such hits "
        f"with outside='drop'"
    )


def _unique(
    event: IntArray, row: IntArray, column: IntArray, truth: NDArray[np.bool_] | None, layout: HitLayout
) -> tuple[tuple[IntArray, IntArray, IntArray], NDArray[np.bool_] | None]:
    rows, columns = layout.shape
    pixel = (event * rows + row) * columns + column
    lit, of = np.unique(pixel, return_inverse=True)
    real = None if truth is None else np.bincount(of[truth], minlength=len(lit)).astype(np.bool_)
    rest, at = np.divmod(lit, columns)
    return (*np.divmod(rest, rows), at), real
