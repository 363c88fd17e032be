"""Profiles: the mean of a score, or of the pairs in focus, against an observer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.means import pair_profile, profile_edges
from hepxai.attribution.reductions import pair_name, quantity, reduced, reference_value, whole_pairs
from hepxai.attribution.spread import TRAINING
from hepxai.core.binning import Scale, checked_edges
from hepxai.core.estimate import Array, total_error
from hepxai.core.formatting import common_power, observer_name, scaled
from hepxai.metrics.entries import class_profiles
from hepxai.metrics.event_maps import relative
from hepxai.metrics.profile import Profile
from hepxai.plots.style import (
    INK,
    add_footnote,
    axes_or_new,
    class_look,
    escape_label,
    legend_above,
    plain_numbers,
    short,
    styled,
    wrapped,
)


@styled
def score_profile(
    profiles: Mapping[str, Profile],
    *,
    xlabel: str,
    ylabel: str = "mean logit",
    classes: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean score in bins of an observer, with errors; the points stand at the median of their bin.

    Parameters
    ----------
    profiles : mapping
        ``class → profile``, background first.
    xlabel, ylabel : str
        Names of the observer and of the score, with units.
    classes : sequence of str, optional
        All classes, for their colours; by default those that have a profile.
    """
    ax, names = axes_or_new(ax), list(classes or profiles)
    for name, profile in profiles.items():
        mean, look = profile.mean, class_look(names.index(name), len(names))
        numbers = mean.value, mean.error, total_error(mean)
        _points(ax, profile.middle, profile.edges, *numbers, look, short(name))
    ax.axhline(0, color=INK, lw=1, ls=":")
    ax.set(xlabel=escape_label(xlabel), ylabel=wrapped(ylabel))
    if views := [_view(p.edges, p.middle) for p in profiles.values()]:
        ax.set_xlim(min(low for low, _ in views), max(high for _, high in views))
    ax.margins(y=0.12)
    legend_above(ax)
    return ax


def entry_profile(
    attribution: Attribution, entry: str, observer: NDArray[Any], *, name: str, ax: Axes | None = None
) -> Axes:
    """Mean of an entry against a number of the events, class by class, with errors.

    Parameters
    ----------
    attribution : Attribution
    entry : str
        Of `hepxai.metrics.entries.entry_names`.
    observer : ndarray, shape [E]
    name : str
        Of the observer.
    """
    profiles = class_profiles(attribution, entry, observer)
    ylabel = f"mean of {entry}: {quantity(relative(attribution))}"
    return score_profile(
        profiles, xlabel=name, ylabel=ylabel, classes=attribution.events.schema.classes, ax=ax
    )


@styled
def focus_profile(
    attribution: Attribution,
    focus: tuple[str, str],
    observer: str,
    *,
    bins: int | None = None,
    edges: Sequence[float] | None = None,
    scale: Scale = "linear",
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean attribution of the pairs in focus against an observer, class by class, with errors.

    A class with a single event in a bin has no error there, and no point.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged.
    focus : tuple of two str
    observer : str
        Name in ``events.observers``.
    bins : int, optional
        Of about equal numbers of events; by default bins that resolve the narrowest class.
    edges : sequence of float, optional
        Bin edges in place of ``bins``, in the unit of the observer; events beyond them are left out.
    scale : str
        "linear" or "log", of the axis of the observer.
    label : str, optional
        Axis label of the observer, with its unit.
    """
    ax = axes_or_new(ax)
    plain = attribution.apply(lambda a: whole_pairs(reduced(a, keep=TRAINING)))
    suited = profile_edges(plain, focus, observer, bins=bins, scale=scale) if edges is None else edges
    profile = pair_profile(plain, focus, observer, checked_edges(suited, scale))
    means, power = profile.means, common_power(profile.means.largest)
    for c, name in reversed(list(enumerate(means.labels[0]))):
        value, error, total = np.stack([means.value[c], means.error[c], total_error(means)[c]]) * 10.0**-power
        look = class_look(c, len(means.labels[0]))
        _points(ax, profile.middle, profile.edges, value, error, total, look, short(name))
    ax.axhline(reference_value(attribution), color=INK, lw=1, ls=":")
    xlabel, ylabel = label or observer_name(observer), scaled(f"mean {quantity(plain)}", power)
    ends = (suited[0], suited[-1]) if edges is not None else _view(profile.edges, profile.middle, scale)
    ax.set(xlabel=escape_label(xlabel), ylabel=wrapped(ylabel), xscale=scale, xlim=ends)
    if scale == "log":
        plain_numbers(ax.xaxis)
    ax.margins(y=0.12)
    legend_above(ax, title=escape_label(pair_name(focus), 40), alignment="left", title_fontsize="small")
    add_footnote(ax, attribution.caveat)
    return ax


def _points(
    ax: Axes,
    middle: Array,
    edges: Array,
    value: Array,
    error: Array,
    total: Array,
    look: dict[str, Any],
    name: str,
) -> None:
    """Points with errors; a thin line with a cap is the whole error, with the spread of trainings."""
    used = np.isfinite(value) & np.isfinite(error)  # one event has no error
    x = middle[used]
    wide = np.stack([x - edges[:-1][used], edges[1:][used] - x])
    points: dict[str, Any] = look | {"ls": "", "ms": 5, "elinewidth": 1.3}
    ax.errorbar(x, value[used], error[used], xerr=wide, label=name, **points)
    if (total[used] > error[used]).any():
        ax.errorbar(x, value[used], total[used], fmt="none", ecolor=look["color"], elinewidth=0.8, capsize=3)


def _view(edges: Array, middle: Array, scale: Scale = "linear") -> tuple[float, float]:
    """Limits that show all points: a long outermost bin is cut at twice the way to its point."""
    if scale == "log":
        low, high = _view(np.log(edges), np.log(middle))
        return float(np.exp(low)), float(np.exp(high))
    ends = float(edges[0]), float(edges[-1])
    if len(middle) < 3 or not np.isfinite(middle).all():
        return ends
    return max(float(2 * middle[0] - edges[1]), ends[0]), min(float(2 * middle[-1] - edges[-2]), ends[1])
