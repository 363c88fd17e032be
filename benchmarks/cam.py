"""Ablation-CAM against one pass of the whole network a channel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import cpu_seconds, show
from benchmarks.images import LAYERS, STRIPS, image_events
from hepxai.explainers import explain
from hepxai.models.wrappers.image import ImageModel

EVENTS = 2


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


def naive(module: nn.Module, layer: str, x: Tensor, channels: int) -> Tensor:
    """Weights ``[B, K]``: a whole pass for each channel and image, with a hook."""
    weights = torch.empty(len(x), channels)
    with torch.no_grad():
        for e, image in enumerate(x):
            full = module(image[None])[0, 0]
            for k in range(channels):
                mask = torch.ones(channels, 1, 1).index_fill(0, torch.tensor(k), 0)
                hook = module.get_submodule(layer).register_forward_hook(lambda *a, m=mask: a[-1] * m)
                weights[e, k] = full - module(image[None])[0, 0]
                hook.remove()
    return weights


def by_hand(module: nn.Module, layer: str, x: Tensor) -> np.ndarray:
    """Map in the layer's resolution."""
    maps: list[Tensor] = []
    hook = module.get_submodule(layer).register_forward_hook(lambda *a: maps.append(a[-1].detach().clone()))
    module(x)
    hook.remove()
    weights = naive(module, layer, x, maps[0].shape[1])
    return np.asarray(torch.einsum("bk,bkrc->brc", weights, maps[0]))


def main() -> None:
    """Print CPU seconds, ratios and differences."""
    events, rows = image_events()[:EVENTS], []
    for name, (build, layer) in NETWORKS.items():
        module = build()
        x = torch.as_tensor(events.image())
        model = ImageModel(module, ("pt", "eta"), events.schema)
        run = lambda m=model, n=layer: explain(  # noqa: E731
            m, events, "ablation_cam", target="pt", layer=n, upsample=False
        )
        ours, theirs = cpu_seconds(run), cpu_seconds(lambda m=module, n=layer: by_hand(m, n, x), 1)
        expected, values = by_hand(module, layer, x), run().values
        off = float(np.sqrt(np.mean((values - expected) ** 2) / np.mean(expected**2)))
        rows.append((name, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}", f"{off:.1e}"))
    header = ("", "hepxai, CPU s", "a pass a channel, CPU s", "ratio", "rms difference / rms")
    show(f"Ablation-CAM, {EVENTS} images {LAYERS} x {STRIPS}, one thread", header, rows)
