"""Recommendation of a scan, in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hepxai.core.formatting import with_errors
from hepxai.datasets import DatasetCard
from hepxai.scan.objectives import METRICS, Direction
from hepxai.scan.ranking import Ranking
from hepxai.scan.table import PointResult, Table

ALIKE = 0.95
"""Values within this probability of the best are reported as indistinguishable."""
ENOUGH = 3
"""Fewest seeds for a comparison of points: two results say nothing about their scatter."""
FEW = 5
"""Degrees of freedom below which the spread is reported as uncertain."""


def advice(table: Table, dataset: DatasetCard) -> dict[str, list[str]]:
    """Sentences for each objective, and on the front where there are several."""
    sentences = {
        METRICS[name].label(dataset): list(_objective(table, dataset, name, direction))
        for name, direction in table.plan.objectives
    }
    if len(sentences) > 1 and table.candidates:
        names = "; ".join(p.label for p in table.front())
        sentences["Pareto front"] = [f"No other point is better in all objectives than: {names}."]
    if left := list(_left_out(table)):
        sentences["left out"] = left
    return sentences


def _objective(table: Table, dataset: DatasetCard, name: str, direction: Direction) -> Iterator[str]:
    ranking, points = table.ranking(name, direction), table.candidates
    if not ranking.order:
        yield "No point is complete yet."
        return
    first = points[ranking.order[0]]
    seeds = table.plan.seeds
    of = f"mean of {seeds} seeds" if seeds > 1 else "one seed, its scatter is unknown"
    most = "highest" if direction == "max" else "lowest"
    yield f"{_value(first, name)} at {first.label}, the {most} of {len(ranking.order)} ({of})."
    yield from _confidence(ranking, points, seeds)
    yield from _test_figures(first)


def _confidence(ranking: Ranking, points: list[PointResult], seeds: int) -> Iterator[str]:
    if len(ranking.order) == 1:
        yield "There is nothing to compare it with."
        return
    if seeds == 1:
        yield (
            "With one seed the effect of the seed is unknown, so the order may be chance: "
            f"scan with {ENOUGH} seeds or more."
        )
        return
    if seeds < ENOUGH:
        yield f"Two seeds say too little of the scatter to call one point better; scan with {ENOUGH} or more."
        return
    best = format_probability(ranking.best[ranking.order[0]])
    yield f"Probability that it is the best of all, given the seeds: {best}."
    rest = [i for i in ranking.order[1:] if ranking.beaten[i] < ALIKE]
    if rest:
        names = ", ".join(f"{points[i].label} ({format_probability(ranking.beaten[i])})" for i in rest)
        yield f"It is indistinguishable (better with less than {format_probability(ALIKE)}) from: {names}."
    else:
        yield f"It is better than every other with at least {format_probability(ALIKE)}."
    if ranking.degrees < FEW:
        yield (
            f"The spread over seeds is estimated from {ranking.degrees} degrees of freedom only: "
            "more seeds would make these statements more precise."
        )


def _test_figures(first: PointResult) -> Iterator[str]:
    """Test figures of the best point: unbiased, since the choice did not use the test events."""
    figures = [f"{METRICS[n].text} {_value(first, n)}" for n in ("test_auc", "test_accuracy")]
    if np.isfinite(first.results("test_auc")).any():
        yield f"On the test events, which had no part in the choice: {', '.join(figures)}."


def _value(point: PointResult, name: str) -> str:
    """Mean with the error from seeds and the error from the number of events."""
    mean = point.mean(name)
    return with_errors(float(mean.value), {"seeds": float(mean.error), "events": point.statistical(name)})


def _left_out(table: Table) -> Iterator[str]:
    for point in table.points:
        for trial in point.trials:
            if trial.state in ("pruned", "failed"):
                yield f"{point.label}, seed {trial.seed}: {trial.state}, {trial.why}."
    missing = table.plan.trials - sum(t.finished for t in table.trials)
    if missing:
        yield f"{missing} of {table.plan.trials} trials are not finished; the same command resumes."


def format_probability(probability: float) -> str:
    """Probability in words, on the right side of ``ALIKE``; an en dash where there is none."""
    if np.isnan(probability):
        return "–"
    if not 0.001 <= probability <= 0.999:
        return "< 0.1 %" if probability < 0.5 else "> 99.9 %"
    first = 0 if 0.01 <= probability <= 0.99 else 1
    rounded = (f"{100 * probability:.{places}f}" for places in range(first, 4))
    same = (r for r in rounded if (float(r) >= 100 * ALIKE) == (probability >= ALIKE))
    return f"{next(same, f'< {100 * ALIKE:g}')} %"
