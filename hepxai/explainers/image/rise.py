"""RISE: mean score of randomly masked images in which a pixel is shown, relative to all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.events.splits import event_hash
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.coalitions import IDENTITY
from hepxai.explainers.image.perturbation import Pair, PerturbationExplainer, PreparedPerturbation
from hepxai.explainers.methods import register
from hepxai.models.protocols import Imaging

CELLS = 7
"""Rows and columns of a grid by default; fewer in an image that has fewer."""
BLOCK = 256
"""Masks between two tests of convergence."""
GROUPS = 20
"""Groups of masks whose spread gives the error: known to about one part in six."""
NOISY = 0.5
"""Error relative to the spread of the map that raises a concern; about 1 for pure noise."""
ROUNDING = 1e-6
"""Rounding of masks and of scores in single precision."""


@register("rise")
class Rise(PerturbationExplainer):
    """``E[F(x_M) M_p] / E[M_p] - E[F(x_M)]`` over random masks M [RISE: Petsiuk et al., arXiv:1806.07421].

    ``x_M = x' + M (x - x')`` for the baseline x'. A mask is a grid of cells, each 1 with a probability and
    else 0, enlarged to the image (bilinear) at a random shift of up to one cell.

    The first term is that of the paper, the mean score weighted by how much of the pixel is shown. It is made
    for probabilities: a constant c that is added to a logit or to the target of a regression would be added
    to every pixel. The second term, the mean score, takes c out again and leaves the order of the pixels as
    it is. A value is positive where showing the pixel raises the score.

    Masks depend on the seed and the event only. Each event has its own, so that errors of different events
    are independent. ``Attribution.error`` is the standard error of each value, from the spread of 20 groups
    of masks.

    Attributes
    ----------
    samples : int
        Largest number of masks of an event.
    grid : int or tuple of int, optional
        Rows and columns of cells; one number is both. By default 7, or those of the image if it has fewer.
    probability : float
        Of a cell to be shown.
    tolerance : float
        Error relative to the spread of the map at which no more masks are drawn, tested every 256 masks; 0
        draws them all.
    seed : int
    baseline, blur
        See `hepxai.explainers.image.perturbation.PerturbationExplainer`.
    """

    title = "randomised input sampling (RISE)"
    short_title = "RISE"
    has_errors = True
    samples: int = Field(default=4000, ge=2)
    grid: Pair | None = None
    probability: float = Field(default=0.5, gt=0, lt=1)
    tolerance: float = Field(default=0.05, ge=0)
    seed: int = Field(default=0, ge=0)

    def prepare(self, model: Imaging, events: Events, target: str) -> PreparedRise:
        """Compute the baseline and the grid."""
        fields = vars(super().prepare(model, events, target))
        return PreparedRise(**fields, grid=grid_of(self, events))

    def attribute_batch(self, prepared: PreparedRise, batch: Batch[Tensor]) -> Part:
        """Signed maps with errors; number of masks and relative error in the checks."""
        keys = event_hash(*(getattr(batch.events, name) for name in IDENTITY), seed=self.seed)
        start = prepared.start(batch.x)
        masks = Masks.of(prepared.grid, (start.shape[2], start.shape[3]))
        # One stream of masks for each event; scoring them takes far longer than this loop.
        maps = [self._map(prepared, masks, *images) for images in zip(batch.x, start, keys, strict=True)]
        checks = {name: np.array([getattr(m, name) for m in maps], dtype=float) for name in CHECKS}
        values = torch.stack([m.values for m in maps]).float()
        error = torch.stack([m.error for m in maps]).float()
        return Part(values=values, error=error, checks=checks)

    def _map(self, prepared: PreparedRise, masks: Masks, x: Tensor, start: Tensor, key: Any) -> RiseMap:
        if not bool((x != start).any()):
            return RiseMap(torch.zeros(x.shape[1:]), torch.zeros(x.shape[1:]), np.nan, np.nan)
        between = prepared.between(x, start)
        draw = np.random.Generator(np.random.Philox(key=int(key)))
        sums = Sums(masks)
        while sums.number < self.samples:
            cells, shifts = masks.draw(draw, min(BLOCK, self.samples - sums.number), self.probability)
            sums.add(cells, shifts, between.score(masks.at(cells, shifts, between.rows, between.columns)))
            if self.tolerance and sums.number < self.samples and sums.map().relative_error <= self.tolerance:
                break
        result = sums.map()
        if result.undefined:
            raise ValueError(
                f"rise: {result.undefined} in an event (samples={self.samples} with probability="
                f"{self.probability:g}): they have no value; give more samples or a probability closer to 0.5"
            )
        return result

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Mean number of masks, and mean over the events of error relative to the spread of the map."""
        return dict.fromkeys(CHECKS, 0.0) | dict(attribution.checks)

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Faithfulness, and maps that are not above their noise."""
        if checks["relative_error"] <= NOISY:
            return super().concerns(checks)
        noisy = (
            f"the error of the values is {checks['relative_error']:.2f} of the spread of the map after "
            f"{checks['masks']:.0f} masks: the map is hardly above its noise; give more samples or a "
            "coarser grid"
        )
        return (*super().concerns(checks), noisy)


def grid_of(explainer: Rise, events: Events) -> tuple[int, int]:
    """Rows and columns of cells; by default 7 of each, or those of the image if it has fewer.

    Raises
    ------
    ValueError
        If the grid has more rows or columns than the image.
    """
    shape = events.image_layout().shape[1:]
    rows, columns = (min(CELLS, n) for n in shape) if explainer.grid is None else explainer.grid
    if rows > shape[0] or columns > shape[1]:
        raise ValueError(
            f"rise: a grid of {rows} x {columns} cells is finer than the image of {shape[0]} x "
            f"{shape[1]} pixels; give grid=({min(rows, shape[0])}, {min(columns, shape[1])}) or less"
        )
    return rows, columns


CHECKS = ("masks", "relative_error")


@dataclass(frozen=True, kw_only=True)
class PreparedRise(PreparedPerturbation):
    """RISE with its grid.

    Attributes
    ----------
    grid : tuple of int
        Rows and columns of cells.
    """

    grid: tuple[int, int]

    def settings(self) -> dict[str, Any]:
        """Settings with the grid."""
        return super().settings() | {"grid": list(self.grid)}


class RiseMap(NamedTuple):
    """Map of an event.

    Attributes
    ----------
    values, error : Tensor, shape [R, C]
    masks : float
        Number of masks; NaN, as the error, for an image that is its baseline.
    relative_error : float
        Root mean square of the error over the standard deviation of the values over the pixels.
    undefined : str
        Pixels that no mask shows, or that all show fully: they have no value. Empty without any.
    """

    values: Tensor
    error: Tensor
    masks: float
    relative_error: float
    undefined: str = ""


@dataclass(frozen=True)
class Masks:
    """Random masks on a grid.

    Attributes
    ----------
    down : Tensor, shape [sy, R, h]
        Weight of each row of cells in each row of pixels, for each shift.
    across : Tensor, shape [sx, C, w]
        The same for columns.
    """

    down: Tensor
    across: Tensor

    @staticmethod
    def of(grid: tuple[int, int], shape: tuple[int, int]) -> Masks:
        """Masks for an image ``[R, C]``."""
        return Masks(*(shifted_weights(*sizes) for sizes in zip(grid, shape, strict=True)))

    def draw(self, draw: np.random.Generator, number: int, probability: float) -> tuple[Tensor, IntArray]:
        """Cells ``[n, h, w]`` of 0 and 1, and shift ``[n, 2]`` of each mask."""
        size = (number, self.down.shape[2], self.across.shape[2])
        cells = draw.random(size) < probability
        shifts = draw.integers((self.down.shape[0], self.across.shape[0]), size=(number, 2))
        return torch.as_tensor(cells.astype(np.float32)), shifts

    def at(self, cells: Tensor, shifts: IntArray, rows: Tensor, columns: Tensor) -> Tensor:
        """Masks ``[n, r, c]`` at some rows and columns of the image."""
        down = self.down[:, rows][shifts[:, 0]]
        across = self.across[:, columns].mT.float().contiguous()[shifts[:, 1]]
        return down.float() @ cells @ across


def shifted_weights(cells: int, pixels: int) -> Tensor:
    """Weight of each cell in each pixel of an axis, ``[shift, pixels, cells]``.

    The cells are enlarged to ``cells + 1`` times their width in whole pixels; a shift is the first pixel.
    """
    width = -(-pixels // cells)
    unit = torch.eye(cells, dtype=torch.float64)[None]
    whole = F.interpolate(unit, size=(cells + 1) * width, mode="linear", align_corners=False)[0]
    return torch.stack([whole[:, shift : shift + pixels].T for shift in range(width)])


class Sums:
    """Sums over masks, in the space of cells and shifts: small, and independent of the number of masks.

    All masks of a shift are the same linear function of their cells. Sums of cells, and of cells times score,
    are kept for each shift and group, and enlarged to the image at the end.
    """

    def __init__(self, masks: Masks) -> None:
        self.masks, self.number = masks, 0
        (sy, _, h), (sx, _, w) = masks.down.shape, masks.across.shape
        self.shifts = (sy, sx)
        self.cells = torch.zeros((2, GROUPS * sy * sx, h, w), dtype=torch.float64)
        self.scores = torch.zeros((2, GROUPS), dtype=torch.float64)
        self.offset = 0.0
        self.largest = 0.0

    def add(self, cells: Tensor, shifts: IntArray, scores: Tensor) -> None:
        """Add masks with the scores of their images."""
        if not self.number:
            self.offset = float(scores.mean())  # keeps the sums small
        self.largest = max(self.largest, float(scores.abs().max()))
        group = (self.number + torch.arange(len(cells))) % GROUPS
        relative = scores - self.offset
        place = group * self.shifts[0] * self.shifts[1] + torch.as_tensor(shifts @ (self.shifts[1], 1))
        self.cells[0].index_add_(0, place, cells.double())
        self.cells[1].index_add_(0, place, cells.double() * relative[:, None, None])
        self.scores[0].index_add_(0, group, torch.ones_like(relative))
        self.scores[1].index_add_(0, group, relative)
        self.number += len(cells)

    def _enlarged(self) -> Tensor:
        """Sums of M, and of M times score, ``[2, GROUPS, R, C]``."""
        cells = self.cells.view(2, GROUPS, *self.shifts, *self.cells.shape[2:])
        part = torch.einsum("kgyxhw,yrh->kgrxw", cells, self.masks.down)  # images are wide: rows first
        return torch.einsum("kgrxw,xcw->kgrc", part, self.masks.across)

    def map(self) -> RiseMap:
        """Values and errors."""
        mask, product = self._enlarged()
        total, number = mask.sum(0), self.number
        hidden, full = int((total <= 0).sum()), int((total >= number * (1 - ROUNDING)).sum())
        if hidden or full:
            what = f"no mask shows {hidden}" if hidden else f"all masks show {full}"
            nothing = torch.full_like(total, np.nan)
            return RiseMap(nothing, nothing, number, np.inf, f"{what} of {total.numel()} pixels")
        mean = self.scores[1].sum() / number
        score_if_shown = product.sum(0) / total
        # Linear in the sums of a group: their spread is the error, however few masks a group has.
        influence = (product - score_if_shown * mask) / (total / number)
        influence = influence - (self.scores[1] - mean * self.scores[0])[:, None, None]
        groups = min(GROUPS, number)
        error = (influence.square().sum(0) * groups / (groups - 1)).sqrt() / number
        values = score_if_shown - mean
        spread, noise = float(values.std(correction=0)), float(error.square().mean().sqrt())
        is_rounding = noise <= ROUNDING * self.largest / number**0.5
        relative = 0.0 if is_rounding else noise / max(spread, ROUNDING * noise)
        return RiseMap(values, error, number, relative)
