"""Sections on what the classifier can do: score distributions, ROC, figures of merit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hepxai.core.formatting import real
from hepxai.events import SPLITS
from hepxai.metrics.classification import both_classes
from hepxai.plots.scores import (
    SIGNAL,
    overtraining,
    roc_band,
    roc_curve,
    score_distributions,
    score_histograms,
    score_ratio,
    sides,
)
from hepxai.plots.style import canvas, style
from hepxai.report.content import ReportContent
from hepxai.report.section import ERRORS, CaptionedFigure, Section, Table, capital, drawn, number, population


def scores_section(content: ReportContent) -> Section:
    """Distribution of the logit by class, training against test sample."""
    events, scores = content.events, content.scores
    if len(events) == 0:
        return Section("scores", "Scores", text=["There are no events."])
    distances = overtraining(events, scores)
    found = {c: {"ks_distance": d, "p_value": p} for c, (d, p) in distances.items()}
    return Section(
        "scores",
        "Scores",
        figures=[_scores_figure(content, distances)],
        numbers={"train_against_test": found},
        histograms={f"scores/{c}_{s}": h for (c, s), h in score_histograms(events, scores).items()},
    )


def _scores_figure(content: ReportContent, distances: Mapping[str, tuple[float, float]]) -> CaptionedFigure:
    events, scores = content.events, content.scores
    caption = (
        f"Score of {population(events)}. Filled: test sample; points: training sample; each has unit area. "
        "Below: test over training sample. Bars and bands are √Σw² of the bin; bins may be negative. The "
        "outermost bins hold what lies beyond. KS: largest distance of the two weighted cumulative "
        "distributions, with its p-value from permuting events between the samples, which holds for signed "
        "weights."
    )
    with style():
        figure, axes = canvas(2, 1, (8.0, 7.2), height_ratios=(3, 1), sharex=True)
        score_distributions(events, scores, distances=distances, ax=axes[0, 0])
        axes[0, 0].set_xlabel("")
        score_ratio(events, scores, ax=axes[1, 0])
    return CaptionedFigure("scores", figure, caption)


def roc_section(content: ReportContent) -> Section:
    """ROC curve and the figures of merit of every split."""
    tables = [_metrics_table(content)] if content.metrics else []
    test = content.events.where("test")
    if not any(_both(content, split) for split in SPLITS):
        text = ["A ROC curve needs a split with events of both classes; there is none."]
        return Section("roc", "ROC and figures of merit", text=text, tables=tables, numbers=_numbers(content))
    signal, background = sides(content.events.schema)
    caption = (
        f"{capital(background)} rejection, one over the efficiency for {background}, against {signal} "
        f"efficiency; test sample: {population(test)}. The band is the statistical error at fixed "
        f"{signal} efficiency: that of the {background} that passes and that of the threshold. Weights "
        "are signed. What was kept was chosen on the validation sample: quote the test sample."
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
        [merit(n, content), *(number(row[n]) if n in row else "–" for row in content.metrics.values())]
        for n in names
    ]
    caption = f"Figures of merit by split; accuracy cuts at logit 0. {ERRORS}{_unbounded(content)}"
    return Table(caption, ("", *content.metrics), rows)


def _unbounded(content: ReportContent) -> str:
    """What a rejection without a number means, if there is one."""
    found = [v for row in content.metrics.values() for n, v in row.items() if n.startswith("rejection")]
    if all(np.isfinite(real(v.get("value"))) for v in found):
        return ""
    _, background = sides(content.events.schema)
    return (
        f" A rejection of ∞ or –: the {background} that passes has no positive weight, so there is no number."
    )


def merit(name: str, content: ReportContent) -> str:
    """Figure of merit in words, with the class names of the card."""
    kind, _, point = name.partition("@")
    signal, background = sides(content.events.schema)
    if kind == "rejection" and point:
        return f"{background} rejection at {100 * float(point):g} % {signal} efficiency"
    return {"auc": "AUC"}.get(name, name.replace("_", " "))
