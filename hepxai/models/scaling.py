"""Standardised inputs: every network shifts and scales its own, with numbers from the training split."""

from __future__ import annotations

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
        """Take mean and standard deviation of ``x [N, F]``; flags (only -1, 0, 1) and constants stay."""
        mean = x.double().mean(0)
        spread = (x - mean).square().mean(0).sqrt()
        plain = (torch.isin(x, x.new_tensor([-1.0, 0.0, 1.0])).all(0)) | (spread < 1e-6)
        self.mean.copy_(torch.where(plain, 0.0, mean))
        self.scale.copy_(torch.where(plain, 1.0, spread))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features ``[N, F]``."""
        return (x - self.mean) / self.scale


def constant_columns(x: Tensor) -> Tensor:
    """Columns of ``x [N, F]`` that have one value, but for rounding, ``[F]``."""
    mean = x.double().mean(0)
    spread = (x - mean).square().mean(0).sqrt()
    return spread <= 1e-6 * mean.abs()


class StandardiseColumns(Standardise):
    """The same for a table, whose columns may have any scale: a constant one becomes 0."""

    def fit(self, x: Tensor) -> None:
        """Take mean and standard deviation of ``x [N, F]``; flags (only -1, 0, 1) stay."""
        mean, constant = x.double().mean(0), constant_columns(x)
        spread = (x - mean).square().mean(0).sqrt()
        flag = torch.isin(x, x.new_tensor([-1.0, 0.0, 1.0])).all(0) & ~constant
        self.mean.copy_(torch.where(flag, 0.0, mean))
        self.scale.copy_(torch.where(flag | constant, 1.0, spread))
