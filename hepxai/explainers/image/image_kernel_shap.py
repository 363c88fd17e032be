"""KernelSHAP of images: Shapley values of segments."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from torch import Tensor

from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.segments import SegmentGame, Segments, SegmentShares
from hepxai.explainers.kernel import kernel_runs, kernel_values
from hepxai.explainers.libraries import event_seeds, import_extra, isolated_rng
from hepxai.explainers.methods import register


@register("image_kernel_shap")
class ImageKernelShap(SegmentShares):
    """Shapley values of segments, by shap's KernelExplainer [Lundberg and Lee, arXiv:1705.07874].

    ``φ_s = Σ_{S ⊆ G∖s} |S|! (g-|S|-1)! / g! [v(S ∪ s) - v(S)]``, where v(S) is the score of the image whose
    pixels outside the segments S are those of the baseline.

    If there are no more than ``samples`` sets of segments, all are taken and the values are exact. If there
    are more, the regression runs four times on a quarter of the samples each: the values are the mean of the
    runs, and ``Attribution.error`` has the standard errors from their spread.

    The value of a segment is spread evenly over those of its pixels that differ from the baseline; a pixel's
    error is that of the segment, divided likewise, so that errors inside a segment are fully correlated.

    One event costs ``samples`` scores.

    Attributes
    ----------
    segments : {"blocks", "clusters", "slic"}
        See `hepxai.explainers.image.segments.Segments`. A segment at the baseline changes nothing: it is no
        player, and its value is exactly 0.
    samples : int
        Sets that are scored for each event: 2048 is all of them for up to 11 segments.
    seed : int
    block, baseline, blur
        See `hepxai.explainers.image.segments.SegmentExplainer`.
    """

    title = "Shapley values of segments, by regression (image KernelSHAP)"
    short_title = "image KernelSHAP"
    has_errors = True
    segments: Segments = "blocks"
    samples: int = Field(default=2048, ge=1)
    seed: int = Field(default=0, ge=0)

    def shares(self, game: SegmentGame, batch: Batch[Tensor], empty: float, full: float) -> Part:
        """Signed map with errors."""
        players = len(game.pixels)
        runs = kernel_runs(self.samples, players, f"segments: give more, or take a larger {self.name}.block")
        (seeds,) = event_seeds(batch.events, self.seed, runs)
        shap = import_extra("shap", self.name)
        with isolated_rng():
            engine = shap.KernelExplainer(lambda on: game.scores(on > 0), np.zeros((1, players)))
        values, error = kernel_values(engine, np.ones((1, players)), seeds, self.samples)
        maps = game.spread(values)[None], game.spread(error)[None]
        return Part(values=maps[0], error=maps[1], output_change=np.array([full - empty]))
