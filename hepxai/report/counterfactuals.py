"""Section on counterfactual maps: quantities that the nearest changes move, and events that never flip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.means import Means, most_particles
from hepxai.attribution.spread import mean_of_results, single_trainings, with_systematic
from hepxai.core.estimate import Estimate
from hepxai.metrics.counterfactuals import flipped_within, mean_changes
from hepxai.plots.bars import grouped_bars
from hepxai.report.hidden_sensitivity import SIGMA, hidden_sensitivity_section
from hepxai.report.section import (
    EstimateRows,
    Section,
    drawn,
    entry,
    errors_of,
    estimates_table,
    population,
    splits_of,
)
from hepxai.report.view import RunView


def counterfactual_sections(view: RunView) -> Iterator[Section]:
    """Population summary of each counterfactual map, and its hidden sensitivity."""
    for key, attribution in view.every.items():
        if attribution.method == "counterfactual" and not view.compact(attribution.target):
            yield _changes_section(view, key, attribution)
            yield hidden_sensitivity_section(view, key, attribution)


def summarised(attribution: Attribution) -> dict[str, Any]:
    """Means of |change| by type, and shares of the events that flip, with all errors.

    Of several trainings, each of which has its own nearest changes, the mean of their numbers.
    """
    most = most_particles(attribution.events)

    def measure(one: Attribution) -> dict[str, Any]:
        within, ever = flipped_within(one, SIGMA), flipped_within(one, np.inf)
        return {"changes": mean_changes(one, most), "within": within, "ever": ever}

    def combined(several: Attribution) -> Any:
        return mean_of_results([measure(one) for one in single_trainings(several) or [several]])

    varied = {source: [*map(combined, several)] for source, several in attribution.varied.items()}
    summary: dict[str, Any] = combined(attribution)
    return with_systematic(summary, varied) if varied else summary


def _changes_section(view: RunView, key: str, attribution: Attribution) -> Section:
    summary, events = summarised(attribution), attribution.events
    means: Means = summary["changes"]
    rows = {f"{t}, {f}": (i, j) for i, t in enumerate(means.labels[1]) for j, f in enumerate(means.labels[2])}
    by_class = {
        c: {name: _mean_at(means, (events.schema.classes.index(c), *place)) for name, place in rows.items()}
        for c in view.classes
    }
    moving = [n for n in rows if any(of[n].value > 0 for of in by_class.values())]
    never = {c: _complement(share) for c, share in summary["ever"].items()}
    about = f"{population(events)} of the {splits_of(events)} sample. {errors_of(attribution)}"
    shares = {f"χ² ≤ {SIGMA**2:g}": summary["within"], "at all": summary["ever"], "not": never}
    changes = {c: {n: of[n] for n in moving} for c, of in by_class.items()}
    caption = (
        "Mean |change| per particle in the smallest change that flips the decision, in units of σ, over the "
        f"events that flip; {about}"
    )
    size = (7.0, 1.8 + 0.6 * max(len(moving), 1))
    bars = drawn(
        f"{key}_changes",
        caption,
        lambda ax: grouped_bars(changes, "mean |change| per particle [σ]", caveat=attribution.caveat, ax=ax),
        size,
    )
    return Section(
        f"{key}_changes",
        "Counterfactuals: what moves",
        text=[
            "The smallest legal change of the momenta of an event that flips the decision. χ² is its size in "
            "units of the resolution, squared; events that cannot be flipped up to the largest χ² of the "
            "search are in the last column."
        ],
        warnings=view.warnings_about(key),
        tables=[
            estimates_table(
                f"Share of the events of each class that flip; {about}", "class", _by_row(shares)
            ),
            estimates_table(caption, "quantity", _by_row(changes)),
        ],
        figures=[bars] if moving else [],
        numbers={
            "shares": {n: {c: entry(e) for c, e in of.items()} for n, of in shares.items()},
            "changes": means.rows(),
        },
    )


def _mean_at(means: Means, place: tuple[int, ...]) -> Estimate:
    spread = {source: np.asarray(s[place]) for source, s in means.spread.items()}
    return Estimate(means.value[place], means.error[place], np.nan, spread=spread)


def _complement(share: Estimate) -> Estimate:
    ends = None if share.interval is None else (np.asarray(1 - share.high), np.asarray(1 - share.low))
    return Estimate(np.asarray(1 - share.value), share.error, share.n_eff, ends, share.spread)


def _by_row(columns: EstimateRows) -> EstimateRows:
    rows = next(iter(columns.values()))
    return {row: {name: column[row] for name, column in columns.items()} for row in rows}
