"""Integrated Gradients of a dense net's columns: against captum, and memory for a million events."""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from benchmarks.common import cpu_seconds, show, toy_events
from benchmarks.conductance import COLUMNS, dense_net
from hepxai.attribution.residuals import relative_residual
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models.wrappers.table import TableModel

EVENTS = 20_000
MANY = 1_000_000
STEPS = 50
"""Captum's default, and its quadrature is ours: with the same nodes the residuals are equal."""
AT_A_TIME = (100, 500, 2000)
"""Events that captum gets at a time."""


def table_events(n: int) -> Events:
    """Random rows of a table, all of them with the particles of one event."""
    few, names = toy_events(1), tuple(f"f{i}" for i in range(COLUMNS))
    schema = dataclasses.replace(few.schema, globals=names, global_units=("",) * COLUMNS)
    events = few[np.zeros(n, dtype=np.int64)]
    values = np.random.default_rng(2).normal(size=(n, COLUMNS)).astype(np.float32)
    return events.replace(schema=schema, globals=values)


def by_captum(x: Tensor, at_a_time: int, **settings: object) -> Tensor:
    """All columns, ``[E, G]``."""
    method = IntegratedGradients(dense_net())
    return torch.cat([method.attribute(part, target=0, **settings) for part in x.split(at_a_time)])


def resident() -> float:
    """Memory that this process holds now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def growth() -> None:
    """Print by how many MB explaining a million events raises the memory, and how many the result has."""
    events = table_events(MANY)
    model = TableModel(dense_net(), ("signal",), events.schema)
    settings = {"baseline": "zero", "steps": STEPS}
    explain(model, events[:2000], "feature_ig", **settings)  # libraries are warm
    before, seen, done = resident(), [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            seen.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    attribution = explain(model, events, "feature_ig", **settings)
    done.set()
    watcher.join()
    print(max(seen) - before, attribution.values.nbytes / 2**20)


def main() -> None:
    """Print CPU seconds, the ratio and the residuals; then the memory."""
    events = table_events(EVENTS)
    model, x = TableModel(dense_net(), ("signal",), events.schema), torch.as_tensor(events.globals)
    settings = {"baseline": "zero", "steps": STEPS}
    ours = explain(model, events, "feature_ig", **settings)
    mine = cpu_seconds(lambda: explain(model, events, "feature_ig", **settings))
    rows = [("hepxai feature_ig", f"{mine:.2f}", "1", f"{np.median(relative_residual(ours)):.4f}", "")]
    best = min(AT_A_TIME, key=lambda n: cpu_seconds(lambda: by_captum(x, n), repeats=1))
    for name, size in ((f"captum, best of sizes ({best} events)", best), ("captum, all at once", EVENTS)):
        theirs = cpu_seconds(lambda size=size: by_captum(x, size), repeats=1)
        theirs_ig = by_captum(x, size).detach().numpy()
        residual = np.abs(theirs_ig.sum(axis=1) - ours.output_change) / np.abs(ours.output_change)
        difference = np.abs(theirs_ig - ours.values).max() / np.abs(theirs_ig).max()
        rows.append(
            (name, f"{theirs:.2f}", f"{theirs / mine:.1f}", f"{np.median(residual):.4f}", f"{difference:.0e}")
        )
    header = ("", "CPU s", "times ours", "median residual", "largest difference / largest value")
    show(f"Integrated Gradients, {EVENTS:,} events x {COLUMNS} columns, {STEPS} steps", header, rows)
    code = "import torch; torch.set_num_threads(1); from benchmarks.feature_ig import growth; growth()"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    grown, result = map(float, out.split())
    show(
        f"memory for {MANY:,} events",
        ("memory grows by, MB", "of that the result"),
        [(f"{grown:.0f}", f"{result:.0f}")],
    )


warnings.filterwarnings("ignore", message="the outputs of the model lie in")
