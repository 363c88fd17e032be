"""Profile of a score or an attribution against an observer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from hepxai.metrics.profile import Profile
from hepxai.plots.style import (
    INK,
    axes_or_new,
    class_look,
    escape_label,
    legend_above,
    short,
    styled,
    wrapped,
)


def _view(found: Profile) -> tuple[float, float]:
    """All points; outermost bins that reach to the last event are cut at twice the way to their point."""
    edges, middle = found.edges, found.middle
    ends = float(edges[0]), float(edges[-1])
    if len(middle) < 3 or not np.isfinite(middle).all():
        return ends
    return max(float(2 * middle[0] - edges[1]), ends[0]), min(float(2 * middle[-1] - edges[-2]), ends[1])


@styled
def score_profile(
    profiles: Mapping[str, Profile], *, xlabel: str, ylabel: str = "mean logit", ax: Axes | None = None
) -> Axes:
    """Mean score in bins of an observer, with errors; the points stand at the median of their bin.

    Parameters
    ----------
    profiles : mapping
        ``class → profile``, background first.
    xlabel, ylabel : str
        What the observer and the score are, with units.
    """
    ax = axes_or_new(ax)
    for c, (name, found) in enumerate(profiles.items()):
        known = np.isfinite(found.mean.value) & np.isfinite(found.mean.error)  # one event has no error
        x, y = found.middle[known], found.mean.value[known]
        wide = np.stack([x - found.edges[:-1][known], found.edges[1:][known] - x])
        error = found.mean.error[known]
        ax.errorbar(x, y, error, xerr=wide, ls="", ms=5.5, elinewidth=1.3, label=short(name), **class_look(c))
    ax.axhline(0, color=INK, lw=1, ls=":")
    ax.set(xlabel=escape_label(xlabel), ylabel=wrapped(ylabel))
    if views := [_view(found) for found in profiles.values()]:
        ax.set_xlim(min(low for low, _ in views), max(high for _, high in views))
    ax.margins(y=0.12)
    legend_above(ax)
    return ax
