"""Torchvision beside a CPU build of torch: its wheel has no operators then, and its import asks for them."""

from __future__ import annotations

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def define_operators() -> None:
    """Declare the operators that ``import torchvision`` looks up, where they are missing."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
