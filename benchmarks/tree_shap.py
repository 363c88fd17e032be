"""TreeSHAP of boosted trees with a weighted background, against shap's TreeExplainer."""

from __future__ import annotations

import dataclasses

import numpy as np
import shap
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from benchmarks.common import cpu_seconds, show, toy_events
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models.wrappers.table import SklearnModel

COLUMNS = 15
EVENTS, ROWS = 1_000, 1_000


def table_events(n: int, seed: int) -> Events:
    """Columns that tell less and less of the class; weights of both signs."""
    events, names = toy_events(n, seed), tuple(f"f{i}" for i in range(COLUMNS))
    schema = dataclasses.replace(events.schema, globals=names, global_units=("",) * COLUMNS)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, COLUMNS)) + events.label[:, None] * np.linspace(0.7, 0, COLUMNS)
    weight = rng.choice([1.0, -0.5], n, p=[0.8, 0.2])
    return events.replace(schema=schema, globals=values.astype(np.float32), weight=weight)


def main() -> None:
    """Print CPU seconds, the ratio, and the largest difference."""
    train, test, rows = (table_events(n, i) for i, n in enumerate((20_000, EVENTS, ROWS)))
    with threadpool_limits(1):
        trees = HistGradientBoostingClassifier(random_state=0).fit(train.globals, train.label)
        model = SklearnModel(trees, ("signal",), test.schema)
        table = []
        for name, background in (("equal", rows.globals), ("signed", rows)):
            settings = {"baseline": "interventional", "rows": background}
            mine = cpu_seconds(lambda s=settings: explain(model, test, "tree_shap", **s), repeats=1)  # type: ignore[misc]
            table.append((f"hepxai, {name} weights", f"{mine:.2f}", "1" if name == "equal" else "", ""))
        ours = explain(model, test, "tree_shap", baseline="interventional", rows=rows.globals).values
        masker = shap.maskers.Independent(rows.globals, max_samples=ROWS)
        library = shap.TreeExplainer(trees, masker, feature_perturbation="interventional")
        values: list[np.ndarray] = []
        theirs = cpu_seconds(lambda: values.append(library.shap_values(test.globals)), repeats=1)
    distance = np.abs(values[0] - ours).max()
    table.append(
        ("shap, equal weights", f"{theirs:.1f}", f"{theirs / float(table[0][1]):.1f}", f"{distance:.1e}")
    )
    title = (
        f"HGB of 100 trees, {EVENTS:,} events against {ROWS:,} background rows, {COLUMNS} columns, one thread"
    )
    show(title, ("", "CPU s", "times ours", "largest difference"), table)
