"""Ablation-CAM against one pass of the whole network a channel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import cpu_seconds, show
from benchmarks.images import LAYERS, STRIPS, image_events
from hepxai.attribution import Attribution
from hepxai.explainers import EXPLAINERS
from hepxai.models.wrappers.image import ImageModel

EVENTS, FEW = 16, 2
"""Images; and those that are enough to time the slow way, whose times are scaled."""


class Block(nn.Module):
    """Residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same size."""
        return torch.relu(x + self.two(torch.relu(self.one(x))))


def plain(*widths: int) -> nn.Sequential:
    """Convolutions 3x3 with ReLU, a maximum over 2x2 pixels before each but the first, pooling, linear."""
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    for a, b in zip((1, *widths[:-1]), widths, strict=True):
        layers += [nn.MaxPool2d(2)] if layers else []
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 2)).eval()


def residual(width: int, blocks: int) -> nn.Sequential:
    """A convolution, a maximum over 2x2 pixels, residual blocks, pooling, linear."""
    torch.manual_seed(1)
    stem = (nn.Conv2d(1, width, 3, padding=1), nn.MaxPool2d(2))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))
    return nn.Sequential(*stem, *(Block(width) for _ in range(blocks)), *head).eval()


NETWORKS = {
    "4 convolutions, 128 channels": (lambda: plain(16, 32, 64, 128), "9"),
    "the same, third layer": (lambda: plain(16, 32, 64, 128), "6"),
    "4 residual blocks, 64 channels": (lambda: residual(64, 4), "5.two"),
}


def by_hand(module: nn.Module, layer: str, x: Tensor) -> Tensor:
    """Map in the layer's resolution: a whole pass for each channel and image, with a hook."""
    ablated = module.get_submodule(layer)
    maps: list[Tensor] = []
    with torch.no_grad():
        for image in x.split(1):
            hook = ablated.register_forward_hook(lambda *a: maps.append(a[-1].clone()))
            full = _score(module, image)
            hook.remove()
            weights = torch.empty(maps[-1].shape[1])
            for k in range(len(weights)):
                mask = torch.ones(len(weights), 1, 1).index_fill(0, torch.tensor(k), 0)
                hook = ablated.register_forward_hook(lambda *a, m=mask: a[-1] * m)
                weights[k] = full - _score(module, image)
                hook.remove()
            maps[-1] = torch.einsum("k,bkrc->brc", weights, maps[-1])
    return torch.cat(maps)


def _score(module: nn.Module, x: Tensor) -> Tensor:
    outputs: Tensor = module(x)[0]
    return outputs[0] - outputs[1]


def main() -> None:
    """Print CPU seconds, ratios and differences."""
    events, rows = image_events()[:EVENTS], []
    x = torch.as_tensor(events[:FEW].image()).contiguous(memory_format=torch.channels_last)
    for name, (build, layer) in NETWORKS.items():
        module = build()
        model = ImageModel(module, ("pt", "eta"), events.schema)

        def ours(model: ImageModel = model, layer: str = layer) -> Attribution:
            method = EXPLAINERS["ablation_cam"](layer=layer, upsample=False)
            return method.prepare(model, events, "pt-eta").attribute(events)  # without the checks after it

        def slow(module: nn.Module = module, layer: str = layer) -> Tensor:
            return by_hand(module, layer, x)

        seconds = cpu_seconds(ours)
        slow_seconds = cpu_seconds(slow, 2) * EVENTS / FEW
        off = np.asarray(slow()) - (values := ours().values[:FEW])
        difference = f"{np.sqrt(np.mean(off**2) / np.mean(values**2)):.1e}"
        ratio = f"{slow_seconds / seconds:.1f}"
        rows.append((name, f"{seconds:.2f}", f"{slow_seconds:.2f}", ratio, difference))
    header = ("", "hepxai, CPU s", "a pass a channel, CPU s", "ratio", "rms difference / rms")
    show(f"Ablation-CAM, {EVENTS} images {LAYERS} x {STRIPS}, one thread", header, rows)
