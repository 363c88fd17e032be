"""Figures of a scan, from its store."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hepxai.attribution.reductions import pair_name
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate
from hepxai.metrics.averages import spread_mean
from hepxai.plots.scan import Ridge, Values, importance_bars, parallel, pareto, ridges, scan_curve
from hepxai.plots.style import canvas, style
from hepxai.report.section import CaptionedFigure, drawn
from hepxai.scan.objectives import EDGES, METRICS
from hepxai.scan.sampling import importances
from hepxai.scan.scan import Scan
from hepxai.scan.space import Axis, Choices, Stored, is_number, name_of
from hepxai.scan.store import Trial
from hepxai.scan.table import Array, PointResult, Table
from hepxai.studies.overfitting.figures import distance_against_gap

QUANTITIES = {"attention": "attention", "relative": "attention × (n − 1)"}
ROWS = 12
"""Most values in a ridge plot."""


@dataclass(frozen=True)
class ScanView:
    """A scan and its results, as the sections need them."""

    scan: Scan
    results: Table

    @cached_property
    def points(self) -> list[PointResult]:
        """Points with a complete training."""
        return [p for p in self.results.points if p.of("complete")]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Scanned entries."""
        return self.scan.plan.space.axes

    @property
    def objectives(self) -> list[str]:
        """Names of the objectives."""
        return [name for name, _ in self.scan.plan.objectives]

    @property
    def judged(self) -> list[str]:
        """Metrics of the validation events, objectives first."""
        others = [m for m in self.results.metrics if METRICS[m].direction is not None]
        return list(dict.fromkeys([*self.objectives, *others]))

    @property
    def explained(self) -> bool:
        """True if attention was stored."""
        return any(t.histograms for p in self.points for t in p.of("complete"))

    def label(self, metric: str) -> str:
        """Metric in words."""
        return METRICS[metric].label(self.scan.dataset)

    def values(self, axis: Axis, points: Sequence[PointResult]) -> Values:
        """Setting of each point."""
        return Values(
            name_of(axis.key), [_display_value(axis, p.point[axis.key]) for p in points], axis.is_log
        )

    def short(self, point: PointResult) -> str:
        """Value of the only scanned entry; the number of the point if there are several."""
        values = list(point.point.values())
        return str(values[0]) if len(values) == 1 else f"#{self.number(point)}"

    def number(self, point: PointResult) -> int:
        """Number of a point in the tables, from 1."""
        return self.results.points.index(point) + 1

    def mean(self, metric: str, points: Sequence[PointResult]) -> list[Estimate]:
        """Mean of each point."""
        return [p.mean(metric) for p in points]


def _display_value(axis: Axis, stored: Stored) -> object:
    """Number where all values are; text otherwise."""
    numbers = isinstance(axis, Choices) and not all(map(is_number, axis.values))
    return str(stored) if numbers else stored


def _file(axis: Axis) -> str:
    return "".join(c if c.isalnum() else "_" for c in name_of(axis.key))


def curves(view: ScanView, axis: Axis) -> CaptionedFigure:
    """Results against one of the axes: objectives first, then the other metrics of the validation events."""
    metrics = view.judged
    values, alone = view.values(axis, view.points), len(view.axes) == 1
    rows = -(-len(metrics) // 2)
    with style():
        figure, frames = canvas(rows, 2, (12.0, 4.3 * rows + 0.5))
        for place, metric in enumerate(metrics):
            scan_curve(
                values,
                [p.results(metric) for p in view.points],
                view.label(metric),
                joined=alone,
                chosen=_chosen(view, metric),
                legend=place == 0,
                ax=frames.flat[place],
            )
        for frame in frames.flat[len(metrics) :]:
            frame.set_visible(False)
    caption = f"Every training, and the mean over seeds with its standard error, against {name_of(axis.key)}."
    return CaptionedFigure(f"against_{_file(axis)}", figure, caption, wide=True)


def _chosen(view: ScanView, metric: str) -> int | None:
    """Row of the best point by an objective."""
    for name, direction in view.scan.plan.objectives:
        order = view.results.ranking(name, direction).order
        if name == metric and order:
            return view.points.index(view.results.candidates[order[0]])
    return None


def attention(view: ScanView, axis: Axis) -> CaptionedFigure:
    """Attention of pairs in focus and of others, for each value of one axis."""
    focus = view.scan.dataset.focus
    assert focus is not None, "histograms are stored only where there is a focus"
    groups = _by_value(view, axis)
    names = (pair_name(focus.pair), "other pairs")
    with style():
        figure, frames = canvas(1, 2, (13.0, 1.6 + 0.75 * max(len(groups), 3)))
        for frame, quantity in zip(frames.flat, QUANTITIES, strict=True):
            rows = [_ridge(v, trials, quantity) for v, trials in groups]
            reference = 1.0 if quantity == "relative" else None
            ridges(rows, EDGES[quantity], names, QUANTITIES[quantity], reference=reference, ax=frame)
        frames.flat[0].set_ylabel(name_of(axis.key))
    caption = (
        f"Attention of {names[0]} for each value of {name_of(axis.key)} (filled; thin lines: single "
        "trainings) and of all other pairs, each of unit area; validation events of all classes with their "
        "weights. The numbers are means over trainings of the mean attention of these pairs, with standard "
        "errors. Right: times the number of senders, so that 1 is uniform."
    )
    return CaptionedFigure(f"attention_{_file(axis)}", figure, caption, wide=True)


def _by_value(view: ScanView, axis: Axis) -> list[tuple[str, list[Trial]]]:
    """Trainings with histograms at each value, in order; evenly picked values where there are many."""
    values = view.values(axis, view.points)
    groups: dict[float, list[Trial]] = {}
    names: dict[float, str] = {}
    for place, value, point in zip(values.positions(), values.values, view.points, strict=True):
        groups.setdefault(place, []).extend(t for t in point.of("complete") if t.histograms)
        names[place] = f"{value:.4g}" if isinstance(value, float) else str(value)
    order = sorted(place for place, trials in groups.items() if trials)
    return [(names[order[i]], groups[order[i]]) for i in evenly_spread(len(order), ROWS)]


def _ridge(name: str, trials: Sequence[Trial], quantity: str) -> Ridge:
    focus, other = (_densities(trials, quantity, pairs) for pairs in ("focus", "other"))
    values = np.array([float(t.metrics["pair_attention"].value) for t in trials])
    mean = spread_mean(values) if quantity == "attention" else None
    return Ridge(name, focus, other, mean)


def _densities(trials: Sequence[Trial], quantity: str, pairs: str) -> Array:
    """Unit-area histograms of all classes together, ``[trial, bin]``."""
    densities = []
    for trial in trials:
        total = np.sum([g["value"] for g in trial.histograms[quantity] if g["pairs"] == pairs], axis=0)
        norm = total.sum() * np.diff(EDGES[quantity])
        densities.append(total / np.where(norm != 0, norm, np.nan))
    return np.array(densities)


def fronts(view: ScanView) -> Iterator[CaptionedFigure]:
    """Every two objectives against each other."""
    points = view.results.candidates
    front = [points.index(p) for p in view.results.front()]
    for one, two in itertools.combinations(view.objectives, 2) if points else ():
        directions = dict(view.scan.plan.objectives)
        wanted = " and ".join(
            f"{'high' if directions[m] == 'max' else 'low'} {view.label(m)}" for m in (one, two)
        )
        yield drawn(
            f"pareto_{one}_{two}",
            f"Wanted: {wanted}. Means over seeds with standard errors; numbers are those of the tables. "
            "No other point is better in all objectives than one of the front.",
            lambda ax, one=one, two=two: pareto(  # type: ignore[misc]
                view.mean(one, points),
                view.mean(two, points),
                (view.label(one), view.label(two)),
                [view.short(p) for p in points],
                front,
                joined=len(view.objectives) == 2,
                ax=ax,
            ),
            (8.4, 6.4),
        )


def overfitting(view: ScanView) -> Iterator[CaptionedFigure]:
    """Distance of the importances against the gap of accuracy, where the model is one of the table."""
    gap, distance = "train_gap", "importance_distance"
    points = [p for p in view.points if np.isfinite(p.mean(distance).value)]
    if points:
        yield drawn(
            "distance_against_gap",
            "Distance of the permutation importances in training and validation events, less the distance "
            "expected by chance, against the gap of accuracy between the two. Means over seeds; numbers "
            "are those of the tables. Errors are those of seeds and of the number of events together. "
            "Without overfitting, the distance is compatible with 0.",
            lambda ax: distance_against_gap(
                [_with_events(p, gap) for p in points],
                [_with_events(p, distance) for p in points],
                [view.short(p) for p in points],
                ax=ax,
            ),
            (8.4, 6.4),
        )


def _with_events(point: PointResult, metric: str) -> Estimate:
    """Mean over seeds, with the error from the finite number of events, which seeds share."""
    mean = point.mean(metric)
    error = np.hypot(np.nan_to_num(float(mean.error)), np.nan_to_num(point.statistical(metric)))
    return Estimate(mean.value, np.asarray(error), mean.n_eff)


def importance(view: ScanView) -> Iterator[CaptionedFigure]:
    """Importance of each scanned entry for the variance of each objective."""
    trials = [t for p in view.points for t in p.of("complete")]
    space = {a.key: a.ordered() for a in view.axes}
    for name in view.objectives:
        values = [float(t.metrics[name].value) for t in trials]
        shares = importances([t.point for t in trials], [t.seed for t in trials], values, space)
        if shares:
            named = {name_of(k): v for k, v in shares.items()}
            yield drawn(
                f"importance_{name}",
                f"Share of the variance of {view.label(name)} between trainings that each entry explains by "
                "itself (fANOVA); errors from bootstrap samples of the trainings. An entry that explains no "
                "more than the seed has no visible effect.",
                lambda ax, named=named, name=name: importance_bars(named, view.label(name), ax=ax),  # type: ignore[misc]
                (8.0, 1.9 + 0.55 * len(shares)),
            )


def lines(view: ScanView) -> CaptionedFigure:
    """Parallel coordinates of scanned entries and other metrics, coloured by the first objective."""
    points, first = view.points, view.objectives[0]
    others = [m for m in view.judged if m != first]
    columns = [view.values(a, points) for a in view.axes]
    columns += [Values(view.label(m), [float(e.value) for e in view.mean(m, points)]) for m in others]
    result = np.array([float(e.value) for e in view.mean(first, points)])
    caption = f"Each line is a point (means over seeds), coloured by {view.label(first)}."
    size = (max(8.0, 2.6 * len(columns) + 1.5), 5.6)
    with style():
        figure, frames = canvas(size=size)
        parallel(columns, result, view.label(first), ax=frames[0, 0])
    return CaptionedFigure("parallel", figure, caption, wide=True)
