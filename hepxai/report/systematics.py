"""Section on systematic uncertainties: sources, the numbers that they move, and varied histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import hist
import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.means import focus_means, most_particles, type_means
from hepxai.attribution.reductions import in_focus, pair_name, quantity
from hepxai.attribution.shifts import Scored, paired_changes
from hepxai.attribution.spread import SYSTEMATIC
from hepxai.core.estimate import Array, Estimate
from hepxai.core.formatting import general, measured, percentage
from hepxai.core.jagged import row_sum
from hepxai.events import SPLITS, Events
from hepxai.events.pairing import pair_events
from hepxai.export.templates import Channels
from hepxai.plots.histograms import Template, fitting_bins, robust_edges, signed_histogram
from hepxai.plots.scores import class_scores
from hepxai.report.layer_attributions import maps
from hepxai.report.performance import merit
from hepxai.report.section import CaptionedFigure, Section, Table, entry
from hepxai.report.variation_figure import variation_figure
from hepxai.report.view import RunView, once
from hepxai.run import Run

LISTED = 20
"""Numbers in the table of leading sources; all are in ``numbers.json``."""
EVENTS = "test"
"""Split of the templates."""
Values = tuple[Events, Array]
"""Events, and a number for each."""


@dataclass(frozen=True)
class NumberWithChanges:
    """A number and its change under each alternative of each source.

    Attributes
    ----------
    about, what : str
        Map or model, and the number.
    number : Estimate
        With all its errors.
    changes : mapping of str to sequence of Estimate
        Source → change under each alternative, with the error of paired events.
    """

    about: str
    what: str
    number: Estimate
    changes: Mapping[str, Sequence[Estimate]]

    @cached_property
    def sizes(self) -> dict[str, float]:
        """Source → its larger change, the largest first; NaN where an alternative has no value."""
        sizes = {s: float(np.max(np.abs([c.value for c in several]))) for s, several in self.changes.items()}
        return dict(sorted(sizes.items(), key=lambda item: -np.nan_to_num(item[1], nan=np.inf)))

    @property
    def systematic(self) -> float:
        """All sources in quadrature."""
        return float(self.number.spread[SYSTEMATIC])

    @property
    def pull(self) -> float:
        """Systematic error in units of the statistical one."""
        error = float(self.number.error)
        return self.systematic / error if error > 0 else 0.0


def systematics_section(view: RunView) -> Section:
    """Sources, leading sources of the main numbers, scores under the variations."""
    moved = sorted(numbers_with_changes(view), key=lambda m: -np.nan_to_num(m.pull))
    channels, sources = templates(view), list(_sources(view))
    figures = [
        CaptionedFigure(f"variations_{channel}", variation_figure(samples), _caption(view, channel))
        for channel, samples in channels.items()
    ]
    return Section(
        "systematics",
        "Systematic uncertainties",
        text=list(_text(view)),
        tables=[_sources_table(view, sources), *([_leading_table(moved)] if moved else [])],
        figures=figures,
        numbers={"sources": sources, "numbers": [_numbers(m) for m in moved]},
    )


def _text(view: RunView) -> Iterator[str]:
    yield (
        "Events are read, scored and explained again under each variation of the data-set card, with the "
        "model, the methods and the baselines of the nominal events. A source counts with the larger change "
        "of its alternatives; sources are added in quadrature, as if independent. Changes are of paired "
        "events: their errors, from a jackknife over events, are those of the difference."
    )
    every = view.run.dataset.variation_sources
    if missing := [name for source, names in every.items() if source not in view.sources for name in names]:
        yield f"Not included, though on the card: {', '.join(missing)}. `hepxai vary` adds them."


# --- sources ---------------------------------------------------------------------------------


def _sources(view: RunView) -> Iterator[dict[str, Any]]:
    runs = [run for several in view.sources.values() for run in several]
    for run in runs:
        pairs = pair_events(view.events, run.events)
        yields = {c: _yield_change(view, run, i) for i, c in enumerate(view.events.schema.classes)}
        sizes = {"stay": len(pairs.first), "leave": len(pairs.only_first), "come": len(pairs.only_second)}
        yield {"variation": run.dataset.variation, **sizes, "yield_change": yields}


def _yield_change(view: RunView, run: Run, code: int) -> float | None:
    before, after = (float(e.weight[e.label == code].sum()) for e in (view.events, run.events))
    return after / before - 1 if before else None


def _sources_table(view: RunView, sources: Sequence[Mapping[str, Any]]) -> Table:
    classes = view.events.schema.classes[::-1]
    rows = [
        [
            row["variation"],
            *(f"{row[k]:,}" for k in ("stay", "leave", "come")),
            *(percentage(row["yield_change"][c]) for c in classes),
        ]
        for row in sources
    ]
    header = ("variation", "events stay", "leave", "come", *(f"sum of weights, {c}" for c in classes))
    return Table("Events under each variation, and the change of the sums of weights", header, rows)


# --- numbers ---------------------------------------------------------------------------------


def numbers_with_changes(view: RunView) -> Iterator[NumberWithChanges]:
    """Figures of merit and means of the maps, with their change under every variation."""
    sources = view.sources
    yield from _merits_with_changes(view, sources)
    for layer in maps(view):
        if layer.varied and not layer.compact:
            is_pair = layer.plain.axes[0] == "pair"
            measure: Callable[..., Any] = partial(focus_means, focus=view.focus)
            if not is_pair:
                measure = partial(type_means, most=most_particles(layer.plain.events))
            means = layer.focus_means if is_pair else layer.means
            if means.value.shape[1:] and np.isfinite(means.value).any():
                alternatives = layer.every.varied
                yield from _flat(layer.short, means, layer.plain, alternatives, measure)


def _flat(
    about: str, means: Any, nominal: Any, varied: Mapping[str, Sequence[Any]], measure: Any
) -> Iterator[NumberWithChanges]:
    every = [one for several in varied.values() for one in several]
    changes = paired_changes(nominal, every, lambda a: measure(a).value)
    by_source = _grouped(changes, {s: len(several) for s, several in varied.items()})
    for place in np.ndindex(means.value.shape):
        if np.isfinite(means.value[place]):
            first, *others = (names[i] for names, i in zip(means.labels, place, strict=True))
            spread = {s: np.asarray(v[place]) for s, v in means.spread.items()}
            number = Estimate(means.value[place], means.error[place], np.nan, spread=spread)
            shifts = {s: [c.at(place) for c in several] for s, several in by_source.items()}
            yield NumberWithChanges(about, f"{', '.join(others)}, {first}", number, shifts)


def _grouped(changes: Sequence[Estimate], sizes: Mapping[str, int]) -> dict[str, list[Estimate]]:
    left = iter(changes)
    return {source: [next(left) for _ in range(size)] for source, size in sizes.items()}


def _merits_with_changes(view: RunView, sources: Mapping[str, Sequence[Run]]) -> Iterator[NumberWithChanges]:
    split = "test" if "test" in view.metrics else next(iter(view.metrics), None)
    if split is None:
        return
    names = [n for n, e in view.metrics[split].items() if e.get("value") is not None]

    def scored(run: Run) -> Scored:
        if view.predictions:  # merits are relative to the training events
            return Scored(run.events, run.scores)
        rows = run.events.split == SPLITS.index(split)
        return Scored(run.events[rows], run.scores[rows])

    def measure(part: Scored) -> list[float]:
        merits = view.run.merits(part.logits, part.events)[split]
        return [float(merits[name].value) for name in names]

    changes = paired_changes(
        scored(view.run), [scored(r) for several in sources.values() for r in several], measure
    )
    by_source = _grouped(changes, {s: len(several) for s, several in sources.items()})
    for i, name in enumerate(names):
        shifts = {s: [c.at((i,)) for c in several] for s, several in by_source.items()}
        yield NumberWithChanges(
            "model", merit(name, view), Estimate.from_json(view.metrics[split][name]), shifts
        )


def _leading_table(moved: Sequence[NumberWithChanges]) -> Table:
    rows = []
    for one in moved[:LISTED]:
        source = next(iter(one.sizes))
        share = one.sizes[source] ** 2 / one.systematic**2 if one.systematic else None
        changes = [measured(float(c.value), float(c.error)) for c in one.changes[source]]
        up, down = changes if len(changes) == 2 else (*changes, "")
        value = measured(float(one.number.value), float(one.number.error))
        rows.append(
            [one.about, one.what, value, general(one.systematic, 2), source, up, down, percentage(share)]
        )
    header = ("of", "number", "value", "syst", "leading source", "up", "down", "of syst²")
    more = (
        f" The {LISTED} of {len(moved)} whose systematic error is largest beside the statistical one."
        if len(moved) > LISTED
        else ""
    )
    caption = (
        "Leading sources: value ± statistical error, systematic error, and change under each alternative of "
        f"the leading source ± error of paired events.{more}"
    )
    return Table(caption, header, rows, words=2)


def _numbers(one: NumberWithChanges) -> dict[str, Any]:
    changes = {s: [entry(c) for c in several] for s, several in one.changes.items()}
    return {"of": one.about, "what": one.what, **entry(one.number), "changes": changes}


# --- histograms ------------------------------------------------------------------------------


@once
def templates(view: RunView) -> Channels:
    """Histograms of the scores, and of the sum over the pairs in focus of each map, under all variations.

    All channels are of the same events. Where the card has ``yields``, weights are scaled to the expected
    events: to the luminosity, and class by class from the events of the histogram to all events.
    """
    channels = {}
    for i, one in enumerate(view.class_scores):

        def scores(run: Run, i: int = i) -> Values:
            rows = run.events.split == SPLITS.index(EVENTS)
            return run.events[rows], class_scores(run.events.schema, run.scores)[i].values[rows]

        varied = {source: [*map(scores, runs)] for source, runs in view.sources.items()}
        name = "score" if len(view.class_scores) == 1 else f"score_{one.name}"
        nominal = scores(view.run)
        channels[name] = _channel(nominal, varied, one.label, expected_events(view, nominal[0]))
    for layer in maps(view, "pair"):
        if layer.varied and not layer.compact and in_focus(layer.plain, view.focus).any():
            varied = {s: [_focus_sums(a, view) for a in several] for s, several in layer.every.varied.items()}
            label = f"{quantity(layer.plain)}, sum over {pair_name(view.focus)}"
            scale = expected_events(view, layer.plain.events)
            channels[f"{layer.key}_focus"] = _channel(_focus_sums(layer.plain, view), varied, label, scale)
    return channels


def expected_events(view: RunView, part: Events) -> Array:
    """Factor for the weights of each class of a part of the events, by which they stand for all; else 1."""
    number = len(view.events.schema.classes)
    if view.run.dataset.yields is None:
        return np.ones(number)
    every, some = (np.bincount(e.label, minlength=number) for e in (view.events, part))
    return np.asarray(view.run.dataset.yield_scale * every / np.maximum(some, 1))


def _focus_sums(attribution: Attribution, view: RunView) -> Values:
    """Events with a pair in focus, and the sum over these pairs."""
    chosen = attribution.select(pair=view.focus)
    has = np.diff(chosen.offsets) > 0
    return chosen.events[has], row_sum(chosen.values, chosen.offsets)[has]


def _channel(
    nominal: Values, varied: Mapping[str, Sequence[Values]], label: str, scale: Array
) -> dict[str, Template]:
    """Template of each class that has events, in bins of the nominal values."""
    events, values = nominal
    classes = {n: c for c, n in enumerate(events.schema.classes) if (events.label == c).any()}
    number = fitting_bins((int((events.label == c).sum()) for c in classes.values()), most=20)
    edges = robust_edges(values, number, tail=0.01)

    def filled(one: Values, code: int) -> hist.Hist:
        rows = one[0].label == code
        return signed_histogram(one[1][rows], scale[code] * one[0].weight[rows], edges, label=label)

    def template(code: int) -> Template:
        return Template(
            filled(nominal, code),
            {s: [filled(one, code) for one in several] for s, several in varied.items()},
        )

    return {name: template(code) for name, code in reversed(classes.items())}


def _caption(view: RunView, channel: str) -> str:
    of_score = channel.startswith("score")
    about = f"Score, {EVENTS} events" if of_score else f"Map {channel}, the explained events"
    weights = "expected events" if view.run.dataset.yields else "sums of signed weights"
    file = "templates.root and workspace.json" if of_score else "templates.root"
    return (
        f"{about}, under systematic variations; {weights}. Above: the bands are the statistical and "
        "systematic error. Below: ratio to the nominal histogram, for the sources that change it most. The "
        f"outermost bins hold what lies beyond. The same histograms are in {file}."
    )
