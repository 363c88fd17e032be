"""Maps over detector images against captum: with its defaults, with its best batch, fed piece by piece.

Each line runs in a process of its own, whose peak memory (all of Python and torch included) is reported.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import show, toy_events
from hepxai.attribution import Attribution
from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.explainers import explain
from hepxai.models.wrappers.image import ImageModel

EVENTS, HITS, STEPS = 256, 28, 50
LAYERS, STRIPS = 9, 384
WIDTHS = (8, 16, 32)
NOISE = 0.1
FEW = 64
"""Images that captum's defaults are tried on: all of them would take more than 11 GB. Times are scaled."""


def image_events() -> Events:
    """Images with lit pixels at random places."""
    rng, blank = np.random.default_rng(0), toy_events(EVENTS)
    size = EVENTS * HITS
    layout = ImageLayout(ImageAxis("layer", LAYERS), ImageAxis("strip", STRIPS), ("hit",))
    schema = dataclasses.replace(
        blank.schema, features=("layer", "strip"), units=("", ""), types=("hit",), image=layout
    )
    hits = np.column_stack([rng.integers(LAYERS, size=size), rng.integers(STRIPS, size=size)])
    return blank.replace(
        schema=schema,
        offsets=offsets_from_counts(np.full(EVENTS, HITS)),
        particles=hits.astype(np.float32),
        p4=np.zeros((size, 4), dtype=np.float32),
        type=np.zeros(size, dtype=np.int64),
        index=np.arange(size) % HITS,
    )


def convolutional() -> nn.Sequential:
    """Three convolutions 3x3 with ReLU, pooling, a linear layer; random weights."""
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    for a, b in zip((1, *WIDTHS[:-1]), WIDTHS, strict=True):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 2)).eval()


def ours(method: str, **settings: object) -> Attribution:
    """The package's map."""
    events = image_events()
    model = ImageModel(convolutional(), ("pt", "eta"), events.schema)
    return explain(model, events, method, target="pt", **settings)


def by_captum_ig(at_a_time: int, batch: int | None, images: int = EVENTS) -> Tensor:
    """Captum's Integrated Gradients; ``batch`` is its ``internal_batch_size``."""
    from captum.attr import IntegratedGradients  # not in the process whose memory is ours

    method = IntegratedGradients(convolutional())
    settings = {"target": 0, "n_steps": STEPS, "internal_batch_size": batch}
    parts = torch.as_tensor(image_events()[:images].image()).split(at_a_time)
    return torch.cat([method.attribute(x, **settings) for x in parts]).detach()[:, 0]


def by_captum_smoothgrad(at_a_time: int, batch: int | None, images: int = EVENTS) -> Tensor:
    """Captum's SmoothGrad; ``batch`` is its ``nt_samples_batch_size``."""
    from captum.attr import NoiseTunnel, Saliency

    torch.manual_seed(2)
    method = NoiseTunnel(Saliency(convolutional()))
    settings = {"nt_samples": STEPS, "nt_samples_batch_size": batch, "nt_type": "smoothgrad"}
    settings |= {"stdevs": NOISE, "target": 0, "abs": False}
    parts = torch.as_tensor(image_events()[:images].image()).split(at_a_time)
    return torch.cat([method.attribute(x, **settings) for x in parts]).detach()[:, 0]


IG = {"steps": STEPS, "baseline": 0}
SG = {"samples": STEPS, "level": NOISE}
JOBS: dict[str, dict[str, Callable[[], object]]] = {
    "Integrated Gradients": {
        "hepxai image_ig": lambda: ours("image_ig", **IG),
        "captum, internal_batch_size=256": lambda: by_captum_ig(EVENTS, 256),
        "captum, internal_batch_size=1024": lambda: by_captum_ig(EVENTS, 1024),
        "captum, default (of 64 images)": lambda: by_captum_ig(EVENTS, None, FEW),
        "captum, 8 images a call, batch 8": lambda: by_captum_ig(8, 8),
    },
    "SmoothGrad": {
        "hepxai smoothgrad": lambda: ours("smoothgrad", **SG),
        "captum, nt_samples_batch_size=1": lambda: by_captum_smoothgrad(EVENTS, 1),
        "captum, nt_samples_batch_size=4": lambda: by_captum_smoothgrad(EVENTS, 4),
        "captum, default (of 64 images)": lambda: by_captum_smoothgrad(EVENTS, None, FEW),
        "captum, 8 images a call, batch 1": lambda: by_captum_smoothgrad(8, 1),
    },
}


def main() -> None:
    """Print CPU seconds, peak memory, ratios and differences."""
    for title, jobs in JOBS.items():
        results = {name: measured(title, name) for name in jobs}
        (mine, best), *_ = results.items()
        rows = [
            (
                name,
                f"{one['seconds']:.1f}",
                f"{one['seconds'] / best['seconds']:.1f}",
                f"{one['megabytes']:,.0f}",
                "" if name == mine else f"{_difference(best, one):.1e}",
            )
            for name, one in results.items()
        ]
        header = ("", "CPU s", "times ours", "peak MB", "rms difference / rms")
        show(f"{title}, {EVENTS} images {LAYERS} x {STRIPS}, {STEPS} a map, one thread", header, rows)


def _difference(one: dict[str, object], two: dict[str, object]) -> float:
    a, b = np.array(one["values"]), np.array(two["values"])
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(a**2)))


def measured(title: str, name: str) -> dict[str, object]:
    """Output of `work` in a fresh process."""
    code = f"from benchmarks.images import work; work({title!r}, {name!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ.copy(), capture_output=True, text=True, check=True
    )
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def work(title: str, name: str) -> None:
    """Run one job and print CPU seconds for all images, peak memory [MB] and some of its values as JSON."""
    start = time.process_time()
    result = JOBS[title][name]()
    values = result.values if isinstance(result, Attribution) else np.asarray(result)
    seconds = (time.process_time() - start) * EVENTS / len(values)
    lit = np.flatnonzero(image_events()[:FEW].image().ravel())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # kB on Linux
    print(json.dumps({"seconds": seconds, "megabytes": peak, "values": values.ravel()[lit].tolist()}))
