"""One kind of pair against all others: its distribution, and its dependence on an observer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.formatting import common_power, observer_name, scaled
from hepxai.core.jagged import IntArray, parents
from hepxai.metrics.binning import bin_of, equal_bins, resolving_bins
from hepxai.metrics.reductions import in_focus, reduced, whole_pairs
from hepxai.plots.histograms import Array, fitting_bins, normalised, robust_edges, signed_histogram
from hepxai.plots.means import Means, pair_name, profile, quantity, reference_value
from hepxai.plots.style import (
    INK,
    add_footnote,
    axes_or_new,
    class_look,
    escape_label,
    legend_above,
    short,
    styled,
    wrapped,
)

Key = tuple[str, str]
Mask = NDArray[np.bool_]
ENDS = "  (end bins: all beyond)"


def focus_histograms(
    attribution: Attribution, focus: tuple[str, str], bins: int | None = None
) -> dict[tuple[str, str], hist.Hist]:
    """Signed-weight histograms for each ``(class, pairs)`` that has pairs, in common bins.

    The second key is the name of the focus or "other pairs". Pairs of one event are correlated, and the
    variances say so.
    """
    owner = parents(attribution.offsets)
    groups = dict(_groups(attribution, focus, owner))
    edges = _common_edges([attribution.values[own] for own in groups.values()], bins)
    weight, label = attribution.events.weight[owner], quantity(attribution)
    return {
        key: signed_histogram(
            attribution.values[own], weight[own], edges, cluster=owner[own], name="value", label=label
        )
        for key, own in groups.items()
    }


def _groups(attribution: Attribution, focus: tuple[str, str], owner: IntArray) -> Iterator[tuple[Key, Mask]]:
    chosen = in_focus(attribution, focus)
    for c, name in reversed(list(enumerate(attribution.events.schema.classes))):
        for pairs, mask in ((pair_name(focus), chosen), ("other pairs", ~chosen)):
            own = mask & (attribution.events.label[owner] == c)
            if own.any():
                yield (name, pairs), own


def _common_edges(groups: list[NDArray[np.floating]], bins: int | None) -> Array:
    """Bins that show every group: few pairs in focus would drown in quantiles of all pairs."""
    number = bins or fitting_bins(map(len, groups), least=24)
    ends = [robust_edges(values, 1, tail=0.005) for values in groups] or [np.array([0.0, 1.0])]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    return np.linspace(0.0 if all((g >= 0).all() for g in groups) else low, high, number + 1)


@styled
def focus_distribution(
    attribution: Attribution, focus: tuple[str, str], *, bins: int | None = None, ax: Axes | None = None
) -> Axes:
    """Attribution of the pairs in focus and of all other pairs, class by class; each of unit area.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged.
    focus : tuple of two str
        Particle types, in either order.
    bins : int, optional
        As many as the smallest group fills, by default.
    """
    ax = axes_or_new(ax)
    plain_map = whole_pairs(reduced(attribution))
    found = focus_histograms(plain_map, focus, bins)
    for (name, pairs), filled in found.items():
        index = attribution.events.schema.classes.index(name)
        _step(ax, filled, index, f"{short(name)}, {escape_label(pairs, 40)}", pairs == pair_name(focus))
    ax.axvline(reference_value(attribution), color=INK, lw=0.8, ls=":")
    ax.set(xlabel=wrapped(quantity(plain_map) + ENDS), ylabel="pairs, unit area")
    _density_scale(ax, [normalised(h)[0] for h in found.values()])
    ax.margins(x=0)
    return _finished(ax, attribution)


def _finished(ax: Axes, attribution: Attribution, **legend: Any) -> Axes:
    legend_above(ax, **legend)
    add_footnote(ax, attribution.caveat)
    return ax


def _density_scale(ax: Axes, densities: list[Array]) -> None:
    """Logarithmic; with a linear part around zero if signed weights left negative bins."""
    values = np.concatenate([*densities, np.zeros(1)])
    positive, negative = values[values > 0], values[values < 0]
    if len(positive) == 0:
        return
    if len(negative) == 0:
        ax.set(yscale="log", ylim=(0.4 * positive.min(), 2.5 * positive.max()))
        return
    linear = 10.0 ** np.ceil(np.log10(max(-negative.min(), positive.min())))  # a tick of its own
    ax.set_yscale("symlog", linthresh=linear, linscale=0.6)
    ax.set_ylim(-1.2 * linear, 2.5 * positive.max())
    ax.axhline(0, color=INK, lw=0.8)


def _step(ax: Axes, filled: hist.Hist, index: int, label: str, in_front: bool) -> None:
    density, error, edges = normalised(filled)
    colour = class_look(index)["color"]
    dashes = (4 * index, (4, 4))  # those of the second class fill the gaps of the first
    look: dict[str, Any] = {
        "color": colour,
        "lw": 2.2 if in_front else 1.3,
        "ls": "-" if in_front else dashes,
    }
    shown = np.where(filled.variances() > 0, density, np.nan)
    ax.stairs(shown, edges, baseline=None, label=label, **look)
    if in_front:
        ax.stairs(density + error, edges, baseline=density - error, fill=True, color=colour, alpha=0.2, lw=0)


@dataclass(frozen=True)
class Profile:
    """Mean over pairs in bins of an observer.

    Attributes
    ----------
    means : Means
        ``[class, bin]``.
    edges : ndarray, shape [B+1]
    middle : ndarray, shape [B]
        Median of the observer in each bin: where its point belongs.
    """

    means: Means
    edges: Array
    middle: Array


def observer_profile(
    attribution: Attribution, focus: tuple[str, str], observer: str, bins: int | None = None
) -> Profile:
    """Mean over the pairs in focus in bins of an observer.

    The bins resolve the narrowest class; given a number, they hold about equally many events with a pair.
    """
    chosen = attribution.select(pair=focus)
    values = np.asarray(chosen.events.observers[observer], dtype=np.float64)
    has = (np.diff(chosen.offsets) > 0) & np.isfinite(values)
    seen, label = values[has], chosen.events.label[has]
    by_class = [seen[label == c] for c in range(len(chosen.events.schema.classes))]
    edges = resolving_bins(by_class) if bins is None else equal_bins(seen, bins)
    position = bin_of(seen, edges)
    inside = [seen[position == b] for b in range(len(edges) - 1)]
    middle = np.array([np.median(v) if len(v) else np.nan for v in inside])
    return Profile(profile(chosen, values, edges), edges, middle)


@styled
def focus_profile(
    attribution: Attribution,
    focus: tuple[str, str],
    observer: str,
    *,
    bins: int | None = None,
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
    label : str, optional
        Axis label of the observer, with its unit.
    """
    ax = axes_or_new(ax)
    plain_map = whole_pairs(reduced(attribution))
    found = observer_profile(plain_map, focus, observer, bins)
    power = common_power(float(np.nanmax(np.abs(found.means.value), initial=0.0)))
    for c, name in reversed(list(enumerate(found.means.labels[0]))):
        _profile_points(ax, found, c, short(name), 10.0**-power)
    ax.axhline(reference_value(attribution), color=INK, lw=1, ls=":")
    ax.set(
        xlabel=escape_label(label or observer_name(observer)),
        ylabel=wrapped(scaled(f"mean {quantity(plain_map)}", power)),
        xlim=_shown(found),
    )
    ax.margins(y=0.12)
    title = escape_label(pair_name(focus), 40)
    return _finished(ax, attribution, title=title, alignment="left", title_fontsize="small")


def _profile_points(ax: Axes, found: Profile, c: int, name: str, factor: float) -> None:
    known = np.isfinite(found.means.value[c]) & np.isfinite(found.means.error[c])
    x = found.middle[known]
    y, error = found.means.value[c][known] * factor, found.means.error[c][known] * factor
    wide = np.stack([x - found.edges[:-1][known], found.edges[1:][known] - x])
    ax.errorbar(x, y, error, xerr=wide, ls="", ms=4.5, elinewidth=1.3, label=name, **class_look(c))


def _shown(found: Profile) -> tuple[float, float]:
    """All points; the outermost bins reach to the last event and are cut at twice the way to their point."""
    edges, middle = found.edges, found.middle
    if len(middle) < 3:
        return float(edges[0]), float(edges[-1])
    low, high = 2 * middle[0] - edges[1], 2 * middle[-1] - edges[-2]
    return max(float(low), float(edges[0])), min(float(high), float(edges[-1]))
