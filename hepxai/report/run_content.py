"""What a run has to say, gathered for its report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
from rich.table import Table

from hepxai.attribution import Attribution
from hepxai.core.estimate import ROUNDING, cancellation
from hepxai.core.formatting import measured
from hepxai.events import SPLITS
from hepxai.plots.training import time_name
from hepxai.report import ReportContent
from hepxai.run import Run
from hepxai.training import History, validation_loss


def report_content(run: Run) -> ReportContent:
    """Collect cards, cut flow, figures of merit and explanations of a run."""
    explained = run.explained()
    focus = run.dataset.focus
    first = run.events.schema.types[0]
    return ReportContent(
        title=f"{run.dataset.name}: what makes the model say {' / '.join(run.model.outputs)}?",
        provenance=run.provenance(),
        cards={n: (run.folder / n).read_text(encoding="utf-8") for n in ("dataset.yaml", "model.yaml")},
        cutflow=[_cut(row) for row in map(dataclasses.asdict, run.reading.cutflow.rows)],
        history=run.history(),
        metrics=run.metrics(),
        events=run.events,
        scores=run.scores[:, 0],
        explained=explained,
        focus=(first, first) if focus is None else focus.pair,
        observer=None if focus is None else focus.observer,
        warnings=(
            *run.reading.notes,
            *_outside(run.metrics()),
            *_doubts(run.metrics()),
            *_warnings(explained),
        ),
        fidelity=_fidelity(explained),
        about=_about(run),
        best_epoch=best_epoch(run.history(), run.card.training.monitor),
        calibrated_loss=_calibrated_loss(run),
        predictions=run.predictions,
    )


def figures_of_merit(metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Table of the figures of merit with their errors, one column for each split."""
    table = Table("figure of merit", *metrics)
    for name in dict.fromkeys(name for row in metrics.values() for name in row):
        cells = (row.get(name, {}) for row in metrics.values())
        table.add_row(name, *(measured(c.get("value"), c.get("error")) for c in cells))
    return table


def _calibrated_loss(run: Run) -> float | None:
    training = run.card.training
    calibrated = getattr(training, "calibrate", False) and not training.regression
    return validation_loss(run.scores, run.events, training) if calibrated else None


def _about(run: Run) -> list[str]:
    """What the cards say about the data and the model."""
    named = (("Data", run.dataset.description), ("Model", run.card.description))
    return [f"{what}: {' '.join(text.split())}" for what, text in named if text.strip()]


def best_epoch(history: History, monitor: str) -> float | None:
    """Epoch, or number of trees, that `hepxai.training.fit` keeps: the first of the best by the monitor."""
    if not history:
        return None
    figures = [
        row["valid_auc"] if monitor == "auc" and "valid_auc" in row else -row["valid_loss"] for row in history
    ]
    return history[int(np.argmax(np.nan_to_num(figures, nan=-np.inf)))][time_name(history)]


def _cut(row: dict[str, float | str]) -> dict[str, float | str]:
    return {k: row[k] for k in ("sample", "step", "entries", "error")} | {"weighted": row["weight"]}


def _outside(metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """Figures of merit outside of their range, hence of their interval."""
    for split, row in metrics.items():
        for name, figure in row.items():
            value, low, high = (figure.get(k, math.nan) for k in ("value", "low", "high"))
            if value < low - ROUNDING or value > high + ROUNDING:
                yield (
                    f"{split} {name.replace('_', ' ')} is {measured(value, figure['error'])}, which cannot "
                    f"be: {cancellation(figure['n_eff'])}."
                )


def _doubts(metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """What the figures of merit say against explaining this model at all, beyond three standard errors."""
    if not {"train", "test"} <= metrics.keys():
        return []
    if "auc" not in metrics["test"]:
        return list(_doubted_targets(metrics["train"], metrics["test"]))
    train, test = (metrics[s]["auc"] for s in ("train", "test"))
    found, shown = [], [measured(m["value"], m["error"]) for m in (train, test)]
    if train["value"] - test["value"] > 3 * math.hypot(train["error"], test["error"]):
        found.append(
            f"The model is overtrained: AUC {shown[0]} on the events it learned from, {shown[1]} on the test "
            "events. Part of what it looks at is noise."
        )
    if not abs(test["value"] - 0.5) > 3 * test["error"]:
        found.append(
            f"The model does not separate the classes (test AUC {shown[1]}): explanations of it describe "
            "noise."
        )
    return found


def _doubted_targets(
    train: Mapping[str, Mapping[str, float]], test: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """The same for a regression, target by target."""
    for target in (n.removeprefix("gain_") for n in test if n.startswith("gain_")):
        errors, gain = (train[f"mae_{target}"], test[f"mae_{target}"]), test[f"gain_{target}"]
        known, other = (measured(m["value"], m["error"]) for m in errors)
        if errors[1]["value"] - errors[0]["value"] > 3 * math.hypot(*(m["error"] for m in errors)):
            yield (
                f"The model is overtrained: mean |error| of {target} {known} on the events it learned from, "
                f"{other} on the test events. Part of what it looks at is noise."
            )
        if not gain["value"] > 3 * gain["error"]:
            yield (
                f"The model knows {target} hardly better than a constant (mean |error| on the test events "
                f"{other}, smaller by {measured(gain['value'], gain['error'])}): explanations of {target} "
                "describe noise."
            )


def _warnings(explained: Mapping[str, Attribution]) -> list[str]:
    """What a reader must know before believing a map."""
    return [f"{method}: {concern}." for method, a in explained.items() for concern in a.concerns]


def _fidelity(explained: Mapping[str, Attribution]) -> dict[str, dict[str, dict[str, float]]]:
    """Fidelity of the surrogate from its flat checks, ``split → figure → {value, error}``."""
    checks = explained["surrogate"].checks if "surrogate" in explained else {}
    return {
        split: {
            name.removeprefix(f"{split}_"): {"value": value, "error": checks[f"{name}_error"]}
            for name, value in checks.items()
            if name.startswith(f"{split}_") and not name.endswith("_error")
        }
        for split in SPLITS
        if f"{split}_agreement" in checks
    }
