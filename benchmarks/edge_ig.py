"""Edge Integrated Gradients against PyG + Captum, looped and on one Batch, at equal residual.

Twice: with the shipped four neighbours, in frozen lists for the peers (PyG can neither search them by itself
nor keep them), and with all neighbours, where PyG's own CaptumExplainer has a defined answer, too.
Each method takes the fewest steps that bring its own median relative residual to 1 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor
from torch_geometric.explain import CaptumExplainer, Explainer
from torch_geometric.explain.config import ModelConfig

from benchmarks.common import PlainGNN, cpu_seconds, show, trained
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.explainers.path import STEPS

LOOPED = 40
TOLERANCE = 0.01
DEFAULT = 50


def main() -> None:
    """Print steps, residual, CPU milliseconds per event and ratios."""
    for neighbours in (4, 16):
        compare(neighbours)


def compare(neighbours: int) -> None:
    """One table."""
    model, events = trained(neighbours)
    plain = PlainGNN(model.network).eval()
    whole = Graph.of(plain, events)
    singles = [Graph.of(plain, events[i : i + 1]) for i in range(LOOPED)]
    ours = explain(model, events, "edge_ig")
    steps = ours.settings["steps"]
    best = cpu_seconds(lambda: explain(model, events, "edge_ig", steps=steps), repeats=7) / len(events)
    rows = [
        ("hepxai edge_ig", str(steps), f"{ours.checks['median_residual']:.2%}", f"{1000 * best:.2f}", "1.0")
    ]
    peers: list[tuple[str, Callable[[int], float], Callable[[int], object], int]] = [
        (
            "PyG + Captum, one Batch, same layer",
            lambda n: whole.residual(whole.layer_ig(n)),
            lambda n: whole.layer_ig(n),
            len(events),
        ),
        (
            "PyG + Captum, event by event, same layer",
            lambda n: whole.residual(whole.layer_ig(n)),
            lambda n: [one.layer_ig(n) for one in singles],
            LOOPED,
        ),
    ]
    if neighbours >= events.counts.max():
        peers.append(
            (
                "PyG CaptumExplainer, event by event, all layers",
                lambda n: all_layers(singles, n)[1],
                lambda n: all_layers(singles, n),
                LOOPED,
            )
        )
    for name, check, work, size in peers:
        n, residual = fewest(check)
        seconds = cpu_seconds(lambda w=work, n=n: w(n)) / size
        rows.append((name, str(n), f"{residual:.2%}", f"{1000 * seconds:.2f}", f"{seconds / best:.1f}"))
    seconds = cpu_seconds(lambda: [one.layer_ig(DEFAULT) for one in singles], repeats=1) / LOOPED
    reached = f"{whole.residual(whole.layer_ig(DEFAULT)):.2%}"
    rows.append(
        (
            "the same loop with Captum's default",
            str(DEFAULT),
            reached,
            f"{1000 * seconds:.2f}",
            f"{seconds / best:.1f}",
        )
    )
    header = ("", "steps", "median residual", "CPU ms / event", "times ours")
    what = f"{neighbours} neighbours" if neighbours < events.counts.max() else "all neighbours"
    show(f"Edge Integrated Gradients, {what}, {len(events)} events, one thread", header, rows)
    difference = np.abs(whole.layer_ig(steps) - ours.values).max() / np.abs(ours.values).max()
    print(
        f"largest difference from Captum on the same layer and steps: {difference:.1e} of the largest value\n"
    )


def fewest(check: Callable[[int], float]) -> tuple[int, float]:
    """Fewest steps within tolerance, and the residual reached."""
    for steps in STEPS:
        residual = check(steps)
        if residual <= TOLERANCE:
            break
    return steps, residual


@dataclass(frozen=True)
class Graph:
    """Events as the peers get them: one Batch, with the neighbours of the EdgeConv layers."""

    plain: PlainGNN
    x: Tensor
    edge_index: Tensor
    batch: Tensor
    size: int
    frozen: list[Tensor]

    @staticmethod
    def of(plain: PlainGNN, events: Events) -> Graph:
        """Batch of all events."""
        b, neighbours = events.graph(), []
        with torch.no_grad():
            plain(b.x, b.edge_index, b.batch, len(events), neighbours=neighbours)
        return Graph(plain, b.x, b.edge_index, b.batch, len(events), neighbours)

    def logits(self) -> Tensor:
        """Logits ``[B]``."""
        return self.plain(self.x, self.edge_index, self.batch, self.size, frozen=self.frozen)

    def logits_with(self, weight: Tensor) -> Tensor:
        """Logits with weights on the edges of the attention layer."""

        def scale(_module: object, _inputs: object, message: Tensor) -> Tensor:
            return message * weight.view(-1, 1, 1)

        handle = self.plain.attend.register_message_forward_hook(scale)
        try:
            return self.logits()
        finally:
            handle.remove()

    def layer_ig(self, steps: int) -> np.ndarray:
        """Captum's IG on the edge weights of the attention layer, of the sum over the events."""
        weight = torch.ones(1, self.edge_index.shape[1])
        method = IntegratedGradients(lambda w: self.logits_with(w).sum()[None])
        return method.attribute(weight, n_steps=steps, internal_batch_size=1)[0].detach().numpy()

    def residual(self, values: np.ndarray) -> float:
        """Median relative completeness residual of attributions of the attention layer's edges."""
        with torch.no_grad():
            none = torch.zeros(self.edge_index.shape[1])
            output_change = (self.logits() - self.logits_with(none)).double().numpy()
        event = self.batch[self.edge_index[1]].numpy()
        total = np.bincount(event, weights=values, minlength=self.size)
        return float(np.median(np.abs((total - output_change) / output_change)))


def all_layers(graphs: list[Graph], steps: int) -> tuple[list[Tensor], float]:
    """PyG's own CaptumExplainer: one mask on the messages of all layers at once."""
    config = ModelConfig(mode="regression", task_level="graph", return_type="raw")
    algorithm = CaptumExplainer("IntegratedGradients", n_steps=steps, internal_batch_size=1)
    masks, relative = [], []
    for one in graphs:
        explainer = Explainer(
            one.plain, algorithm, explanation_type="model", model_config=config, edge_mask_type="object"
        )
        # One order of edges for all layers, or the mask would mean another pair in each.
        frozen = [one.edge_index] * 2
        mask = explainer(one.x, one.edge_index, batch=one.batch, size=1, frozen=frozen).edge_mask
        with torch.no_grad():
            none = one.edge_index[:, :0]
            output_change = one.logits() - one.plain(one.x, none, one.batch, 1, frozen=[none] * 2)
            relative.append(abs(float((mask.sum() - output_change) / output_change)))
        masks.append(mask)
    return masks, float(np.median(relative))
