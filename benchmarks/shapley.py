"""Exact Shapley values of particles against sampled ones from PyG + Captum, event by event, same network.

In PyG's CaptumExplainer every feature of every particle is a player of its own, and those that are out are 0.
Captum itself can be told that the features of a particle go together and, by a function of one's own, to take
the particle out of the event: then it samples what hepxai works out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from captum.attr import ShapleyValueSampling
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.explain import CaptumExplainer, Explainer
from torch_geometric.explain.config import ModelConfig

from benchmarks.common import PlainGNN, cpu_seconds, data_list, show, trained
from hepxai.events import Events
from hepxai.explainers import explain

SAMPLES = 25
EACH = 40
"""Events of every multiplicity that hepxai explains; the peers get one of each."""


def main() -> None:
    """Print scores, CPU milliseconds and the error of the values per event."""
    model, whole = trained(neighbours=4)
    counts = np.unique(whole.counts)
    events = whole[np.concatenate([np.flatnonzero(whole.counts == n)[:EACH] for n in counts])]
    few = events[::EACH]
    plain = PlainGNN(model.network).eval()
    exact = explain(model, few, "shapley")
    empty = exact.settings["empty"]
    rows = []
    for method in ("shapley", "shapley_interaction"):
        seconds = cpu_seconds(lambda m=method: explain(model, events, m), repeats=2) / len(events)
        rows.append((f"hepxai {method}, exact", float(np.mean(2.0**events.counts)), seconds, "0"))
    peers = {
        f"PyG CaptumExplainer ShapleyValueSampling({SAMPLES}), features": by_pyg(plain),
        f"Captum ShapleyValueSampling({SAMPLES}), particles at 0": lambda one: at_zero(plain, one),
        f"Captum ShapleyValueSampling({SAMPLES}), particles removed": lambda one: removed(plain, one, empty),
    }
    for name, work in peers.items():
        rows.append((name, *looped(plain, work, few), ""))
    scale = float(np.sqrt(np.mean(exact.values**2)))
    sampled = np.concatenate([removed(plain, one, empty).numpy() for one in data_list(few)])
    rows[-1] = (*rows[-1][:3], f"{np.sqrt(np.mean((sampled - exact.values) ** 2)) / scale:.1%}")
    table(rows, events)


def table(rows: list[tuple[str, float, float, str]], events: Events) -> None:
    """One line for every method."""
    best = rows[0][2]
    cells = [(name, f"{n:,.0f}", f"{1000 * t:.1f}", f"{t / best:.1f}", error) for name, n, t, error in rows]
    header = ("", "scores / event", "CPU ms / event", "times ours", "rms error / rms value")
    what = f"{events.counts.min()} to {events.counts.max()} particles, mean {events.counts.mean():.1f}"
    show(f"Shapley values, events of {what}, one thread", header, cells)


def looped(plain: PlainGNN, work: Callable[[Data], Tensor], events: Events) -> tuple[float, float]:
    """Scores and CPU seconds per event."""
    calls = []
    handle = plain.register_forward_hook(lambda *_: calls.append(1))
    singles = data_list(events)
    seconds = cpu_seconds(lambda: [work(one) for one in singles], repeats=1)
    handle.remove()
    return len(calls) / len(events), seconds / len(events)


def by_pyg(plain: PlainGNN) -> Callable[[Data], Tensor]:
    """PyG's own explainer."""
    explainer = Explainer(
        plain,
        CaptumExplainer("ShapleyValueSampling", n_samples=SAMPLES),
        explanation_type="model",
        model_config=ModelConfig(mode="regression", task_level="graph", return_type="raw"),
        node_mask_type="attributes",
    )
    return lambda one: explainer(one.x, one.edge_index, batch=nobody_else(one), size=1).node_mask.sum(1)


def at_zero(plain: PlainGNN, one: Data) -> Tensor:
    """Particles as players; those that are out stay in the event with all features 0."""
    method = ShapleyValueSampling(lambda x: plain(x[0], one.edge_index, nobody_else(one), 1))
    together = torch.arange(len(one.x))[None, :, None].repeat(1, 1, one.x.shape[1])
    return method.attribute(one.x[None], feature_mask=together, n_samples=SAMPLES)[0, :, 0]


def removed(plain: PlainGNN, one: Data, empty: float) -> Tensor:
    """Particles as players; the network gets the event without those that are out."""

    def score(inside: Tensor) -> Tensor:
        members = inside[0].bool()
        if not members.any():
            return torch.tensor([empty])
        inner = members[one.edge_index].all(0)
        edges = (members.cumsum(0) - 1)[one.edge_index[:, inner]]
        return plain(one.x[members], edges, nobody_else(one)[members], 1)

    return ShapleyValueSampling(score).attribute(torch.ones(1, len(one.x)), n_samples=SAMPLES)[0]


def nobody_else(one: Data) -> Tensor:
    """Batch vector of a single event."""
    return torch.zeros(len(one.x), dtype=torch.int64)
