"""What the methods over detector images share: gradients, where a path starts, the form of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from hepxai.events import Events
from hepxai.models.base import DifferentiableImage

Baseline = float | str | Sequence[Any]
BLURRED = "blurred"


def gradient(model: DifferentiableImage, x: Tensor, output: int) -> Tensor:
    """∂F/∂x of every image by itself, shape of ``x``."""
    state = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (found,) = torch.autograd.grad(model.forward_image(state)[:, output].sum(), state)
    return found


def pixel_labels(values: NDArray[np.floating]) -> dict[str, tuple[str, ...]]:
    """Numbers of the rows and columns of maps ``[E, R, C]`` as labels."""
    return {
        name: tuple(map(str, range(n))) for name, n in zip(("row", "column"), values.shape[1:], strict=True)
    }


def as_setting(baseline: Any, events: Events) -> Baseline:
    """Check a baseline and make it fit for storage: a number, "blurred", or lists ``[T][R][C]``.

    Raises
    ------
    ValueError
        If it is none of these, has another shape than the images, or is not finite.
    """
    shape = events.image_layout().shape
    if isinstance(baseline, str) and baseline == BLURRED:
        return baseline
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
