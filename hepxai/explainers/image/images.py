"""Gradients of images, and path methods over the pixels: the baseline image where the path starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PlainValidator
from scipy.ndimage import gaussian_filter
from torch import Tensor

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.core.chunks import image_rows
from hepxai.events import Events
from hepxai.explainers.base import Explainer, Prepared
from hepxai.explainers.batches import Part, View
from hepxai.explainers.path import PathExplainer, PreparedPath, check_baseline
from hepxai.metrics.faithfulness import quick_check, quick_concern
from hepxai.models.protocols import DifferentiableImage, Imaging
from hepxai.models.target import Target

BLURRED = "blurred"
Baseline = Annotated[
    float | str | Sequence[Any] | Events,
    PlainValidator(partial(check_baseline, names=(BLURRED,), numbers="a number, an image of numbers")),
]


class MapExplainer(Explainer):
    """Method with one value for each pixel, all channels together.

    Every map has a cheap check of its faithfulness: see `hepxai.metrics.faithfulness.quick_check`.
    """

    reads: ClassVar[View] = "image"
    axes: ClassVar[tuple[str, ...]] = PIXELS
    needs: ClassVar[type] = Imaging

    def model_checks(self, prepared: Prepared, attribution: Attribution) -> dict[str, float]:
        """Faithfulness on a few events; see `hepxai.metrics.faithfulness.quick_check`."""

        def score(x: NDArray[np.float32]) -> NDArray[np.float64]:
            return prepared.output(prepared.model.score_image(x))

        return quick_check(score, attribution, partial(self.removed, prepared))

    def removed(self, prepared: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images without content, shape of ``x [B, T, R, C]``: the method's baseline, or 0 without one."""
        if not isinstance(prepared, PreparedBaseline):
            return np.zeros_like(x)
        start: NDArray[np.float32] = prepared.start(torch.as_tensor(x)).numpy()
        return start

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Concerns about completeness and faithfulness."""
        return (*super().concerns(checks), *quick_concern(checks))


class PixelExplainer(MapExplainer):
    """Method with a value for each pixel of each channel.

    Attributes
    ----------
    channels : {"sum", "each"}
        Add the channels up, or keep an axis "channel".
    """

    channels: Literal["sum", "each"] = "sum"

    def axes_of_result(self) -> tuple[str, ...]:
        """Axes with or without the channels."""
        return PIXELS if self.channels == "sum" else CHANNEL_PIXELS

    def reduced(self, values: Tensor) -> Tensor:
        """Map ``[B, R, C]`` of values ``[B, T, R, C]`` if the channels are added up; else the values."""
        return values.sum(1) if self.channels == "sum" else values


def gradient(model: DifferentiableImage, x: Tensor, output: Target) -> Tensor:
    """∂F/∂x of every image, shape of ``x``."""
    state = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(output(model.forward_image(state)).sum(), state)
    return slope


@dataclass(frozen=True, kw_only=True)
class PreparedBaseline(Prepared):
    """Method that compares an image with a baseline.

    Attributes
    ----------
    baseline : float, str or list
        A number, "blurred", or an image ``[T][R][C]``.
    """

    baseline: Any

    def settings(self) -> dict[str, Any]:
        """Settings with the baseline."""
        return super().settings() | {"baseline": self.baseline}

    def start(self, x: Tensor) -> Tensor:
        """Baseline of each image, shape of ``x [B, T, R, C]``."""
        return baseline_like(x, self.baseline, self.explainer.blur)


@dataclass(frozen=True, kw_only=True)
class PreparedImage(PreparedBaseline, PreparedPath):
    """Path from a baseline image."""

    def from_baseline(self, x: Tensor) -> Part:
        """Integrated Gradients ``[B, T, R, C]`` along the straight path to each image."""
        return self.integral(self.model.forward_image, self.start(x), x)


class ImageExplainer(PathExplainer, PixelExplainer):
    """A path from a baseline image to the image of each event.

    Attributes
    ----------
    baseline : float, str, array or Events
        Value of all pixels (0: nothing lit; 0.5), "blurred": the image itself washed out, an image
        ``[T, R, C]`` (``[R, C]`` for one channel), or events whose weighted mean image is taken.
    blur : float
        σ of the Gaussian for "blurred", in pixels, along rows and columns.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    channels
        See `PixelExplainer`.
    """

    needs = DifferentiableImage
    baseline: Baseline = 0.0
    blur: float = Field(default=4.0, gt=0)

    def prepare(self, model: DifferentiableImage, events: Events, target: str) -> PreparedImage:
        """Compute the baseline, and the number of steps if there is a quadrature."""
        baseline = baseline_image(self.baseline, events)
        prepared = PreparedImage(explainer=self, model=model, target=target, steps=0, baseline=baseline)
        return self.with_steps(prepared, events) if self.integrates else prepared

    @property
    def integrates(self) -> bool:
        """True if the settings need a quadrature."""
        return True


def baseline_image(baseline: Any, events: Events) -> Any:
    """Baseline for images of these events: a number, "blurred", or lists ``[T][R][C]``.

    Raises
    ------
    ValueError
        If it has another shape than the images.
    """
    shape = events.image_layout().shape
    if isinstance(baseline, str):
        return baseline
    if isinstance(baseline, Events):
        events.schema.need_equal(baseline.schema)
        baseline = mean_image(baseline)
    image = np.asarray(baseline, dtype=np.float32)
    if image.ndim == 0:
        return float(image)
    if image.shape not in (shape, shape[1:] if shape[0] == 1 else shape):
        raise ValueError(f"the baseline has shape {image.shape}; the images have {shape}")
    return image.reshape(shape).tolist()


def baseline_like(x: Tensor, baseline: Any, blur: float) -> Tensor:
    """Baseline of each image, shape of ``x [B, T, R, C]``; ``baseline`` as from `baseline_image`."""
    image: Any = blurred(x.numpy(), blur) if baseline == BLURRED else baseline
    return torch.empty_like(x).copy_(torch.as_tensor(np.asarray(image, dtype=np.float32)))


def mean_image(events: Events) -> NDArray[np.float64]:
    """Weighted mean image of events, ``[T, R, C]``.

    Raises
    ------
    ValueError
        If there are none, or their weights sum to zero.
    """
    if abs(events.weight.sum()) <= 1e-9 * np.abs(events.weight).sum():
        raise ValueError(f"the weights of {len(events)} events sum to zero: they have no mean image")
    total = np.zeros(events.image_layout().shape)
    for rows in image_rows(len(events), total.shape):
        total += np.tensordot(events.weight[rows], events[rows].image(), axes=1)
    return np.asarray(total / events.weight.sum())


def blurred(x: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Images ``[B, T, R, C]`` washed out by a Gaussian of ``sigma`` pixels.

    It is reflected at the edges, so that the mean of each image stays what it is.
    """
    smooth: NDArray[np.float32] = gaussian_filter(x, (0, 0, sigma, sigma), mode="reflect")
    return smooth
