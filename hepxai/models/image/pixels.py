"""Detector images in torch: lit pixels of a batch of events, made dense on use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hepxai.events import Events
from hepxai.events.images import ImageLayout

CHUNK_COUNT = 16
"""Size of an image for `hepxai.core.chunks.chunk_rows`: 64 of them are a chunk."""


@dataclass(frozen=True)
class Pixels:
    """Pixels of events with particles, 4 bytes each: a million muon patterns are 0.1 GB, dense 14.

    Attributes
    ----------
    pixel : Tensor of int32, shape [N]
        Place in the flat image ``[T * R * C]`` of its event.
    ptr : Tensor of int64, shape [E+1]
        Event ``e`` owns the pixels ``ptr[e]:ptr[e+1]``.
    shape : tuple of int
        Channels, rows and columns.
    value : Tensor of float32, shape [N], optional
        Summand of each particle in its pixel; without, pixels are 0 or 1.
    """

    pixel: Tensor
    ptr: Tensor
    shape: tuple[int, int, int]
    value: Tensor | None = None

    @staticmethod
    def of(events: Events, layout: ImageLayout | None = None) -> Pixels:
        """Pixels that the particles of events light; those outside light none."""
        layout = events.image_layout(layout)
        place = events.pixels(layout)
        inside = place >= 0
        before = np.concatenate([[0], np.cumsum(inside)])
        ptr = torch.as_tensor(before[events.offsets])
        pixel = torch.as_tensor(place[inside].astype(np.int32))
        quantity = layout.quantity
        value = None if quantity is None else torch.as_tensor(events.values_of(quantity)[inside])
        return Pixels(pixel, ptr, layout.shape, value)

    def take(self, rows: Tensor) -> Tensor:
        """Images ``[B, T, R, C]`` of some of the events, float32."""
        counts = self.ptr[rows + 1] - self.ptr[rows]
        ends = counts.cumsum(0)
        total = int(ends[-1]) if len(rows) else 0
        flat = torch.arange(total, device=self.ptr.device)
        flat += torch.repeat_interleave(self.ptr[rows] - ends + counts, counts, output_size=total)
        size = int(np.prod(self.shape))
        start = torch.arange(len(rows), device=self.ptr.device) * size
        images = torch.zeros(len(rows) * size, device=self.ptr.device)
        place = torch.repeat_interleave(start, counts, output_size=total) + self.pixel[flat]
        if self.value is None:
            images[place] = 1
        else:
            images.index_add_(0, place, self.value[flat])
        return images.view(len(rows), *self.shape)

    def to(self, device: str | torch.device) -> Pixels:
        """Move to a device."""
        value = None if self.value is None else self.value.to(device)
        return Pixels(self.pixel.to(device), self.ptr.to(device), self.shape, value)

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def counts(self) -> Tensor:
        """Size of each event in a chunk, ``[E]``: the same for all."""
        return torch.full((len(self),), CHUNK_COUNT)
