"""Attention of every pair against PyG's AttentionExplainer, event by event and on one Batch."""

from __future__ import annotations

import torch
from torch_geometric.explain import AttentionExplainer, Explainer
from torch_geometric.explain.config import ModelConfig

from benchmarks.common import PlainGNN, cpu_seconds, data_list, show, trained
from hepxai.explainers import explain

LOOPED = 100


def main() -> None:
    """Print CPU milliseconds per event and their ratios."""
    model, events = trained(neighbours=4)
    plain = PlainGNN(model.network).eval()
    config = ModelConfig(mode="regression", task_level="graph", return_type="raw")
    explainer = Explainer(
        plain, AttentionExplainer(), explanation_type="model", model_config=config, edge_mask_type="object"
    )
    batch, singles = events.graph(), data_list(events[:LOOPED])

    def looped() -> None:
        for one in singles:
            nobody = torch.zeros(len(one.x), dtype=torch.int64)
            explainer(one.x, one.edge_index, batch=nobody, size=1, frozen=[one.edge_index] * 2)

    def batched() -> None:
        explainer(
            batch.x, batch.edge_index, batch=batch.batch, size=len(events), frozen=[batch.edge_index] * 2
        )

    times = {
        "PyG AttentionExplainer, event by event": cpu_seconds(looped) / LOOPED,
        "PyG AttentionExplainer, one Batch": cpu_seconds(batched) / len(events),
        "hepxai attention": cpu_seconds(lambda: explain(model, events, "attention")) / len(events),
    }
    best = times["hepxai attention"]
    rows = [(name, f"{1000 * t:.3f}", f"{t / best:.1f}") for name, t in times.items()]
    show(f"Attention, {len(events)} events, one thread", ("", "CPU ms / event", "times ours"), rows)
