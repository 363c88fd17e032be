"""Table of a scan: every trial, and the mean of every point over its seeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Estimate
from hepxai.core.files import write_json, write_text
from hepxai.metrics.averages import spread_mean
from hepxai.scan.objectives import METRICS, NAN, Direction
from hepxai.scan.plan import Plan
from hepxai.scan.ranking import Ranking, rank
from hepxai.scan.sampling import Result, pareto_front
from hepxai.scan.space import Point, label, name_of
from hepxai.scan.store import Trial

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PointResult:
    """One point and its trainings.

    Attributes
    ----------
    point : mapping
    trials : tuple of Trial
        By seed.
    """

    point: Point
    trials: tuple[Trial, ...]

    @property
    def label(self) -> str:
        """The point in words."""
        return label(self.point)

    @property
    def named(self) -> dict[str, Any]:
        """Values by the names of their entries."""
        return {name_of(k): v for k, v in self.point.items()}

    def of(self, state: str) -> list[Trial]:
        """Trials in a state."""
        return [t for t in self.trials if t.state == state]

    def results(self, metric: str) -> Array:
        """Value of each finished seed; NaN where the metric has none."""
        return np.array([float(t.metrics.get(metric, NAN).value) for t in self.of("complete")])

    def mean(self, metric: str) -> Estimate:
        """Mean over the seeds with its standard error, which is NaN for one seed; see `spread_mean`."""
        return spread_mean(self.results(metric))

    def statistical(self, metric: str) -> float:
        """Error of one training from the finite number of events, common to all seeds: they share events."""
        errors = [float(t.metrics[metric].error) for t in self.of("complete") if metric in t.metrics]
        return float(np.mean(errors)) if errors else np.nan


@dataclass(frozen=True)
class Table:
    """Results of a scan so far.

    Attributes
    ----------
    plan : Plan
    trials : tuple of Trial
        Begun ones, by number; seeds of a point follow each other.
    """

    plan: Plan
    trials: tuple[Trial, ...]

    @property
    def complete(self) -> bool:
        """True if every trial is finished."""
        return len(self.trials) >= self.plan.trials and all(t.finished for t in self.trials)

    @property
    def points(self) -> list[PointResult]:
        """Points in the order in which they were begun."""
        n = self.plan.seeds
        groups = [self.trials[i : i + n] for i in range(0, len(self.trials), n)]
        return [PointResult(g[0].point, tuple(g)) for g in groups]

    @property
    def metrics(self) -> list[str]:
        """Metrics that a trial has, in the order of ``METRICS``."""
        return [m for m in METRICS if any(m in t.metrics for t in self.trials)]

    @property
    def candidates(self) -> list[PointResult]:
        """Points all of whose seeds are complete: where some were pruned, the mean is that of survivors."""
        return [p for p in self.points if len(p.of("complete")) == self.plan.seeds]

    def ranking(self, metric: str, direction: Direction) -> Ranking:
        """Ranking of the candidates."""
        results = [p.results(metric) for p in self.candidates]
        return rank(np.reshape(results, (-1, self.plan.seeds)), higher=direction == "max")

    def front(self) -> list[PointResult]:
        """Candidates whose means no other point beats in all objectives."""
        means = [[float(p.mean(m).value) for m, _ in self.plan.objectives] for p in self.candidates]
        return [self.candidates[i] for i in pareto_front(means, [d for _, d in self.plan.objectives])]

    def results(self) -> list[Result]:
        """Points with their objectives, for the sampler: means over the finished seeds."""
        means = [[float(p.mean(m).value) for m, _ in self.plan.objectives] for p in self.points]
        return [
            (p.point, m if np.isfinite(m).all() else None) for p, m in zip(self.points, means, strict=True)
        ]

    # --- rows ----------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """One row per point: values, seeds, and of every metric the mean and its errors.

        ``METRIC`` is the mean over seeds, ``METRIC_error`` its standard error, ``METRIC_spread`` the
        standard deviation over seeds, ``METRIC_statistical`` the error of one training from the finite
        number of events.
        """
        return [self._row(p) for p in self.points]

    def _row(self, point: PointResult) -> dict[str, Any]:
        row: dict[str, Any] = point.named | {
            s: len(point.of(s)) for s in ("complete", "pruned", "failed", "running")
        }
        for metric in self.metrics:
            mean = point.mean(metric)
            row |= {
                metric: float(mean.value),
                f"{metric}_error": float(mean.error),
                f"{metric}_spread": float(mean.error * np.sqrt(mean.n_eff)),
                f"{metric}_statistical": point.statistical(metric),
            }
        return row

    def trial_rows(self) -> list[dict[str, Any]]:
        """One row per training: values, seed, state, metrics with statistical errors, events, time."""
        return [self._trial_row(t) for t in self.trials]

    def _trial_row(self, trial: Trial) -> dict[str, Any]:
        row: dict[str, Any] = {name_of(k): v for k, v in trial.point.items()}
        row |= {"seed": trial.seed, "state": trial.state}
        for metric in self.metrics:
            estimate = trial.metrics.get(metric, NAN)
            row |= {metric: float(estimate.value), f"{metric}_error": float(estimate.error)}
        row |= {f"events_{k}": v for k, v in trial.events.items()}
        return row | {"epochs": len(trial.auc), "seconds": trial.seconds, "why": trial.why}

    def rankings(self) -> list[dict[str, Any]]:
        """For each objective, candidates from the best mean on, with probabilities; see `Ranking`."""
        return [self._ranking_row(metric, direction) for metric, direction in self.plan.objectives]

    def _ranking_row(self, metric: str, direction: Direction) -> dict[str, Any]:
        ranking, points = self.ranking(metric, direction), self.candidates
        return {
            "objective": metric,
            "direction": direction,
            "ranking": [
                points[i].named | {"is_best": ranking.best[i], "is_beaten_by_the_first": ranking.beaten[i]}
                for i in ranking.order
            ],
            "seed_spread": ranking.spread,
            "degrees_of_freedom": ranking.degrees,
        }

    def write(self, folder: Path) -> None:
        """Write ``table.csv``, ``trials.csv`` and ``table.json``."""
        write_text(folder / "table.csv", _csv(self.rows()))
        write_text(folder / "trials.csv", _csv(self.trial_rows()))
        content = {
            "settings": self.plan.to_json(),
            "points": self.rows(),
            "trials": self.trial_rows(),
            "rankings": self.rankings(),
            "pareto_front": [p.named for p in self.front()],
        }
        write_json(folder / "table.json", content)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
