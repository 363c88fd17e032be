"""Sections on the performance of a classifier: score distributions, ROC, figures of merit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import rich.table

from hepxai.core.formatting import measured, real
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
from hepxai.report.section import (
    ERRORS,
    CaptionedFigure,
    Section,
    Table,
    capital,
    drawn,
    figures_table,
    number,
    population,
)
from hepxai.report.view import Figures, RunView


def scores_section(view: RunView) -> Section:
    """Distribution of the logit by class, training against test sample."""
    events, scores = view.events, view.scores
    if len(events) == 0:
        return Section("scores", "Scores", text=["There are no events."])
    distances = overtraining(events, scores)
    numbers = {c: {"ks_distance": d, "p_value": p} for c, (d, p) in distances.items()}
    return Section(
        "scores",
        "Scores",
        figures=[_scores_figure(view, distances)],
        numbers={"train_against_test": numbers},
        histograms={f"scores/{c}_{s}": h for (c, s), h in score_histograms(events, scores).items()},
    )


def _scores_figure(view: RunView, distances: Mapping[str, tuple[float, float]]) -> CaptionedFigure:
    events, scores = view.events, view.scores
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


def roc_section(view: RunView) -> Section:
    """ROC curve and the figures of merit of every split."""
    tables = [_metrics_table(view)] if view.metrics else []
    test = view.events.where("test")
    if not any(_both(view, split) for split in SPLITS):
        text = ["A ROC curve needs a split with events of both classes; there is none."]
        return Section("roc", "ROC and figures of merit", text=text, tables=tables, numbers=_numbers(view))
    signal, background = sides(view.events.schema)
    caption = (
        f"{capital(background)} rejection, one over the efficiency for {background}, against {signal} "
        f"efficiency; test sample: {population(test)}. The band is the statistical error at fixed "
        f"{signal} efficiency: that of the {background} that passes and that of the threshold. Weights "
        "are signed. What was kept was chosen on the validation sample: quote the test sample."
    )
    metrics = view.metrics
    figure = drawn(
        "roc",
        caption,
        lambda ax: roc_curve(view.events, view.scores, metrics=metrics, ax=ax),
        (7.2, 5.8),
    )
    return Section(
        "roc",
        "ROC and figures of merit",
        tables=tables,
        figures=[figure],
        numbers=_numbers(view) | {"roc_test": _roc_numbers(view)},
    )


def _both(view: RunView, split: str) -> bool:
    events = view.events.where(split)
    return both_classes(events.label == SIGNAL, events.weight)


def _numbers(view: RunView) -> dict[str, object]:
    return {"metrics": {s: {n: dict(v) for n, v in row.items()} for s, row in view.metrics.items()}}


def _roc_numbers(view: RunView) -> dict[str, np.ndarray]:
    if not _both(view, "test"):
        return {}
    rows = view.events.split == SPLITS.index("test")
    signal = view.events.label[rows] == SIGNAL
    band = roc_band(view.scores[rows], signal, view.events.weight[rows])
    return dict(zip(("signal_efficiency", "rejection", "rejection_error"), band, strict=True))


def _metrics_table(view: RunView) -> Table:
    caption = f"Figures of merit by split; accuracy cuts at logit 0. {ERRORS}{_unbounded(view)}"
    return figures_table(caption, view.metrics, lambda name: merit(name, view), number)


def _unbounded(view: RunView) -> str:
    """Note on a rejection without a number, if there is one."""
    rejections = [v for row in view.metrics.values() for n, v in row.items() if n.startswith("rejection")]
    if all(np.isfinite(real(v.get("value"))) for v in rejections):
        return ""
    _, background = sides(view.events.schema)
    return (
        f" A rejection of ∞ or –: the {background} that passes has no positive weight, so there is no number."
    )


def merit(name: str, view: RunView) -> str:
    """Figure of merit in words, with the class names of the card."""
    kind, _, point = name.partition("@")
    signal, background = sides(view.events.schema)
    if kind == "rejection" and point:
        return f"{background} rejection at {100 * float(point):g} % {signal} efficiency"
    return {"auc": "AUC"}.get(name, name.replace("_", " "))


def figures_of_merit(metrics: Mapping[str, Figures]) -> rich.table.Table:
    """Table of the figures of merit with their errors for a terminal, one column for each split."""
    table = rich.table.Table("figure of merit", *metrics)
    for name in dict.fromkeys(name for row in metrics.values() for name in row):
        cells = (row.get(name, {}) for row in metrics.values())
        table.add_row(name, *(measured(c.get("value"), c.get("error")) for c in cells))
    return table
