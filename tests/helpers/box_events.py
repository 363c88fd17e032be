"""Small images with boxes around narrow and wide objects, and a small detector of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.models.card import ModelCard

ROWS, COLUMNS = 4, 32
BOXES = {"particle": "muon", "edges": ["left", "bottom", "right", "top"], "label": "kind"}
ENTRIES: dict[str, Any] = {
    "kind": "detector",
    "boxes": {**BOXES, "classes": ["narrow", "wide"]},
    "channels": [4, 6],
    "pyramid": 6,
    "anchors": [[[4, 4]], [[8, 4]]],
    "pooled": [2, 4],
    "dense": 8,
    "proposals": 8,
    "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.01},
}
SCHEMA = Schema(
    features=("layer", "strip", "left", "bottom", "right", "top", "kind"),
    units=("",) * 7,
    types=("hit", "muon"),
    classes=("events",),
    image=ImageLayout(ImageAxis("layer", ROWS), ImageAxis("strip", COLUMNS), ("hit",)),
)


def detector_card(**changes: Any) -> ModelCard:
    training = ENTRIES["training"] | changes.pop("training", {})
    return ModelCard.model_validate(ENTRIES | changes | {"training": training})


def box_events(n: int = 24, seed: int = 0, most: int = 2) -> Events:
    """None to ``most`` objects an event: all rows of 2 columns (narrow), or of 7 (wide)."""
    rng = np.random.default_rng(seed)
    return from_objects(
        [
            [(int(rng.integers(8)) + 16 * k, int(rng.integers(2))) for k in range(rng.integers(most + 1))]
            for _ in range(n)
        ]
    )


def from_objects(objects: list[list[tuple[int, int]]]) -> Events:
    """Events from the first column and the class of each object."""
    particles, kinds, counts = [], [], []
    for event in objects:
        before = len(particles)
        for left, kind in event:
            width = (2, 7)[kind]
            hits = [(r, left + c) for r in range(ROWS) for c in range(width)]
            particles += [(r, c, 0, 0, 0, 0, 0) for r, c in hits]
            particles.append((0, 0, left, 0, left + width, ROWS, kind))
            kinds += [0] * len(hits) + [1]
        counts.append(len(particles) - before)
    offsets, n = offsets_from_counts(np.array(counts, dtype=np.int64)), len(objects)
    size, blank = len(particles), np.zeros(n, dtype=np.int64)
    return Events(
        schema=SCHEMA,
        offsets=offsets,
        particles=np.array(particles, dtype=np.float32).reshape(size, 7),
        p4=np.zeros((size, 4), dtype=np.float32),
        type=np.array(kinds, dtype=np.int64),
        index=np.arange(size) - np.repeat(offsets[:-1], counts),
        label=blank,
        weight=np.ones(n),
        globals=np.zeros((n, 0), dtype=np.float32),
        run=blank,
        luminosity_block=blank,
        event=np.arange(n),
        file=blank,
        entry=np.arange(n),
        split=np.arange(n) % 3,
        files=("toy.root:Events",),
        file_entries=(n,),
        truth={"fromMuon": np.array(kinds) == 0},
    )
