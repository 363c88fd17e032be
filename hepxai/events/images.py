"""Detector images: pixels that particles light, and their values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray


@dataclass(frozen=True)
class ImageAxis:
    """Rows or columns of an image, and the quantity that gives the position of a particle.

    Attributes
    ----------
    feature : str
        A particle feature, or one of pt, eta, phi, mass.
    bins : int or tuple of float
        A number: the feature counts bins from 0. Rising edges: the feature is a coordinate; a bin has its
        lower edge, the last one its upper edge as well.
    """

    feature: str
    bins: int | tuple[float, ...]

    def __post_init__(self) -> None:
        if isinstance(self.bins, int):
            if self.bins < 1:
                raise ValueError(f"{self.feature}: an axis needs at least one bin, got {self.bins}")
        elif len(self.bins) < 2 or not all(a < b for a, b in pairwise(self.bins)):
            raise ValueError(f"{self.feature}: bin edges must be two or more, each above the one before")

    @property
    def size(self) -> int:
        """Number of bins."""
        return self.bins if isinstance(self.bins, int) else len(self.bins) - 1

    def index(self, values: NDArray[np.number]) -> IntArray:
        """Bin of every value; -1 for values outside, NaN, and fractions where values are bin numbers."""
        if isinstance(self.bins, int):
            inside = (values >= 0) & (values < self.bins) & (values == np.floor(values))
            return np.where(inside, values, -1).astype(np.int64)
        # In the type of the values: 0.7 of an ntuple is the float32 nearest to it, and so is the edge.
        kind = values.dtype if values.dtype.kind == "f" else np.float64
        edges = np.asarray(self.bins, dtype=kind)
        inside = (values >= edges[0]) & (values <= edges[-1])
        position = np.minimum(np.searchsorted(edges, values, side="right") - 1, self.size - 1)
        return np.where(inside, position, -1).astype(np.int64)


LIT = "lit"
"""Value of an image whose pixels are 0 or 1."""


@dataclass(frozen=True)
class ImageLayout:
    """Axes and channels of the image of the particles of an event.

    Attributes
    ----------
    rows, columns : ImageAxis
    types : tuple of str
        Particle types that are drawn, one channel each.
    value : str, optional
        Particle feature, or one of pt, eta, phi, mass, whose sum is the value of a pixel. "lit": a pixel with
        particles is 1, all others are 0; this is the default.
    """

    rows: ImageAxis
    columns: ImageAxis
    types: tuple[str, ...]
    value: str | None = None

    @property
    def quantity(self) -> str | None:
        """Quantity summed in each pixel; None if pixels are 0 or 1."""
        return None if self.value == LIT else self.value

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns."""
        return len(self.types), self.rows.size, self.columns.size

    def pixels(self, rows: NDArray[np.number], columns: NDArray[np.number]) -> IntArray:
        """Pixel ``row * C + column`` of values along both axes, -1 outside."""
        r, c = self.rows.index(rows), self.columns.index(columns)
        return np.where((r < 0) | (c < 0), -1, r * self.columns.size + c)

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> ImageLayout:
        """Layout from the output of `dataclasses.asdict`, possibly read from JSON."""
        rows, columns = (
            ImageAxis(stored[a]["feature"], _bins(stored[a]["bins"])) for a in ("rows", "columns")
        )
        return ImageLayout(rows, columns, tuple(stored["types"]), stored.get("value"))


def filled(shape: tuple[int, ...], at: IntArray, values: NDArray[np.floating] | None) -> NDArray[np.float32]:
    """Images with the sum of the values in each pixel; without values, a lit pixel is 1.

    Parameters
    ----------
    shape : tuple of int
        Of the images, ``(E, T, R, C)``.
    at : ndarray of int64
        Pixels of the particles in the flat images.
    values : ndarray, optional
        Of the same particles.
    """
    if values is None:
        lit = np.zeros(math.prod(shape), dtype=np.float32)
        lit[at] = 1
        return lit.reshape(shape)
    summed = np.bincount(at, weights=values, minlength=math.prod(shape))
    return summed.reshape(shape).astype(np.float32)


def _bins(stored: int | Sequence[float]) -> int | tuple[float, ...]:
    return stored if isinstance(stored, int) else tuple(stored)
