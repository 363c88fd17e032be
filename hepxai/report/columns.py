"""Sections on models of the event-level table: attribution to columns and to hidden neurons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import full_name, of_class, quantity, short_name
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import percentage
from hepxai.events import Events
from hepxai.metrics.columns import Ranking, column_agreement
from hepxai.plots.bars import importance_bars, neuron_bars
from hepxai.plots.values import beeswarm
from hepxai.report.outputs import explained_output
from hepxai.report.section import (
    Section,
    Table,
    agreement_rows,
    capital,
    cell,
    drawn,
    errors_of,
    labelled_histogram,
    population,
    splits_of,
)
from hepxai.report.view import RunView

TOP = 15
MOSTLY = 0.75
"""Share of the weight above which a mean over all events is effectively that of one class."""


def column_maps(view: RunView, axis: str = "feature") -> dict[str, Attribution]:
    """Methods that give one number per event and column, or per event and neuron; of every training."""
    chosen = {m: a for m, a in view.every.items() if view.explained[m].axes == ("event", axis)}
    return dict(sorted(chosen.items(), key=lambda item: view.compact(item[1].target)))


def column_sections(view: RunView) -> Iterator[Section]:
    """One section for each method."""
    for method, attribution in column_maps(view).items():
        yield _columns(view, method, attribution)
    for method, attribution in column_maps(view, "neuron").items():
        yield _neurons(view, method, attribution)


def _columns(view: RunView, method: str, attribution: Attribution) -> Section:
    ranking = Ranking.of(attribution)
    order = ranking.order()
    if view.compact(attribution.target):
        return _section(view, method, attribution, ranking, order, [])
    size = (7.6, 1.8 + 0.45 * min(len(order), TOP))
    bars = drawn(
        f"{method}_ranking",
        f"Columns by their mean |attribution|, the largest {TOP}; {_about(attribution)}",
        lambda ax: importance_bars({method: ranking}, top=TOP, ax=ax),
        size,
    )
    swarm = drawn(
        f"{method}_events",
        "Attribution of events to each column, coloured by the value of the column; points have no weights.",
        lambda ax: beeswarm(mean_of_trainings(attribution), ax=ax),
        size,
    )
    return _section(view, method, attribution, ranking, order, [bars, swarm])


def _neurons(view: RunView, method: str, attribution: Attribution) -> Section:
    mean = attribution.population()
    ranking = Ranking(
        attribution.labels["neuron"], mean.value, mean.error, quantity(attribution), spread=mean.spread
    )
    order = np.argsort(-mean.value, kind="stable")
    ends = order if len(order) <= 2 * TOP else np.concatenate([order[:TOP], order[-TOP:]])
    if view.compact(attribution.target):
        return _section(view, method, attribution, ranking, ends, [])
    bars = drawn(
        f"{method}_neurons",
        f"Neurons that push the score up and down most, {TOP} from each end; {_about(attribution)}",
        lambda ax: neuron_bars(attribution, top=TOP, ax=ax),
        (7.6, 1.8 + 0.26 * len(ends)),
    )
    return _section(view, method, attribution, ranking, ends, [bars])


def _section(
    view: RunView, method: str, attribution: Attribution, ranking: Ranking, order: Any, figures: list[Any]
) -> Section:
    """Figures, and a table of the columns or neurons in ``order`` with their means by class."""
    sign = explained_output(attribution.events.schema, attribution.target).sign
    classes = {c: of_class(attribution, c).population() for c in view.classes}
    axis = attribution.axes[1]
    header = [axis, ranking.what, *(f"mean, {c}" for c in classes)]
    rows = [_row(ranking, classes, i) for i in order]
    caption = f"Means over events, weights are signed; {_about(attribution)}"
    return Section(
        method,
        capital(full_name(attribution, method)),
        text=[sign, *([] if figures else [view.in_full])],
        warnings=view.warnings_about(method),
        tables=[Table(caption, header, rows, folded=axis == "neuron")],
        figures=figures,
        numbers={"unit": quantity(attribution), f"{axis}s": _numbers(ranking, classes)},
        histograms={
            f"{method}/{axis}s": labelled_histogram(ranking.value, ranking.error, **{axis: ranking.names})
        },
        level=3,
    )


def _row(ranking: Ranking, classes: dict[str, Estimate], i: int) -> list[str]:
    return [ranking.names[i], cell(ranking, i), *(cell(e, i) for e in classes.values())]


def _numbers(ranking: Ranking, classes: dict[str, Estimate]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": float(ranking.value[i]),
            "error": float(ranking.error[i]),
            **{source: float(s[i]) for source, s in ranking.spread.items()},
            **{f"mean {c}": float(e.value[i]) for c, e in classes.items()},
            **{f"error {c}": float(e.error[i]) for c, e in classes.items()},
        }
        for i, name in enumerate(ranking.names)
    ]


def _about(attribution: Attribution) -> str:
    events = attribution.events
    return (
        f"{population(events)} of the {splits_of(events)} sample{_mixture(events)}. {errors_of(attribution)}"
    )


def _mixture(events: Events) -> str:
    """Note on a mean over all events whose weight is nearly all of one class."""
    total = np.bincount(events.label, weights=events.weight, minlength=len(events.schema.classes))
    share = total / total.sum() if total.sum() > 0 else np.zeros(len(total))
    if not (largest := float(share.max(initial=0.0))) > MOSTLY:
        return ""
    name = events.schema.classes[int(share.argmax())]
    return f", whose weight is {percentage(largest, least=1)} {name}: see the means by class for the rest"


def leading(view: RunView, top: int = 3) -> Iterator[str]:
    """One sentence for each method, with its most important columns."""
    in_full = {m: a for m, a in column_maps(view).items() if not view.compact(a.target)}
    for method, attribution in in_full.items():
        ranking = Ranking.of(attribution)
        named = [f"{ranking.names[i]} {cell(ranking, i)}" for i in ranking.order()[:top]]
        yield f"{capital(short_name(attribution, method))}, {ranking.what}: {', '.join(named)}."


def column_agreements(view: RunView) -> Iterator[dict[str, Any]]:
    """Mean rank correlation of every two methods that explain the columns of the same events."""
    named = {short_name(a, k): a for k, a in column_maps(view).items()}
    yield from agreement_rows(named, column_agreement)
