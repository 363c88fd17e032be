"""Sections on the performance of a classifier: score distributions, ROC, confusion, figures of merit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.table

from hepxai.core.estimate import Array, Estimate
from hepxai.core.formatting import real
from hepxai.events import SPLITS, Events
from hepxai.metrics.multiclass import confusion_matrix
from hepxai.plots.matrices import class_confusion
from hepxai.plots.roc import RocSample, roc_band, roc_curve, roc_samples, roc_systematic
from hepxai.plots.scores import overtraining, score_figure, score_histograms
from hepxai.report.section import (
    ERRORS,
    CaptionedFigure,
    Section,
    Table,
    capital,
    drawn,
    entry,
    figures_table,
    number,
    population,
)
from hepxai.report.view import VS_REST, Figures, RunView, aucs

OTHERS = " numbers.json has those of trainings and systematic sources."


def scores_section(view: RunView) -> Section:
    """Distribution of the score of each class, training against test sample."""
    events, logits = view.events, view.run.scores
    if len(events) == 0:
        return Section("scores", "Scores", text=["There are no events."])
    p_values = overtraining(events, logits)
    figure = score_figure(events, logits, p_values=p_values)
    return Section(
        "scores",
        "Scores",
        figures=[CaptionedFigure("scores", figure, _caption(view))],
        numbers={"train_against_test": {c: {"p_value": p} for c, p in p_values.items()}},
        histograms={
            f"scores/{f'{one.name}/' if _several(view) else ''}{c}_{s}": h
            for one in view.class_scores
            for (c, s), h in score_histograms(events, logits, of=one.name).items()
        },
    )


def _several(view: RunView) -> bool:
    """True for three classes or more, which have a score each."""
    return len(view.class_scores) > 1


def _caption(view: RunView) -> str:
    drawn_as = "Filled: test sample; points: training sample; each has unit area. "
    below = "Below: test over training sample. "
    score = "Score"
    if _several(view):
        score = "One panel for the log-odds of each class against all others, ln p/(1 − p) of the softmax,"
        drawn_as = "Filled: the class itself, test sample; points: its training sample; lines: the other "
        drawn_as, below = f"{drawn_as}classes, test sample; each has unit area. ", ""
    return (
        f"{score} of {population(view.events)}. {drawn_as}{below}Bars and bands are √Σw² of the bin; bins "
        "may be negative. The outermost bins hold what lies beyond. p: probability of equal distributions of "
        "training and test sample, by a weighted Cramér–von Mises test."
    )


# --- ROC and figures of merit ----------------------------------------------------------------


def roc_section(view: RunView) -> Section:
    """ROC curves and the figures of merit of every split; of three classes or more, also their confusion."""
    samples = list(roc_samples(view.events, view.run.scores, view.metrics))
    tables = [_metrics_table(view)] if view.metrics else []
    pairs, confusion = (_pairs(view), _confusion(view)) if _several(view) else (None, None)
    numbers: dict[str, Any] = {
        "metrics": {s: {n: dict(v) for n, v in row.items()} for s, row in view.metrics.items()}
    }
    figures, text = [], []
    if samples:
        curves = _roc_curves(view, samples)
        figures.append(_roc_figure(view, curves))
        numbers["roc_test"] = curves if _several(view) else curves.get("test", {})
    else:
        needed = "each class" if _several(view) else "both classes"
        text.append(f"A ROC curve needs a split with events of {needed}; there is none.")
    if confusion is not None:
        figures.append(_confusion_figure(view, confusion))
        numbers["confusion_test"] = _confusion_numbers(view, confusion)
    return Section(
        "roc",
        "ROC and figures of merit",
        text=text,
        tables=[*tables, *([pairs] if pairs else [])],
        figures=figures,
        numbers=numbers,
    )


def _roc_figure(view: RunView, curves: Mapping[str, Mapping[str, Any]]) -> CaptionedFigure:
    systematic = {n: c["rejection_syst"] for n, c in curves.items() if "rejection_syst" in c}
    test = view.events.where("test")
    one, metrics = view.class_scores[0], view.metrics
    signal, background = one.name, one.others
    caption = (
        f"{capital(background)} rejection, one over the efficiency for {background}, against {signal} "
        f"efficiency; test sample: {population(test)}. The band is the statistical error at fixed "
        f"{signal} efficiency: that of the {background} that passes and that of the threshold."
        f"{_outer_band(view)} Weights are signed. What was kept was chosen on the "
        "validation sample: quote the test sample."
    )
    if _several(view):
        caption = (
            "Each class against all others together, mixed by their weights, on its log-odds: one over the "
            f"efficiency for the others, against that of the class; test sample: {population(test)}. The "
            f"band is the statistical error at fixed efficiency.{_outer_band(view)} Weights are signed."
        )
    return drawn(
        "roc",
        caption,
        lambda ax: roc_curve(view.events, view.run.scores, metrics=metrics, systematic=systematic, ax=ax),
        (7.2, 5.8 + 0.16 * len(view.class_scores) * _several(view)),
    )


def _outer_band(view: RunView) -> str:
    return " The outer band has the systematic error in quadrature." if view.sources else ""


def _varied(view: RunView) -> dict[str, list[tuple[Events, Array]]]:
    """Events and logits under the alternatives of each source."""
    return {source: [(run.events, run.scores) for run in runs] for source, runs in view.sources.items()}


def _roc_curves(view: RunView, samples: Sequence[RocSample]) -> dict[str, dict[str, Any]]:
    """Curve of the test sample; of three classes or more, by class."""
    names = ("signal_efficiency", "rejection", "rejection_error", "rejection_low", "rejection_high")
    curves = {
        s.name: dict(zip(names, roc_band(s.score, s.signal, s.weight), strict=True))
        for s in samples
        if s.split == "test"
    }
    if view.sources:
        for s in (s for s in samples if s.split == "test"):
            curve = curves[s.name]
            syst = roc_systematic(s, curve["signal_efficiency"], _varied(view))
            curve["rejection_syst"] = syst
    return curves


def _metrics_table(view: RunView) -> Table:
    cut = "accuracy takes the class of the largest logit" if _several(view) else "accuracy cuts at logit 0"
    figures = {s: {n: v for n, v in row.items() if not _of_pair(n)} for s, row in view.metrics.items()}
    caption = f"Figures of merit by split; {cut}. {view.errors}{_unbounded(view)}"
    return figures_table(caption, figures, lambda name: merit(name, view), number)


def _of_pair(name: str) -> bool:
    return name.startswith("auc_") and not name.endswith(VS_REST)


def _pairs(view: RunView) -> Table | None:
    """AUC of every two classes in the test sample."""
    row, classes = view.metrics.get("test", {}), view.classes
    if not any(map(_of_pair, row)):
        return None
    cells = [[c, *(_pair_cell(row, c, d) for d in classes[1:])] for c in classes[:-1]]
    caption = (
        "AUC of each two classes, on the events of the two in the test sample and the difference of their "
        f"logits. {view.errors}"
    )
    return Table(caption, ("", *classes[1:]), cells)


def _pair_cell(row: Figures, one: str, other: str) -> str:
    """AUC of two classes; each pair stands once, in the row of the class that comes first."""
    auc = row.get(f"auc_{one}_vs_{other}")
    return "" if auc is None else number(auc)


def _confusion(view: RunView) -> Estimate | None:
    def measure(events: Events, logits: Array) -> Estimate:
        rows = events.split == SPLITS.index("test")
        return confusion_matrix(logits[rows], events.label[rows], events.weight[rows])

    return view.with_errors(measure) if len(view.events.where("test")) else None


def _confusion_figure(view: RunView, confusion: Estimate) -> CaptionedFigure:
    test, classes = view.events.where("test"), view.events.schema.classes
    caption = (
        "Weighted fraction of each true class that is assigned to each class, that of the largest logit; "
        f"rows add up to 1; test sample: {population(test)}. Hatched: a class without events. "
        f"{ERRORS}{OTHERS if confusion.spread else ''}"
    )
    size = (3.4 + 0.95 * len(classes), 1.9 + 0.75 * len(classes))
    return drawn("confusion", caption, lambda ax: class_confusion(confusion, classes, ax=ax), size)


def _confusion_numbers(view: RunView, confusion: Estimate) -> list[dict[str, Any]]:
    classes = view.events.schema.classes
    return [
        {"true": classes[i], "assigned": classes[j]} | entry(confusion.at((i, j)))
        for i, j in np.ndindex(*np.shape(confusion.value))
    ]


def _unbounded(view: RunView) -> str:
    """Note on a rejection without a number, if there is one."""
    rejections = [v for row in view.metrics.values() for n, v in row.items() if n.startswith("rejection")]
    if all(np.isfinite(real(v.get("value"))) for v in rejections):
        return ""
    background = view.class_scores[0].others
    return (
        f" A rejection of ∞ or –: the {background} that passes has no positive weight, so there is no number."
    )


def merit(name: str, view: RunView) -> str:
    """Figure of merit in words, with the class names of the card."""
    kind, _, point = name.partition("@")
    if kind == "rejection" and point:
        one = view.class_scores[0]
        return f"{one.others} rejection at {100 * float(point):g} % {one.name} efficiency"
    if of := aucs((name,)).get(name):
        return f"AUC of {of} against the rest"
    return {"auc": "AUC", "mean_auc": "mean AUC against the rest"}.get(name, name.replace("_", " "))


def figures_of_merit(metrics: Mapping[str, Figures]) -> rich.table.Table:
    """Table of the figures of merit with their errors for a terminal, one column for each split."""
    table = rich.table.Table("figure of merit", *metrics)
    for name in dict.fromkeys(name for row in metrics.values() for name in row):
        cells = (row.get(name, {}) for row in metrics.values())
        table.add_row(name, *map(number, cells))
    return table
