"""Small muon images and models of them, for the tests of the methods over images."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.models.wrappers.image import ImageModel

LAYERS, STRIPS = 5, 16
SCHEMA = Schema(
    features=("layer", "strip"),
    units=("", ""),
    types=("hit",),
    classes=("noise", "muon"),
    collections=("Hit",),
    targets=("pt", "eta"),
    target_units=("GeV", ""),
    image=ImageLayout(ImageAxis("layer", LAYERS), ImageAxis("strip", STRIPS), ("hit",)),
)


def image_events(n: int = 12, seed: int = 0, noise: float = 3.0) -> Events:
    """Events with one true hit in each layer, but for every fourth that is noise only, and noise hits."""
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 4 > 0).astype(np.int64)
    parts = [_event(rng, bool(muon), noise) for muon in label]
    offsets = offsets_from_counts(np.array([len(p) for p in parts], dtype=np.int64))
    hits = np.concatenate([*parts, np.zeros((0, 3))])
    size, blank = int(offsets[-1]), np.zeros(n, dtype=np.int64)
    return Events(
        schema=SCHEMA,
        offsets=offsets,
        particles=hits[:, :2].astype(np.float32),
        p4=np.zeros((size, 4), dtype=np.float32),
        type=np.zeros(size, dtype=np.int64),
        index=np.arange(size) - np.repeat(offsets[:-1], np.diff(offsets)),
        label=label,
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
        targets=np.where(label[:, None] == 1, rng.uniform(0, 1, (n, 2)) * (20, 1), np.nan).astype(np.float32),
        observers={"muon_pt": np.where(label == 1, rng.uniform(1, 20, n), np.nan)},
        truth={"fromMuon": hits[:, 2] > 0},
    )


def _event(rng: np.random.Generator, muon: bool, noise: float) -> np.ndarray:
    """Layer, strip and truth of the hits of an event, each pixel once."""
    track = np.column_stack([np.arange(LAYERS), np.full(LAYERS, rng.integers(STRIPS)), np.ones(LAYERS)])
    many = rng.poisson(noise)
    others = np.column_stack(
        [rng.integers(LAYERS, size=many), rng.integers(STRIPS, size=many), np.zeros(many)]
    )
    hits = np.concatenate([track if muon else track[:0], others])
    return hits[np.unique(hits[:, :2], axis=0, return_index=True)[1]]


def with_hits(events: Events, lit: list[list[tuple[int, int]]]) -> Events:
    """The first events with these (layer, strip) instead of their hits; none true."""
    events = events[: len(lit)]
    offsets = offsets_from_counts(np.array([len(p) for p in lit]))
    size = int(offsets[-1])
    flat = np.array([pixel for event in lit for pixel in event], dtype=np.float32).reshape(-1, 2)
    return events.replace(
        offsets=offsets,
        particles=flat,
        p4=np.zeros((size, 4), dtype=np.float32),
        type=np.zeros(size, dtype=np.int64),
        index=np.arange(size) - np.repeat(offsets[:-1], np.diff(offsets)),
        truth={"fromMuon": np.zeros(size, dtype=bool)},
    )


def cnn(*dense: int, outputs: int = 2, seed: int = 0) -> nn.Sequential:
    """Two convolutions, the pooling and a linear layer, or a dense head; module 3 gives the pooled maps."""
    torch.manual_seed(seed)
    sizes = (6, *dense, outputs)
    head: list[nn.Module] = []
    for a, b in pairwise(sizes):
        head += [nn.Linear(a, b), nn.ReLU()]
    first = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head[:-1])


def image_model(*dense: int, **settings: Any) -> ImageModel:
    """Regression of two targets."""
    return ImageModel(cnn(*dense, **settings), ("pt", "eta"), SCHEMA, maps="3", loss="mae")


def other_shape(events: Events) -> Events:
    """The same hits on a larger detector."""
    layout = ImageLayout(ImageAxis("layer", LAYERS), ImageAxis("strip", STRIPS + 1), ("hit",))
    return events.replace(schema=dataclasses.replace(events.schema, image=layout))
