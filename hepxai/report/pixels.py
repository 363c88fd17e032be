"""Sections on attributions over the pixels of detector images: share on the true hits, and single events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.attribution.reductions import full_name, short_name, unit_of
from hepxai.events import Events
from hepxai.metrics.pixels import hit_rank_agreement, truth_share
from hepxai.models.target import REST
from hepxai.plots.class_maps import class_mean_maps
from hepxai.plots.images import sum_of_channels, target_unit
from hepxai.report.displays import by_error, chosen_rows, telling_truth
from hepxai.report.outputs import explained_output
from hepxai.report.pixel_faithfulness import faithfulness_sections
from hepxai.report.section import (
    NAMED,
    CaptionedFigure,
    Section,
    Table,
    agreement_rows,
    capital,
    entry,
    errors_of,
    excess,
    methods_table,
    population,
    splits_of,
    stored,
)
from hepxai.report.view import RunView
from hepxai.studies.comparison.figures import convergence_figure

SHARES = ("among_hits", "chance", "of_all")


def pixel_maps(view: RunView, *, trainings: bool = False) -> dict[str, dict[str, Attribution]]:
    """Maps over pixels, ``output → method → attribution``, channels added up.

    A map of all outputs stands with the first. Of several trainings it is their mean, or has their axis with
    ``trainings``.
    """
    by_target: dict[str, dict[str, Attribution]] = {}
    for key, mean in view.explained.items():
        attribution = view.every[key] if trainings else mean
        if mean.axes == CHANNEL_PIXELS:
            attribution = attribution.apply(lambda a: a.sum("channel"))
        if mean.axes in (PIXELS, CHANNEL_PIXELS):
            by_target.setdefault(attribution.target, {})[attribution.method] = attribution
    order = {name: i for i, name in enumerate(view.predictions)}
    return dict(sorted(by_target.items(), key=lambda item: (order.get(item[0], 0), view.compact(item[0]))))


def pixel_sections(view: RunView) -> Iterator[Section]:
    """Share of each map on the true hits; then some events for each output."""
    by_target = pixel_maps(view)
    if not by_target:
        return
    yield _shares_section(view, by_target)
    yield from faithfulness_sections(view, by_target)
    if figures := list(_class_figures(by_target)):
        yield Section("class_maps", "Mean maps of the classes", figures=figures, level=3)
    for target, maps in by_target.items():
        yield _events_section(view, target, maps)


# --- all methods side by side ------------------------------------------------------------------------


def truth_of(view: RunView) -> str | None:
    """Truth mask of the hits that images are compared with."""
    return telling_truth(view.events, view.focus)


def shares(view: RunView) -> Iterator[dict[str, Any]]:
    """Share of each map on the true hits; nothing where there is no truth."""
    truth = truth_of(view)
    for target, maps in pixel_maps(view, trainings=True).items():
        for method, attribution in maps.items() if truth is not None else ():
            share = truth_share(attribution, str(truth))
            names = {"method": method, "name": short_name(attribution), "target": target}
            numbers = {k: entry(getattr(share, k)) for k in SHARES}
            yield names | {"left_out": share.left_out} | numbers


def _shares_section(view: RunView, by_target: Mapping[str, Mapping[str, Attribution]]) -> Section:
    title, truth = "What the model looked at", truth_of(view)
    rows = list(shares(view))
    if not rows:
        return Section("looked", title, text=("The events have no truth to hold the maps against.",))
    events = next(iter(next(iter(by_target.values())).values())).events
    errors = errors_of(next(iter(view.every.values())))
    cells = [
        [
            r["name"],
            r["target"],
            *(stored(r[k]) for k in SHARES),
            f"{r['left_out']:,}",
        ]
        for r in rows
    ]
    header = ("method", "of", "of the hits", "all hits alike", "of the image", "events left out")
    caption = (
        f"Share of |attribution| on the pixels that hits with {truth} light: of that on all lit pixels, of a "
        "map that treats all lit pixels alike, and of that on the whole image. Events without such a hit are "
        f"left out; {population(events)} of the {splits_of(events)} sample. {errors}"
    )
    many = len(rows) > NAMED
    tables = [Table(caption, header, cells, words=2, folded=many)]
    if many:
        short = (
            f"Share of |attribution| on the pixels that hits with {truth} light, of that on all lit pixels."
        )
        tables.insert(0, methods_table(short, rows, "among_hits", "chance"))
    return Section("looked", title, tables=tables, numbers=rows)


def share_sentences(view: RunView) -> Iterator[str]:
    """Share on the true hits, map by map; of many maps, the number above chance and the two ends."""
    rows = list(shares(view))
    if len(rows) > NAMED and (finite := [r for r in rows if np.isfinite(r["among_hits"]["value"])]):
        far = sorted(finite, key=lambda r: excess(r, "among_hits", "chance"))
        above = sum(excess(r, "among_hits", "chance") > 2 for r in finite)
        ends = "; ".join(
            f"{end}: {r['name']} of {r['target']}, {' against '.join(_shares(r))}"
            for end, r in (("most clearly", far[-1]), ("least", far[0]))
        )
        yield (
            f"{above} of {len(finite)} maps put a larger share on the hits with {truth_of(view)} than a map "
            f"that treats all hits alike, by more than two errors; {ends}."
        )
        return
    for r in rows:
        share, chance = _shares(r)
        where = f"of what lies on hits, {share} lies on those with {truth_of(view)}"
        yield f"{capital(r['name'])} of {r['target']}: {where}; all hits alike: {chance}."


def _shares(row: Mapping[str, Any]) -> list[str]:
    return [stored(row[k]) for k in ("among_hits", "chance")]


def pixel_agreements(view: RunView) -> Iterator[dict[str, Any]]:
    """Mean rank correlation over the lit pixels of every two maps of the same output and events."""
    for target, maps in pixel_maps(view, trainings=True).items():
        for row in agreement_rows({short_name(a): a for a in maps.values()}, hit_rank_agreement):
            yield row | {"first": f"{row['first']} of {target}"}


# --- classes -----------------------------------------------------------------------------------------


def _class_figures(by_target: Mapping[str, Mapping[str, Attribution]]) -> Iterator[CaptionedFigure]:
    """Mean map of each class by each method that explains classes."""
    for method in dict.fromkeys(m for maps in by_target.values() for m in maps):
        maps = {target: of[method] for target, of in by_target.items() if method in of}
        first = next(iter(maps.values()))
        classes = first.events.schema.classes
        if len(classes) < 2 or first.target in first.events.schema.targets:
            continue
        by_class = {c: maps[t] for c in classes for t in (c, f"{c}-{REST}") if t in maps}
        drawn = by_class if len(by_class) > 1 else first
        whose = "the output of that class" if len(by_class) > 1 else first.target
        caption = (
            f"Weighted mean map of {full_name(first)} over the events of each class (number in brackets), of "
            f"{whose}. Red raises it, blue lowers it; one colour scale for all. "
            f"{population(first.events)} of the {splits_of(first.events)} sample."
        )
        yield CaptionedFigure(f"class_maps_{method}", class_mean_maps(drawn), caption, wide=True)


# --- events ------------------------------------------------------------------------------------------


def _events_section(view: RunView, target: str, maps: Mapping[str, Attribution]) -> Section:
    events = next(iter(maps.values())).events
    keys = [k for k, a in view.explained.items() if a.axes in (PIXELS, CHANNEL_PIXELS) and a.target == target]
    rows, compact = shown_events(view, target, events), view.compact(target)
    if compact:  # one event, of the class that the maps are about
        about = f"typical {explained_output(events.schema, target).favoured_class}".strip()
        rows = {role: row for role, row in rows.items() if role == about}
    return Section(
        _key(target),
        f"Maps of {target}",
        text=[
            _meaning(target, maps) + _added(view, keys),
            *(["One event alone; see above for more."] if compact else []),
        ],
        warnings=list(dict.fromkeys(w for key in keys for w in view.warnings_about(key))),
        figures=[_figure(view, target, maps, role, row) for role, row in rows.items()],
        level=3,
    )


def _meaning(target: str, maps: Mapping[str, Attribution]) -> str:
    """Meaning of the colours, also for maps without a sign or with their own unit."""
    output = explained_output(next(iter(maps.values())).events.schema, target)
    name = output.name if output.kind == "contrast" else target
    sentences = [f"Red pixels raise the {name}, blue ones lower it; a map of one sign has another scale."]
    for attribution in maps.values():
        usual, unit = ("logit", target_unit(attribution)), unit_of(attribution)
        notes = [] if (attribution.values < 0).any() else ["no sign"]
        notes += [f"values in {unit}"] if unit and unit not in usual else []
        if notes:
            sentences.append(f"{capital(full_name(attribution))}: {', '.join(notes)}.")
    return " ".join(sentences)


def _added(view: RunView, keys: Sequence[str]) -> str:
    """Sentence that names the channels that the figures add up."""
    sums = {short_name(a): sum_of_channels(a) for a in map(view.explained.__getitem__, keys)}
    return "".join(f" {capital(name)}: {text}." for name, text in sums.items() if text)


def shown_events(view: RunView, target: str, events: Events) -> dict[str, int]:
    """Rows to show: of a regression the typical, best and worst error, and the highest value without a truth.

    Of a classifier the typical and the worst of each class. Events without a hit are not shown.
    """
    if target not in view.predictions:
        by_class = chosen_rows(view, events, target)
        return {f"{role} {name}": row for (name, role), row in by_class.items() if role != "best"}
    true = events.targets[:, events.schema.targets.index(target)]
    return by_error(view.predicted(target, events), true, events.counts > 0)


def _figure(
    view: RunView, target: str, maps: Mapping[str, Attribution], role: str, row: int
) -> CaptionedFigure:
    events = next(iter(maps.values())).events
    one = events[[row]]
    output = view.shown_score(target, one)
    truth = truth_of(view)
    figure = convergence_figure(maps, row, truth=truth, predicted=dict.fromkeys(maps, float(output[0])))
    frames = f"black frames: hits with {truth}; grey ones: other hits" if truth else "frames: hits"
    names = ", ".join(map(full_name, maps.values()))
    caption = (
        f"{capital(role)} event of the {splits_of(events)} sample, entry {one.entry[0]} of "
        f"{events.files[one.file[0]].rpartition('/')[2]}. From above: its hits; {names}. {capital(frames)}."
    )
    return CaptionedFigure(f"{_key(target)}_{role.replace(' ', '_')}", figure, caption, wide=True)


def _key(target: str) -> str:
    return f"pixels_{target.replace('-', '_')}"
