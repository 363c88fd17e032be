"""Section on what a regression can do: errors of every target, and the turn-on of a momentum threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import hist
import numpy as np
from numpy.typing import NDArray

from hepxai.core.formatting import decimals, fixed, measured, real
from hepxai.events import SPLITS, Schema
from hepxai.metrics.momentum import THRESHOLD, TurnOn, turn_on
from hepxai.metrics.targets import is_momentum
from hepxai.plots.histograms import robust_edges, signed_histogram
from hepxai.plots.momentum import momentum_residuals, turn_on_curve
from hepxai.report.content import Number, ReportContent
from hepxai.report.section import ERRORS, CaptionedFigure, Section, Table, drawn, population

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


def targets_section(content: ReportContent) -> Section:
    """Figures of merit of every split; predicted - true of every target in the test sample."""
    test = content.events.where("test")
    figures = [_residuals(content, t) for t in content.predictions if len(_errors(content, t, "test")[0])]
    return Section(
        "targets",
        "Predictions",
        text=() if len(test) else ("There are no test events.",),
        tables=[_metrics_table(content)] if content.metrics else [],
        figures=[*figures, *_turn_ons(content)],
        numbers={"metrics": {s: {n: dict(v) for n, v in row.items()} for s, row in content.metrics.items()}},
        histograms=dict(_histograms(content)),
    )


def _metrics_table(content: ReportContent) -> Table:
    names = list(dict.fromkeys(n for row in content.metrics.values() for n in row))
    rows = [
        [
            target_merit(n, content.events.schema),
            *(interval(row[n]) if n in row else "–" for row in content.metrics.values()),
        ]
        for n in names
    ]
    caption = (
        "Figures of merit by split; the error is predicted − true, the constant the median of the training "
        f"split. {ERRORS} Those of shares are Clopper-Pearson intervals."
    )
    return Table(caption, ("", *content.metrics), rows)


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
    """Unit of a target; empty for none, and for what is no target."""
    return dict(zip(schema.targets, schema.target_units, strict=True)).get(target, "")


def interval(entry: Number) -> str:
    """``{"value", "error"}`` as text, with both ends of the interval where they differ."""
    value, low, high = (real(entry.get(k)) for k in ("value", "low", "high"))
    up, down = high - value, value - low
    if not np.isfinite([value, up, down]).all() or not max(up, down) > 0:
        return measured(entry.get("value"), None if "low" in entry else entry.get("error"))
    places = decimals(max(up, down))
    return f"{fixed(value, places)} +{fixed(up, places)} −{fixed(down, places)}"


def _errors(
    content: ReportContent, target: str, split: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted - true, and weights, of the events of a split that have a true value."""
    true = content.events.targets[:, content.events.schema.targets.index(target)]
    own = (content.events.split == SPLITS.index(split)) & np.isfinite(true)
    return (content.predictions[target] - true)[own], content.events.weight[own]


def _residuals(content: ReportContent, target: str) -> CaptionedFigure:
    events = content.events.where("test")
    true = events.targets[:, events.schema.targets.index(target)].astype(np.float64)
    unit = unit_of(events.schema, target)
    caption = (
        f"Predicted − true {target}; test sample: {population(events[np.isfinite(true)])} with a true value. "
        f"Unit area; bars are √Σw² of the bin, the outermost bins hold what lies beyond. {ERRORS}"
    )
    said = {"test sample": content.predicted(target, events)}
    return drawn(
        f"residuals_{target}",
        caption,
        lambda ax: momentum_residuals(said, true, events.weight, units=unit, name=target, ax=ax),
        (7.2, 5.0),
    )


def _turn_ons(content: ReportContent) -> Iterator[CaptionedFigure]:
    """The turn-on curve of the trigger threshold, for a pt in GeV."""
    events = content.events.where("test")
    for target in content.predictions:
        true = events.targets[:, events.schema.targets.index(target)].astype(np.float64)
        if is_momentum(events.schema, target) and np.isfinite(true).any():
            edges = np.linspace(0, float(np.nanmax(true)), BINS + 1)
            found = turn_on(content.predicted(target, events), true, events.weight, edges=edges)
            yield _turn_on(target, {"test sample": found})


def _turn_on(target: str, curves: Mapping[str, TurnOn]) -> CaptionedFigure:
    caption = (
        f"Share of test events with a predicted {target} of {THRESHOLD:g} GeV and more (dotted line) against "
        f"the true {target}. Vertical bars: Clopper-Pearson intervals; horizontal ones: bins."
    )
    return drawn(f"turn_on_{target}", caption, lambda ax: turn_on_curve(curves, ax=ax), (7.2, 5.0))


def _histograms(content: ReportContent) -> Iterator[tuple[str, hist.Hist]]:
    for target in content.predictions:
        found = {s: _errors(content, target, s) for s in ("train", "test")}
        edges = robust_edges(np.concatenate([off for off, _ in found.values()]), 60)
        for split, (off, weight) in found.items():
            label = f"predicted - true {target}"
            yield f"targets/{target}_{split}", signed_histogram(off, weight, edges, label=label)


def target_sentences(content: ReportContent, row: Mapping[str, Number]) -> Iterator[str]:
    """Mean |error| of each target, and what it is to be compared with."""
    for target in content.predictions:
        if f"mae_{target}" in row:
            unit = unit_of(content.events.schema, target)
            gain = row.get(f"gain_{target}", {})
            less, error = abs(real(gain.get("value"))), gain.get("error")
            side = "less" if real(gain.get("value")) >= 0 else "more"
            off = f"{interval(row[f'mae_{target}'])} {unit}".strip()
            than = f"{measured(less, error)} {unit}".strip()
            yield f"mean |error| of {target} {off}, {than} {side} than with a constant"
