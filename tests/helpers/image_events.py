"""Small muon-like images for tests of the models that read them."""

from __future__ import annotations

import numpy as np

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema
from hepxai.events.images import ImageAxis, ImageLayout


def image_schema(rows: int = 6, columns: int = 40) -> Schema:
    layout = ImageLayout(ImageAxis("layer", rows), ImageAxis("strip", columns), ("hit",))
    return Schema(
        features=("layer", "strip"),
        units=("", ""),
        types=("hit",),
        classes=("events",),
        targets=("pt", "eta"),
        target_units=("GeV", ""),
        image=layout,
    )


def make_images(
    n: int = 60, seed: int = 0, *, rows: int = 6, columns: int = 40, noise: float = 1.0
) -> Events:
    """A straight track of one hit a row and some noise; the steeper, the lower is pt. Some have no hit."""
    rng = np.random.default_rng(seed)
    slope, start = rng.uniform(-2, 2, n), rng.uniform(0.3, 0.7, n) * columns
    layer = np.tile(np.arange(rows), (n, 1))
    strip = np.clip(start[:, None] + slope[:, None] * (layer - rows / 2), 0, columns - 1)
    extra = rng.poisson(noise, n)
    counts = np.where(np.arange(n) % 10 == 9, 0, rows + extra)
    lists = [
        np.concatenate([np.c_[a, b], np.c_[rng.integers(0, rows, k), rng.integers(0, columns, k)]])[
            : counts[e]
        ]
        for e, (a, b, k) in enumerate(zip(layer, strip, extra, strict=True))
    ]
    particles = np.floor(np.concatenate(lists)).astype(np.float32)
    size = len(particles)
    offsets = offsets_from_counts(counts)
    place = np.arange(size) - np.repeat(offsets[:-1], counts)
    targets = np.c_[10 / (0.5 + np.abs(slope)), start / columns].astype(np.float32)
    targets[np.arange(n) % 20 == 19] = np.nan
    return Events(
        schema=image_schema(rows, columns),
        offsets=offsets,
        particles=particles,
        p4=np.zeros((size, 4), dtype=np.float32),
        type=np.zeros(size, dtype=np.int64),
        index=place,
        label=np.zeros(n, dtype=np.int64),
        weight=np.ones(n),
        globals=np.zeros((n, 0), dtype=np.float32),
        run=np.ones(n, dtype=np.int64),
        luminosity_block=np.ones(n, dtype=np.int64),
        event=np.arange(n),
        file=np.zeros(n, dtype=np.int64),
        entry=np.arange(n),
        split=np.arange(n) % 3,
        files=("hits.root:Events",),
        file_entries=(n,),
        truth={"fromMuon": place < rows},
        targets=targets,
    )
