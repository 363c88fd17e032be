"""Segments of images, shown or replaced by the baseline: players of a game, or terms of a linear model."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from torch import Tensor

from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.background import one_by_one
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.perturbation import Between, Pair, PerturbationExplainer, PreparedPerturbation
from hepxai.explainers.libraries import import_extra

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
SIDE = 8
"""Blocks along rows and columns of an image by default, at most."""
TOGETHER = 1024
"""Sets of players whose masks are kept at a time."""

Segments = Literal["blocks", "clusters", "slic"]
"""Rectangles; pixels that differ from the baseline and touch each other, also at a corner; superpixels of
similar values, by scikit-image, as many as there are blocks."""


def block_of(block: tuple[int, int] | None, shape: tuple[int, int, int], name: str) -> tuple[int, int]:
    """Rows and columns of a block, by default such that an image has at most 8 x 8 of them.

    Raises
    ------
    ValueError
        If it is larger than the image.
    """
    _, rows, columns = shape
    if block is None:
        return math.ceil(rows / SIDE), math.ceil(columns / SIDE)
    if block[0] > rows or block[1] > columns:
        raise ValueError(f"{name} is {block[0]} x {block[1]}, larger than the images of {rows} x {columns}")
    return block


def segment_numbers(kind: Segments, x: Tensor, differs: Mask, block: tuple[int, int]) -> IntArray:
    """Number of the segment of each pixel ``[R, C]`` of an image ``[T, R, C]``.

    Parameters
    ----------
    kind : {"blocks", "clusters", "slic"}
    x : Tensor, shape [T, R, C]
    differs : ndarray of bool, shape [R, C]
        Pixels that differ from the baseline.
    block : tuple of int
        Rows and columns of a block; blocks at the end may be smaller.
    """
    if kind == "clusters":
        return np.asarray(label(differs, np.ones((3, 3)))[0], dtype=np.int64)
    row, column = (np.arange(n) // b for n, b in zip(differs.shape, block, strict=True))
    if kind == "blocks":
        return np.asarray(row[:, None] * (column[-1] + 1) + column)
    segmentation = import_extra("skimage.segmentation", "segments='slic'")
    scale = x.abs().amax((1, 2), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    image, number = np.moveaxis((x / scale).numpy(), 0, -1), int((row[-1] + 1) * (column[-1] + 1))
    return np.asarray(
        segmentation.slic(image, n_segments=number, compactness=0.1, channel_axis=-1, convert2lab=False)
    )


@dataclass(frozen=True)
class SegmentGame:
    """Scores of an image whose segments are replaced by the baseline.

    Only pixels that differ from the baseline belong to a segment, and only segments with such pixels are
    players: all others change nothing.

    Attributes
    ----------
    between : Between
        Scorer of images between the baseline and the image.
    player : ndarray of int, shape [R, C]
        Number of the player of each pixel; -1 for pixels at the baseline.
    """

    between: Between
    player: IntArray

    @staticmethod
    def of(between: Between, segments: IntArray, differs: Mask) -> SegmentGame:
        """Game of an image with the number ``[R, C]`` of the segment of each pixel."""
        player = np.full(segments.shape, -1)
        player[differs] = np.unique(segments[differs], return_inverse=True)[1].ravel()
        return SegmentGame(between, player)

    @cached_property
    def pixels(self) -> IntArray:
        """Number of pixels of each player."""
        return np.bincount(self.player[self.player >= 0])

    def scores(self, members: Mask) -> Array:
        """Scores ``[M]`` of the image with the players ``members [M, P]`` and the baseline elsewhere."""
        # The last column is that of player -1.
        on = torch.as_tensor(np.pad(members, ((0, 0), (0, 1))))
        place = torch.as_tensor(self.player)[self.between.rows[:, None], self.between.columns]
        scores = [self.between.score(some[:, place]) for some in on.split(TOGETHER)]
        return np.asarray(torch.cat(scores), dtype=np.float64)

    def ends(self) -> Array:
        """Score of the baseline and of the image."""
        return self.scores(np.repeat([[False], [True]], len(self.pixels), axis=1))

    def spread(self, values: Array) -> Array:
        """Map ``[R, C]`` of values of the players, spread evenly over their pixels."""
        return np.append(values / self.pixels, 0.0)[self.player]


@dataclass(frozen=True, kw_only=True)
class PreparedSegments(PreparedPerturbation):
    """Segments and their baseline.

    Attributes
    ----------
    block : tuple of int
        Rows and columns of a block.
    """

    block: tuple[int, int]

    def settings(self) -> dict[str, Any]:
        """Settings with the block."""
        return super().settings() | {"block": list(self.block)}

    def game(self, x: Tensor) -> SegmentGame:
        """Game of an image ``[T, R, C]``."""
        x, start = x.contiguous(), self.start(x[None])[0].contiguous()
        differs = (x != start).any(0).numpy()
        segments = segment_numbers(getattr(self.explainer, "segments", "blocks"), x, differs, self.block)
        return SegmentGame.of(self.between(x, start), segments, differs)


class SegmentExplainer(PerturbationExplainer):
    """Values of segments of an image, relative to a baseline image.

    The value of a segment is that of all channels together, spread evenly over those of its pixels that
    differ from the baseline: a sum over pixels is a sum over segments. All other pixels have exactly 0.

    Attributes
    ----------
    block : int or tuple of int, optional
        Rows and columns of a block; one number is both. By default an image has at most 8 x 8 blocks.
    baseline, blur
        Values of replaced pixels; see `hepxai.explainers.image.images.ImageExplainer`.
    """

    block: Pair | None = None

    def prepare(self, model: Any, events: Events, target: str) -> PreparedSegments:
        """Compute the baseline and the size of the blocks."""
        block = block_of(self.block, events.image_layout().shape, f"{self.name}.block")
        return PreparedSegments(**vars(super().prepare(model, events, target)), block=block)

    def batch_rows(self, events: Events) -> list[IntArray]:
        """One event at a time: its segments are its own."""
        return one_by_one(events)

    def attribute_batch(self, prepared: PreparedSegments, batch: Batch[Tensor]) -> Part:
        """Signed map of an event."""
        return self.attribute_game(prepared.game(batch.x[0]), batch)

    @abstractmethod
    def attribute_game(self, game: SegmentGame, batch: Batch[Tensor]) -> Part:
        """Signed map of an event."""


class SegmentShares(SegmentExplainer):
    """Shares of segments in the change of the score from a baseline image, to which the map adds up."""

    complete = True

    def attribute_game(self, game: SegmentGame, batch: Batch[Tensor]) -> Part:
        """Signed map of an event; 0 without players."""
        empty, full = map(float, game.ends())
        if len(game.pixels):
            return self.shares(game, batch, empty, full)
        zero = np.zeros((1, *game.player.shape))
        error = zero if self.has_errors else None
        return Part(values=zero, error=error, output_change=np.zeros(1), checks=self.no_checks())

    def no_checks(self) -> dict[str, float]:
        """Checks of an image that is its baseline: NaN each."""
        return {}

    @abstractmethod
    def shares(self, game: SegmentGame, batch: Batch[Tensor], empty: float, full: float) -> Part:
        """Signed map of an event with players, whose scores without and with all players are given."""
