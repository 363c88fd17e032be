"""Sections on how far the explanations can be trusted: completeness, fidelity, agreement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import hist
import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.estimate import Estimate, ratio_mean
from hepxai.explain.path import relative_residual, residual_checks
from hepxai.jagged import IntArray, parents, row_sum
from hepxai.plots.text import general, measured, method_name
from hepxai.plots.trust import FIGURES, fidelity_points, residuals
from hepxai.report.content import ReportContent
from hepxai.report.maps import maps
from hepxai.report.section import ERRORS, Section, Table, drawn, number, population, titled


def residuals_section(content: ReportContent) -> Section:
    """Relative completeness residuals: median and 90 % quantile of every path method."""
    found = complete(content)
    if not any(len(a.events) for a in found.values()):
        text = [
            "No method that promises completeness was run. `hepxai explain` with edge_ig or node_ig does."
        ]
        return Section("residuals", "Completeness", text=text)
    numbers = {method: residual_numbers(a) for method, a in found.items()}
    rows = [[method_name(m), *_shown(n)] for m, n in numbers.items()]
    header = ("method", "events", "median", "90 % quantile", "infinite", "undefined")
    caption = (
        "Completeness: how far the attributions of an event miss the change of the output that they should "
        "add up to, relative to that change. Events are not weighted: this is a property of the numerical "
        "integral. Dotted lines: medians; the outermost bins hold what lies beyond, also infinite residuals: "
        "events with a residual though their output does not change. Undefined, and left out: events without "
        "either. "
        f"{', '.join(population(a.events) for a in found.values())}."
    )
    figure = drawn("residuals", caption, lambda ax: residuals(found, ax=ax), (7.2, 5.0))
    return Section(
        "residuals",
        "Completeness",
        tables=[Table("Relative completeness residual per event", header, rows)],
        figures=[figure],
        numbers=numbers,
        histograms={f"residuals/{m}": titled(_residual_histogram(a), a) for m, a in found.items()},
    )


def complete(content: ReportContent) -> dict[str, Attribution]:
    """Those explanations that promise completeness."""
    return {k: a for k, a in content.explained.items() if a.residual is not None and a.span is not None}


def residual_numbers(attribution: Attribution) -> dict[str, float]:
    """Events, median and 90 % quantile of their relative residual, and how many have an infinite or none."""
    values, checks = relative_residual(attribution), residual_checks(attribution)
    undefined = int(np.isnan(values).sum())
    known = undefined < len(values)
    return {
        "events": len(values),
        "median": checks["median_residual"] if known else np.nan,
        "quantile_90": checks["p90_residual"] if known else np.nan,
        "infinite": int(np.isinf(values).sum()),
        "undefined": undefined,
    }


def relative(residual: float) -> str:
    """Relative residual as a percentage."""
    return f"{general(100 * residual, 2)} %" if np.isfinite(residual) else general(residual)


def _shown(numbers: Mapping[str, float]) -> list[str]:
    counts = {k: f"{numbers[k]:,}" for k in ("events", "infinite", "undefined")}
    quantiles = [relative(numbers[k]) for k in ("median", "quantile_90")]
    return [counts["events"], *quantiles, counts["infinite"], counts["undefined"]]


def _residual_histogram(attribution: Attribution) -> hist.Hist:
    filled = hist.Hist(hist.axis.Regular(72, -7, 2, name="x", label="log10 of the relative residual"))
    values = relative_residual(attribution)
    return filled.fill(np.clip(np.log10(np.maximum(values[~np.isnan(values)], 1e-7)), -7, 2 - 1e-9))


# --- surrogate -------------------------------------------------------------------------------


def fidelity_section(content: ReportContent) -> Section:
    """How well the surrogate repeats the model."""
    warnings = content.warnings_about("surrogate")
    if not content.fidelity:
        text = ["No surrogate was trained: explain the run with a surrogate method to train one."]
        return Section("fidelity", "Fidelity of the surrogate", text=text, warnings=warnings)
    names = list(dict.fromkeys(n for row in content.fidelity.values() for n in row))
    rows = [
        [FIGURES.get(n, n), *(number(row[n]) if n in row else "–" for row in content.fidelity.values())]
        for n in names
    ]
    caption = (
        "The surrogate against the model that it stands for, by split: fraction of events with the same "
        "decision, correlation of the two logits, AUC of the surrogate against the model's decision. "
        f"{ERRORS}"
    )
    size = (7.4, 1.8 + 0.75 * len(names))
    figure = drawn("fidelity", caption, lambda ax: fidelity_points(content.fidelity, ax=ax), size)
    return Section(
        "fidelity",
        "Fidelity of the surrogate",
        warnings=warnings,
        tables=[Table(f"Fidelity by split. {ERRORS}", ("", *content.fidelity), rows)],
        figures=[figure],
        numbers={s: {n: dict(v) for n, v in row.items()} for s, row in content.fidelity.items()},
    )


# --- agreement -------------------------------------------------------------------------------


def agreement_section(content: ReportContent) -> Section:
    """Whether the methods point to the same pairs."""
    found = list(_agreements(content))
    if not found:
        text = ["Two methods that explain the same pairs of the same events are needed to compare."]
        return Section("agreement", "Agreement between methods", text=text)
    rows = [[n["first"], n["second"], measured(n["value"], n["error"])] for n in found]
    caption = (
        "Mean rank correlation (Spearman) inside an event between two methods over its pairs; 1: same order, "
        f"0: none. Events with fewer than three pairs are left out. {ERRORS}"
    )
    return Section(
        "agreement",
        "Agreement between methods",
        tables=[Table(caption, ("first", "second", "rank correlation"), rows, words=2)],
        numbers=found,
    )


def _agreements(content: ReportContent) -> Iterator[dict[str, Any]]:
    plain = {found.name: found.plain for found in maps(content, "pair")}
    for (first, a), (second, b) in combinations(plain.items(), 2):
        if _same_pairs(a, b):
            found = rank_correlation(a, b)
            yield {"first": first, "second": second, "value": float(found.value), "error": float(found.error)}


def _same_pairs(a: Attribution, b: Attribution) -> bool:
    if a.pairs is None or b.pairs is None or len(a.values) != len(b.values):
        return False
    same_rows = np.array_equal(a.events.entry, b.events.entry) and np.array_equal(
        a.events.file, b.events.file
    )
    return same_rows and np.array_equal(a.pairs.src, b.pairs.src) and np.array_equal(a.pairs.dst, b.pairs.dst)


def rank_correlation(a: Attribution, b: Attribution) -> Estimate:
    """Weighted mean over events of the Spearman correlation of two maps over the same pairs."""
    offsets = a.offsets
    x, y = (_centred_ranks(v.values, offsets) for v in (a, b))
    top, xx, yy = (row_sum(v, offsets) for v in (x * y, x * x, y * y))
    used = (np.diff(offsets) > 2) & (xx > 0) & (yy > 0)
    value = np.where(used, top / np.sqrt(np.where(used, xx * yy, 1.0)), 0.0)
    return ratio_mean(value, used.astype(np.int64), a.events.weight)


def _centred_ranks(values: NDArray[np.floating], offsets: IntArray) -> NDArray[np.float64]:
    owner = parents(offsets)
    order = np.lexsort((values, owner))
    new = np.append(True, (np.diff(values[order]) != 0) | (np.diff(owner[order]) != 0))[: len(order)]
    group = np.cumsum(new) - 1
    place = np.arange(len(order), dtype=np.float64)
    tied = np.bincount(group, place) / np.bincount(group)  # ties share the mean of their ranks
    ranks = np.empty(len(order))
    ranks[order] = tied[group]
    mean = row_sum(ranks, offsets) / np.maximum(np.diff(offsets), 1)
    return ranks - mean[owner]
