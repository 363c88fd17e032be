"""Cards that train in a moment, and results that nobody worked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from hepxai.core.estimate import Estimate
from hepxai.scan import METRICS, Scan
from hepxai.scan.objectives import EDGES
from hepxai.scan.sampling import next_point
from hepxai.scan.store import Trial

SMALL = [
    "training.epochs=2",
    "training.batch_size=64",
    *(f"convolutions.{i}.width=8" for i in range(3)),
    "dense=[8]",
]


def made_up(trial: Trial) -> Trial:
    """Results that depend on the first scanned entry and on the seed."""
    first = next(iter(trial.point.values()))
    x = float(first) if isinstance(first, int | float) else float(len(str(first)))
    rng = np.random.default_rng(trial.number)
    shift = np.random.default_rng(trial.seed).normal(0, 0.01)
    level = 0.8 - 0.4 * (x - 0.2) ** 2 + shift
    values = {name: level + rng.normal(0, 0.003) for name in METRICS}
    values["pair_attention"] = 0.25 - 0.1 * min(abs(x - 0.25), 1) + shift
    values["score_mass_correlation"] = 0.1 + 0.1 * x + shift
    metrics = {n: Estimate(np.asarray(v), np.asarray(0.004), 900.0) for n, v in values.items()}
    return dataclasses.replace(
        trial,
        state="complete",
        metrics=metrics,
        histograms={q: list(_groups(q, values["pair_attention"], rng)) for q in EDGES},
        events={"train": 600, "valid": 300, "test": 100, "explained": 300},
        auc=dict.fromkeys(range(1, 20), 0.99),
        seconds=1.5,
    )


def invent(scan: Scan, finished: int | None = None) -> Scan:
    """The scan with invented results: no training, but everything else is real."""
    store = scan.store()
    for number in range(scan.plan.trials if finished is None else finished):
        point, seed = divmod(number, scan.plan.seeds)
        results = scan.table().results()
        store.begin(next_point(scan.plan, point, results) if seed == 0 else results[point][0], seed + 1)
        store.finish(made_up(store.trial(number)))
    return scan


def _groups(quantity: str, mean: float, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    factor = 1.0 if quantity == "attention" else 6.0
    for name in ("background", "signal"):
        for pairs, centre, size in (("focus", mean, 600), ("other", 0.14, 9000)):
            values = np.clip(rng.gamma(9, centre / 9, size) * factor, 0, EDGES[quantity][-1])
            count = np.histogram(values, EDGES[quantity])[0].astype(float).tolist()
            yield {"class": name, "pairs": pairs, "value": count, "variance": count}
