"""Outputs of a model for images without some of their pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.attribution.reductions import finite
from hepxai.core.chunks import PIXELS as CHUNK
from hepxai.core.estimate import Array
from hepxai.core.jagged import IntArray, local_index, offsets_from_counts
from hepxai.events import Events
from hepxai.events.splits import UInt64Array, event_hash, splitmix64

Images = NDArray[np.float32]
Score = Callable[[Images], Array]
"""Function from images ``[B, T, R, C]`` to the explained output ``[B]``."""
Baseline = float | NDArray[np.floating] | Callable[[Images], Images]
"""Value of a removed pixel: a number, an image, or a function from images to their baseline images."""
BUDGET = 8 * CHUNK
"""Pixels of the images that are scored together."""
SINGLE = 1e-6
"""Change of the output, relative to the output, that is rounding in single precision."""
LARGEST = 3
"""A block has at most one part in three of the rows, and of the columns, of an image."""
TIES = 2**31 - 1
"""Seed of the order of pixels with equal values."""


@dataclass(frozen=True)
class RemovablePixels:
    """Pixels of some images that differ from a baseline; removal sets them to the baseline in all channels.

    All others are the same with and without removal: no measure of faithfulness depends on them.

    Attributes
    ----------
    image, baseline : ndarray of float32, shape [B, T, R, C]
    key : ndarray of uint64, shape [B]
        Hash of the numbers of each event.
    event, place : ndarray of int64, shape [L]
        Image, and place ``row * columns + column``.
    offsets : ndarray of int64, shape [B+1]
    """

    image: Images
    baseline: Images
    key: UInt64Array
    event: IntArray
    place: IntArray
    offsets: IntArray

    def __repr__(self) -> str:
        return f"<RemovablePixels: {len(self.place):,} in {len(self.image):,} images>"

    @staticmethod
    def of(events: Events, baseline: Baseline = 0.0) -> RemovablePixels:
        """Pixels of the images of events."""
        image = events.image()
        base = baseline(image) if callable(baseline) else np.asarray(baseline, dtype=np.float32)
        base = np.broadcast_to(base, image.shape)
        event, place = np.nonzero((image != base).any(1).reshape(len(image), -1))
        offsets = offsets_from_counts(np.bincount(event, minlength=len(image)))
        return RemovablePixels(image, base, _event_keys(events, 0), event, place, offsets)

    @staticmethod
    def chunks(events: Events, baseline: Baseline = 0.0) -> Iterator[tuple[slice, RemovablePixels]]:
        """Pixels of the images of a population, in chunks of flat memory, with the place of each chunk."""
        size = max(1, BUDGET // math.prod(events.image_layout().shape))
        for start in range(0, len(events), size):
            rows = slice(start, min(start + size, len(events)))
            yield rows, RemovablePixels.of(events[rows], baseline)

    @property
    def counts(self) -> IntArray:
        """Number of these pixels of each image, ``[B]``."""
        return np.diff(self.offsets)

    def values(self, attribution: Attribution) -> Array:
        """Values of a map of the same events at these pixels, ``[L]``.

        Channels are added up, those only in which the pixel differs. A map with fewer pixels than the image
        is read at the nearest of its pixels.
        """
        values, (_, _, rows, columns) = pixel_values(attribution), self.image.shape
        row, column = np.divmod(self.place, columns)
        row, column = row * values.shape[2] // rows, column * values.shape[3] // columns
        at = values[self.event, :, row, column]
        if at.shape[1] == 1:
            return np.asarray(at[:, 0])
        return np.asarray((at * self._differs).sum(1))

    @cached_property
    def _differs(self) -> NDArray[np.bool_]:
        """True for channels in which a pixel differs, ``[L, T]``."""
        at = (self.event, slice(None), self.place)
        image, base = (x.reshape(*x.shape[:2], -1)[at] for x in (self.image, self.baseline))
        return np.asarray(image != base)

    # --- random numbers of the events ------------------------------------------------------------

    def uniform(self, seed: int, draws: int) -> Array:
        """Random numbers from 0 to 1, ``[draws, L]``: functions of seed, draw, event and pixel."""
        return _uniform(self._seeds(seed, draws)[:, self.event] ^ splitmix64(self.place.astype(np.uint64)))

    def _seeds(self, seed: int, draws: int, stream: int = 0) -> UInt64Array:
        """Seeds ``[draws, B]`` of independent streams of random numbers."""
        base = splitmix64(splitmix64(np.array([seed], dtype=np.uint64)) + np.uint64(stream))
        draw = splitmix64(np.asarray(base + np.arange(draws, dtype=np.uint64), dtype=np.uint64))
        seeds: UInt64Array = splitmix64(self.key ^ draw[:, None])
        return seeds

    @cached_property
    def _tie(self) -> Array:
        return np.asarray(self.uniform(TIES, 1)[0])

    def ranks(self, key: Array) -> IntArray:
        """Place of each pixel in its image, the largest ``key [L]`` first; equal ones in random order."""
        order = np.lexsort((self._tie, -key, self.event))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = local_index(self.offsets)
        return rank

    # --- removal -----------------------------------------------------------------------------------

    def subsets(self, n: float, draws: int, seed: int) -> NDArray[np.bool_]:
        """Random subsets of n pixels of each image, ``[draws, L]``; of a share n where n is below 1.

        An image with n pixels or fewer has empty subsets.
        """
        size = np.maximum(1, np.round(n * self.counts)) if n < 1 else np.full(len(self.counts), n)
        size = np.where(size < self.counts, size, 0)[self.event]
        return np.stack([self.ranks(key) for key in self.uniform(seed, draws)]) < size

    def blocks(self, draws: int, seed: int) -> NDArray[np.bool_]:
        """Random blocks of each image, each around one of these pixels, ``[draws, L]``.

        Height and width are uniform from 1 to a third of the image; a block ends at the edge of the image.
        """
        _, _, rows, columns = self.image.shape
        if not len(self.place):
            return np.zeros((draws, 0), dtype=bool)
        draw = np.stack([_uniform(self._seeds(seed, draws, i)) for i in range(1, 6)])  # [5, draws, B]
        nth = self.offsets[:-1] + (draw[0] * self.counts).astype(np.int64)
        middle = self.place[np.minimum(nth, len(self.place) - 1)]
        across = self._around(middle % columns, self.place % columns, columns, *draw[1:3])
        return self._around(middle // columns, self.place // columns, rows, *draw[3:]) & across

    def _around(
        self, middle: IntArray, position: IntArray, length: int, size: Array, shift: Array
    ) -> NDArray[np.bool_]:
        """True for pixels whose row or column ``position [L]`` is in an interval around ``middle``."""
        extent = 1 + (size * math.ceil(length / LARGEST)).astype(np.int64)
        first = middle - (shift * extent).astype(np.int64)
        return np.asarray((position >= first[:, self.event]) & (position < (first + extent)[:, self.event]))

    def without(self, chosen: NDArray[np.bool_]) -> Images:
        """Images ``[M, B, T, R, C]`` without the pixels of ``chosen [M, L]``."""
        images = np.repeat(self.image[None], len(chosen), axis=0)
        flat, base = (x.reshape(*x.shape[:-2], -1) for x in (images, self.baseline))
        m, pixel = np.nonzero(chosen)
        event, place = self.event[pixel], self.place[pixel]
        flat[m, event, :, place] = base[event, :, place]
        return images

    def outputs(self, score: Score, chosen: NDArray[np.bool_]) -> Array:
        """Outputs ``[B, M]`` of the images without the pixels of ``chosen [M, L]``."""
        outputs = np.empty((len(self.image), len(chosen)))
        step = max(1, BUDGET // max(self.image.size, 1))
        for start in range(0, len(chosen), step):
            images = self.without(chosen[start : start + step])
            part = score(images.reshape(-1, *self.image.shape[1:]))
            outputs[:, start : start + step] = np.reshape(part, images.shape[:2]).T
        return outputs


def random_values(events: Events, seed: int = 0) -> NDArray[np.float32]:
    """Map ``[E, R, C]`` of random numbers from -½ to ½: functions of seed, event and pixel."""
    _, rows, columns = events.image_layout().shape
    place = splitmix64(np.arange(rows * columns, dtype=np.uint64))
    values = _uniform(_event_keys(events, seed)[:, None] ^ place) - 0.5
    return values.reshape(-1, rows, columns).astype(np.float32)


def _event_keys(events: Events, seed: int) -> UInt64Array:
    return event_hash(events.run, events.luminosity_block, events.event, events.file, events.entry, seed=seed)


def _uniform(mixed: UInt64Array) -> Array:
    return np.asarray((splitmix64(mixed) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def has_sign(attribution: Attribution) -> bool:
    """True if the method can give negative values; a map without is compared with the size of changes.

    Of a map of your own: if it has any. Ask for all events at once, before a selection.
    """
    return attribution.sign == "both" if attribution.sign else bool((attribution.values < 0).any())


def rounded(change: Array, output: Array) -> Array:
    """Changes of an output, 0 where they are rounding."""
    return np.where(np.abs(change) <= SINGLE * np.abs(output), 0.0, change)


def pixel_values(attribution: Attribution) -> Array:
    """Values ``[E, T, r, c]`` of a map over pixels; T is 1 for a map without channels.

    Raises
    ------
    ValueError
        If it is no map over pixels, or has values that are not finite.
    """
    if attribution.axes not in (PIXELS, CHANNEL_PIXELS):
        axes = ", ".join(attribution.axes)
        raise ValueError(f"needs a map over pixels (event, row, column); {attribution.method} has {axes}")
    values = finite(attribution)
    return values if values.ndim == 4 else values[:, None]
