"""Section on one map over pairs: type pairs, the pairs in focus, event displays."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepxai.core.formatting import measured, observer_name
from hepxai.metrics.reductions import in_focus
from hepxai.plots.focus import focus_distribution, focus_histograms, focus_profile, observer_profile
from hepxai.plots.means import ENDS, Means, focus_means, pair_means, pair_name, quantity
from hepxai.plots.style import canvas, style
from hepxai.plots.types import matrix_bar, pair_types
from hepxai.report.baseline import closure_part
from hepxai.report.content import ReportContent
from hepxai.report.displays import display_figure, display_numbers
from hepxai.report.layer_attributions import LayerAttribution, by_place, signed
from hepxai.report.section import (
    ERRORS,
    CaptionedFigure,
    Section,
    Table,
    capital,
    drawn,
    matrix_histogram,
    means_table,
    titled,
)

RELATIVE = (
    "A particle that looked at all n − 1 others alike would give each an attention of 1/(n − 1), less in "
    "events with more particles. Attention is therefore multiplied by n − 1 (by the number of neighbours, in "
    "a sparse layer): 1 is uniform, and the mean over all pairs of any event is 1."
)
DIRECTED = "Pairs are ordered: the message from a to b and the one from b to a are two pairs."
UNDIRECTED = "Pairs have no direction: each two particles are one pair, with one value."


def pair_section(content: ReportContent, found: LayerAttribution) -> Section:
    """Everything about one map over pairs."""
    means, order = pair_means(found.plain), DIRECTED if found.directed else UNDIRECTED
    parts = [
        closure_part(content, found),
        _focus(content, found),
        _heads(content, found),
        _types(found, means),
        _displays(content, found),
    ]
    return Section(
        found.key,
        capital(found.name),
        text=[
            RELATIVE if found.relative else f"{signed(found)} {order}",
            *(t for part in parts for t in part.text),
        ],
        warnings=content.warnings_about(found.method),
        tables=[t for part in parts for t in part.tables],
        figures=[f for part in parts for f in part.figures],
        numbers={"unit": quantity(found.plain)} | {part.key: part.numbers for part in parts if part.numbers},
        histograms={k: titled(h, found.full) for part in parts for k, h in part.histograms.items()},
        level=3,
    )


# --- by type ---------------------------------------------------------------------------------


def _types(found: LayerAttribution, means: Means) -> Section:
    classes, rows, columns = means.labels
    return Section(
        "type_pairs",
        "",
        tables=[_matrix_table(means)],
        figures=[_types_figure(found, means)],
        numbers=means.rows(),
        histograms={
            f"{found.key}/pairs_{c}": matrix_histogram(
                means.value[i], means.error[i], rows, columns, means.axes[1:]
            )
            for i, c in enumerate(classes)
        },
    )


def _types_figure(found: LayerAttribution, means: Means) -> CaptionedFigure:
    classes, size = means.labels[0], 1.3 + 0.82 * len(means.labels[1])
    with style():
        figure, axes = canvas(1, len(classes), (size * len(classes), size + 0.6))
        for ax, name in zip(axes.flat, reversed(classes), strict=True):
            pair_types(found.plain, name, means=means, ax=ax)
        matrix_bar(axes.flat[-1], found.plain, means, list(axes.flat))
    centre = "White: 1, as much as anyone else gets. " if found.relative else ""
    per = (
        "ordered pair, receiver of the message against its sender"
        if found.directed
        else "pair, one particle against the other"
    )
    caption = (
        f"Mean {quantity(found.plain)} per {per}; {found.about} {centre}Hatched: no event has such a pair."
        f"{by_place(found)}"
    )
    return CaptionedFigure(f"{found.key}_pairs", figure, caption, wide=True)


def _matrix_table(means: Means) -> Table:
    header = (*means.axes, "mean", "events", "pairs")
    once = means.axes[1:] != ENDS[True]  # of a symmetric matrix one half
    names = means.labels[1]
    rows = [
        [
            *(r[k] for k in header[:3]),
            measured(r["value"], r["error"]),
            f"{r['events']:,}",
            f"{r['entries']:,}",
        ]
        for r in means.rows()
        if not once or names.index(r[means.axes[1]]) <= names.index(r[means.axes[2]])
    ]
    return Table("All type pairs in numbers", header, rows, words=3, folded=True)


# --- the pairs in focus ----------------------------------------------------------------------


def _focus(content: ReportContent, found: LayerAttribution) -> Section:
    name = pair_name(content.focus)
    if not in_focus(found.plain, content.focus).any():
        return Section("focus", "", text=[f"No explained event has {name}."])
    means = focus_means(found.plain, content.focus)
    others = "against all others" if found.tells_apart(content.focus) else "(there are no others)"
    tables = [means_table(f"{capital(name)} {others}: mean {quantity(found.plain)}. {ERRORS}", means)]
    numbers: dict[str, Any] = {"means": means.rows()}
    if found.relative:
        raw = focus_means(found.raw(), content.focus)
        tables.append(means_table("The same for attention itself, which falls with multiplicity", raw))
        numbers["attention"] = raw.rows()
    figures = [_focus_figure(content, found)]
    if content.observer is not None and _observed(content, found):
        figures.append(_profile_figure(content, found))
        numbers["profile"] = _profile_numbers(content, found)
    return Section(
        "focus", "", tables=tables, figures=figures, numbers=numbers, histograms=_histograms(content, found)
    )


def _focus_figure(content: ReportContent, found: LayerAttribution) -> CaptionedFigure:
    others = " and all other pairs (dashed)" if found.tells_apart(content.focus) else ""
    caption = (
        f"{capital(pair_name(content.focus))} (full lines, with errors){others}, each "
        f"of unit area; {found.about} Pairs of one event are treated as correlated. The outermost bins hold "
        "what lies beyond."
    )
    return drawn(
        f"{found.key}_focus",
        caption,
        lambda ax: focus_distribution(found.plain, content.focus, ax=ax),
        (8.0, 5.6),
    )


def _histograms(content: ReportContent, found: LayerAttribution) -> dict[str, Any]:
    names = {pair_name(content.focus): "focus", "other pairs": "other"}
    filled = focus_histograms(found.plain, content.focus)
    return {f"{found.key}/{names[pairs]}_{c}": h for (c, pairs), h in filled.items()}


def _observed(content: ReportContent, found: LayerAttribution) -> bool:
    chosen = found.plain.select(pair=content.focus)
    values = np.asarray(chosen.events.observers[str(content.observer)])
    return bool(np.isfinite(values[np.diff(chosen.offsets) > 0]).any())


def _observer_label(content: ReportContent) -> str:
    return content.names.get(str(content.observer), observer_name(str(content.observer)))


def _profile_figure(content: ReportContent, found: LayerAttribution) -> CaptionedFigure:
    observer, label = str(content.observer), _observer_label(content)
    caption = (
        f"Mean over {pair_name(content.focus)} in bins of {label}, an observer: it is no input of the "
        "model. The bins resolve the narrower class and hold at least five events of a class; a "
        "class with a single event in a bin has no point. Points stand at the median of a bin; the outermost "
        f"bins reach beyond the frame, to the last event; {found.about}"
    )
    return drawn(
        f"{found.key}_profile",
        caption,
        lambda ax: focus_profile(found.plain, content.focus, observer, label=label, ax=ax),
        (7.2, 5.4),
    )


def _profile_numbers(content: ReportContent, found: LayerAttribution) -> dict[str, Any]:
    binned = observer_profile(found.plain, content.focus, str(content.observer))
    kept = {"edges": binned.edges, "median": binned.middle, "means": binned.means.rows()}
    return {"observer": content.observer, "label": _observer_label(content)} | kept


# --- heads and displays ----------------------------------------------------------------------


def _heads(content: ReportContent, found: LayerAttribution) -> Section:
    means = {head: focus_means(part, content.focus) for head, part in found.heads().items()}
    if not means:
        return Section("heads", "")
    classes, pairs = found.plain.events.schema.classes[::-1], pair_name(content.focus)
    rows = [
        [h, *(measured(*m.at(**{"class": c, "pairs": pairs})) for c in classes)] for h, m in means.items()
    ]
    caption = f"{capital(pairs)} head by head: mean {quantity(found.plain)}"
    numbers = [{"head": h} | row for h, m in means.items() for row in m.rows()]
    return Section("heads", "", tables=[Table(caption, ("head", *classes), rows)], numbers=numbers)


def _displays(content: ReportContent, found: LayerAttribution) -> Section:
    figure = display_figure(content, found)
    if figure is None:
        return Section("displays", "", text=["No explained event has two particles: nothing to display."])
    return Section("displays", "", figures=[figure], numbers=display_numbers(content, found))
