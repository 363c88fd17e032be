"""Turn-on curves and residuals of a predicted momentum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from hepxai.core.estimate import Array
from hepxai.metrics.momentum import TurnOn
from hepxai.plots.histograms import fitting_bins, normalised, signed_histogram
from hepxai.plots.style import (
    FAINT,
    INK,
    axes_or_new,
    class_look,
    escape_label,
    interval_bars,
    legend_above,
    styled,
)


@styled
def turn_on_curve(curves: Mapping[str, TurnOn], *, ax: Axes | None = None) -> Axes:
    """Efficiency of a momentum threshold against the true pt, with intervals, one colour per model.

    Points of several models lie side by side in their bin, which the horizontal lines span.
    """
    ax = axes_or_new(ax)
    for i, (name, curve) in enumerate(curves.items()):
        efficiency, finite = curve.efficiency, np.isfinite(curve.efficiency.value)
        left, right = curve.edges[:-1][finite], curve.edges[1:][finite]
        x = left + (right - left) * (0.5 + 0.4 * (i - 0.5 * (len(curves) - 1)) / len(curves))
        value = efficiency.value[finite]
        spread = interval_bars([efficiency.at((int(b),)) for b in np.flatnonzero(finite)])
        ax.errorbar(
            x, value, spread, [x - left, right - x], ls="", ms=5, label=escape_label(name), **class_look(i)
        )
    for threshold in {c.threshold for c in curves.values()}:
        ax.axvline(threshold, color=INK, lw=1, ls=":")
    ax.axhline(1, color=FAINT, lw=1, zorder=0)
    ax.set(xlabel="true pt [GeV]", ylabel="efficiency", ylim=(0, 1.08))
    legend_above(ax, columns=max(len(curves), 1))
    return ax


@styled
def momentum_residuals(
    predictions: Mapping[str, Array],
    true: Array,
    weight: Array,
    *,
    units: str = "GeV",
    name: str = "pt",
    ax: Axes | None = None,
) -> Axes:
    """Distribution of predicted - true, one line per model; the outermost bins include under- and overflow.

    Few events get fewer bins, 20 to 60.

    Parameters
    ----------
    predictions : mapping of str to ndarray, shape [E]
    true, weight : ndarray, shape [E]
        Events without a true value are left out.
    units, name : str
        Of the target.
    """
    ax = axes_or_new(ax)
    labelled = np.isfinite(true)
    off = {k: (p - true)[labelled] for k, p in predictions.items()}
    everything = np.abs(np.concatenate([*off.values(), np.zeros(1)]))
    reach = float(np.quantile(everything, 0.98)) or 1.0
    edges = np.linspace(-reach, reach, fitting_bins([int(labelled.sum())], least=20, most=60) + 1)
    for i, (label, values) in enumerate(off.items()):
        density, error, _ = normalised(signed_histogram(values, weight[labelled], edges))
        look = class_look(i)
        ax.stairs(density, edges, color=look["color"], lw=2, label=escape_label(label))
        middle = 0.5 * (edges[:-1] + edges[1:])
        ax.errorbar(middle, density, error, ls="", color=look["color"], lw=1)
    ax.axvline(0, color=INK, lw=1, ls=":")
    unit = f" [{units}]" if units else ""
    label = escape_label(f"predicted − true {name}{unit}", 80)
    ax.set(xlabel=f"{label}\n(outermost bins: all beyond)", ylabel="density", ylim=(0, None))
    legend_above(ax, columns=max(len(off), 1))
    return ax
