"""Section on one attribution over pairs: pairs in focus, pairs of types, event displays."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepxai.attribution.means import ENDS, Means, focus_means, pair_profile, profile_edges
from hepxai.attribution.reductions import in_focus, pair_name, quantity
from hepxai.core.binning import bin_of
from hepxai.core.estimate import Array
from hepxai.core.formatting import observer_name
from hepxai.datasets.presentation import Focus
from hepxai.plots.focus import MANY, focus_distribution, focus_histograms
from hepxai.plots.matrices import matrix_bar, pair_types
from hepxai.plots.profiles import focus_profile
from hepxai.plots.style import canvas, style
from hepxai.report.baseline import closure_part
from hepxai.report.displays import display_figure, display_numbers
from hepxai.report.layer_attributions import LayerAttribution, by_place, signed
from hepxai.report.section import (
    CaptionedFigure,
    Section,
    Table,
    capital,
    cell,
    drawn,
    labelled_histogram,
    means_table,
    stored,
    titled,
)
from hepxai.report.view import RunView

RELATIVE = (
    "Uniform attention of a particle to all n − 1 others is 1/(n − 1) for each, less in "
    "events with more particles. Attention is therefore multiplied by n − 1 (by the number of neighbours, in "
    "a sparse layer): 1 is uniform, and the mean over all pairs of any event is 1."
)
COLUMNS = 3
"""Matrices of classes in a row."""
DIRECTED = "Pairs are ordered: the message from a to b and the one from b to a are two pairs."
UNDIRECTED = "Pairs have no direction: each two particles are one pair, with one value."


def pair_section(view: RunView, layer: LayerAttribution) -> Section:
    """Pairs in focus, heads, pairs of types and displays of one attribution."""
    means, order = layer.means, DIRECTED if layer.directed else UNDIRECTED
    parts = [
        closure_part(view, layer),
        _focus(view, layer),
        _heads(view, layer),
        _types(layer, means),
        *([] if layer.compact else [_displays(view, layer)]),
    ]
    return Section(
        layer.key,
        capital(layer.name),
        text=[
            RELATIVE if layer.relative else f"{signed(layer)} {order}",
            *([view.in_full] if layer.compact else []),
            *(t for part in parts for t in part.text),
        ],
        warnings=view.warnings_about(layer.method),
        tables=[t for part in parts for t in part.tables],
        figures=[f for part in parts for f in part.figures],
        numbers={"unit": quantity(layer.plain)} | {part.key: part.numbers for part in parts if part.numbers},
        histograms={k: titled(h, layer.full) for part in parts for k, h in part.histograms.items()},
        level=3,
    )


# --- by type ---------------------------------------------------------------------------------


def _types(layer: LayerAttribution, means: Means) -> Section:
    classes, rows, columns = means.labels
    return Section(
        "type_pairs",
        "",
        tables=[_matrix_table(means)],
        figures=[] if layer.compact else [_types_figure(layer, means)],
        numbers=means.rows(),
        histograms={
            f"{layer.key}/pairs_{c}": labelled_histogram(
                means.value[i], means.error[i], **{means.axes[1]: rows, means.axes[2]: columns}
            )
            for i, c in enumerate(classes)
        },
    )


def _types_figure(layer: LayerAttribution, means: Means) -> CaptionedFigure:
    classes, size = means.labels[0], 1.3 + 0.82 * len(means.labels[1])
    columns = min(len(classes), COLUMNS)
    rows = -(-len(classes) // columns)
    with style():
        figure, axes = canvas(rows, columns, (size * columns, size * rows + 0.6))
        panels = list(axes.flat)[: len(classes)]
        for ax, name in zip(panels, reversed(classes), strict=True):
            pair_types(layer.plain, name, means=means, ax=ax)
        for ax in axes.flat[len(classes) :]:
            ax.remove()
        matrix_bar(panels[-1], layer.plain, means, panels)
    centre = "White: 1, as much as anyone else gets. " if layer.relative else ""
    per = (
        "ordered pair, receiver of the message against its sender"
        if layer.directed
        else "pair, one particle against the other"
    )
    caption = (
        f"Mean {quantity(layer.plain)} per {per}; {layer.about} {centre}Hatched: no event has such a pair."
        f"{by_place(layer)}"
    )
    return CaptionedFigure(f"{layer.key}_pairs", figure, caption, wide=True)


def _matrix_table(means: Means) -> Table:
    header = (*means.axes, "mean", "events", "pairs")
    once = means.axes[1:] != ENDS[True]  # of a symmetric matrix one half
    names = means.labels[1]
    rows = [
        [
            *(r[k] for k in header[:3]),
            stored(r),
            f"{r['events']:,}",
            f"{r['entries']:,}",
        ]
        for r in means.rows()
        if not once or names.index(r[means.axes[1]]) <= names.index(r[means.axes[2]])
    ]
    return Table("All type pairs in numbers", header, rows, words=3, folded=True)


# --- the pairs in focus ----------------------------------------------------------------------


def _focus(view: RunView, layer: LayerAttribution) -> Section:
    name = pair_name(view.focus)
    if not in_focus(layer.plain, view.focus).any():
        return Section("focus", "", text=[f"No explained event has {name}."])
    means = layer.focus_means
    others = "against all others" if layer.tells_apart(view.focus) else "(there are no others)"
    tables = [means_table(f"{capital(name)} {others}: mean {quantity(layer.plain)}. {layer.errors}", means)]
    numbers: dict[str, Any] = {"means": means.rows()}
    if layer.relative:
        raw = focus_means(layer.every_raw, view.focus)
        tables.append(means_table("The same for attention itself, which falls with multiplicity", raw))
        numbers["attention"] = raw.rows()
    figures = [] if layer.compact else [_focus_figure(view, layer)]
    if view.observer is not None and (edges := _profile_edges(view, layer)) is not None:
        figures += [] if layer.compact else [_profile_figure(view, layer)]
        numbers["profile"] = _profile_numbers(view, layer, edges)
    return Section(
        "focus", "", tables=tables, figures=figures, numbers=numbers, histograms=_histograms(view, layer)
    )


def _focus_figure(view: RunView, layer: LayerAttribution) -> CaptionedFigure:
    others = " and all other pairs (dashed)" if layer.tells_apart(view.focus) else ""
    few = f"; errors and other pairs of {view.classes[0]} alone" if len(view.classes) > MANY else ""
    caption = (
        f"{capital(pair_name(view.focus))} (full lines, with errors){others}, each "
        f"of unit area{few}; {layer.about} Pairs of one event are treated as correlated. The outermost bins "
        "hold what lies beyond."
    )
    return drawn(
        f"{layer.key}_focus",
        caption,
        lambda ax: focus_distribution(layer.every, view.focus, ax=ax),
        (8.0, 5.6),
    )


def _histograms(view: RunView, layer: LayerAttribution) -> dict[str, Any]:
    names = {pair_name(view.focus): "focus", "other pairs": "other"}
    filled = focus_histograms(layer.plain, view.focus)
    return {f"{layer.key}/{names[pairs]}_{c}": h for (c, pairs), h in filled.items()}


def _binning(view: RunView) -> Focus:
    """Entry of the card with the bins and the axis of the profile."""
    return view.run.dataset.focus or Focus(pair=view.focus)


def _profile_edges(view: RunView, layer: LayerAttribution) -> Array | None:
    """Bin edges of the profile; None if no event with a pair in focus is inside."""
    focus, observer = _binning(view), str(view.observer)
    chosen = layer.plain.select(pair=view.focus)
    values = np.asarray(chosen.events.observers[observer], dtype=np.float64)[np.diff(chosen.offsets) > 0]
    if not (np.isfinite(values) & ((values > 0) | (focus.scale == "linear"))).any():
        return None
    if focus.edges is None:
        return profile_edges(layer.plain, view.focus, observer, scale=focus.scale)
    edges = np.asarray(focus.edges)
    return edges if (bin_of(values, edges) >= 0).any() else None


def _profile_figure(view: RunView, layer: LayerAttribution) -> CaptionedFigure:
    observer, label = str(view.observer), observer_name(str(view.observer))
    focus = _binning(view)
    bins = (
        "The bins resolve the narrower class and hold at least five events of a class; the outermost "
        "ones reach beyond the frame, to the last event"
        if focus.edges is None
        else "The bins are those of the data-set card; events beyond them are left out"
    )
    caption = (
        f"Mean over {pair_name(view.focus)} in bins of {label}, an observer: it is no input of the "
        f"model. {bins}. Points stand at the median of a bin; a class with a single event in a bin has no "
        f"point; {layer.about}"
    )
    return drawn(
        f"{layer.key}_profile",
        caption,
        lambda ax: focus_profile(
            layer.every, view.focus, observer, edges=focus.edges, scale=focus.scale, label=label, ax=ax
        ),
        (7.2, 5.4),
    )


def _profile_numbers(view: RunView, layer: LayerAttribution, edges: Array) -> dict[str, Any]:
    binned = pair_profile(layer.every, view.focus, str(view.observer), edges)
    about = {"observer": view.observer, "label": observer_name(str(view.observer))}
    return about | {"edges": binned.edges, "median": binned.middle, "means": binned.means.rows()}


# --- heads and displays ----------------------------------------------------------------------


def _heads(view: RunView, layer: LayerAttribution) -> Section:
    means = {head: focus_means(part, view.focus) for head, part in layer.heads().items()}
    if not means:
        return Section("heads", "")
    classes, pairs = layer.plain.events.schema.classes[::-1], pair_name(view.focus)
    places = [m.labels[0].index(c) for m in list(means.values())[:1] for c in classes]
    rows = [[h, *(cell(m, c, m.labels[1].index(pairs)) for c in places)] for h, m in means.items()]
    caption = f"{capital(pairs)} head by head: mean {quantity(layer.plain)}. {layer.errors}"
    numbers = [{"head": h} | row for h, m in means.items() for row in m.rows()]
    return Section("heads", "", tables=[Table(caption, ("head", *classes), rows)], numbers=numbers)


def _displays(view: RunView, layer: LayerAttribution) -> Section:
    figure = display_figure(view, layer)
    if figure is None:
        return Section("displays", "", text=["No explained event has two particles: nothing to display."])
    return Section("displays", "", figures=[figure], numbers=display_numbers(view, layer))
