"""Networks that begin with local layers, evaluated only where an image differs from a reference.

A pixel of a convolutional map depends on a rectangle of the image, its receptive field. Replacing a window
changes only maps whose field meets the window; long constant stretches of an image give constant maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hepxai.core.chunks import image_rows
from hepxai.core.jagged import IntArray
from hepxai.models.network import evaluating

POINTWISE: frozenset[type[nn.Module]] = frozenset(
    (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish)
) | {nn.Hardswish, nn.Hardtanh, nn.Sigmoid, nn.Softplus, nn.Tanh, nn.Identity, nn.Dropout, nn.Dropout2d}
"""Layers that act on each pixel alone, in evaluation mode."""


class Field(NamedTuple):
    """Receptive field along an axis: pixel j of a map depends on ``width`` from ``j * stride - left`` on."""

    stride: int = 1
    left: int = 0
    width: int = 1

    def behind(self, layer: nn.Module, axis: int) -> Field:
        """Field of the maps of a convolution or pooling that follows."""
        kernel, stride, padding, dilation = _geometry(layer, axis)
        reach = dilation * (kernel - 1)
        return Field(
            self.stride * stride, self.left + padding * self.stride, self.width + reach * self.stride
        )

    def met(self, start: IntArray, stop: IntArray, maps: int) -> tuple[IntArray, IntArray]:
        """First map pixel that depends on pixels ``[start, stop)``, and the one behind the last."""
        first = -((self.width - 1 - self.left - start) // self.stride)
        last = (stop - 1 + self.left) // self.stride + 1
        first = np.clip(first, 0, maps)
        return first, np.maximum(np.clip(last, 0, maps), first)

    def crops(self, first: IntArray, last: IntArray, size: int) -> tuple[IntArray, int]:
        """Starts and common length of stretches of an axis that give the map pixels ``[first, last)``.

        Starts are multiples of the stride, and so is the distance of the last possible one from the end:
        maps of the stretch are those of the whole axis, apart from pixels near a cut.
        """
        low = np.clip(first * self.stride - self.left, 0, size) // self.stride * self.stride
        high = np.clip((last - 1) * self.stride - self.left + self.width, 0, size)
        length = int(np.max(high - low, initial=1))
        length = min(length + (size - length) % self.stride, size)
        return np.minimum(low, size - length), length

    def collapse(self, lit: Tensor, maps: int) -> tuple[Tensor, Tensor]:
        """Pixels to keep of an axis that is constant but for ``lit``, and which map pixel each one equals.

        Map pixels whose field is inside the image and has nothing lit are equal to their neighbours of the
        same kind: of a stretch of those only the first is kept, and as many pixels of its field are left out.
        """
        low = torch.arange(maps) * self.stride - self.left
        high = low + self.width
        before = torch.cat([lit.new_zeros(1, dtype=torch.int64), lit.cumsum(0)])
        inside = (low >= 0) & (high <= len(lit))
        some = before[high.clamp(0, len(lit))] - before[low.clamp(0, len(lit))]
        dark = inside & (some == 0)
        again = dark & torch.cat([dark.new_zeros(1), dark[:-1]])  # equal to the map pixel before
        left_out = (low[again, None] + torch.arange(self.stride) - self.stride).flatten()
        keep = torch.ones(len(lit), dtype=torch.bool)
        keep[left_out] = False
        return keep.nonzero()[:, 0], (~again).cumsum(0) - 1


def _geometry(layer: nn.Module, axis: int) -> tuple[int, int, int, int]:
    """Kernel, stride, padding on the low side and dilation of a layer along an axis."""
    kernel, stride, dilation = (
        _pair(getattr(layer, name, 1))[axis] for name in ("kernel_size", "stride", "dilation")
    )
    padding = layer.padding
    if isinstance(padding, str):
        return kernel, stride, dilation * (kernel - 1) // 2 if padding == "same" else 0, dilation
    return kernel, stride, _pair(padding)[axis], dilation


def _pair(value: object) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)  # type: ignore[arg-type, return-value]


def _is_local(layer: nn.Module) -> bool:
    """True for a layer whose maps depend on a neighbourhood, the same everywhere; no subclass is trusted."""
    if isinstance(layer, nn.Conv2d):
        return type(layer) is nn.Conv2d and layer.padding_mode == "zeros"
    if isinstance(layer, nn.BatchNorm2d):
        return type(layer) is nn.BatchNorm2d and layer.running_mean is not None
    if isinstance(layer, nn.MaxPool2d):
        return type(layer) is nn.MaxPool2d and not layer.return_indices
    return type(layer) is nn.AvgPool2d or type(layer) in POINTWISE


class Collapsed(NamedTuple):
    """Rows and columns of an image that are kept, and for each map pixel the one that has its value.

    ``weight`` is the share of the map's pixels that a kept one stands for, flat.
    """

    rows: Tensor
    columns: Tensor
    map_rows: Tensor
    map_columns: Tensor
    weight: Tensor

    def of(self, x: Tensor) -> Tensor:
        """Kept pixels of images ``[..., R, C]``."""
        return x[..., self.rows[:, None], self.columns]


@dataclass(frozen=True)
class LocalPart:
    """Local layers at the beginning of a network, and the rest of it.

    Attributes
    ----------
    network : nn.Module
        That they belong to.
    layers : tuple of nn.Module
        In the order of the calls.
    rest : callable
        Outputs ``[B, O]`` of maps ``[B, K, r, c]``, or of their means ``[B, K, 1, 1]``.
    mean : bool
        True if the rest begins with the mean over all pixels.
    """

    network: nn.Module
    layers: tuple[nn.Module, ...]
    rest: Callable[[Tensor], Tensor]
    mean: bool

    @cached_property
    def steps(self) -> nn.Sequential:
        """Copies of the layers for evaluation: channels come last in memory, and activations act in place."""
        steps = nn.Sequential(*deepcopy(self.layers)).eval()
        steps.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for step in steps:
            if hasattr(step, "inplace"):
                setattr(step, "inplace", True)  # noqa: B010  # typed as a module by torch
        return steps

    @property
    def fields(self) -> tuple[Field, Field]:
        """Receptive field along rows and columns."""
        rows, columns = Field(), Field()
        for layer in self.layers:
            if hasattr(layer, "kernel_size"):
                rows, columns = rows.behind(layer, 0), columns.behind(layer, 1)
        return rows, columns

    def maps(self, x: Tensor) -> Tensor:
        """Maps ``[B, K, r, c]`` of images."""
        kind = next((p.dtype for p in self.network.parameters()), x.dtype)
        maps: Tensor = self.steps(x.to(kind, copy=True, memory_format=torch.channels_last))
        return maps

    def _outputs(self, maps: Tensor) -> Tensor:
        return self.rest(maps).reshape(len(maps), -1)

    def replaced(
        self,
        x: Tensor,
        fill: Tensor,
        image: IntArray,
        rows: tuple[IntArray, IntArray],
        columns: tuple[IntArray, IntArray],
        channel: IntArray | None = None,
    ) -> Tensor:
        """Outputs ``[n, O]`` of images in each of which one rectangle is replaced.

        Parameters
        ----------
        x, fill : Tensor, shape [B, T, R, C]
            Images, and those that the pixels in the rectangle come from.
        image : ndarray of int64, shape [n]
            Position in ``x``.
        rows, columns : tuple of ndarray, shape [n]
            First one of the rectangle, and the one behind its last.
        channel : ndarray of int64, shape [n], optional
            The only channel that is replaced; all of them by default.
        """
        with torch.no_grad(), evaluating(self.network):
            maps = torch.cat([self.maps(x[r]) for r in image_rows(len(x), tuple(x.shape[1:]))])
            axes = [
                _Cut.of(f, *ends, x.shape[2 + a], maps.shape[2 + a])
                for a, (f, ends) in enumerate(zip(self.fields, (rows, columns), strict=True))
            ]
            size = (x.shape[1], axes[0].length, axes[1].length)
            parts = [
                self._replaced(x, fill, maps, image[n], [a.take(n) for a in axes], _of(channel, n))
                for n in image_rows(len(image), size)
            ]
        return torch.cat(parts)

    def _replaced(
        self,
        x: Tensor,
        fill: Tensor,
        maps: Tensor,
        image: IntArray,
        axes: Sequence[_Cut],
        channel: IntArray | None,
    ) -> Tensor:
        down, across = axes
        mask = (down.inside()[:, :, None] & across.inside()[:, None, :])[:, None]
        if channel is not None:
            mask = mask & (torch.arange(x.shape[1]) == torch.as_tensor(channel)[:, None])[..., None, None]
        at = torch.as_tensor(image)
        old, new = (_cut(y, at, down.start, across.start, down.length, across.length) for y in (x, fill))
        local = self.maps(torch.where(mask, new, old))
        height, width = local.shape[2:]
        row, column = (a.start // a.field.stride for a in axes)
        before = _cut(maps, at, row, column, height, width)
        changes = (down.changes(height)[:, :, None] & across.changes(width)[:, None, :])[:, None]
        local = torch.where(changes, local, before)
        if self.mean:
            pooled = maps.mean((2, 3))[at] + (local - before).sum((2, 3)) / (maps.shape[2] * maps.shape[3])
            return self._outputs(pooled[:, :, None, None])
        whole = maps[at]
        r, c = (torch.as_tensor(s)[:, None] + torch.arange(n) for s, n in ((row, height), (column, width)))
        whole[torch.arange(len(at))[:, None, None], :, r[:, :, None], c[:, None, :]] = local.permute(
            0, 2, 3, 1
        )
        return self._outputs(whole)

    def collapse(self, lit: Tensor) -> Collapsed:
        """Rows and columns to keep of images that are constant but for the pixels ``lit [R, C]``."""
        with torch.no_grad(), evaluating(self.network):
            channels = next(m.in_channels for m in self.layers if isinstance(m, nn.Conv2d))
            height, width = self.maps(torch.zeros(1, channels, *lit.shape)).shape[2:]
        down, across = self.fields
        rows, map_rows = down.collapse(lit.any(1), height)
        columns, map_columns = across.collapse(lit.any(0), width)
        weight = torch.outer(*(i.bincount().double() / len(i) for i in (map_rows, map_columns))).flatten()
        return Collapsed(rows, columns, map_rows, map_columns, weight)

    def outputs(self, x: Tensor, collapsed: Collapsed) -> Tensor:
        """Outputs ``[B, O]`` of images of which only the kept pixels ``x [B, T, r, c]`` are given."""
        with torch.no_grad(), evaluating(self.network):
            maps = self.maps(x)
            if not self.mean:
                return self._outputs(maps[:, :, collapsed.map_rows[:, None], collapsed.map_columns])
            flat = maps.permute(0, 2, 3, 1).flatten(1, 2)  # a view: channels come last in memory
            pooled = collapsed.weight.to(maps) @ flat
            return self._outputs(pooled[:, :, None, None])


class _Cut(NamedTuple):
    """Stretch of an axis around a window, for each window."""

    field: Field
    window: tuple[IntArray, IntArray]
    changed: tuple[IntArray, IntArray]
    start: IntArray
    length: int

    @classmethod
    def of(cls, field: Field, start: IntArray, stop: IntArray, size: int, maps: int) -> _Cut:
        changed = field.met(start, stop, maps)
        return cls(field, (start, stop), changed, *field.crops(*changed, size))

    def take(self, n: IntArray) -> _Cut:
        (a, b), (c, d) = self.window, self.changed
        return _Cut(self.field, (a[n], b[n]), (c[n], d[n]), self.start[n], self.length)

    def inside(self) -> Tensor:
        """Mask of the pixels of the stretch inside the window, ``[n, length]``."""
        return _between(*self.window, self.start, self.length)

    def changes(self, maps: int) -> Tensor:
        """Mask of the stretch's map pixels that depend on the window, ``[n, maps]``."""
        return _between(*self.changed, self.start // self.field.stride, maps)


def _between(low: IntArray, high: IntArray, start: IntArray, length: int) -> Tensor:
    place = start[:, None] + np.arange(length)
    return torch.as_tensor((place >= low[:, None]) & (place < high[:, None]))


def _cut(x: Tensor, at: Tensor, row: IntArray, column: IntArray, height: int, width: int) -> Tensor:
    """Rectangles ``[n, K, height, width]`` of maps, with these corners."""
    views = x.unfold(2, height, 1).unfold(3, width, 1)
    return views[at, :, torch.as_tensor(row), torch.as_tensor(column)]


def _of(values: IntArray | None, rows: IntArray) -> IntArray | None:
    return None if values is None else values[rows]


def local_part(network: nn.Module) -> LocalPart | None:
    """Local layers of an ``nn.Sequential``, which may contain others; None where there are none.

    Convolutions with zero padding, poolings, batch norm and pointwise functions are local, in evaluation
    mode. Subclasses, other modules and everything behind them are the rest.
    """
    modules = tuple(_flat(network))
    first = next((i for i, m in enumerate(modules) if not _is_local(m)), len(modules))
    layers, others = modules[:first], modules[first:]
    if not any(isinstance(m, nn.Conv2d) for m in layers) or not others:
        return None
    pooling = others[0]
    mean = type(pooling) is nn.AdaptiveAvgPool2d and pooling.output_size in (1, (1, 1))
    return LocalPart(network, layers, nn.Sequential(*others[mean:]), mean)


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    """Modules of nested sequences in the order of their calls."""
    if type(module) is not nn.Sequential or module._forward_hooks or module._forward_pre_hooks:
        yield module
        return
    for child in module:
        yield from _flat(child)
