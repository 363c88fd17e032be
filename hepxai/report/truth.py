"""Section on the truth of the card: true particles and pairs, found by the maps and by their types alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hepxai.core.estimate import Estimate
from hepxai.core.formatting import general
from hepxai.metrics.truth import comparable_events, truth_auroc
from hepxai.metrics.truth_by_type import (
    null_within_types,
    truth_beyond_types,
    truth_by_type,
    truth_within_types,
)
from hepxai.plots.truth import truth_baselines
from hepxai.report.layer_attributions import LayerAttribution, maps
from hepxai.report.section import CaptionedFigure, Section, Table, drawn, entry, stored
from hepxai.report.view import RunView

WORK = 10_000_000
"""Entries of a map times draws of the null distribution, about."""
DRAWS = (40, 200)
"""Fewest and most draws."""


def truth_section(view: RunView) -> Section:
    """AUROC of every map over particles or pairs for every truth that the card declares."""
    rows = list(truth_rows(view))
    text = [
        "AUROC: probability that a true particle, or a pair of two, has a larger |value| than another entry "
        "of its event; mean over the events that have both. By chance it is 0.5. By types alone: a map that "
        "gives entries of equal types the same value, the share of them that is true in the events compared. "
        "Equal types: a true entry against others of its types only. The null distribution there has the "
        "truth shuffled among particles of equal type of an event; p: share of its values at least as "
        "large, for each map alone."
    ]
    if not rows:
        text = ["No explained event has true entries beside others, so that no map can be compared."]
    names = list(dict.fromkeys(r["truth"] for r in rows))
    by_truth = {name: [r for r in rows if r["truth"] == name] for name in names}
    return Section(
        "truth",
        "Do the maps find the truth?",
        text=text,
        tables=[_table(view, name, several) for name, several in by_truth.items()],
        figures=[f for name, several in by_truth.items() for f in _figures(name, several)],
        numbers=rows,
    )


def truth_rows(view: RunView) -> Iterator[dict[str, Any]]:
    """Numbers of every map and truth, where an event has true entries and others."""
    for truth in view.events.truth:
        for layer in maps(view):
            events = int(comparable_events(layer.plain, truth).sum())
            if events:
                yield {"truth": truth, "method": layer.short, "target": layer.full.target, "events": events,
                       "compact": layer.compact} | _numbers(layer, truth)  # fmt: skip


def _numbers(layer: LayerAttribution, truth: str) -> dict[str, Any]:
    within = truth_within_types(layer.every, truth)
    draws = int(np.clip(WORK / max(len(layer.plain.values), 1), *DRAWS))
    null = null_within_types(layer.plain, truth, draws=draws)
    return {
        "auroc": entry(truth_auroc(layer.every, truth)),
        "by_type": entry(truth_by_type(layer.plain, truth)),
        "gain": entry(truth_beyond_types(layer.every, truth)),
        "within_types": entry(within) | {"n_eff": within.n_eff},
        "null": entry(null.expectation),
        "p_value": null.p_value(float(within.value)),
        "draws": draws,
    }


def _table(view: RunView, truth: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    header = ("map", "AUROC", "by types alone", "equal types", "its null", "p", "events")
    cells = [
        [
            r["method"],
            stored(r["auroc"]),
            stored(r["by_type"]),
            *(stored(r[k]) if np.isfinite(r["within_types"]["value"]) else "–" for k in NULL),
            general(r["p_value"], 2),
            f"{r['events']:,}",
        ]
        for r in rows
    ]
    missing = " –: no event has a true entry and another one of equal types." if _missing(rows) else ""
    errors = next(maps(view)).errors
    caption = f"AUROC for {truth}, by chance 0.5. {errors} Of the null: standard deviation.{missing}"
    return Table(caption, header, cells)


NULL = ("within_types", "null")


def _missing(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(not np.isfinite(r["within_types"]["value"]) for r in rows)


def _figures(truth: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[CaptionedFigure]:
    in_full = [r for r in rows if not r["compact"]]
    series = [
        {r["method"]: _estimate(r[key]) for r in in_full} for key in ("auroc", "by_type", "within_types")
    ]
    if in_full:
        caption = f"AUROC for {truth} of each map, as in the table. Thin: all errors in quadrature."
        size = (8.0, 2.0 + 0.75 * len(in_full))
        yield drawn(f"truth_{truth}", caption, lambda ax: truth_baselines(*series, ax=ax), size)


def _estimate(numbers: Mapping[str, float]) -> Estimate:
    """Estimate of the numbers of `hepxai.report.section.entry`."""
    return Estimate.from_json({"n_eff": np.nan, **numbers})
