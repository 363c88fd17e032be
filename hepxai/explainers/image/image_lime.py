"""LIME for images: a linear model of the score in which segments of the image are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import label
from torch import Tensor

from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.perturbation import (
    Between,
    Pair,
    PerturbationExplainer,
    PreparedPerturbation,
    grid_of,
)
from hepxai.explainers.libraries import RUNS, Array, event_seeds, import_extra, isolated_rng
from hepxai.explainers.linear_fit import LinearFitExplainer
from hepxai.explainers.methods import register
from hepxai.models.protocols import Imaging

WIDTH = 0.25
"""Width of the kernel over the cosine distance, that of lime's explainer of images."""


@register("image_lime")
class ImageLime(LinearFitExplainer, PerturbationExplainer):
    """Coefficients of segments in a linear model of the score, by lime [Ribeiro et al., arXiv:1602.04938].

    A random half of the segments keeps its pixels, the others have those of the baseline. A ridge regression
    of the scores on z (1: segment shown, 0: hidden) has the weights ``exp(-d² / 2 w²)`` with w = 0.25 and
    the cosine distance d of z from the whole image. The coefficient of a segment is the change of the score
    when it is shown.

    The **pixels that differ from the baseline share the coefficient of their segment equally**, so that a sum
    over pixels is a sum of coefficients; other pixels have exactly 0. Segments without such pixels are no
    part of the fit.

    It runs four times on a quarter of the samples each: the values are the mean of the runs, and
    ``Attribution.error`` has the standard errors from their spread.

    Attributes
    ----------
    segments : {"grid", "clusters", "slic"}
        "grid": rectangles. "clusters": pixels that differ from the baseline and touch each other, also at a
        corner. "slic": superpixels of similar values, by scikit-image.
    grid : int or tuple of int, optional
        Rows and columns of rectangles, and as many superpixels; one number is both. By default 7, or those of
        the image if it has fewer.
    seed : int
    samples, minimum_r2
        See `hepxai.explainers.linear_fit.LinearFitExplainer`.
    baseline, blur
        See `hepxai.explainers.image.perturbation.PerturbationExplainer`.
    """

    title = "local linear model of image segments (LIME)"
    short_title = "image LIME"
    alternative: ClassVar[str] = "rise, or finer segments"
    segments: Literal["grid", "clusters", "slic"] = "grid"
    grid: Pair | None = None
    seed: int = Field(default=0, ge=0)

    def prepare(self, model: Imaging, events: Events, target: str) -> PreparedImageLime:
        """Compute the baseline and the grid; import lime."""
        lime = import_extra("lime.lime_base", self.name)
        engine = lime.LimeBase(_kernel, random_state=np.random.RandomState(0))
        fields = vars(super().prepare(model, events, target))
        return PreparedImageLime(**fields, grid=grid_of(self, events), engine=engine)

    def attribute_batch(self, prepared: PreparedImageLime, batch: Batch[Tensor]) -> Part:
        """Signed values with errors; R² of the fits in the checks."""
        seeds, start = event_seeds(batch.events, self.seed, RUNS), prepared.start(batch.x)
        with isolated_rng():
            return self.joined([self._fits(prepared, *e) for e in zip(batch.x, start, seeds, strict=True)])

    def _fits(
        self, prepared: PreparedImageLime, x: Tensor, start: Tensor, seeds: IntArray
    ) -> list[tuple[Array, float]]:
        """Map ``[R, C]`` and R² of each run."""
        segment = self.segmented(prepared.grid, x.numpy(), start.numpy())
        between, number = prepared.between(x, start), int(segment.max())
        if not number:
            return [(np.zeros(segment.shape), np.nan)] * len(seeds)
        if (needed := 2 * RUNS * number) > self.samples:
            raise ValueError(
                f"image_lime: samples={self.samples} is too few for an event of {number} segments; give "
                f"samples={needed} or more, or a coarser grid"
            )
        share = 1 / np.maximum(np.bincount(segment.ravel()), 1)
        share[0] = 0
        return [_fit(prepared, between, segment, int(s), share) for s in seeds]

    def segmented(
        self, grid: tuple[int, int], x: NDArray[np.float32], start: NDArray[np.float32]
    ) -> IntArray:
        """Segment of each pixel ``[R, C]``, numbered from 1; 0 where the image equals the baseline."""
        differs = (x != start).any(0)
        if self.segments == "clusters":
            return np.asarray(label(differs, np.ones((3, 3)))[0], dtype=np.int64)
        blocks = _superpixels(x, grid) if self.segments == "slic" else _rectangles(differs.shape, grid)
        numbers = np.unique(blocks[differs], return_inverse=True)[1].ravel()
        segment = np.zeros(differs.shape, dtype=np.int64)
        segment[differs] = numbers + 1
        return segment


@dataclass(frozen=True, kw_only=True)
class PreparedImageLime(PreparedPerturbation):
    """LIME with its grid.

    Attributes
    ----------
    grid : tuple of int
        Rows and columns of rectangles.
    engine : LimeBase
    """

    grid: tuple[int, int]
    engine: Any

    def settings(self) -> dict[str, Any]:
        """Settings with the grid."""
        return super().settings() | {"grid": list(self.grid)}


def _rectangles(shape: tuple[int, ...], grid: tuple[int, int]) -> IntArray:
    rows, columns = (np.arange(n) * g // n for n, g in zip(shape, grid, strict=True))
    return np.asarray(rows[:, None] * grid[1] + columns)


def _superpixels(x: NDArray[np.float32], grid: tuple[int, int]) -> IntArray:
    segmentation = import_extra("skimage.segmentation", "image_lime with segments='slic'")
    scale = np.maximum(np.abs(x).max((1, 2), keepdims=True), np.finfo(np.float32).tiny)
    image = np.moveaxis(x / scale, 0, -1)
    number = grid[0] * grid[1]
    return np.asarray(
        segmentation.slic(image, n_segments=number, compactness=0.1, channel_axis=-1, convert2lab=False)
    )


def _kernel(distance: Array) -> Array:
    """Weights of lime's explainer of images."""
    weights: Array = np.sqrt(np.exp(-(distance**2) / WIDTH**2))
    return weights


def _fit(
    prepared: PreparedImageLime, between: Between, segment: IntArray, seed: int, share: Array
) -> tuple[Array, float]:
    """Map ``[R, C]`` and R² of one fit."""
    points, number = prepared.explainer.samples // RUNS, len(share) - 1
    z = np.random.RandomState(seed).randint(0, 2, (points, number))
    z[0] = 1  # the image itself
    hidden = np.concatenate([np.zeros((points, 1), dtype=np.int64), z], axis=1)
    place = torch.as_tensor(segment)[between.rows[:, None], between.columns]
    scores = between.score(torch.as_tensor(hidden)[:, place].float()).numpy()
    distance = 1 - np.sqrt(z.mean(1))  # cosine, 1 if nothing is shown
    _, slopes, r2, _ = prepared.engine.explain_instance_with_data(
        z.astype(np.float64), scores[:, None], distance, 0, number, feature_selection="none"
    )
    values = np.zeros(number + 1)
    for column, slope in slopes:
        values[column + 1] = slope
    return (values * share)[segment], _quality(float(r2), scores)


def _quality(r2: float, scores: Array) -> float:
    """R² of a fit; 1 for scores that do not change, which a constant fits."""
    is_constant = np.ptp(scores) <= 1e-6 * np.abs(scores).max(initial=0)
    return 1.0 if is_constant else r2
