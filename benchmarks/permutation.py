"""Permutation importance of boosted trees: only trees that ask for a column, against scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance as by_sklearn
from threadpoolctl import threadpool_limits

from benchmarks.common import cpu_seconds, show, toy_events
from hepxai.events import Events
from hepxai.importance.permutation import permutation_importance
from hepxai.models.wrappers.table import SklearnModel

COLUMNS = 30
EVENTS = 100_000
REPEATS = 5


def table_events(seed: int) -> Events:
    """Columns that tell less and less of the class, and positive weights: scikit-learn refuses others."""
    events, names = toy_events(EVENTS, seed), tuple(f"f{i}" for i in range(COLUMNS))
    schema = dataclasses.replace(events.schema, globals=names, global_units=("",) * COLUMNS)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(EVENTS, COLUMNS)) + events.label[:, None] * np.linspace(0.5, 0, COLUMNS)
    weight = rng.uniform(0.5, 1.5, EVENTS)
    return events.replace(schema=schema, globals=values.astype(np.float32), weight=weight)


def main() -> None:
    """Print CPU seconds, the ratio, and the distance of the two."""
    train, test = table_events(1), table_events(2)
    with threadpool_limits(1):
        trees = HistGradientBoostingClassifier(random_state=0).fit(train.globals, train.label)
        model = SklearnModel(trees, ("signal",), test.schema)
        ours = permutation_importance(model, test, repeats=REPEATS)
        mine = cpu_seconds(lambda: permutation_importance(model, test, repeats=REPEATS))
        importances: list[np.ndarray] = []
        settings = {"scoring": "roc_auc", "n_repeats": REPEATS, "random_state": 0}
        theirs = cpu_seconds(
            lambda: importances.append(
                by_sklearn(trees, test.globals, test.label, sample_weight=test.weight, **settings).importances
            ),
            repeats=1,
        )
    spread = np.hypot(ours.spread, importances[0].std(axis=1, ddof=1)) / np.sqrt(REPEATS)
    pull = np.abs(ours.mean - importances[0].mean(axis=1)) / spread
    rows = [
        ("hepxai permutation_importance", f"{mine:.2f}", "1", ""),
        (
            "scikit-learn permutation_importance",
            f"{theirs:.1f}",
            f"{theirs / mine:.1f}",
            f"{np.median(pull):.2f}",
        ),
    ]
    header = ("", "CPU s", "times ours", "median distance / spread of the shuffles")
    show(f"HGB, {EVENTS:,} events x {COLUMNS} columns x {REPEATS} repeats, AUC, one thread", header, rows)
