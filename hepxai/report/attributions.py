"""Sections of the attributions: overview, then one for each method and layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.means import Means, type_means
from hepxai.attribution.reductions import in_focus, labels_of, of_class, pair_name, quantity
from hepxai.metrics.isolation import attention_from_rest, isolation
from hepxai.plots.bars import particle_types
from hepxai.plots.matrices import feature_matrix, matrix_bar
from hepxai.plots.style import canvas, style
from hepxai.report.baseline import baseline_table, closure_part
from hepxai.report.columns import column_sections
from hepxai.report.layer_attributions import LayerAttribution, by_place, maps, signed
from hepxai.report.pairs import pair_section
from hepxai.report.pixels import pixel_maps, pixel_sections
from hepxai.report.section import (
    CaptionedFigure,
    Section,
    Table,
    capital,
    drawn,
    entry,
    labelled_histogram,
    means_table,
    stored,
    titled,
)
from hepxai.report.view import RunView

NOTHING = "Nothing was explained yet: run `hepxai explain` on this run folder."


def attribution_sections(view: RunView) -> Iterator[Section]:
    """Comparison of the methods, then one section per method and layer."""
    if pixel_maps(view):
        yield from pixel_sections(view)
    else:
        yield overview_section(view)
    yield from column_sections(view)
    for layer in maps(view):
        build = pair_section if layer.full.axes[0] == "pair" else particle_section
        yield build(view, layer)


# --- all methods side by side ----------------------------------------------------------------


def overview_section(view: RunView) -> Section:
    """Isolation of the pair in focus: one number that all methods share."""
    rows = list(_isolations(view))
    pairs = pair_name(view.focus)
    text = () if view.explained else (NOTHING,)
    if not rows and any(in_focus(m.plain, view.focus).all() for m in maps(view, "pair")):
        text = (f"All pairs are {pairs}: there are no others to compare them with.",)
    header = (
        "method",
        *(f"inside, {c}" for c in view.classes),
        *(f"to others, {c}" for c in view.classes),
    )
    cells = [[r["method"], *map(stored, r["shares"].values())] for r in rows]
    caption = (
        f"{capital(pairs)}, method by method, in units of an equal share; signs are left aside. Inside: "
        "share of what the two receive that comes from each other; 1: as from anyone else. To others: "
        f"share of what all others receive that comes from the two. {view.errors}"
    )
    tables = [Table(caption, header, cells)] if rows else []
    return Section("looked", "What the model looked at", text=text, tables=tables, numbers=rows)


def _isolations(view: RunView) -> Iterator[dict[str, Any]]:
    for layer in maps(view, "pair"):
        raw = layer.every_raw
        if layer.tells_apart(view.focus) and not layer.compact:
            of_each = {c: of_class(raw, c) for c in view.classes}
            shares = {
                f"{where} {name}": entry(measure(part, view.focus))
                for where, measure in (("inside", isolation), ("others", attention_from_rest))
                for name, part in of_each.items()
            }
            yield {"method": layer.short, "shares": shares}


# --- particles -------------------------------------------------------------------------------


def particle_section(view: RunView, layer: LayerAttribution) -> Section:
    """Means per particle type, and per feature if the method separates features."""
    means, closure = layer.means, closure_part(view, layer)
    numbers = {"unit": quantity(layer.plain), "particle_types": means.rows(), "closure": closure.numbers}
    figures = [] if layer.compact else [_types_figure(layer, means)]
    if "feature" in layer.full.axes:
        features = layer.every_feature
        figures += [] if layer.compact else [_features_figure(layer, features)]
        numbers["features"] = type_means(features).rows()
    return Section(
        layer.key,
        capital(layer.name),
        text=[signed(layer), *([view.in_full] if layer.compact else []), *closure.text],
        warnings=view.warnings_about(layer.method),
        tables=[
            *closure.tables,
            means_table(f"Mean {quantity(layer.plain)} per particle. {layer.errors}", means),
            *baseline_table(layer),
        ],
        figures=figures,
        numbers=numbers,
        histograms={k: titled(h, layer.full) for k, h in _histograms(layer, means).items()},
        level=3,
    )


def _histograms(layer: LayerAttribution, means: Means) -> dict[str, Any]:
    classes, types = means.labels[:2]
    return {
        f"{layer.key}/types_{c}": labelled_histogram(means.value[i], means.error[i], particle=types)
        for i, c in enumerate(classes)
    }


def _types_figure(layer: LayerAttribution, means: Means) -> CaptionedFigure:
    what = "Mean attribution per particle of each type, all its features together"
    caption = f"{what}; {layer.about}{by_place(layer)}"
    size = (7.0, 1.8 + max(0.75, 0.2 * len(means.labels[0])) * len(means.labels[1]))
    return drawn(f"{layer.key}_types", caption, lambda ax: particle_types(layer.every, ax=ax), size)


def _features_figure(layer: LayerAttribution, features: Attribution) -> CaptionedFigure:
    moved, constant = _without_constant(features)
    means = type_means(moved)
    classes, kinds, names = means.labels
    with style():
        size = (2.2 + 1.05 * len(names), (1.2 + 0.6 * len(kinds)) * len(classes) + 0.6)
        figure, axes = canvas(len(classes), 1, size)
        for ax, name in zip(axes.flat, reversed(classes), strict=True):
            feature_matrix(moved, name, means=means, ax=ax)
        matrix_bar(axes.flat[-1], moved, means, list(axes.flat))
    caption = f"Mean attribution per particle of each type and feature; {layer.about}{by_place(layer)}"
    if constant:
        caption += (
            f" Not shown, as exactly 0 in every particle (equal to the baseline): {', '.join(constant)}."
        )
    return CaptionedFigure(f"{layer.key}_features", figure, caption, wide=True)


def _without_constant(features: Attribution) -> tuple[Attribution, list[str]]:
    """Features that are not 0 for every particle, and the names of the others; all if no feature moved."""
    names = labels_of(features, "feature")
    moved = np.moveaxis(features.values != 0, 1, 0).any(axis=tuple(range(1, features.values.ndim)))
    if not moved.any():
        return features, []
    labels = {**features.labels, "feature": tuple(n for n, m in zip(names, moved, strict=True) if m)}
    part = features.replace(values=features.values[:, np.flatnonzero(moved)], labels=labels)
    return part, [n for n, m in zip(names, moved, strict=True) if not m]
