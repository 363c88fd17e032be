"""Occlusion: change of the score when a window of the image is replaced."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import ValidationInfo, field_validator
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.chunks import image_rows
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.images import PixelExplainer
from hepxai.explainers.image.perturbation import Pair, PerturbationExplainer, PreparedPerturbation
from hepxai.explainers.methods import register
from hepxai.models.protocols import Imaging


@register("occlusion")
class Occlusion(PerturbationExplainer, PixelExplainer):
    """``F(x) - F(x with a window replaced)``, mean over the windows that cover the pixel.

    [Zeiler and Fergus, arXiv:1311.2901.]

    The windows stand at multiples of the stride from the first row and column. The last one ends at the
    border, or is cut off there: every pixel is covered, those at the border by fewer windows. A window whose
    pixels all equal the baseline is not scored; its change is exactly 0.

    If the network begins with convolutions, poolings and the like, only maps within reach of the window are
    computed again (``LocalPart`` in `hepxai.models.image.local`); results differ by rounding.

    Attributes
    ----------
    window : int or tuple of int
        Rows and columns of the window; one number is both.
    stride : int or tuple of int
        Rows and columns between windows, no more than the window has.
    channels : {"sum", "each"}
        "sum": a window is replaced in all channels at once. "each": in one channel after the other, with an
        axis "channel"; the changes of the channels add up to that of all only where channels do not interact.
    baseline, blur
        See `hepxai.explainers.image.perturbation.PerturbationExplainer`.
    """

    title = "change of the score when a window is replaced (occlusion)"
    short_title = "occlusion"
    window: Pair = (3, 3)
    stride: Pair = (1, 1)

    @field_validator("stride")
    @classmethod
    def _leaves_no_gap(cls, stride: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        window = info.data.get("window", stride)
        if stride[0] > window[0] or stride[1] > window[1]:
            raise ValueError(
                f"pixels between windows of {window[0]} x {window[1]} would have no value; give a stride no "
                "larger than the window"
            )
        return stride

    def prepare(self, model: Imaging, events: Events, target: str) -> PreparedPerturbation:
        """Compute the baseline; refuse a window that is larger than the image."""
        rows, columns = events.image_layout().shape[1:]
        high, wide = self.window
        if high > rows or wide > columns:
            raise ValueError(
                f"occlusion: a window of {high} x {wide} is larger than the image of {rows} x {columns} "
                f"pixels; give window=({min(high, rows)}, {min(wide, columns)}) or less"
            )
        return super().prepare(model, events, target)

    def attribute_batch(self, prepared: PreparedPerturbation, batch: Batch[Tensor]) -> Part:
        """Signed mean change of the score."""
        x, start = batch.x, prepared.start(batch.x)
        rows, columns = (
            windows(size, window, stride)
            for size, window, stride in zip(x.shape[2:], self.window, self.stride, strict=True)
        )
        down, across = (covered(ends, size) for ends, size in zip((rows, columns), x.shape[2:], strict=True))
        differs = (x != start).double()
        if self.channels == "sum":
            differs = differs.amax(1, keepdim=True)
        pixels = torch.einsum("btrc,ri,cj->btij", differs, down, across)
        image, channel, i, j = (n.numpy() for n in pixels.nonzero(as_tuple=True))
        change = torch.zeros_like(pixels)
        if len(image):
            which = None if self.channels == "sum" else channel
            ends = (rows[0][i], rows[1][i]), (columns[0][j], columns[1][j])
            less = _without(prepared, x, start, image, ends, which)
            change[image, channel, i, j] = prepared.score(x)[image] - less
        total = torch.einsum("btij,ri,cj->btrc", change, down, across)
        mean = total / torch.outer(down.sum(1), across.sum(1))
        checks = {"scored_windows": float((pixels > 0).double().mean())}
        return Part(values=self.reduced(mean).float(), checks=checks)

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Share of the windows that were scored; the others equal the baseline."""
        return {"scored_windows": 0.0} | dict(attribution.checks)


Ends = tuple[IntArray, IntArray]


def windows(size: int, window: int, stride: int) -> Ends:
    """First pixel of each window along an axis, and the one behind its last; the last may be cut off."""
    start = np.arange(-(-(size - window) // stride) + 1) * stride
    return start, np.minimum(start + window, size)


def covered(ends: Ends, size: int) -> Tensor:
    """1 where a pixel is inside a window, ``[size, windows]``."""
    place = np.arange(size)[:, None]
    return torch.as_tensor((place >= ends[0]) & (place < ends[1])).double()


def _without(
    prepared: PreparedPerturbation,
    x: Tensor,
    start: Tensor,
    image: IntArray,
    ends: tuple[Ends, Ends],
    channel: IntArray | None,
) -> Tensor:
    """Target ``[n]`` of images with one window replaced each."""
    rows, columns = ends
    if local := prepared.local:
        return prepared.output(local.replaced(x, start, image, rows, columns, channel)).double()
    parts = []
    for n in image_rows(len(image), tuple(x.shape[1:])):
        inside = (covered((e[0][n], e[1][n]), size).T > 0 for e, size in zip(ends, x.shape[2:], strict=True))
        mask = torch.einsum("nr,nc->nrc", *inside)[:, None]
        if channel is not None:
            mask = mask & (torch.arange(x.shape[1]) == torch.as_tensor(channel[n])[:, None])[..., None, None]
        parts.append(prepared.score(torch.where(mask, start[image[n]], x[image[n]])))
    return torch.cat(parts)
