"""Segments of images as the players of a game: their pixels are those of the image, or of a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from torch import Tensor

from hepxai.core.chunks import image_rows
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.background import one_by_one
from hepxai.explainers.base import Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.images import Baseline, MapExplainer, baseline_image, baseline_like

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
SIDE = 8
"""Blocks along rows and columns of an image by default, at most."""

_Side = Annotated[int, Field(ge=1)]
Block = Annotated[
    tuple[_Side, _Side], BeforeValidator(lambda block: tuple(block) if isinstance(block, list) else block)
]
"""Rows and columns of a rectangle of pixels."""


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


def block_numbers(shape: tuple[int, int, int], block: tuple[int, int]) -> IntArray:
    """Number of the block of each pixel, ``[R, C]``; blocks at the end may be smaller."""
    _, rows, columns = shape
    row, column = np.arange(rows) // block[0], np.arange(columns) // block[1]
    return np.asarray(row[:, None] * (column[-1] + 1) + column)


@dataclass(frozen=True)
class SegmentGame:
    """Scores of an image whose segments are replaced by the baseline.

    Only pixels that differ from the baseline belong to a segment, and only segments with such pixels are
    players: all others change nothing.

    Attributes
    ----------
    score : callable
        Images ``[M, T, R, C]`` to ``[M]``.
    x, start : Tensor, shape [T, R, C]
        Image, and its baseline.
    player : ndarray of int, shape [R, C]
        Number of the player of each pixel; -1 for pixels at the baseline.
    """

    score: Callable[[NDArray[np.float32]], Array]
    x: Tensor
    start: Tensor
    player: IntArray

    @staticmethod
    def of(
        score: Callable[[NDArray[np.float32]], Array], x: Tensor, start: Tensor, segments: IntArray
    ) -> SegmentGame:
        """Game of an image with the number ``[R, C]`` of the segment of each pixel."""
        differs = (x != start).any(0).numpy()
        player = np.full(segments.shape, -1)
        player[differs] = np.unique(segments[differs], return_inverse=True)[1]
        return SegmentGame(score, x, start, player)

    @cached_property
    def pixels(self) -> IntArray:
        """Number of pixels of each player."""
        return np.bincount(self.player[self.player >= 0])

    def scores(self, members: Mask) -> Array:
        """Scores ``[M]`` of the image with the players ``members [M, P]`` and the baseline elsewhere."""
        scores = np.empty(len(members))
        for rows in image_rows(len(members), tuple(self.x.shape)):
            # The last column is that of player -1.
            on = np.pad(members[rows], ((0, 0), (0, 1)))[:, self.player]
            images = torch.where(torch.as_tensor(on[:, None]), self.x, self.start)
            scores[rows] = self.score(images.numpy())
        return scores

    def ends(self) -> Array:
        """Score of the baseline and of the image."""
        return self.scores(np.repeat([[False], [True]], len(self.pixels), axis=1))

    def spread(self, values: Array) -> Array:
        """Map ``[R, C]`` of values of the players, spread evenly over their pixels."""
        return np.append(values / self.pixels, 0.0)[self.player]


@dataclass(frozen=True, kw_only=True)
class PreparedSegments(Prepared):
    """Game of segments with its baseline.

    Attributes
    ----------
    baseline : float, str or list
        A number, "blurred", or an image ``[T][R][C]``.
    block : tuple of int
        Rows and columns of a block.
    """

    baseline: Any
    block: tuple[int, int]

    def settings(self) -> dict[str, Any]:
        """Settings with the baseline and the block."""
        return super().settings() | {"baseline": self.baseline, "block": list(self.block)}

    def score(self, images: NDArray[np.float32]) -> Array:
        """Target ``[M]`` of images."""
        return self.output(self.model.score_image(images))

    def game(self, x: Tensor) -> SegmentGame:
        """Game of an image ``[T, R, C]``."""
        start = baseline_like(x[None], self.baseline, self.explainer.blur)[0]
        segments = self.explainer.segment_numbers(self, (x != start).any(0).numpy())
        return SegmentGame.of(self.score, x, start, segments)


class SegmentExplainer(MapExplainer):
    """Shares of segments of an image in the change of the score from a baseline image.

    The value of a segment is that of all channels together, spread evenly over those of its pixels that
    differ from the baseline: the map adds up to the change. All other pixels have exactly 0.

    Attributes
    ----------
    block : tuple of int, optional
        Rows and columns of a block.
    baseline : float, str, array or Events
        What a pixel is that does not take part: a number for all (0: nothing lit), "blurred": the image
        itself washed out, an image ``[T, R, C]`` (``[R, C]`` for one channel), or events whose weighted mean
        image is taken.
    blur : float
        σ of the Gaussian for "blurred", in pixels, along rows and columns.
    """

    complete = True
    block: Block | None = None
    baseline: Baseline = 0.0
    blur: float = Field(default=4.0, gt=0)

    def prepare(self, model: Any, events: Events, target: str) -> PreparedSegments:
        """Compute the baseline and the size of the blocks."""
        block = block_of(self.block, events.image_layout().shape, f"{self.name}.block")
        baseline = baseline_image(self.baseline, events)
        return PreparedSegments(explainer=self, model=model, target=target, baseline=baseline, block=block)

    def segment_numbers(self, prepared: PreparedSegments, differs: Mask) -> IntArray:
        """Number of the segment of each pixel ``[R, C]``, from those that differ from the baseline."""
        return block_numbers((1, *differs.shape), prepared.block)

    def batch_rows(self, events: Events) -> list[IntArray]:
        """One event at a time: its segments are its own."""
        return one_by_one(events)

    def attribute_batch(self, prepared: PreparedSegments, batch: Batch[Tensor]) -> Part:
        """Signed map of an event."""
        game = prepared.game(batch.x[0].contiguous())
        empty, full = game.ends()
        zero = np.zeros((1, *game.player.shape))
        if not len(game.pixels):
            error = zero if self.has_errors else None
            return Part(values=zero, error=error, output_change=np.zeros(1), checks=self.no_checks())
        return self.attribute_game(game, batch, float(empty), float(full))

    def no_checks(self) -> dict[str, float]:
        """Checks of an image that is its baseline: NaN each."""
        return {}

    def attribute_game(self, game: SegmentGame, batch: Batch[Tensor], empty: float, full: float) -> Part:
        """Signed map of an event with players, whose scores without and with all players are given."""
        raise NotImplementedError
