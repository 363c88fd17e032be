"""Random symmetry transformations of the events of a training batch at a hadron collider."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hepxai.events import P4
from hepxai.models.graph.cloud import Cloud

TURNED = (("px", "py"), ("cos_phi", "sin_phi"))
"""Components along x and y that rotate together."""
ODD = {"mirror": ("py", "sin_phi", "phi"), "forward_backward": ("pz", "eta")}
"""Quantities whose sign a reflection changes."""


def check_symmetries(features: Sequence[str], symmetries: Sequence[str]) -> None:
    """Refuse, with a ValueError, particle features that cannot be transformed with the events."""
    for pair in TURNED:
        present = [f for f in pair if f in features]
        if "rotation" in symmetries and len(present) == 1:
            missing = next(f for f in pair if f not in present)
            raise ValueError(
                f"training.symmetries: rotation needs {missing} beside {present[0]} among the features; add "
                "it to the dataset card, or take rotation from the model card"
            )


def transformed(cloud: Cloud, features: Sequence[str], symmetries: Sequence[str]) -> Cloud:
    """Events, each transformed by a random element of the symmetries, which leave the physics unchanged.

    "rotation" rotates the event about the beam by a uniform angle, "mirror" reflects half of the events in
    a plane through the beam, "forward_backward" exchanges the beam directions of half of them. Labels,
    weights, masses and angles between particles stay. All other features must be invariant.

    Parameters
    ----------
    cloud : Cloud
    features : sequence of str, length F
        Names of the columns of ``cloud.x``.
    symmetries : sequence of str
    """
    moved = (cloud.x.clone(), cloud.p4.clone())
    columns = (tuple(features), P4 if cloud.p4.shape[1] else ())
    for symmetry in symmetries:
        random = torch.rand(len(cloud), device=cloud.x.device)[cloud.batch]
        for values, names in zip(moved, columns, strict=True):
            if symmetry == "rotation":
                _rotate(values, names, 2 * math.pi * random)
            else:
                _flip(values, [n for n in ODD[symmetry] if n in names], names, random < 0.5)
    return Cloud(*moved, cloud.ptr)


def _rotate(values: Tensor, names: Sequence[str], angle: Tensor) -> None:
    cos, sin = angle.cos(), angle.sin()
    for along_x, along_y in TURNED:
        if along_x in names:
            i, j = names.index(along_x), names.index(along_y)
            x, y = values[:, i].clone(), values[:, j].clone()
            values[:, i], values[:, j] = cos * x - sin * y, sin * x + cos * y
    if "phi" in names:
        i = names.index("phi")
        values[:, i] = torch.remainder(values[:, i] + angle + math.pi, 2 * math.pi) - math.pi


def _flip(values: Tensor, odd: Sequence[str], names: Sequence[str], flipped: Tensor) -> None:
    for name in odd:
        i = names.index(name)
        values[:, i] = torch.where(flipped, -values[:, i], values[:, i])
