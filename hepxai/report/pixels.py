"""Sections on maps over the pixels of detector images: how much lies on the true hits, and some events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from hepxai.attribution import PIXELS, Attribution
from hepxai.core.estimate import as_json
from hepxai.core.formatting import measured, method_name, short_method
from hepxai.events import Events
from hepxai.metrics.pixels import hit_rank_agreement, truth_share
from hepxai.report.content import ReportContent
from hepxai.report.displays import chosen_events, telling_truth
from hepxai.report.section import ERRORS, CaptionedFigure, Section, Table, capital, population, splits_of
from hepxai.studies.comparison.figures import convergence_figure

MEANS = {
    "saliency": "how fast the prediction changes with the pixel, without sign",
    "capped_saliency": "the same, its largest values cut off",
    "soft_tree": "what spoke for (red) and against (blue) the most probable path, in log-odds, whatever the "
    "target",
}
"""What a map shows, where it is not how far a pixel raises (red) or lowers (blue) the prediction."""


def pixel_maps(content: ReportContent) -> dict[str, dict[str, Attribution]]:
    """Maps over pixels, ``output → method → attribution``; one that holds for all stands with the first."""
    found: dict[str, dict[str, Attribution]] = {}
    for attribution in content.explained.values():
        if attribution.axes == PIXELS:
            found.setdefault(attribution.target, {})[attribution.method] = attribution
    order = {name: i for i, name in enumerate(content.predictions)}
    return dict(sorted(found.items(), key=lambda one: order.get(one[0], 0)))


def pixel_sections(content: ReportContent) -> Iterator[Section]:
    """How much of each map lies on the true hits; then some events for each output."""
    found = pixel_maps(content)
    if not found:
        return
    yield _shares_section(content, found)
    for target, maps in found.items():
        yield _events_section(content, target, maps)


# --- all methods side by side ------------------------------------------------------------------------


def truth_of(content: ReportContent) -> str | None:
    """Truth mask of the hits that images are compared with."""
    return telling_truth(content.events, content.focus)


def shares(content: ReportContent) -> Iterator[dict[str, Any]]:
    """Share of each map on the true hits; nothing where there is no truth."""
    truth = truth_of(content)
    for target, maps in pixel_maps(content).items():
        for method, found in maps.items() if truth is not None else ():
            share = truth_share(found, str(truth))
            kept = as_json({k: getattr(share, k) for k in ("among_hits", "chance", "of_all")})
            yield {"method": method, "target": target, "left_out": share.left_out} | kept


def _shares_section(content: ReportContent, found: Mapping[str, Mapping[str, Attribution]]) -> Section:
    title, truth = "What the model looked at", truth_of(content)
    rows = list(shares(content))
    if not rows:
        return Section("looked", title, text=("The events have no truth to hold the maps against.",))
    events = next(iter(next(iter(found.values())).values())).events
    shown = [
        [
            short_method(r["method"]),
            r["target"],
            *(measured(r[k]["value"], r[k]["error"]) for k in ("among_hits", "chance", "of_all")),
            f"{r['left_out']:,}",
        ]
        for r in rows
    ]
    header = ("method", "of", "of the hits", "all hits alike", "of the image", "events left out")
    caption = (
        f"Share of |attribution| on the pixels that hits with {truth} light: of that on all lit pixels, of a "
        "map that treats all lit pixels alike, and of that on the whole image. Events without such a hit are "
        f"left out; {population(events)} of the {splits_of(events)} sample. {ERRORS}"
    )
    return Section("looked", title, tables=[Table(caption, header, shown, words=2)], numbers=rows)


def share_sentences(content: ReportContent) -> Iterator[str]:
    """Share on the true hits, method by method."""
    for r in shares(content):
        share, chance = (measured(r[k]["value"], r[k]["error"]) for k in ("among_hits", "chance"))
        where = f"of what lies on hits, {share} lies on those with {truth_of(content)}"
        yield f"{capital(short_method(r['method']))} of {r['target']}: {where}; all hits alike: {chance}."


def pixel_agreements(content: ReportContent) -> Iterator[dict[str, Any]]:
    """Mean rank correlation over the lit pixels of every two maps of the same output and events."""
    for target, maps in pixel_maps(content).items():
        for (first, a), (second, b) in combinations(maps.items(), 2):
            found = hit_rank_agreement(a, b)
            names = {"first": f"{short_method(first)} of {target}", "second": short_method(second)}
            yield names | {"left_out": found.left_out} | found.mean.to_json()


# --- events ------------------------------------------------------------------------------------------


def _events_section(content: ReportContent, target: str, maps: Mapping[str, Attribution]) -> Section:
    events = next(iter(maps.values())).events
    keys = [k for k, a in content.explained.items() if a.axes == PIXELS and a.target == target]
    return Section(
        f"pixels_{target}",
        f"Maps of {target}",
        text=[_meaning(target, maps)],
        warnings=list(dict.fromkeys(w for key in keys for w in content.warnings_about(key))),
        figures=[
            _figure(content, target, maps, role, row)
            for role, row in shown_events(content, target, events).items()
        ],
        level=3,
    )


def _meaning(target: str, maps: Mapping[str, Attribution]) -> str:
    others = [f"{short_method(m)}: {text}" for m, text in MEANS.items() if m in maps]
    usual = f"Red pixels raise the {target}, blue ones lower it; a map of one sign has another scale."
    return " ".join([usual, *(f"{capital(o)}." for o in others)])


def shown_events(content: ReportContent, target: str, events: Events) -> dict[str, int]:
    """Rows to show: of a regression the typical, best and worst error, and the highest value without a truth.

    Of a classifier the typical and the worst of each class. Events without a hit are not shown.
    """
    if target not in content.predictions:
        chosen = chosen_events(events, content.scores_of(events))
        return {f"{role} {name}": row for (name, role), row in chosen.items() if role != "best"}
    said = content.predicted(target, events)
    off = np.abs(said - events.targets[:, events.schema.targets.index(target)])
    lit = events.counts > 0
    known, alone = (np.flatnonzero(lit & own) for own in (np.isfinite(off), np.isnan(off)))
    found = {}
    if len(known):
        own = off[known]
        picks = {"typical": abs(own - np.median(own)).argmin(), "best": own.argmin(), "worst": own.argmax()}
        found = {role: int(known[at]) for role, at in picks.items()}
    return found | ({"no true value": int(alone[said[alone].argmax()])} if len(alone) else {})


def _figure(
    content: ReportContent, target: str, maps: Mapping[str, Attribution], role: str, row: int
) -> CaptionedFigure:
    events = next(iter(maps.values())).events
    one = events[[row]]
    said = content.predicted(target, one) if target in content.predictions else content.scores_of(one)
    truth = truth_of(content)
    figure = convergence_figure(maps, row, truth=truth, predicted=dict.fromkeys(maps, float(said[0])))
    frames = f"black frames: hits with {truth}; grey ones: other hits" if truth else "frames: hits"
    names = ", ".join(method_name(m) for m in maps)
    caption = (
        f"{capital(role)} event of the {splits_of(events)} sample, entry {one.entry[0]} of "
        f"{events.files[one.file[0]].rpartition('/')[2]}. From above: its hits; {names}. {capital(frames)}."
    )
    return CaptionedFigure(f"pixels_{target}_{role.replace(' ', '_')}", figure, caption, wide=True)
