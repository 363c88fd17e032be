"""Section on the performance of a regression: errors of every target, turn-on of a momentum threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import hist
import numpy as np
from numpy.typing import NDArray

from hepxai.core.formatting import measured, real
from hepxai.events import SPLITS, Schema
from hepxai.metrics.momentum import THRESHOLD, TurnOn, turn_on
from hepxai.metrics.targets import is_momentum
from hepxai.plots.histograms import robust_edges, signed_histogram
from hepxai.plots.momentum import momentum_residuals, turn_on_curve
from hepxai.report.section import (
    ERRORS,
    CaptionedFigure,
    Section,
    Table,
    drawn,
    figures_table,
    number,
    population,
)
from hepxai.report.view import Number, RunView

BINS = 20
"""Bins of true pt of a turn-on curve."""
MERITS = {
    "mae": "mean |error| of {}",
    "bias": "mean error of {}",
    "gain": "mean |error| of {}, less than that of a constant by",
    "efficiency": "share found above, truly above",
    "leak": "share found above, truly below",
    "fakes": "share found above, no true value",
}


def targets_section(view: RunView) -> Section:
    """Figures of merit of every split; predicted - true of every target in the test sample."""
    test = view.events.where("test")
    figures = [_residuals(view, t) for t in view.predictions if len(_errors(view, t, "test")[0])]
    return Section(
        "targets",
        "Predictions",
        text=() if len(test) else ("There are no test events.",),
        tables=[_metrics_table(view)] if view.metrics else [],
        figures=[*figures, *_turn_ons(view)],
        numbers={"metrics": {s: {n: dict(v) for n, v in row.items()} for s, row in view.metrics.items()}},
        histograms=dict(_histograms(view)),
    )


def _metrics_table(view: RunView) -> Table:
    caption = (
        "Figures of merit by split; the error is predicted − true, the constant the median of the training "
        f"split. {view.errors} Those of shares are Clopper-Pearson intervals."
    )
    return figures_table(caption, view.metrics, lambda name: target_merit(name, view.events.schema), number)


def target_merit(name: str, schema: Schema) -> str:
    """Figure of merit in words, with its unit."""
    figure, _, rest = name.partition("_")
    target, _, cut = rest.partition("@")
    unit = unit_of(schema, target)
    words = MERITS.get(figure, figure).format(target)
    if figure in ("efficiency", "leak", "fakes"):
        return f"{words}: {target} of {cut} {unit}".strip()
    inside = f", true {cut.replace('-', '–')} {unit}".rstrip() if cut else ""
    return f"{words}{inside}{f' [{unit}]' if unit else ''}"


def unit_of(schema: Schema, target: str) -> str:
    """Unit of a target; empty if it has none, or if there is no such target."""
    return dict(zip(schema.targets, schema.target_units, strict=True)).get(target, "")


def _errors(view: RunView, target: str, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted - true, and weights, of the events of a split that have a true value."""
    true = view.events.targets[:, view.events.schema.targets.index(target)]
    rows = (view.events.split == SPLITS.index(split)) & np.isfinite(true)
    return (view.predictions[target] - true)[rows], view.events.weight[rows]


def _residuals(view: RunView, target: str) -> CaptionedFigure:
    events = view.events.where("test")
    true = events.targets[:, events.schema.targets.index(target)].astype(np.float64)
    unit = unit_of(events.schema, target)
    caption = (
        f"Predicted − true {target}; test sample: {population(events[np.isfinite(true)])} with a true value. "
        f"Unit area; bars are √Σw² of the bin, the outermost bins hold what lies beyond. {ERRORS}"
    )
    predicted = {"test sample": view.predicted(target, events)}
    return drawn(
        f"residuals_{target}",
        caption,
        lambda ax: momentum_residuals(predicted, true, events.weight, units=unit, name=target, ax=ax),
        (7.2, 5.0),
    )


def _turn_ons(view: RunView) -> Iterator[CaptionedFigure]:
    """The turn-on curve of the trigger threshold, for a pt in GeV."""
    events = view.events.where("test")
    for target in view.predictions:
        true = events.targets[:, events.schema.targets.index(target)].astype(np.float64)
        if is_momentum(events.schema, target) and np.isfinite(true).any():
            edges = np.linspace(0, float(np.nanmax(true)), BINS + 1)
            curve = turn_on(view.predicted(target, events), true, events.weight, edges=edges)
            yield _turn_on(target, {"test sample": curve})


def _turn_on(target: str, curves: Mapping[str, TurnOn]) -> CaptionedFigure:
    caption = (
        f"Share of test events with a predicted {target} of {THRESHOLD:g} GeV and more (dotted line) against "
        f"the true {target}. Vertical bars: Clopper-Pearson intervals; horizontal ones: bins."
    )
    return drawn(f"turn_on_{target}", caption, lambda ax: turn_on_curve(curves, ax=ax), (7.2, 5.0))


def _histograms(view: RunView) -> Iterator[tuple[str, hist.Hist]]:
    for target in view.predictions:
        errors = {s: _errors(view, target, s) for s in ("train", "test")}
        edges = robust_edges(np.concatenate([off for off, _ in errors.values()]), 60)
        for split, (off, weight) in errors.items():
            label = f"predicted - true {target}"
            yield f"targets/{target}_{split}", signed_histogram(off, weight, edges, label=label)


def target_sentences(view: RunView, row: Mapping[str, Number]) -> Iterator[str]:
    """Mean |error| of each target, and that of a constant beside it."""
    for target in view.predictions:
        if f"mae_{target}" in row:
            unit = unit_of(view.events.schema, target)
            gain = row.get(f"gain_{target}", {})
            less, error = abs(real(gain.get("value"))), gain.get("error")
            side = "less" if real(gain.get("value")) >= 0 else "more"
            off = f"{number(row[f'mae_{target}'])} {unit}".strip()
            than = f"{measured(less, error)} {unit}".strip()
            yield f"mean |error| of {target} {off}, {than} {side} than with a constant"
