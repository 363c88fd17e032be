"""Parts of networks: standardised inputs, with numbers of the training split, and dense layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """Shift and scale features with the mean and spread of the training split."""

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def fit(self, x: Tensor) -> None:
        """Use mean and standard deviation of ``x [N, F]``; flags (only -1, 0, 1) and constants stay."""
        mean = x.double().mean(0)
        spread = (x - mean).square().mean(0).sqrt()
        plain = (torch.isin(x, x.new_tensor([-1.0, 0.0, 1.0])).all(0)) | (spread < 1e-6)
        self.mean.copy_(torch.where(plain, 0.0, mean))
        self.scale.copy_(torch.where(plain, 1.0, spread))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features ``[N, F]``."""
        return (x - self.mean) / self.scale


def dense_layers(
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    before: Sequence[Callable[[], nn.Module]],
    activation: Callable[[], nn.Module],
) -> list[nn.Module]:
    """(Modules ``before`` → dense → activation)* → dense."""
    steps: list[nn.Module] = []
    for width in widths:
        steps += [*(module() for module in before), nn.Linear(inputs, width), activation()]
        inputs = width
    return [*steps, nn.Linear(inputs, outputs)]


def constant_columns(x: Tensor) -> Tensor:
    """Mask ``[F]`` of the columns of ``x [N, F]`` with a single value, up to rounding."""
    mean = x.double().mean(0)
    spread = (x - mean).square().mean(0).sqrt()
    return spread <= 1e-6 * mean.abs()


class StandardiseColumns(Standardise):
    """Standardise the columns of a table, which may have any scale: constant ones become 0."""

    def fit(self, x: Tensor) -> None:
        """Use mean and standard deviation of ``x [N, F]``; flags (only -1, 0, 1) stay."""
        mean, constant = x.double().mean(0), constant_columns(x)
        spread = (x - mean).square().mean(0).sqrt()
        flag = torch.isin(x, x.new_tensor([-1.0, 0.0, 1.0])).all(0) & ~constant
        self.mean.copy_(torch.where(flag, 0.0, mean))
        self.scale.copy_(torch.where(flag | constant, 1.0, spread))
