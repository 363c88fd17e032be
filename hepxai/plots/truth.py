"""Figures of merit of methods that should find the true particles or pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from hepxai.attribution.reductions import short_name
from hepxai.core.estimate import Estimate, total_error
from hepxai.metrics.truth import TruthFinding, TruthSlices
from hepxai.plots.style import (
    INK,
    add_footnote,
    axes_or_new,
    class_look,
    escape_label,
    interval_bars,
    legend_above,
    styled,
)

Measure = Literal["auroc", "average_precision"]
NAMES = {"auroc": "AUROC", "average_precision": "average precision"}


@styled
def truth_finding(
    findings: Mapping[str, TruthFinding], *, measure: Measure = "auroc", ax: Axes | None = None
) -> Axes:
    """Figure of merit of each method, per event and pooled, with errors and the value by chance.

    The longer, thin error includes the spread of several trainings.

    Parameters
    ----------
    findings : mapping
        ``method → TruthFinding``.
    measure : str
        "auroc" or "average_precision".
    """
    ax = axes_or_new(ax, (7.0, 1.9 + 0.7 * len(findings)))
    rows = np.arange(len(findings))[::-1]
    for shift, kind in ((0.13, "per event"), (-0.13, "pooled")):
        points = [_measured(f, measure, kind) for f in findings.values()]
        _points(ax, points, rows + shift, kind)
    ax.set_yticks(rows, [escape_label(short_name(f, m), 28) for m, f in findings.items()])
    ax.tick_params(axis="y", which="both", length=0)
    ax.set(xlabel=f"{NAMES[measure]} for the truth", ylim=(-0.6, max(len(findings), 1) - 0.4))
    ax.margins(x=0.08)
    legend_above(ax, columns=3)
    _note(ax, findings.values())
    return ax


def _points(ax: Axes, points: list[tuple[Estimate, float]], y: np.ndarray, kind: str) -> None:
    index = ("per event", "pooled").index(kind)
    look = class_look(index)
    value, chance = np.array([float(p.value) for p, _ in points]), [c for _, c in points]
    ax.errorbar(value, y, xerr=interval_bars([p for p, _ in points]), ls="", ms=7, label=kind, **look)
    total = [float(total_error(p)) for p, _ in points]
    ax.errorbar(value, y, xerr=np.nan_to_num(total), fmt="none", ecolor=look["color"], elinewidth=0.8)
    label = "chance" if index == 0 else None
    ax.plot(chance, y, ls="", marker="|", ms=14, mew=2, color=INK, label=label)


def _measured(finding: TruthFinding, measure: Measure, kind: str) -> tuple[Estimate, float]:
    """Figure of merit and its value by chance."""
    if measure == "auroc":
        per_event, pooled = (finding.auroc, 0.5), (finding.pooled_auroc, finding.chance_pooled_auroc)
    else:
        per_event = finding.average_precision, float(finding.chance_precision.value)
        pooled = finding.pooled_average_precision, finding.chance_pooled_precision
    return pooled if kind == "pooled" else per_event


@styled
def truth_baselines(
    auroc: Mapping[str, Estimate],
    by_type: Mapping[str, Estimate],
    within: Mapping[str, Estimate],
    *,
    ax: Axes | None = None,
) -> Axes:
    """AUROC of each map, beside that of the particle types alone and that among entries of equal types.

    The longer, thin error includes the spread of several trainings.

    Parameters
    ----------
    auroc, by_type, within : mapping of str to Estimate
        By the name of the map; see `hepxai.metrics.find_truth`, `truth_by_type` and `truth_within_types`.
    """
    ax = axes_or_new(ax, (7.0, 2.0 + 0.7 * len(auroc)))
    rows = np.arange(len(auroc))[::-1]
    series = {"all entries": auroc, "types alone": by_type, "equal types": within}
    for i, (name, points) in enumerate(series.items()):
        value, error, total = (
            np.array([float(a) for a in column])
            for column in zip(*((p.value, p.error, total_error(p)) for p in points.values()), strict=True)
        )
        y, look = rows + 0.2 * (1 - i), class_look(i)
        ax.errorbar(value, y, xerr=np.nan_to_num(total), ls="", marker="", color=look["color"], elinewidth=1)
        ax.errorbar(value, y, xerr=np.nan_to_num(error), ls="", ms=7, elinewidth=2.4, label=name, **look)
    ax.axvline(0.5, color=INK, lw=1, ls=":", label="chance")
    ax.set_yticks(rows, [escape_label(name, 28) for name in auroc])
    ax.tick_params(axis="y", which="both", length=0)
    ax.set(xlabel="AUROC for the truth, per event", ylim=(-0.6, max(len(auroc), 1) - 0.4))
    ax.margins(x=0.08)
    legend_above(ax, columns=4)
    return ax


@styled
def truth_slices(
    findings: Mapping[str, TruthSlices],
    *,
    xlabel: str,
    measure: Measure = "auroc",
    ax: Axes | None = None,
) -> Axes:
    """Figure of merit per event of each method in bins of an event quantity, with errors.

    The longer, thin error includes the spread of several trainings.

    Parameters
    ----------
    findings : mapping
        ``method → TruthSlices``, all with the same edges.
    xlabel : str
        Name of the quantity of the bins, with its unit.
    measure : str
        "auroc" or "average_precision".
    """
    ax = axes_or_new(ax)
    for i, (method, slices) in enumerate(findings.items()):
        shift = 0.1 * np.diff(slices.edges).min() * (i - 0.5 * (len(findings) - 1))
        name = short_name(slices.found[0], method) if slices.found else method
        _slice_points(ax, slices, measure, shift, class_look(i) | {"label": escape_label(name)})
    ax.plot([], [], color=INK, lw=1, ls=":", label="chance")
    ax.set(xlabel=escape_label(xlabel), ylabel=f"{NAMES[measure]}, mean over events")
    ax.margins(x=0, y=0.12)
    legend_above(ax, columns=1)
    _note(ax, (f for slices in findings.values() for f in slices.found))
    return ax


def _slice_points(
    ax: Axes, slices: TruthSlices, measure: Measure, shift: float, look: dict[str, Any]
) -> None:
    points = [_measured(f, measure, "per event") for f in slices.found]
    value, bars = np.array([float(p.value) for p, _ in points]), interval_bars([p for p, _ in points])
    edges, finite = slices.edges, np.isfinite(value)
    x = (0.5 * (edges[1:] + edges[:-1]) + shift)[finite]
    wide = np.stack([x - edges[:-1][finite], edges[1:][finite] - x])
    ax.errorbar(x, value[finite], bars[:, finite], xerr=wide, ls="", ms=5.5, elinewidth=1.3, **look)
    if any(p.spread for p, _ in points):
        total = np.nan_to_num([float(total_error(p)) for p, _ in points])[finite]
        ax.errorbar(x, value[finite], total, fmt="none", ecolor=look["color"], elinewidth=0.8, capsize=2)
    ax.stairs([c for _, c in points], edges, baseline=None, color=look["color"], lw=1, ls=":")


def _note(ax: Axes, findings: Iterable[TruthFinding]) -> None:
    for finding in findings:
        add_footnote(ax, finding.caveat)
