"""Edge Integrated Gradients against PyG + Captum, looped and on one Batch, at equal residual.

All neighbours are used in the EdgeConv layers, so that the graph is static and the peers give a defined
answer. Each method takes the fewest steps that bring its own median relative residual to 1 %.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor
from torch_geometric.explain import CaptumExplainer, Explainer
from torch_geometric.explain.config import ModelConfig

from benchmarks.common import PlainGNN, cpu_seconds, data_list, show, trained
from hepxai.events import Events
from hepxai.explain import explain
from hepxai.explain.path import STEPS

LOOPED = 40
TOLERANCE = 0.01


def main() -> None:
    """Print steps, residual, CPU milliseconds per event and ratios."""
    model, events = trained(neighbours=16)
    plain = PlainGNN(model.network).eval()
    few = events[:LOOPED]
    ours = explain(model, events, "edge_ig")
    steps = ours.settings["steps"]
    best = cpu_seconds(lambda: explain(model, events, "edge_ig", steps=steps)) / len(events)
    rows = [
        ("hepxai edge_ig", str(steps), f"{ours.checks['median_residual']:.2%}", f"{1000 * best:.2f}", "1.0")
    ]
    peers: list[tuple[str, Callable[[int], float], Callable[[int], object], int]] = [
        (
            "PyG + Captum, one Batch, same layer",
            lambda n: residual(plain, events, layer_ig(plain, events, n)),
            lambda n: layer_ig(plain, events, n),
            len(events),
        ),
        (
            "PyG + Captum, event by event, same layer",
            lambda n: residual(plain, events, layer_ig(plain, events, n)),
            lambda n: [layer_ig(plain, events[i : i + 1], n) for i in range(LOOPED)],
            LOOPED,
        ),
        (
            "PyG CaptumExplainer, event by event, all layers",
            lambda n: all_layers(plain, few, n)[1],
            lambda n: all_layers(plain, few, n),
            LOOPED,
        ),
    ]
    for name, check, work, size in peers:
        n, found = fewest(check)
        seconds = cpu_seconds(lambda w=work, n=n: w(n)) / size
        rows.append((name, str(n), f"{found:.2%}", f"{1000 * seconds:.2f}", f"{seconds / best:.1f}"))
    agreement = np.abs(layer_ig(plain, events, steps) - ours.values).max() / np.abs(ours.values).max()
    header = ("", "steps", "median residual", "CPU ms / event", "times ours")
    show(f"Edge Integrated Gradients, {len(events)} events, one thread", header, rows)
    print(f"largest difference from Captum on the same layer and steps: {agreement:.1e} of the largest value")


def fewest(check: Callable[[int], float]) -> tuple[int, float]:
    """Fewest steps within tolerance, and the residual reached."""
    for steps in STEPS:
        found = check(steps)
        if found <= TOLERANCE:
            break
    return steps, found


def layer_ig(plain: PlainGNN, events: Events, steps: int) -> np.ndarray:
    """Captum's IG on the edge weights of the attention layer of one Batch, summed over its events."""
    batch = events.graph()
    size = len(events)

    def output(weight: Tensor) -> Tensor:
        def scale(_module: object, _inputs: object, message: Tensor) -> Tensor:
            return message * weight.view(-1, 1, 1)

        handle = plain.attend.register_message_forward_hook(scale)
        try:
            return plain(batch.x, batch.edge_index, batch.batch, size, complete=True).sum()[None]
        finally:
            handle.remove()

    weight = torch.ones(1, batch.edge_index.shape[1])
    found = IntegratedGradients(output).attribute(weight, n_steps=steps, internal_batch_size=1)
    return found[0].detach().numpy()


def residual(plain: PlainGNN, events: Events, values: np.ndarray) -> float:
    """Median relative completeness residual of attributions of the attention layer's edges."""
    batch = events.graph()
    size = len(events)
    with torch.no_grad():
        full = plain(batch.x, batch.edge_index, batch.batch, size, complete=True)
        handle = plain.attend.register_message_forward_hook(lambda _m, _i, out: 0 * out)
        empty = plain(batch.x, batch.edge_index, batch.batch, size, complete=True)
        handle.remove()
    span = (full - empty).double().numpy()
    total = np.bincount(events.parent[events.pairs()[1]], weights=values, minlength=size)
    return float(np.median(np.abs((total - span) / span)))


def all_layers(plain: PlainGNN, events: Events, steps: int) -> tuple[list[Tensor], float]:
    """PyG's own CaptumExplainer: one mask on the messages of all layers at once."""
    config = ModelConfig(mode="regression", task_level="graph", return_type="raw")
    algorithm = CaptumExplainer("IntegratedGradients", n_steps=steps, internal_batch_size=1)
    explainer = Explainer(
        plain, algorithm, explanation_type="model", model_config=config, edge_mask_type="object"
    )
    masks, relative = [], []
    for one in data_list(events):
        nobody = torch.zeros(len(one.x), dtype=torch.int64)
        mask = explainer(one.x, one.edge_index, batch=nobody, size=1, complete=True).edge_mask
        with torch.no_grad():
            full = plain(one.x, one.edge_index, nobody, 1, complete=True)
            empty = plain(one.x, one.edge_index[:, :0], nobody, 1, complete=True)
        masks.append(mask)
        relative.append(abs(float((mask.sum() - (full - empty)) / (full - empty))))
    return masks, float(np.median(relative))
