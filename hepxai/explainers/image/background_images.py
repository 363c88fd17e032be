"""Methods that compare an image with a background sample of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hepxai.events import Events
from hepxai.explainers.background import Array, BackgroundExplainer, PreparedBackground, Table
from hepxai.explainers.image.images import PixelExplainer
from hepxai.models.protocols import DifferentiableImage


class BackgroundImageExplainer(PixelExplainer, BackgroundExplainer):
    """A comparison of every image with the same background images, all of equal weight.

    Attributes
    ----------
    sample : str
        "background": images are drawn from the first class of the given events. "all": from all of them.
    size : int
        Images that are drawn, in proportion to |weight|.
    seed : int
        Of all random numbers of the method. With the same events it gives the same images.
    rows : ndarray, shape [K, T, R, C], or Events, optional
        The background images; drawn unless given.
    channels
        See `hepxai.explainers.image.images.PixelExplainer`.
    """

    needs: ClassVar[type] = DifferentiableImage
    noun = "images"

    def removed(self, prepared: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean background image, in the shape of ``x [B, T, R, C]``."""
        return np.broadcast_to(prepared.rows.mean(0), x.shape).astype(np.float32)

    def forward(self, model: Any) -> Callable[[Tensor], Tensor]:
        """Differentiable function from images to outputs ``[B, O]``."""
        score: Callable[[Tensor], Tensor] = model.forward_image
        return score

    def score_rows(self, model: Any, rows: Table) -> Array:
        """Outputs ``[K, O]`` of images."""
        scores: Array = model.score_image(rows)
        return scores

    def score_events(self, prepared: PreparedBackground, events: Events) -> Array:
        """Target ``[E]`` of events, in chunks of flat memory."""
        return prepared.output(prepared.model.logits(events))

    def rows_of(self, events: Events) -> Table:
        """Image of each event, ``[E, T, R, C]``."""
        return events.image()

    def check_rows(self, events: Events) -> None:
        """Refuse events without images."""
        events.image_layout()
