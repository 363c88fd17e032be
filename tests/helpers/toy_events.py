"""Toy events: random, but shaped like the charged-Higgs sample."""

from __future__ import annotations

import numpy as np

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema

SCHEMA = Schema(
    features=("pt", "eta", "phi", "charge", "btag"),
    units=("GeV", "", "rad", "", ""),
    types=("electron", "muon", "jet", "met"),
    classes=("background", "signal"),
    globals=("ht", "njet"),
    global_units=("GeV", ""),
    collections=("Electron", "Muon", "Jet", "MET"),
)


def make_events(n: int = 40, seed: int = 0, *, smallest: int = 0, largest: int = 9) -> Events:
    """``n`` random events of ``smallest`` to ``largest`` particles in two files, weights of both signs."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(smallest, largest + 1, n)
    offsets = offsets_from_counts(counts)
    size = int(offsets[-1])
    p4 = np.stack(
        [
            rng.exponential(40, size) + 10,
            rng.normal(0, 1.2, size),
            rng.uniform(-np.pi, np.pi, size),
            np.full(size, 0.1),
        ],
        axis=1,
    ).astype(np.float32)
    kind = rng.integers(0, 4, size)
    particles = np.column_stack([p4[:, :3], rng.choice([-1, 0, 1], size), rng.random(size)]).astype(
        np.float32
    )
    label = rng.integers(0, 2, n)
    entry = np.concatenate([np.arange(n - n // 2) * 2, np.arange(n // 2) * 2 + 1])
    return Events(
        schema=SCHEMA,
        offsets=offsets,
        particles=particles,
        p4=p4,
        type=kind,
        index=np.arange(size) - np.repeat(offsets[:-1], counts),
        label=label,
        weight=rng.choice([1.0, -0.5], n, p=[0.9, 0.1]),
        globals=rng.normal(size=(n, 2)).astype(np.float32),
        run=np.ones(n, dtype=np.int64),
        luminosity_block=np.ones(n, dtype=np.int64),
        event=np.arange(n),
        file=np.repeat([0, 1], [n - n // 2, n // 2]),
        entry=entry,
        split=rng.integers(0, 3, n),
        files=("a.root:Events", "b.root:Events"),
        file_entries=(2 * n, 2 * n),
        observers={"mass_mumu": rng.normal(90, 5, n)},
        truth={"fromA": rng.random(size) < 0.3},
    )
