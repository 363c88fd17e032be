"""Sections on what a model of the event-level table looked at: its columns, its hidden neurons."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import measured, method_name, percentage, short_method
from hepxai.metrics.columns import Ranking, column_agreement
from hepxai.plots.means import quantity
from hepxai.plots.scores import sides
from hepxai.plots.tables import importance_bars, neuron_bars
from hepxai.plots.values import beeswarm
from hepxai.report.content import ReportContent
from hepxai.report.section import ERRORS, Section, Table, capital, drawn, population, row_histogram, splits_of

TOP = 15
MOSTLY = 0.75
"""Share of the weight from which a mean over all events is that of one class."""


def column_maps(content: ReportContent, axis: str = "feature") -> dict[str, Attribution]:
    """Methods that give one number per event and column, or per event and neuron."""
    return {m: a for m, a in content.explained.items() if a.axes == ("event", axis)}


def column_sections(content: ReportContent) -> Iterator[Section]:
    """One section for each method."""
    for method, found in column_maps(content).items():
        yield _columns(content, method, found)
    for method, found in column_maps(content, "neuron").items():
        yield _neurons(content, method, found)


def _columns(content: ReportContent, method: str, found: Attribution) -> Section:
    ranking = Ranking.of(found)
    order = ranking.order()
    size = (7.6, 1.8 + 0.45 * min(len(order), TOP))
    bars = drawn(
        f"{method}_ranking",
        f"Columns by their mean |attribution|, the largest {TOP}; {_about(found)}",
        lambda ax: importance_bars({method: ranking}, top=TOP, ax=ax),
        size,
    )
    swarm = drawn(
        f"{method}_events",
        "Attribution of events to each column, coloured by the value of the column; points have no weights.",
        lambda ax: beeswarm(found, ax=ax),
        size,
    )
    return _section(content, method, found, ranking, order, [bars, swarm])


def _neurons(content: ReportContent, method: str, found: Attribution) -> Section:
    mean = found.population()
    ranking = Ranking(found.labels["neuron"], mean.value, mean.error, quantity(found))
    order = np.argsort(-mean.value, kind="stable")
    shown = order if len(order) <= 2 * TOP else np.concatenate([order[:TOP], order[-TOP:]])
    bars = drawn(
        f"{method}_neurons",
        f"Neurons that push the score up and down most, {TOP} from each end; {_about(found)}",
        lambda ax: neuron_bars(found, top=TOP, ax=ax),
        (7.6, 1.8 + 0.26 * len(shown)),
    )
    return _section(content, method, found, ranking, shown, [bars])


def _section(
    content: ReportContent, method: str, found: Attribution, ranking: Ranking, order: Any, figures: list[Any]
) -> Section:
    """Figures, and a table of the columns or neurons in ``order`` with their means by class."""
    signal, background = sides(found.events.schema)
    classes = {c: found.population(where=_of_class(found, c)) for c in content.classes}
    axis = found.axes[1]
    header = [axis, ranking.what, *(f"mean, {c}" for c in classes)]
    rows = [_row(ranking, classes, i) for i in order]
    caption = f"Means over events, weights are signed; {_about(found)}"
    return Section(
        method,
        capital(method_name(method)),
        text=[f"Positive values push the logit towards {signal}, negative ones towards {background}."],
        warnings=content.warnings_about(method),
        tables=[Table(caption, header, rows, folded=axis == "neuron")],
        figures=figures,
        numbers={"unit": quantity(found), f"{axis}s": _numbers(ranking, classes)},
        histograms={f"{method}/{axis}s": row_histogram(ranking.value, ranking.error, ranking.names, axis)},
        level=3,
    )


def _of_class(found: Attribution, name: str) -> Any:
    return found.events.label == found.events.schema.classes.index(name)


def _row(ranking: Ranking, classes: dict[str, Estimate], i: int) -> list[str]:
    means = [measured(float(e.value[i]), float(e.error[i])) for e in classes.values()]
    return [ranking.names[i], measured(float(ranking.value[i]), float(ranking.error[i])), *means]


def _numbers(ranking: Ranking, classes: dict[str, Estimate]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": float(ranking.value[i]),
            "error": float(ranking.error[i]),
            **{f"mean {c}": float(e.value[i]) for c, e in classes.items()},
            **{f"error {c}": float(e.error[i]) for c, e in classes.items()},
        }
        for i, name in enumerate(ranking.names)
    ]


def _about(found: Attribution) -> str:
    return f"{population(found.events)} of the {splits_of(found.events)} sample{_mixture(found)}. {ERRORS}"


def _mixture(found: Attribution) -> str:
    """Whose weight a mean over all events is, where it is nearly all of one class."""
    events = found.events
    total = np.bincount(events.label, weights=events.weight, minlength=len(events.schema.classes))
    share = total / total.sum() if total.sum() > 0 else np.zeros(len(total))
    if not (largest := float(share.max(initial=0.0))) > MOSTLY:
        return ""
    name = events.schema.classes[int(share.argmax())]
    return f", whose weight is {percentage(largest, least=1)} {name}: see the means by class for the rest"


def leading(content: ReportContent, top: int = 3) -> Iterator[str]:
    """The columns that matter most, method by method, in a sentence each."""
    for method, found in column_maps(content).items():
        ranking = Ranking.of(found)
        named = [
            f"{ranking.names[i]} {measured(float(ranking.value[i]), float(ranking.error[i]))}"
            for i in ranking.order()[:top]
        ]
        yield f"{capital(short_method(method))}, {ranking.what}: {', '.join(named)}."


def column_agreements(content: ReportContent) -> Iterator[dict[str, Any]]:
    """Mean rank correlation of every two methods that explain the columns of the same events."""
    for (first, a), (second, b) in combinations(column_maps(content).items(), 2):
        if np.array_equal(a.events.entry, b.events.entry) and np.array_equal(a.events.file, b.events.file):
            found = column_agreement(a, b)
            names = {"first": short_method(first), "second": short_method(second)}
            yield names | {"left_out": found.left_out} | found.mean.to_json()
