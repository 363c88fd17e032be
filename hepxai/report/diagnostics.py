"""Sections on the reliability of the explanations: completeness, fidelity, agreement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import hist
import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import is_directed, short_name
from hepxai.attribution.residuals import relative_residual, residual_checks
from hepxai.attribution.spread import SYSTEMATIC, TRAINING
from hepxai.core.formatting import percentage
from hepxai.explainers import EXPLAINERS
from hepxai.explainers.path import PathExplainer
from hepxai.metrics.agreement import Agreement, rank_agreement
from hepxai.plots.diagnostics import FIGURES, fidelity_points, residuals
from hepxai.report.columns import column_agreements
from hepxai.report.layer_attributions import maps
from hepxai.report.pixels import pixel_agreements
from hepxai.report.section import (
    ERRORS,
    Section,
    Table,
    agreement_rows,
    drawn,
    figures_table,
    kinds_of_errors,
    number,
    stored,
    titled,
)
from hepxai.report.view import RunView, fidelity_of


def residuals_section(view: RunView) -> Section:
    """Relative completeness residuals: median and 90 % quantile of every path method."""
    maps = complete(view)
    if not any(len(a.events) for a in maps.values()):
        methods = ", ".join(n for n, e in sorted(EXPLAINERS.items()) if issubclass(e, PathExplainer))
        text = f"No method that promises completeness was run; these do: {methods}."
        return Section("residuals", "Completeness", text=[text])
    numbers = {method: residual_numbers(a) for method, a in maps.items()}
    rows = [[short_name(maps[m], m), *_cells(n)] for m, n in numbers.items()]
    header = ("method", "events", "median", "90 % quantile", "infinite", "undefined")
    caption = (
        "Completeness: how far the attributions of an event miss the change of the output that they should "
        "add up to, relative to that change. Events are not weighted: this is a property of the method and "
        "its steps. Dotted lines: medians; the outermost bins hold what lies beyond, also infinite "
        "residuals: events with a residual though their output does not change. Undefined, and left out: "
        "events without either."
    )
    in_full = {m: a for m, a in maps.items() if not view.compact(a.target)}
    if len(in_full) < len(maps):
        caption += " Lines: outputs with figures of their own; the table has all."
    figure = drawn("residuals", caption, lambda ax: residuals(in_full, ax=ax), (7.2, 5.0))
    return Section(
        "residuals",
        "Completeness",
        tables=[Table("Relative completeness residual per event", header, rows)],
        figures=[figure],
        numbers=numbers,
        histograms={f"residuals/{m}": titled(_residual_histogram(a), a) for m, a in maps.items()},
    )


def complete(view: RunView) -> dict[str, Attribution]:
    """Explanations that promise completeness."""
    return {k: a for k, a in view.explained.items() if a.residual is not None and a.output_change is not None}


def residual_numbers(attribution: Attribution) -> dict[str, float]:
    """Events, median and 90 % quantile of their relative residual, and how many have an infinite or none."""
    values, checks = relative_residual(attribution), residual_checks(attribution)
    undefined = int(np.isnan(values).sum())
    defined = undefined < len(values)
    return {
        "events": len(values),
        "median": checks["median_residual"] if defined else np.nan,
        "quantile_90": checks["p90_residual"] if defined else np.nan,
        "infinite": int(np.isinf(values).sum()),
        "undefined": undefined,
    }


def _cells(numbers: Mapping[str, float]) -> list[str]:
    counts = {k: f"{numbers[k]:,}" for k in ("events", "infinite", "undefined")}
    quantiles = [percentage(numbers[k]) for k in ("median", "quantile_90")]
    return [counts["events"], *quantiles, counts["infinite"], counts["undefined"]]


def _residual_histogram(attribution: Attribution) -> hist.Hist:
    filled = hist.Hist(hist.axis.Regular(72, -7, 2, name="x", label="log10 of the relative residual"))
    values = relative_residual(attribution)
    return filled.fill(np.clip(np.log10(np.maximum(values[~np.isnan(values)], 1e-7)), -7, 2 - 1e-9))


# --- surrogate -------------------------------------------------------------------------------


def fidelity_section(view: RunView) -> Section:
    """Fidelity of the surrogate to the model."""
    caption = (
        "The surrogate against the model that it stands for, by split: fraction of events with the same "
        "decision, and of those where the best constant decision is the model's; correlation of the two "
        "logits; AUC of the surrogate against the model's decision; where the model has edges of its own, "
        "rank correlation of the edges of the two inside an event. "
        f"{ERRORS}"
    )
    table = figures_table(f"Fidelity by split. {ERRORS}", view.fidelity, lambda n: FIGURES.get(n, n), number)
    size = (7.4, 1.8 + 0.75 * len(table.rows))
    figure = drawn("fidelity", caption, lambda ax: fidelity_points(view.fidelity, ax=ax), size)
    return Section(
        "fidelity",
        "Fidelity of the surrogate",
        warnings=[w for key, a in view.explained.items() if fidelity_of(a) for w in view.warnings_about(key)],
        tables=[table],
        figures=[figure],
        numbers={s: {n: dict(v) for n, v in row.items()} for s, row in view.fidelity.items()},
    )


# --- agreement -------------------------------------------------------------------------------


def agreement_section(view: RunView) -> Section:
    """Rank correlation of the methods over the same pairs, columns or hits."""
    numbers = list(agreements(view))
    if not numbers:
        text = ["Two methods that explain the same pairs, columns or pixels of the same events are needed."]
        return Section("agreement", "Agreement between methods", text=text)
    rows = [[n["first"], n["second"], stored(n), f"{n['left_out']:,}"] for n in numbers]
    caption = (
        "Mean rank correlation (Spearman) inside an event between the magnitudes that two methods give "
        "its pairs, columns or lit pixels; 1: same order, 0: unrelated. Events without an order among them "
        f"are left out. {_errors_of_rows(view, numbers)}"
    )
    header = ("first", "second", "rank correlation", "events left out")
    return Section(
        "agreement",
        "Agreement between methods",
        tables=[Table(caption, header, rows, words=2)],
        numbers=numbers,
    )


def _errors_of_rows(view: RunView, numbers: Sequence[Mapping[str, Any]]) -> str:
    trainings, systematic = (any(name in row for row in numbers) for name in (TRAINING, SYSTEMATIC))
    return kinds_of_errors(view.trainings if trainings else 1, systematic=systematic)


def agreements(view: RunView) -> Iterator[dict[str, Any]]:
    """Mean rank correlation of every two maps over pairs, columns or pixels that explain the same events."""
    yield from column_agreements(view)
    yield from pixel_agreements(view)
    pairs = {layer.short: layer.every for layer in maps(view, "pair")}
    yield from agreement_rows(pairs, _pair_agreement)


def _pair_agreement(a: Attribution, b: Attribution) -> Agreement:
    return rank_agreement(a, b, unordered=not (is_directed(a) and is_directed(b)))
