"""Sections on what the classifier can do: score distributions, ROC, figures of merit."""

from __future__ import annotations

import numpy as np

from hepxai.events import SPLITS
from hepxai.metrics.classification import both_classes
from hepxai.plots.scores import (
    SIGNAL,
    overtraining,
    roc_band,
    roc_curve,
    score_distributions,
    score_histograms,
)
from hepxai.plots.text import real
from hepxai.report.content import ReportContent
from hepxai.report.section import ERRORS, Section, Table, drawn, number, population


def scores_section(content: ReportContent) -> Section:
    """Distribution of the logit by class, training against test sample."""
    events, scores = content.events, content.scores
    if len(events) == 0:
        return Section("scores", "Scores", text=["There are no events."])
    caption = (
        f"Score of {population(events)}. Filled: test sample; points: training sample; each has unit area. "
        "Bars and bands are √Σw² of the bin; bins may be negative. The outermost bins hold what lies beyond. "
        "KS: largest distance of the two weighted cumulative distributions; its p-value comes from "
        "permuting events between the samples, which holds for signed weights."
    )
    found = {c: {"ks_distance": d, "p_value": p} for c, (d, p) in overtraining(events, scores).items()}
    return Section(
        "scores",
        "Scores",
        figures=[drawn("scores", caption, lambda ax: score_distributions(events, scores, ax=ax), (8.0, 5.6))],
        numbers={"train_against_test": found},
        histograms={f"scores/{c}_{s}": h for (c, s), h in score_histograms(events, scores).items()},
    )


def roc_section(content: ReportContent) -> Section:
    """ROC curve and the figures of merit of every split."""
    tables = [_metrics_table(content)] if content.metrics else []
    test = content.events.where("test")
    if not any(_both(content, split) for split in SPLITS):
        text = ["A ROC curve needs a split with events of both classes; there is none."]
        return Section("roc", "ROC and figures of merit", text=text, tables=tables, numbers=_numbers(content))
    caption = (
        f"Background rejection against signal efficiency; test sample: {population(test)}. The band is the "
        "statistical error at fixed signal efficiency, from the background that passes and from the "
        "threshold's own error. Weights are signed."
    )
    metrics = content.metrics
    figure = drawn(
        "roc",
        caption,
        lambda ax: roc_curve(content.events, content.scores, metrics=metrics, ax=ax),
        (7.2, 5.8),
    )
    return Section(
        "roc",
        "ROC and figures of merit",
        tables=tables,
        figures=[figure],
        numbers=_numbers(content) | {"roc_test": _roc_numbers(content)},
    )


def _both(content: ReportContent, split: str) -> bool:
    events = content.events.where(split)
    return both_classes(events.label == SIGNAL, events.weight)


def _numbers(content: ReportContent) -> dict[str, object]:
    return {"metrics": {s: {n: dict(v) for n, v in row.items()} for s, row in content.metrics.items()}}


def _roc_numbers(content: ReportContent) -> dict[str, np.ndarray]:
    if not _both(content, "test"):
        return {}
    own = content.events.split == SPLITS.index("test")
    signal = content.events.label[own] == SIGNAL
    found = roc_band(content.scores[own], signal, content.events.weight[own])
    return dict(zip(("signal_efficiency", "rejection", "rejection_error"), found, strict=True))


def _metrics_table(content: ReportContent) -> Table:
    names = list(dict.fromkeys(n for row in content.metrics.values() for n in row))
    rows = [
        [_merit(n), *(number(row[n]) if n in row else "–" for row in content.metrics.values())] for n in names
    ]
    return Table(f"Figures of merit by split. {ERRORS}{_unbounded(content)}", ("", *content.metrics), rows)


def _unbounded(content: ReportContent) -> str:
    """What a rejection without a number means, if there is one."""
    found = [v for row in content.metrics.values() for n, v in row.items() if n.startswith("rejection")]
    if all(np.isfinite(real(v.get("value"))) for v in found):
        return ""
    return " A rejection of ∞ or –: the background that passes has no positive weight, so there is no number."


def _merit(name: str) -> str:
    kind, _, point = name.partition("@")
    if kind == "rejection" and point:
        return f"background rejection at {100 * float(point):g} % signal efficiency"
    return {"auc": "AUC"}.get(name, name.replace("_", " "))
