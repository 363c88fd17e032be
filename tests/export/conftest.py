"""A small NanoAOD-like data set on disk, and events read from it by a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepxai.attribution import Attribution, Pairs
from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema

SCHEMA = Schema(
    features=("pt", "charge"),
    units=("GeV", ""),
    types=("electron", "muon", "jet", "met"),
    classes=("background", "signal"),
    globals=("ht",),
    global_units=("GeV",),
    collections=("Electron", "Muon", "Jet", "MET"),
    identity=("run", "luminosityBlock", "event"),
)
BRANCHES = ("pt", "eta", "phi", "mass", "charge")


@dataclass
class Nano:
    """Inputs on disk, their content ``[file][entry][collection] -> [n, 5]``, and the selected events."""

    content: list[list[dict[str, np.ndarray]]]
    events: Events


def _collisions(n: int, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    def particles(k: int) -> np.ndarray:
        columns = [rng.exponential(30, k) + 5, rng.normal(0, 1.5, k), rng.uniform(-3, 3, k)]
        return np.stack([*columns, np.full(k, 0.1057), rng.choice([-1.0, 1.0], k)], axis=1).astype("f4")

    mean = {"Electron": 0.7, "Muon": 2.5, "Jet": 3.0}
    return [{name: particles(rng.poisson(m)) for name, m in mean.items()} for _ in range(n)]


def _write(path: Path, tree: str, entries: list[dict[str, np.ndarray]], first: int) -> None:
    arrays = {"event": first + np.arange(len(entries)), "MET_pt": np.full(len(entries), 12.5, dtype="f4")}
    for name in ("Electron", "Muon", "Jet"):
        flat = np.concatenate([np.zeros((0, 5), dtype="f4"), *(e[name] for e in entries)])
        records = ak.zip(dict(zip(BRANCHES, flat.T, strict=True)), depth_limit=1)
        arrays[name] = ak.unflatten(records, np.array([len(e[name]) for e in entries], dtype=np.int64))
    types = {n: a.type.content if isinstance(a, ak.Array) else a.dtype for n, a in arrays.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        written = file.mktree(tree, types)
        if entries:
            written.extend(arrays)


def _select(entry: dict[str, np.ndarray]) -> list[tuple[int, int, np.ndarray]]:
    """(type, index, branches) of what a card with cuts and an ordering of its own would keep."""
    kept = []
    for kind, name in enumerate(("Electron", "Muon", "Jet")):
        good = [i for i in np.argsort(-entry[name][:, 0]) if entry[name][i, 0] > 8]
        kept += [(kind, int(i), entry[name][i]) for i in good]
    return [*kept, (3, -1, np.array([12.5, 0, 0, 0, 0], dtype="f4"))]


def read(content: list[list[dict[str, np.ndarray]]], files: tuple[str, ...]) -> Events:
    """Every second or so entry with a muon, in a shuffled order."""
    rng = np.random.default_rng(7)
    at = [(f, e) for f, entries in enumerate(content) for e in range(len(entries)) if len(entries[e]["Muon"])]
    rows = [at[i] for i in rng.permutation(len(at))[: 2 * len(at) // 3]]
    chosen = [_select(content[f][e]) for f, e in rows]
    flat = [p for event in chosen for p in event]
    values = np.array([p[2] for p in flat], dtype="f4").reshape(-1, 5)
    n = len(rows)
    return Events(
        schema=SCHEMA,
        offsets=offsets_from_counts(np.array([len(c) for c in chosen], dtype=np.int64)),
        particles=values[:, [0, 4]],
        p4=values[:, :4],
        type=np.array([p[0] for p in flat], dtype=np.int64),
        index=np.array([p[1] for p in flat], dtype=np.int64),
        label=rng.integers(0, 2, n),
        weight=rng.choice([1.5, -0.5], n),
        globals=rng.normal(size=(n, 1)).astype("f4"),
        run=np.ones(n, dtype=np.int64),
        luminosity_block=np.ones(n, dtype=np.int64),
        event=np.array([1000 * f + e for f, e in rows], dtype=np.int64),
        file=np.array([f for f, _ in rows], dtype=np.int64),
        entry=np.array([e for _, e in rows], dtype=np.int64),
        split=rng.integers(0, 3, n),
        files=files,
        file_entries=tuple(len(c) for c in content),
    )


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Nano:
    """Three inputs: two of the same name in different folders, one without entries between them."""
    folder, rng = tmp_path_factory.mktemp("nano"), np.random.default_rng(5)
    content = [_collisions(n, rng) for n in (70, 0, 40)]
    places = [("z/nano.root", "Events"), ("m/empty.root", "Events"), ("a/nano.root", "deep/tree")]
    for file, ((name, tree), entries) in enumerate(zip(places, content, strict=True)):
        _write(folder / name, tree, entries, 1000 * file)
    return Nano(content, read(content, tuple(f"{folder / name}:{tree}" for name, tree in places)))


def attention(events: Events, method: str = "attention") -> Attribution:
    """Two layers, two heads."""
    pairs = Pairs.complete(events)
    values = np.random.default_rng(1).random((len(pairs.src), 2, 2)).astype("f4")
    labels = {"layer": ("conv.1", "conv.2")}
    axes = ("pair", "layer", "head")
    return Attribution(values, axes, events, method, "signal", labels=labels, pairs=pairs)


def edge_ig(events: Events) -> Attribution:
    """One value per pair, with residual and span."""
    pairs, rng = Pairs.complete(events), np.random.default_rng(2)
    output_change, residual = rng.normal(size=(2, len(events)))
    values = rng.normal(size=len(pairs.src))
    checks = {"output_change": output_change, "residual": residual}
    return Attribution(values, ("pair",), events, "edge_ig", "signal", pairs=pairs, **checks)


def node_ig(events: Events) -> Attribution:
    """One value per particle and feature."""
    values = np.random.default_rng(3).normal(size=(events.n_particles, 2))
    labels = {"feature": events.schema.features}
    return Attribution(values, ("particle", "feature"), events, "node_ig", "signal", labels=labels)


@pytest.fixture(scope="session")
def explain() -> dict[str, Callable[..., Attribution]]:
    """Attributions of random numbers, by method."""
    return {"attention": attention, "edge_ig": edge_ig, "node_ig": node_ig}
