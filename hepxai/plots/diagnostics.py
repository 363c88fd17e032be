"""Checks of an explanation: completeness residuals, and the fidelity of a surrogate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import short_name
from hepxai.attribution.residuals import relative_residual, residual_checks
from hepxai.core.formatting import real
from hepxai.plots.style import (
    CLASS_COLOURS,
    INK,
    SPLIT_COLOURS,
    add_footnote,
    axes_or_new,
    escape_label,
    legend_above,
    styled,
)

STEPS = ("-", "--", "-.", ":")
LINES = tuple(CLASS_COLOURS[i] for i in (3, 2, 4, 5, 0, 1))
FIGURES = {
    "agreement": "same decision",
    "constant_agreement": "a constant decision",
    "logit_correlation": "correlation of logits",
    "auc": "AUC against original",
    "map_agreement": "rank correlation of edges",
}


EXACT = 1e-7
"""Relative residual that is drawn for anything smaller: rounding."""


@styled
def residuals(attributions: Mapping[str, Attribution], *, ax: Axes | None = None) -> Axes:
    """Distribution of the relative completeness residual per event, one line per method.

    Parameters
    ----------
    attributions : mapping of str to Attribution
        Those without a residual are left out, and so are events whose output does not change at all.
    """
    ax = axes_or_new(ax)
    complete = {
        k: a for k, a in attributions.items() if a.residual is not None and a.output_change is not None
    }
    relative = {k: relative_residual(a) for k, a in complete.items()}
    relative = {k: np.maximum(v[~np.isnan(v)], EXACT) for k, v in relative.items()}
    edges = _decades(np.concatenate([*relative.values(), np.array([1e-3, 1e-2])]))
    for i, (key, values) in enumerate(relative.items()):
        filled, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
        colour, line = LINES[i % len(LINES)], STEPS[(i + i // len(LINES)) % len(STEPS)]
        name = escape_label(short_name(complete[key], key))
        ax.stairs(filled, edges, lw=2, ls=line, color=colour, label=name)
        median = residual_checks(complete[key])["median_residual"]
        if len(values) and np.isfinite(median):
            ax.axvline(max(median, EXACT), color=colour, lw=1, ls=":")
        add_footnote(ax, complete[key].caveat)
    ax.set(
        xlabel="|residual| / |change of output|", ylabel="events", xscale="log", xlim=(edges[0], edges[-1])
    )
    ax.set_ylim(bottom=0)
    legend_above(ax, columns=1 if len(relative) < 4 else 2)
    return ax


def _decades(values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = values[np.isfinite(values) & (values > 0)]
    ends = np.log10(np.quantile(finite, [0.003, 0.997]))  # single events do not set the range
    low = float(np.clip(np.floor(ends[0]), np.log10(EXACT), 1))
    high = float(np.clip(np.ceil(ends[1]), low + 1, 2))
    return np.logspace(low, high, int(8 * (high - low)) + 1)


@styled
def fidelity_points(
    fidelity: Mapping[str, Mapping[str, Mapping[str, float | None]]], *, ax: Axes | None = None
) -> Axes:
    """Figures of merit of a surrogate for each split, with errors.

    Parameters
    ----------
    fidelity : mapping
        ``split → name → {"value", "error"}``.
    """
    names = list(dict.fromkeys(n for row in fidelity.values() for n in row))
    ax = axes_or_new(ax, (7.0, 1.8 + 0.7 * len(names)))
    for s, (split, row) in enumerate(fidelity.items()):
        rows = [i for i, n in enumerate(names) if n in row]
        shift = (0.5 * (len(fidelity) - 1) - s) * 0.2
        value, error = (_finite([row[names[i]].get(k) for i in rows]) for k in ("value", "error"))
        look: dict[str, Any] = {"color": SPLIT_COLOURS.get(split, INK), "marker": "s^o"[s % 3]}
        y = len(names) - 1 - np.array(rows, dtype=float) + shift
        ax.errorbar(value, y, xerr=np.nan_to_num(error), ls="", ms=7, label=escape_label(split), **look)
    ax.axvline(1, color=INK, lw=1, ls=":")
    ax.set_yticks(range(len(names)), [escape_label(FIGURES.get(n, n)) for n in reversed(names)])
    ax.tick_params(axis="y", which="both", length=0)
    ax.set(xlabel="surrogate against the model (1 = identical)", ylim=(-0.6, len(names) - 0.4))
    ax.margins(x=0.08)
    legend_above(ax, columns=max(len(fidelity), 1))
    return ax


def _finite(values: Iterable[float | None]) -> NDArray[np.float64]:
    numbers = np.array([real(v) for v in values], dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)
