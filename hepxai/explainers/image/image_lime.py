"""LIME for images: a linear model of the score in which segments of the image are shown."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.segments import SegmentExplainer, SegmentGame, Segments
from hepxai.explainers.libraries import RUNS, Array, event_seeds, import_extra, isolated_rng
from hepxai.explainers.linear_fit import LinearFitExplainer
from hepxai.explainers.methods import register

WIDTH = 0.25
"""Width of the kernel over the cosine distance, that of lime's explainer of images."""


@register("image_lime")
class ImageLime(LinearFitExplainer, SegmentExplainer):
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
    segments : {"blocks", "clusters", "slic"}
        See `hepxai.explainers.image.segments.Segments`.
    seed : int
    samples, minimum_r2
        See `hepxai.explainers.linear_fit.LinearFitExplainer`.
    block, baseline, blur
        See `hepxai.explainers.image.segments.SegmentExplainer`.
    """

    title = "local linear model of image segments (LIME)"
    short_title = "image LIME"
    alternative: ClassVar[str] = "rise, or finer segments"
    segments: Segments = "blocks"
    seed: int = Field(default=0, ge=0)

    def attribute_game(self, game: SegmentGame, batch: Batch[Tensor]) -> Part:
        """Signed map with errors; R² of the fits in the checks."""
        number, (seeds,) = len(game.pixels), event_seeds(batch.events, self.seed, RUNS)
        if (needed := 2 * RUNS * number) > self.samples:
            raise ValueError(
                f"image_lime: samples={self.samples} is too few for an event of {number} segments; give "
                f"samples={needed} or more, or a larger block"
            )
        with isolated_rng():
            return self.joined([[_fit(game, self.samples // RUNS, int(seed)) for seed in seeds]])


def _kernel(distance: Array) -> Array:
    """Weights of lime's explainer of images."""
    weights: Array = np.sqrt(np.exp(-(distance**2) / WIDTH**2))
    return weights


def _fit(game: SegmentGame, points: int, seed: int) -> tuple[Array, float]:
    """Map ``[R, C]`` and R² of one fit."""
    number = len(game.pixels)
    if not number:
        return np.zeros(game.player.shape), np.nan
    z = np.random.RandomState(seed).randint(0, 2, (points, number))
    z[0] = 1  # the image itself
    scores = game.scores(z > 0)
    distance = 1 - np.sqrt(z.mean(1))  # cosine, 1 if nothing is shown
    lime = import_extra("lime.lime_base", "image_lime")
    engine = lime.LimeBase(_kernel, random_state=np.random.RandomState(0))
    _, slopes, r2, _ = engine.explain_instance_with_data(
        z.astype(np.float64), scores[:, None], distance, 0, number, feature_selection="none"
    )
    values = [slope for _, slope in sorted(slopes)]
    return game.spread(np.array(values)), _quality(float(r2), scores)


def _quality(r2: float, scores: Array) -> float:
    """R² of a fit; 1 for scores that do not change, which a constant fits."""
    is_constant = np.ptp(scores) <= 1e-6 * np.abs(scores).max(initial=0)
    return 1.0 if is_constant else r2
