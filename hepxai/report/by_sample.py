"""Section on the samples of a class: scores, efficiencies and mean attributions of each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.means import Means, focus_means, pair_means, type_means
from hepxai.attribution.reductions import full_name, of_class, pair_name, quantity
from hepxai.core.estimate import Array, Estimate, share
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.metrics.classification import WORKING_POINTS, roc
from hepxai.plots.bars import particle_types
from hepxai.plots.scores import class_scores, sample_scores
from hepxai.report.columns import column_maps
from hepxai.report.layer_attributions import LayerAttribution, maps
from hepxai.report.section import (
    CaptionedFigure,
    Section,
    Table,
    capital,
    cell,
    drawn,
    entry,
    errors_of,
    stored,
)
from hepxai.report.view import RunView


def samples_of_classes(events: Events) -> dict[str, tuple[str, ...]]:
    """Samples of each class that has events of more than one."""
    if not events.samples:
        return {}
    names, number = events.sample_numbers()
    classes = events.schema.classes
    present = {c: np.unique(number[events.label == i]) for i, c in enumerate(classes)}
    return {c: tuple(names[s] for s in rows) for c, rows in present.items() if len(rows) > 1}


def by_sample(
    events: Events, samples: Mapping[str, Sequence[str]] | None = None
) -> tuple[tuple[str, ...], IntArray]:
    """Names of the samples as ``sample (class)``, and that of every event, -1 for one of no such sample.

    Parameters
    ----------
    events : Events
    samples : mapping, optional
        Samples by class; by default `samples_of_classes` of these events.
    """
    names, number = events.sample_numbers()
    several = samples_of_classes(events) if samples is None else samples
    groups = [(s, c) for c, of_class in several.items() for s in of_class]
    place = np.full((len(events.schema.classes), len(names)), -1)
    for i, (sample, name) in enumerate(groups):
        place[events.schema.classes.index(name), [n == sample for n in names]] = i
    return tuple(f"{s} ({c})" for s, c in groups), place[events.label, number]


def samples_as_classes(attribution: Attribution) -> Attribution:
    """Events of classes of several samples alone, with their samples in place of the classes.

    The variations of a map have the samples of its nominal events, also those that they leave empty.
    """
    samples = samples_of_classes(attribution.events)

    def change(one: Attribution) -> Attribution:
        names, number = by_sample(one.events, samples)
        part = one[number >= 0]
        schema = replace(part.events.schema, classes=names)
        return part.replace(events=part.events.replace(schema=schema, label=number[number >= 0]))

    return attribution.apply(change)


def by_sample_section(view: RunView) -> Section:
    """Scores, efficiencies and means of every map, sample by sample, of classes with more than one."""
    several = samples_of_classes(view.events)
    named = "; ".join(f"{c}: {', '.join(samples)}" for c, samples in several.items())
    text = [
        f"Classes of several samples: {named}. A number of such a class is the mean of its samples by their "
        "weights, and may be that of none of them."
    ]
    tables, figures, numbers = [], [], {}
    if view.class_scores:
        rows = list(_scores(view))
        tables, figures, numbers = [_scores_table(view, rows)], [_scores_figure(view)], {"scores": rows}
    for key, table, rows in _means(view):
        tables.append(table)
        numbers[key] = rows
    figures += list(_figures(view))
    return Section("by_sample", "By sample", text=text, tables=tables, figures=figures, numbers=numbers)


# --- scores ------------------------------------------------------------------------------------------


def _scores(view: RunView) -> Iterator[dict[str, Any]]:
    """Score and efficiencies of each sample in the test events, at the signal efficiencies of the ROC."""
    test, samples = view.events.split == 2, samples_of_classes(view.events)
    names, number = by_sample(view.events)
    cuts = dict(_cuts(view, view.events[test], view.scores[test]))

    def measure(events: Events, logits: Array) -> dict[str, dict[str, Estimate]]:
        of_events = by_sample(events, samples)[1]
        score = class_scores(events.schema, logits)[0].values
        parts = ((events.split == 2) & (of_events == i) for i in range(len(names)))
        return {n: _of_sample(score[r], events.weight[r], cuts) for n, r in zip(names, parts, strict=True)}

    for i, (name, estimates) in enumerate(view.with_errors(measure).items()):
        counted = {"sample": name, "events": int((test & (number == i)).sum())}
        yield counted | {k: entry(e) for k, e in estimates.items()}


def _of_sample(score: Array, weight: Array, cuts: Mapping[float, float]) -> dict[str, Estimate]:
    passed = {f"efficiency@{e:g}": _efficiency(score >= cut, weight) for e, cut in cuts.items()}
    return {"score": Estimate.of(score, weight)} | passed


def _efficiency(passed: Any, weight: Array) -> Estimate:
    return share(passed, weight, "efficiency of a sample")


def _cuts(view: RunView, test: Events, score: Array) -> Iterator[tuple[float, float]]:
    """Thresholds of the score at each signal efficiency, in the test events."""
    signal = test.label == view.class_scores[0].code
    if signal.any() and not signal.all():
        efficiency, _, threshold = roc(score, signal, test.weight)
        for point in WORKING_POINTS:
            yield point, float(threshold[np.argmax(efficiency >= point)])


def _scores_table(view: RunView, rows: list[dict[str, Any]]) -> Table:
    one = view.class_scores[0]
    points = [k for k in rows[0] if k.startswith("efficiency@")] if rows else []
    header = ("sample", f"mean {one.label}", *(f"at {100 * float(p[11:]):g} %" for p in points), "events")
    cells = [
        [r["sample"], stored(r["score"]), *(stored(r[p]) for p in points), f"{r['events']:,}"] for r in rows
    ]
    caption = (
        f"Score of each sample, and its efficiency at cuts with the given efficiency for {one.name}; test "
        f"sample. The cuts are those of the nominal score. {view.errors}"
    )
    return Table(caption, header, cells)


def _scores_figure(view: RunView) -> CaptionedFigure:
    rows = view.events.split == 2
    names, number = by_sample(view.events)
    caption = "Score of each sample of a class of several; test sample, each of unit area."
    return drawn(
        "by_sample_scores",
        caption,
        lambda ax: sample_scores(
            view.scores[rows],
            view.events.weight[rows],
            number[rows],
            names,
            label=view.class_scores[0].label,
            ax=ax,
        ),
        (8.0, 5.2),
    )


# --- attributions ------------------------------------------------------------------------------------


def _means(view: RunView) -> Iterator[tuple[str, Table, list[dict[str, Any]]]]:
    """Key, table and numbers of the means by sample of each map."""
    for layer in _explained(view):
        every = samples_as_classes(layer.every)
        pairs = layer.plain.axes[0] == "pair"
        what = f"{capital(layer.name)}, by sample: mean {quantity(layer.plain)} per"
        if pairs and not layer.compact:
            means, which = _of_samples(focus_means(every, view.focus)), pair_name(view.focus)
            yield (
                f"{layer.key}_focus",
                _table(f"{what} pair, {which} and others. {layer.errors}", means),
                means.rows(),
            )
        means = _of_samples(pair_means(every) if pairs else type_means(every))
        per = "pair of types" if pairs else "particle"
        folded = pairs or layer.compact
        yield layer.key, _table(f"{what} {per}. {layer.errors}", means, folded), means.rows()
    for method, attribution in column_maps(view).items():
        if not samples_of_classes(attribution.events):
            continue
        every = samples_as_classes(attribution)
        names = every.events.schema.classes
        of_sample = [of_class(every, name).population() for name in names]
        rows = [[c, *(cell(m, i) for m in of_sample)] for i, c in enumerate(attribution.labels["feature"])]
        caption = (
            f"{capital(full_name(attribution, method))}, by sample: mean attribution. {errors_of(every)}"
        )
        numbers = [
            {"sample": s, "feature": c} | entry(m.at((i,)))
            for s, m in zip(names, of_sample, strict=True)
            for i, c in enumerate(attribution.labels["feature"])
        ]
        yield (
            method,
            Table(caption, ("feature", *names), rows, folded=view.compact(attribution.target)),
            numbers,
        )


def _of_samples(means: Means) -> Means:
    return replace(means, axes=("sample", *means.axes[1:]))


def _table(caption: str, means: Means, folded: bool = False) -> Table:
    """One row for each group, one column for each sample."""
    samples, *others = means.labels
    once = means.axes[1:] == ("particle", "other particle")
    rows = [
        [
            *(names[i] for names, i in zip(others, at, strict=True)),
            *(cell(means, s, *at) for s in range(len(samples))),
        ]
        for at in np.ndindex(*means.value.shape[1:])
        if np.isfinite(means.value[:, *at]).any() and not (once and at[0] > at[1])
    ]
    return Table(caption, (*means.axes[1:], *samples), rows, words=len(others), folded=folded)


def _figures(view: RunView) -> Iterator[CaptionedFigure]:
    """Means per particle type of each map over particles."""
    for layer in _explained(view, "particle"):
        if not layer.compact:
            yield _figure(layer)


def _explained(view: RunView, axis: str | None = None) -> Iterator[LayerAttribution]:
    """Maps that explain events of several samples of a class."""
    return (layer for layer in maps(view, axis) if samples_of_classes(layer.plain.events))


def _figure(layer: LayerAttribution) -> CaptionedFigure:
    every = samples_as_classes(layer.every)
    caption = f"{capital(layer.name)}: mean attribution per particle of each type, by sample. {layer.errors}"
    names, types = every.events.schema.classes, every.events.schema.types
    size = (7.4, 1.8 + max(0.75, 0.2 * len(names)) * len(types))
    return drawn(f"{layer.key}_by_sample", caption, lambda ax: particle_types(every, ax=ax), size)
