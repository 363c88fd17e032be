"""Conductance of every neuron of a dense net: all in one pass against captum, one neuron a call."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from captum.attr import NeuronConductance
from torch import Tensor, nn

from benchmarks.common import cpu_seconds, show, toy_events
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models.wrappers.table import TableModel

WIDTHS = (64, 64, 64)
COLUMNS = 30
EVENTS = 1000
STEPS = 24
AT_A_TIME = 100
"""Events that captum gets at a time: it was slower with 50, with 250 and with all 1,000."""


def table_events() -> Events:
    """Random rows of a table."""
    events, names = toy_events(EVENTS), tuple(f"f{i}" for i in range(COLUMNS))
    schema = dataclasses.replace(events.schema, globals=names, global_units=("",) * COLUMNS)
    values = np.random.default_rng(2).normal(size=(EVENTS, COLUMNS)).astype(np.float32)
    return events.replace(schema=schema, globals=values)


def dense_net() -> nn.Sequential:
    """ReLU layers with random weights."""
    torch.manual_seed(1)
    sizes = zip((COLUMNS, *WIDTHS[:-1]), WIDTHS, strict=True)
    hidden = [module for a, b in sizes for module in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(WIDTHS[-1], 1)).eval()


def by_captum(net: nn.Sequential, x: Tensor, label: str) -> Tensor:
    """One neuron, ``[E]``; captum's value per column of the input is summed over."""
    layer, _, neuron = label.rpartition(":")
    method = NeuronConductance(net, net.get_submodule(layer))
    settings = {"target": 0, "n_steps": STEPS, "method": "gausslegendre"}
    parts = [method.attribute(part, int(neuron), **settings) for part in x.split(AT_A_TIME)]
    return torch.cat(parts).sum(1).detach()


def main() -> None:
    """Print CPU seconds, the ratio and the largest difference."""
    events, net = table_events(), dense_net()
    model = TableModel(net, ("signal",), events.schema)
    settings = {"baseline": "zero", "steps": STEPS}
    ours = explain(model, events, "conductance", **settings)
    labels, x = ours.labels["neuron"], torch.as_tensor(events.globals)
    mine = cpu_seconds(lambda: explain(model, events, "conductance", **settings), repeats=5)
    peers: list[Tensor] = []
    theirs = cpu_seconds(lambda: peers.extend(by_captum(net, x, label) for label in labels), repeats=1)
    expected = torch.stack(peers, dim=1).numpy()
    difference = np.abs(ours.values - expected).max() / np.abs(expected).max()
    rows = [
        ("hepxai conductance", f"{mine:.3f}", "1", ""),
        ("Captum NeuronConductance", f"{theirs:.1f}", f"{theirs / mine:.0f}", f"{difference:.1e}"),
    ]
    header = ("", "CPU s", "times ours", "largest difference / largest value")
    show(f"{len(labels)} neurons, {EVENTS:,} events, {STEPS} steps, one thread", header, rows)
