"""RISE and occlusion on detector images against a loop in torch and captum.

Sparse images have 28 lit pixels at random places, of which the package takes advantage; in dense ones every
pixel has a value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import cpu_seconds, show
from benchmarks.images import LAYERS, STRIPS, convolutional, image_events
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS
from hepxai.models.wrappers.image import ImageModel

IMAGES, MASKS, GRID = 16, 4000, 7
FEW = 200
"""Masks that are timed of the loops, whose time is proportional to them; of the package, all are."""
WINDOW, STRIDE, WINDOWS = (3, 8), (1, 4), 665


def populations() -> dict[str, Events]:
    """Sparse and dense images."""
    values = np.random.default_rng(1).uniform(0.1, 1, (IMAGES, 1, LAYERS, STRIPS)).astype(np.float32)
    dense = Events.from_images(values, label=np.zeros(IMAGES, np.int64), classes=("a", "b"))
    return {"sparse": image_events()[:IMAGES], "dense": dense}


def ours(method: str, events: Events, **settings: object) -> np.ndarray:
    """The package's map, without the checks that come after it."""
    model = ImageModel(convolutional(), ("pt", "eta"), events.schema)
    prepared = EXPLAINERS[method](**settings).prepare(model, events, "pt")
    return np.asarray(prepared.attribute(events).values)


def loop(events: Events, at_a_time: int) -> Tensor:
    """RISE in plain torch: one mask at a time, for one image or for all of them."""
    net, x = convolutional(), torch.as_tensor(events.image())
    torch.manual_seed(0)
    height, width = -(-LAYERS // GRID), -(-STRIPS // GRID)
    maps = torch.zeros(IMAGES, LAYERS, STRIPS)
    with torch.no_grad():
        for rows in torch.arange(IMAGES).split(at_a_time):
            for _ in range(FEW):
                cells = (torch.rand(1, 1, GRID, GRID) < 0.5).float()
                size = ((GRID + 1) * height, (GRID + 1) * width)
                large = F.interpolate(cells, size=size, mode="bilinear", align_corners=False)
                down, right = (int(torch.randint(n, ())) for n in (height, width))
                mask = large[:, :, down : down + LAYERS, right : right + STRIPS]
                maps[rows] += net(x[rows] * mask)[:, :1, None] * mask[0] / (0.5 * FEW)
    return maps


def captum_occlusion(events: Events, at_a_time: int) -> np.ndarray:
    """Captum's occlusion with several windows a call."""
    from captum.attr import Occlusion

    settings = {"target": 0, "perturbations_per_eval": at_a_time}
    method, x = Occlusion(convolutional()), torch.as_tensor(events.image())
    return method.attribute(x, (1, *WINDOW), (1, *STRIDE), **settings).detach()[:, 0].numpy()


def _rows(jobs: dict[str, Callable[[], object]], factors: dict[str, float]) -> list[tuple[str, str, str]]:
    seconds = {name: cpu_seconds(job, 2) * factors.get(name, 1.0) for name, job in jobs.items()}
    best = next(iter(seconds.values()))
    return [(name, f"{s:.2f}", f"{s / best:.1f}") for name, s in seconds.items()]


def main() -> None:
    """Print CPU seconds and ratios."""
    header = ("", "CPU s", "times ours")
    for name, events in populations().items():
        jobs: dict[str, Callable[[], object]] = {
            "hepxai rise": lambda e=events: ours("rise", e, samples=MASKS, grid=GRID, tolerance=0.0),
            "loop, one image and one mask a call": lambda e=events: loop(e, 1),
            "loop, 16 images and one mask a call": lambda e=events: loop(e, IMAGES),
        }
        title = f"RISE, {IMAGES} {name} images {LAYERS} x {STRIPS} x {MASKS} masks, one thread"
        show(title, header, _rows(jobs, dict.fromkeys([*jobs][1:], MASKS / FEW)))
        jobs = {
            "hepxai occlusion": lambda e=events: ours("occlusion", e, window=WINDOW, stride=STRIDE),
            "captum, default": lambda e=events: captum_occlusion(e, 1),
            "captum, perturbations_per_eval=4": lambda e=events: captum_occlusion(e, 4),
        }
        title = f"Occlusion, {IMAGES} {name} images {LAYERS} x {STRIPS} x {WINDOWS} windows, one thread"
        show(title, header, _rows(jobs, {}))
        difference = ours("occlusion", events, window=WINDOW, stride=STRIDE) - captum_occlusion(events, 1)
        print(f"largest difference of the occlusion maps: {np.abs(difference).max():.1e}")
