"""Sections on what the model looked at: one for each method and layer. Particles here, pairs in `pairs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate, as_json
from hepxai.core.formatting import measured
from hepxai.metrics.isolation import attention_from_rest, isolation
from hepxai.metrics.reductions import in_focus
from hepxai.plots.means import Means, pair_name, quantity, type_means
from hepxai.plots.style import canvas, style
from hepxai.plots.types import feature_matrix, matrix_bar, particle_types
from hepxai.report.baseline import baseline_table, closure_part
from hepxai.report.columns import column_sections
from hepxai.report.content import ReportContent
from hepxai.report.layer_attributions import LayerAttribution, by_place, maps, signed
from hepxai.report.pairs import pair_section
from hepxai.report.pixels import pixel_maps, pixel_sections
from hepxai.report.section import (
    ERRORS,
    CaptionedFigure,
    Section,
    Table,
    capital,
    drawn,
    means_table,
    row_histogram,
    titled,
)

NOTHING = "Nothing was explained yet: run `hepxai explain` on this run folder."


def looked_sections(content: ReportContent) -> Iterator[Section]:
    """Comparison of the methods, then one section per method and layer."""
    if pixel_maps(content):
        yield from pixel_sections(content)
    else:
        yield overview_section(content)
    yield from column_sections(content)
    for found in maps(content):
        build = pair_section if found.full.axes[0] == "pair" else particle_section
        yield build(content, found)


# --- all methods side by side ----------------------------------------------------------------


def overview_section(content: ReportContent) -> Section:
    """How strongly the pair in focus is tied together, in a number that all methods share."""
    rows = list(_isolations(content))
    pairs = pair_name(content.focus)
    text = () if content.explained else (NOTHING,)
    if not rows and any(in_focus(m.plain, content.focus).all() for m in maps(content, "pair")):
        text = (f"All pairs are {pairs}: there are no others to compare them with.",)
    header = (
        "method",
        *(f"inside, {c}" for c in content.classes),
        *(f"to others, {c}" for c in content.classes),
    )
    shown = [[r["method"], *(measured(e["value"], e["error"]) for e in r["shares"].values())] for r in rows]
    caption = (
        f"{capital(pairs)}, method by method, in units of an equal share; signs are left aside. Inside: "
        "share of what the two receive that comes from each other; 1: like from anyone else. To others: "
        f"share of what all others receive that comes from the two. {ERRORS}"
    )
    tables = [Table(caption, header, shown)] if rows else []
    return Section("looked", "What the model looked at", text=text, tables=tables, numbers=rows)


def _isolations(content: ReportContent) -> Iterator[dict[str, Any]]:
    for found in maps(content, "pair"):
        raw = found.raw()
        if found.tells_apart(content.focus):
            shares = {
                f"{where} {name}": _share(measure, raw, content.focus, name)
                for where, measure in (("inside", isolation), ("others", attention_from_rest))
                for name in content.classes
            }
            yield {"method": found.short, "shares": as_json(shares)}


def _share(measure: Any, raw: Attribution, focus: tuple[str, str], name: str) -> Estimate:
    found: Estimate = measure(raw[raw.events.label == raw.events.schema.classes.index(name)], focus)
    return found


# --- particles -------------------------------------------------------------------------------


def particle_section(content: ReportContent, found: LayerAttribution) -> Section:
    """Means per particle type, and per feature where the method tells features apart."""
    means, closure = type_means(found.plain), closure_part(content, found)
    numbers = {"unit": quantity(found.plain), "particle_types": means.rows(), "closure": closure.numbers}
    figures = [_types_figure(found, means)]
    if "feature" in found.full.axes:
        features = _features_only(found.full)
        figures.append(_features_figure(found, features))
        numbers["features"] = type_means(features).rows()
    return Section(
        found.key,
        capital(found.name),
        text=[signed(found), *closure.text],
        warnings=content.warnings_about(found.method),
        tables=[
            *closure.tables,
            means_table(f"Mean {quantity(found.plain)} per particle. {ERRORS}", means),
            *baseline_table(found),
        ],
        figures=figures,
        numbers=numbers,
        histograms={k: titled(h, found.full) for k, h in _histograms(found, means).items()},
        level=3,
    )


def _histograms(found: LayerAttribution, means: Means) -> dict[str, Any]:
    classes, types = means.labels[:2]
    return {
        f"{found.key}/types_{c}": row_histogram(means.value[i], means.error[i], types, "particle")
        for i, c in enumerate(classes)
    }


def _types_figure(found: LayerAttribution, means: Means) -> CaptionedFigure:
    what = "Mean attribution per particle of each type, all its features together"
    caption = f"{what}; {found.about}{by_place(found)}"
    size = (7.0, 1.8 + 0.75 * len(means.labels[1]))
    return drawn(f"{found.key}_types", caption, lambda ax: particle_types(found.plain, ax=ax), size)


def _features_only(attribution: Attribution) -> Attribution:
    for axis in attribution.axes[1:]:
        attribution = attribution if axis == "feature" else attribution.mean(axis)
    return attribution


def _features_figure(found: LayerAttribution, features: Attribution) -> CaptionedFigure:
    moved, still = _without_still(features)
    means = type_means(moved)
    classes, kinds, names = means.labels
    with style():
        size = (2.2 + 1.05 * len(names), (1.2 + 0.6 * len(kinds)) * len(classes) + 0.6)
        figure, axes = canvas(len(classes), 1, size)
        for ax, name in zip(axes.flat, reversed(classes), strict=True):
            feature_matrix(moved, name, means=means, ax=ax)
        matrix_bar(axes.flat[-1], moved, means, list(axes.flat))
    caption = f"Mean attribution per particle of each type and feature; {found.about}{by_place(found)}"
    if still:
        caption += f" Not shown, as exactly 0 in every particle (equal to the baseline): {', '.join(still)}."
    return CaptionedFigure(f"{found.key}_features", figure, caption, wide=True)


def _without_still(features: Attribution) -> tuple[Attribution, list[str]]:
    """Leave out the features that are 0 for every particle, and say which; all stay if none moved."""
    names, moved = type_means(features).labels[2], (features.values != 0).any(axis=0)
    if not moved.any():
        return features, []
    kept = {"feature": tuple(n for n, m in zip(names, moved, strict=True) if m)}
    part = features.replace(values=features.values[:, np.flatnonzero(moved)], labels=kept)
    return part, [n for n, m in zip(names, moved, strict=True) if not m]
