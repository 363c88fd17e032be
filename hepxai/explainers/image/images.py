"""What the methods over detector images share: gradients, where a path starts, the form of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.chunks import image_rows
from hepxai.events import Events
from hepxai.explainers.base import Explainer
from hepxai.models.protocols import DifferentiableImage
from hepxai.models.target import Target

Baseline = float | str | Sequence[Any] | Events
BLURRED = "blurred"


def gradient(model: DifferentiableImage, x: Tensor, output: Target) -> Tensor:
    """∂F/∂x of every image by itself, shape of ``x``."""
    state = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (found,) = torch.autograd.grad(output(model.forward_image(state)).sum(), state)
    return found


def image_map(
    explainer: Explainer,
    events: Events,
    target: str,
    values: NDArray[np.floating],
    *,
    output_change: NDArray[np.float64] | None = None,
    error: NDArray[np.float64] | None = None,
    found: Mapping[str, Any] | None = None,
) -> Attribution:
    """Attribution of maps ``[E, R, C]``, with a residual if ``output_change`` is given.

    ``found`` are settings that turned out on the way, beside those of the explainer.
    """
    axes = ("row", "column")
    names = (tuple(map(str, range(n))) for n in values.shape[1:])
    return Attribution(
        values,
        ("event", *axes),
        events,
        explainer.name,
        target,
        settings=explainer.settings() | dict(found or {}),
        labels=dict(zip(axes, names, strict=True)),
        residual=None if output_change is None else values.sum((1, 2), dtype=np.float64) - output_change,
        output_change=output_change,
        error=error,
    )


def as_setting(baseline: Any, events: Events) -> Baseline:
    """Check a baseline and make it fit for storage: a number, "blurred", or lists ``[T][R][C]``.

    Of events it is their weighted mean image.

    Raises
    ------
    ValueError
        If it is none of these, has another shape than the images, or is not finite.
    """
    shape = events.image_layout().shape
    if isinstance(baseline, str) and baseline == BLURRED:
        return baseline
    if isinstance(baseline, Events):
        events.schema.need_equal(baseline.schema)
        baseline = mean_image(baseline)
    try:
        given = np.asarray(baseline, dtype=np.float32)
    except (TypeError, ValueError):
        given = np.array(np.nan, dtype=np.float32)
    if not np.isfinite(given).all():
        raise ValueError(f"baseline {baseline!r}; give 0, 0.5, 'blurred' or an image {shape} of numbers")
    if given.ndim == 0:
        return float(given)
    if given.shape not in (shape, shape[1:] if shape[0] == 1 else shape):
        raise ValueError(f"the baseline has shape {given.shape}; the images have {shape}")
    return given.reshape(shape).tolist()


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


def start_of(baseline: Baseline, x: Tensor, blur: float) -> Tensor:
    """Image ``[B, T, R, C]`` where the path of each image begins."""
    if isinstance(baseline, str):
        return torch.empty_like(x).copy_(torch.as_tensor(blurred(x.numpy(), blur)))
    return torch.empty_like(x).copy_(torch.as_tensor(np.asarray(baseline, dtype=np.float32)))


def blurred(x: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Images ``[B, T, R, C]`` washed out by a Gaussian of ``sigma`` pixels.

    It is reflected at the edges, so that the mean of each image stays what it is.
    """
    found: NDArray[np.float32] = gaussian_filter(x, (0, 0, sigma, sigma), mode="reflect")
    return found
