"""torchvision beside any torch: its compiled operators in plain torch where they cannot be loaded."""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from torch import Tensor

from hepxai.core.extras import import_extra

BLOCK = 1024
"""Boxes of one block of `nms`, which holds a matrix of a block with all boxes."""
_SIGNATURES = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
}
_libraries: list[torch.library.Library] = []


def import_torchvision(what: str) -> ModuleType:
    """Import torchvision, with detection models that run.

    The wheel on PyPI is linked with CUDA; beside a torch for CPUs its operators cannot be loaded, and already
    the import fails. Only then ``torchvision::nms``, ``qnms`` and ``roi_align`` are defined here, and
    torchvision's own tests for compiled operators are passed. A torchvision that works stays as it is.

    Parameters
    ----------
    what : str
        Model that needs it, for the error.

    Raises
    ------
    MissingExtraError
        If torchvision is not installed.
    """
    try:
        torchvision = import_extra("torchvision", what, "detection")
    except RuntimeError as problem:
        if "torchvision::" not in str(problem):
            raise
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # imported half
        _define_operators()
        torchvision = import_extra("torchvision", what, "detection")
    if not import_extra("torchvision.extension", what, "detection")._has_ops():
        _define_operators()
        _bypass_checks(what)
    import_extra("torchvision.models.detection", what, "detection")
    return torchvision


def _define_operators() -> None:
    """Define each operator that torch does not have yet."""
    for name, signature in _SIGNATURES.items():
        operator, library = f"torchvision::{name}", torch.library.Library("torchvision", "FRAGMENT")
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + signature)
        elif torch._C._dispatch_has_computed_kernel_for_dispatch_key(operator, "CPU"):
            continue
        # Only the second key lets gradients through; torchvision adds its own kernel for shapes to the first.
        function, key = (roi_align, "Implicit") if name == "roi_align" else (nms, "Explicit")
        library.impl(name, function, f"Composite{key}Autograd")
        _libraries.append(library)  # an operator lives as long as its library


def _bypass_checks(what: str) -> None:
    """Bypass torchvision's checks for compiled operators."""
    for name in ("boxes", "roi_align"):
        module = import_extra(f"torchvision.ops.{name}", what, "detection")
        module = sys.modules[f"torchvision.ops.{name}"]  # the package has a function of the same name
        module.__dict__["_assert_has_ops"] = lambda: None
        if name == "roi_align":
            module.__dict__["_has_ops"] = lambda: True


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: boxes that overlap with no better remaining box by more than a threshold.

    Greedy, in the order of the scores, as ``torchvision.ops.nms``. Blocks of boxes are compared at once: a
    box remains if no remaining box before it overlaps, and the equation is iterated until it holds, which
    needs as many passes as the longest chain of boxes that decide about each other.

    Parameters
    ----------
    dets : Tensor, shape [N, 4]
        Left, lower, right and upper edge.
    scores : Tensor, shape [N]
    iou_threshold : float

    Returns
    -------
    Tensor of int64, shape [n]
        Positions of the remaining boxes, the best first.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes = dets.detach()[order].to(torch.promote_types(dets.dtype, torch.float32))
    remaining = order.new_zeros(0)
    for start in range(0, len(boxes), BLOCK):
        block = torch.arange(start, min(start + BLOCK, len(boxes)), device=boxes.device)
        overlaps = overlap(boxes[remaining, None], boxes[block]) > iou_threshold
        block = block[~overlaps.any(0)]
        better = (overlap(boxes[block, None], boxes[block]) > iou_threshold).to(boxes.dtype).triu(1)
        remains = boxes.new_ones(len(block))
        while not torch.equal(after := (remains @ better == 0).to(boxes.dtype), remains):
            remains = after
        remaining = torch.cat([remaining, block[remains > 0]])
    return order[remaining]


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes ``[..., 4]``, whose other axes are broadcast; 0 for two empty ones."""
    width, height = (
        torch.minimum(one[..., i + 2], other[..., i + 2]) - torch.maximum(one[..., i], other[..., i])
        for i in (0, 1)
    )
    shared = width.clamp_(min=0).mul_(height.clamp_(min=0))
    area, others = ((b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (one, other))
    union = area + others - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Means of bilinear samples in the bins of boxes [He et al., arXiv:1703.06870], as in torchvision.

    The mean over a regular grid of samples is a matrix for the rows times the map times a matrix for the
    columns. Differentiable in ``input``; memory grows with boxes × rows or columns of the map.

    Parameters
    ----------
    input : Tensor, shape [B, C, H, W]
    rois : Tensor, shape [K, 5]
        Image, left, lower, right and upper edge.
    spatial_scale : float
        Pixels of the map for one of the boxes' units.
    pooled_height, pooled_width : int
        Bins of a box.
    sampling_ratio : int
        Samples in each direction of a bin; 0 or less: one for each pixel that it touches.
    aligned : bool
        The centre of a pixel is at .5; else at 0, and boxes have at least one pixel.

    Returns
    -------
    Tensor, shape [K, C, pooled_height, pooled_width]
    """
    edges = rois[:, 1:].detach() * spatial_scale - (0.5 if aligned else 0.0)
    rows = _sampling(edges[:, 1], edges[:, 3], pooled_height, input.shape[2], sampling_ratio, aligned)
    columns = _sampling(edges[:, 0], edges[:, 2], pooled_width, input.shape[3], sampling_ratio, aligned)
    image = rois[:, 0].long()
    order, height, width = image.argsort(stable=True), *input.shape[2:]
    parts = [input.new_zeros(0, pooled_height * input.shape[1], pooled_width)]
    for of_image in order.split(torch.bincount(image, minlength=len(input)).tolist()):
        if len(of_image):
            maps = input[image[of_image[0]]].transpose(0, 1).reshape(height, -1)
            values = (rows[of_image].flatten(0, 1) @ maps).view(len(of_image), -1, width)
            parts.append(values @ columns[of_image].transpose(1, 2))
    pooled = torch.cat(parts)[order.argsort()]
    return pooled.view(len(rois), pooled_height, input.shape[1], pooled_width).transpose(1, 2)


def _sampling(start: Tensor, end: Tensor, bins: int, size: int, sampling_ratio: int, aligned: bool) -> Tensor:
    """Weights ``[K, bins, size]`` of the pixels along one axis in the mean of the samples of each bin."""
    length = end - start if aligned else (end - start).clamp(min=1.0)
    wanted = (length / bins).ceil() if sampling_ratio <= 0 else torch.full_like(length, sampling_ratio)
    number = wanted.clamp(min=1)
    sample = torch.arange(max(int(number.max()), 1) if len(number) else 1, device=start.device)
    step = (length / bins)[:, None, None]
    place = start[:, None, None] + step * torch.arange(bins, device=start.device)[None, :, None]
    place = place + step * (sample + 0.5) / number[:, None, None]
    counted = (sample < wanted[:, None, None]) & (place >= -1) & (place <= size)
    place = place.clamp(0, size - 1)
    pixel = torch.arange(size, device=start.device)
    weights = (1 - (place[..., None] - pixel).abs()).clamp(min=0) * counted[..., None]
    return weights.sum(2) / number[:, None, None]
