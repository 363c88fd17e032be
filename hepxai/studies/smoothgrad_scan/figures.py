"""Truth share and stability of SmoothGrad against the number of noisy copies."""

from __future__ import annotations

from matplotlib.axes import Axes

from hepxai.core.estimate import as_arrays
from hepxai.plots.style import (
    INK,
    axes_or_new,
    class_look,
    legend_above,
    styled,
)
from hepxai.studies.smoothgrad_scan.numbers import SmoothPoint, SmoothScan


@styled
def smoothgrad_shares(scan: SmoothScan, *, ax: Axes | None = None) -> Axes:
    """Share on the true hits against the number of noisy copies, one line for each noise level."""
    ax = axes_or_new(ax)
    _lines(ax, scan, "share", "share on true hits, of the hits")
    ax.axhline(float(scan.choice.chance.value), color=INK, ls="--", lw=1.2, label="all hits alike")
    legend_above(ax, columns=3, fontsize="x-small")
    return ax


@styled
def smoothgrad_stability(scan: SmoothScan, *, ax: Axes | None = None) -> Axes:
    """Correlation between two seeds against the number of noisy copies, one line for each noise level."""
    ax = axes_or_new(ax)
    _lines(ax, scan, "stability", "correlation between two seeds")
    ax.axhline(scan.stable, color=INK, ls=":", lw=1.2, label="asked for")
    legend_above(ax, columns=3, fontsize="x-small")
    return ax


def _lines(ax: Axes, scan: SmoothScan, what: str, label: str) -> None:
    """Draw one line for each level, and a ring around the choice."""
    levels = sorted({p.level for p in scan.points})

    def place(point: SmoothPoint) -> float:  # levels beside each other
        return float(point.samples * 1.03 ** (levels.index(point.level) - 0.5 * (len(levels) - 1)))

    for i, level in enumerate(levels):
        points = sorted((p for p in scan.points if p.level == level), key=lambda p: p.samples)
        value, error = as_arrays([getattr(p, what) for p in points])
        ax.errorbar(
            list(map(place, points)), value, error, ms=5, lw=1.2, label=f"noise {level:g}", **class_look(i)
        )
    chosen = float(getattr(scan.choice, what).value)
    ax.plot([place(scan.choice)], [chosen], "o", ms=15, mfc="none", mec=INK, label="choice")
    numbers = sorted({p.samples for p in scan.points})
    ax.set_xscale("log")
    ax.set_xticks(numbers, [str(n) for n in numbers])
    ax.minorticks_off()
    ax.set(xlabel="noisy copies", ylabel=label)
