"""Convolutions of images with long empty stretches, evaluated on a part of their columns.

In the middle of an empty stretch, out of reach of every lit pixel and of the edges, a convolution without
strides has the same value in every column. One column with the weight of all of them leaves a mean over the
pixels unchanged, and its gradients with respect to the weights too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GROUP = 8
"""Images with a common width; few, because the widest of them sets the cost."""


def column_mean(x: Tensor, maps: Callable[[Tensor], Tensor], reach: int) -> Tensor:
    """Mean over all pixels of convolutional maps, ``[B, K]``, computed from the columns that differ.

    Parameters
    ----------
    x : Tensor, shape [B, T, R, C]
    maps : callable
        Convolutions with zero padding and without strides: ``[b, T, R, c] -> [b, K, R, c]``.
    reach : int
        Columns to each side that a pixel of the maps depends on.
    """
    keep = kept_columns(x, reach)
    order = keep.sum(1).argsort()
    parts = [_mean(x[rows], keep[rows], maps) for rows in order.split(GROUP)]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return torch.cat(parts).index_select(0, back)


def _mean(x: Tensor, keep: Tensor, maps: Callable[[Tensor], Tensor]) -> Tensor:
    columns = _same_width(keep)
    end = columns.new_full((len(columns), 1), x.shape[3])
    stands_for = torch.diff(columns, dim=1, append=end)
    short = x.gather(3, columns[:, None, None, :].expand(-1, *x.shape[1:3], -1))
    result = maps(short.contiguous(memory_format=torch.channels_last))
    flat = result.permute(0, 2, 3, 1).flatten(1, 2)  # a view: channels come last in memory
    counted = stands_for.repeat(1, x.shape[2])[:, None].to(flat)
    return torch.bmm(counted, flat)[:, 0].float() / (x.shape[2] * x.shape[3])


def kept_columns(x: Tensor, reach: int) -> Tensor:
    """Mask ``[B, C]`` of the columns of ``x [B, T, R, C]`` that have to be computed.

    Those within reach of a lit pixel or an edge, and the first of every stretch of others. Every other column
    equals the last computed one before it.
    """
    lit = (x != 0).flatten(1, 2).any(1)
    place = torch.arange(x.shape[3], device=x.device)
    left = torch.where(lit, place, -1).cummax(1).values
    right = torch.where(lit, place, x.shape[3]).flip(1).cummin(1).values.flip(1)
    return (place - left <= reach + 1) | (right - place <= reach)


def _same_width(keep: Tensor) -> Tensor:
    """Indices of the columns ``[B, W]``; narrow images are filled up with the last of their other columns."""
    width = keep.sum(1, keepdim=True)
    from_the_end = (~keep).flip(1).cumsum(1).flip(1)
    more = ~keep & (from_the_end <= width.max() - width)
    return (keep | more).nonzero()[:, 1].view(len(keep), -1)
