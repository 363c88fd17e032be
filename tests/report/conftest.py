"""A run that looks real: a few thousand toy events in which the muon pair carries the signal."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hepxai.attribution import Attribution, Pairs
from hepxai.core.jagged import offsets_from_counts, parents, row_sum
from hepxai.datasets.cutflow import CutFlowRow
from hepxai.datasets.presentation import Focus
from hepxai.events import Events, Schema
from hepxai.events.splits import Split
from hepxai.metrics import classification_metrics, fidelity
from hepxai.report import RunView

POOR = "the same decision in 0.88 of the test events, below the stated 0.90"
TITLES = {"edge_ig": "edge IG", "node_ig": "node IG", "surrogate_edge_ig": "surrogate IG"}
TYPES = ("electron", "muon", "jet", "bjet", "met")
SCHEMA = Schema(
    features=("energy", "px", "py", "pz", "charge", "btag"),
    units=("GeV", "GeV", "GeV", "GeV", "", ""),
    types=TYPES,
    classes=("background", "signal"),
    globals=("ht",),
    global_units=("GeV",),
    collections=("Electron", "Muon", "Jet", "BJet", "MET"),
)


def make_population(n: int, seed: int = 0, **columns: Any) -> Events:
    """``n`` events of one electron, mostly two muons, jets, b jets and missing momentum."""
    rng = np.random.default_rng(seed)
    per_type = np.stack(
        [
            np.ones(n, dtype=int),
            rng.choice([1, 2, 3], n, p=[0.05, 0.9, 0.05]),
            rng.poisson(1.8, n),
            rng.choice([1, 2, 3], n, p=[0.45, 0.5, 0.05]),
            np.ones(n, dtype=int),
        ]
    )
    kind = np.concatenate([np.repeat(np.arange(5), c) for c in per_type.T])
    offsets = offsets_from_counts(per_type.sum(axis=0))
    size = int(offsets[-1])
    label = rng.integers(0, 2, n)
    scale = np.array([35.0, 28.0, 45.0, 60.0, 45.0])[kind]
    pt = rng.gamma(2.0, scale / 2) + 12
    eta = np.where(kind == 4, 0.0, np.clip(rng.normal(0, 1.0, size), -2.5, 2.5))
    phi = rng.uniform(-np.pi, np.pi, size)
    mass = np.choose(kind, [0.0005, 0.106, 8.0, 11.0, 0.0])
    x, y, z = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(x**2 + y**2 + z**2 + mass**2)
    charge = np.where(kind < 2, rng.choice([-1, 1], size), 0)
    btag = np.where(kind == 3, rng.beta(8, 2, size), np.where(kind == 2, rng.beta(1, 6, size), 0))
    own: dict[str, Any] = {
        "schema": SCHEMA,
        "offsets": offsets,
        "particles": np.column_stack([energy, x, y, z, charge, btag]).astype(np.float32),
        "p4": np.column_stack([pt, eta, phi, mass]).astype(np.float32),
        "type": kind,
        "index": np.where(kind == 4, -1, 0),
        "label": label,
        "weight": rng.choice([1.0, -1.0], n, p=[0.9, 0.1]) * np.where(label == 1, 0.3, 1.1),
        "globals": rng.normal(size=(n, 1)).astype(np.float32),
        "run": np.ones(n, dtype=np.int64),
        "luminosity_block": np.arange(n) // 100 + 1,
        "event": np.arange(n) + 1,
        "file": label,
        "entry": np.arange(n),
        "split": rng.choice(3, n, p=[0.6, 0.3, 0.1]) if n > 1 else np.array([2]),
        "files": ("background.root:Events", "signal.root:Events"),
        "file_entries": (2 * n, 2 * n),
        "observers": {
            "mass_mumu": np.where(
                per_type[1] > 1, np.where(label, rng.normal(88, 4, n), 91 + 2 * rng.standard_t(3, n)), np.nan
            )
        },
        "truth": {"fromA": (kind == 1) & (rng.random(size) < 0.8) & (label[parents(offsets)] == 1)},
    }
    return Events(**own | columns)


def make_attention(events: Events, seed: int = 1, heads: int = 4) -> Attribution:
    """Attention in which muons look at muons, more so in signal."""
    rng = np.random.default_rng(seed)
    pairs = Pairs.complete(events)
    strength = muon_pairs(events, pairs) * np.where(events.label == 1, 1.5, 0.9)[parents(pairs.offsets)]
    weight = np.exp(rng.normal(0, 0.6, (len(pairs.src), heads)) + strength[:, None])
    norm = np.stack([np.bincount(pairs.dst, w, minlength=events.n_particles) for w in weight.T], axis=1)
    return Attribution(
        values=(weight / norm[pairs.dst])[:, None, :],
        axes=("pair", "layer", "head"),
        events=events,
        method="attention",
        target="signal",
        labels={"layer": ("transformer 1",), "head": tuple(f"head {h + 1}" for h in range(heads))},
        pairs=pairs,
        unit="",
    )


def muon_pairs(events: Events, pairs: Pairs) -> np.ndarray:
    """Mask of the pairs of two muons."""
    muon = events.is_type("muon")
    return muon[pairs.src] & muon[pairs.dst]


def make_edge_ig(events: Events, scores: np.ndarray, seed: int = 2, method: str = "edge_ig") -> Attribution:
    """Signed pair attributions that add up to about the score, most of it on the muon pair."""
    rng = np.random.default_rng(seed)
    pairs = Pairs.complete(events)
    owner = parents(pairs.offsets)
    values = rng.normal(0, 0.02, len(owner)) + muon_pairs(events, pairs) * 0.2 * scores[owner]
    total = row_sum(values, pairs.offsets)
    residual = total * 0.003 * rng.lognormal(0, 1, len(events))
    return Attribution(
        values=values,
        axes=("pair",),
        events=events,
        method=method,
        target="signal",
        short_title=TITLES[method],
        pairs=pairs,
        residual=residual,
        output_change=total - residual,
        settings={"layer": "transformer 1", "neighbours": "frozen"},
    )


def make_node_ig(events: Events, scores: np.ndarray, seed: int = 3) -> Attribution:
    """Signed particle attributions, mostly on the momenta of muons."""
    rng = np.random.default_rng(seed)
    size = (events.n_particles, len(events.schema.features))
    planted = events.is_type("muon")[:, None] * np.array([0.1, 0.15, 0.15, 0.05, 0.0, 0.0])[: size[1]]
    values = rng.normal(0, 0.02, size) + planted * scores[events.parent][:, None]
    total = row_sum(values, events.offsets).sum(axis=1)
    residual = total * 0.01 * rng.lognormal(0, 0.7, len(events))
    return Attribution(
        values=values,
        axes=("particle", "feature"),
        events=events,
        method="node_ig",
        target="signal",
        short_title=TITLES["node_ig"],
        labels={"feature": events.schema.features},
        residual=residual,
        output_change=total - residual,
        settings={"baseline": "zero"},
    )


class StubRun:
    """A finished run, as far as its report reads it."""

    def __init__(self, **results: Any) -> None:
        self.results = results
        self.folder = Path("runs/first")
        self.events, self.predictions = results["events"], results.get("predictions", {})
        scores = np.asarray(results["scores"])
        self.scores = scores if scores.ndim > 1 else scores[:, None]
        focus = Focus(pair=results["focus"], observer=results["observer"], **results.get("binning", {}))
        self.dataset = SimpleNamespace(
            name=results["name"],
            description="",
            focus=focus,
            label=results.get("label"),
            yields=results.get("yields"),
            luminosity=results.get("luminosity"),
            yield_scale=results.get("yield_scale", 1.0),
            split=Split(),
            variation_sources={},
        )
        training = SimpleNamespace(
            monitor="loss", regression=bool(self.predictions), calibrate=False, trainings=1
        )
        self.card = SimpleNamespace(training=training, description="")
        rows = [CutFlowRow(**row, efficiency=np.nan) for row in results["cutflow"]]
        self.reading = SimpleNamespace(notes=results["notes"], cutflow=SimpleNamespace(rows=rows))
        classes = self.events.schema.classes
        outputs = classes[1:] if self.scores.shape[1] == 1 else classes
        self.outputs = tuple(self.predictions) or outputs
        self.model = SimpleNamespace(outputs=self.outputs)
        for name in ("explained", "history", "metrics", "provenance", "cards"):
            setattr(self, name, lambda name=name: copy.copy(results[name]))
        self.histories = lambda: {"": self.history()}
        self.sources = dict


def bare_view(**results: Any) -> RunView:
    """View of a stub with these results, and nothing else."""
    nothing = {"name": "toy", "cutflow": (), "notes": (), "history": [], "metrics": {}, "explained": {}}
    nothing |= {"provenance": {}, "cards": {}, "focus": ("muon", "muon"), "observer": None}
    return RunView(StubRun(**nothing | results))  # type: ignore[arg-type]


def changed(view: RunView, **changes: Any) -> RunView:
    """View of the same run with some other results."""
    return bare_view(**view.run.results | changes)  # type: ignore[attr-defined]


def finished_view(n: int = 400, seed: int = 0, **changes: Any) -> RunView:
    """View of a finished run."""
    rng = np.random.default_rng(seed)
    events = changes.pop("events", None) or make_population(n, seed)
    scores = rng.normal(np.where(events.label == 1, 1.1, -1.1), 1.4)
    test = events.split == 2
    explained = events[test]
    seen = scores[test]
    noisy = scores + rng.normal(0, 0.5, len(events))
    known = {
        f"{split}_{k}{end}": float(getattr(v, part))
        for i, split in enumerate(("train", "valid", "test"))
        if (own := events.split == i).sum() > 20
        for k, v in fidelity(noisy[own], scores[own], events.weight[own]).items()
        for end, part in (("", "value"), ("_error", "error"))
    }
    merits = classification_metrics(scores, events)
    usual: dict[str, Any] = {
        "name": "charged Higgs",
        "provenance": {
            "hepxai": "0.1.0",
            "versions": {"python": "3.11.2", "torch": "2.13.0", "uproot": "5.7.7"},
            "seed": 1,
            "folder": "runs/first",
            "inputs": {
                "signal.root": "b1946ac92492d2347c6235b4d2611184",
                "background.root": "591785b794601e212b26",
            },
        },
        "cards": {
            "dataset.yaml": "samples:\n  signal: signal.root\n",
            "model.yaml": "layers:\n- kind: transformer\n",
        },
        "cutflow": make_cutflow(n),
        "history": make_history(),
        "metrics": {s: {k: _number(v) for k, v in row.items()} for s, row in merits.items()},
        "events": events,
        "scores": scores,
        "explained": {
            "attention": make_attention(explained),
            "edge_ig": make_edge_ig(explained, seen),
            "node_ig": make_node_ig(explained, seen),
            "surrogate_edge_ig": make_edge_ig(explained, 0.8 * seen, 4, "surrogate_edge_ig").replace(
                checks=known, concerns=(POOR,)
            ),
        },
        "focus": ("muon", "muon"),
        "observer": "mass_mumu",
    }
    return bare_view(**usual | changes)


def _number(estimate: Any) -> dict[str, float]:
    return {"value": float(estimate.value), "error": float(estimate.error)}


def make_cutflow(n: int) -> list[dict[str, Any]]:
    """Three steps for two samples."""
    rows = []
    for sample, scale in (("signal", 0.3), ("background", 1.1)):
        for step, kept in (("read", 6 * n), ("e μμ", 2 * n), ("at least one b jet", n)):
            error = scale * kept**0.5
            rows.append(
                {
                    "sample": sample,
                    "step": step,
                    "entries": kept,
                    "weight": 0.8 * scale * kept,
                    "error": error,
                }
            )
    return rows


def make_history(epochs: int = 30) -> list[dict[str, float]]:
    """A training that converges."""
    rng = np.random.default_rng(5)
    fall = np.exp(-np.arange(epochs) / 6)
    return [
        {
            "epoch": i,
            "learning_rate": 0.002 * (0.1 + 0.9 * abs(1 - (i % 10) / 5)),
            "train_loss": 0.45 + 0.25 * f + rng.normal(0, 0.004),
            "valid_loss": 0.47 + 0.23 * f + rng.normal(0, 0.01),
            "valid_accuracy": 0.79 - 0.2 * f + rng.normal(0, 0.006),
            "valid_auc": 0.87 - 0.25 * f + rng.normal(0, 0.005),
            "seconds": 2.0,
        }
        for i, f in enumerate(fall)
    ]


@pytest.fixture(scope="session", name="finished_view")
def content_factory() -> Callable[..., RunView]:
    """Factory of views of finished runs."""
    return finished_view


@pytest.fixture(scope="session", name="make_population")
def population_factory() -> Callable[..., Events]:
    """Factory of toy events that look like the charged-Higgs sample."""
    return make_population


@pytest.fixture(scope="session", name="changed")
def change() -> Callable[..., RunView]:
    """Copy of a view with some other results."""
    return changed


@pytest.fixture(scope="session", name="bare_view")
def view_factory() -> Callable[..., RunView]:
    """Factory of views of a run with nothing but the given results."""
    return bare_view
