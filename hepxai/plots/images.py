"""Detector images: occupancy, clusters and bending of hits, single events, maps over pixels on an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hepxai.attribution import CHANNEL_PIXELS, Attribution
from hepxai.attribution.reductions import short_name
from hepxai.core.estimate import Array, Estimate
from hepxai.events import Events
from hepxai.events.images import ImageLayout
from hepxai.metrics.hits import bending, cluster_shares, hits_per_row, lit_pixels, occupancy
from hepxai.metrics.pixels import LitPixels, flat
from hepxai.plots.energies import energy_image, is_wide, row_ticks
from hepxai.plots.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    RED,
    SEQUENTIAL,
    add_footnote,
    axes_or_new,
    class_look,
    colours,
    escape_label,
    legend_above,
    styled,
    wrapped,
)

LEAST = 24
"""Columns that a zoomed map shows at least."""
FRAMED = 0.5
"""Share of lit pixels up to which they are framed."""
SQUARE = (6.4, 5.2)
"""Inches of an image that is not wide."""
Mask = NDArray[np.bool_]


def _names(events: Events) -> tuple[str, str]:
    layout = events.image_layout()
    return escape_label(layout.rows.feature), escape_label(layout.columns.feature)


@styled
def hit_occupancy(events: Events, where: Mask | None = None, *, ax: Axes | None = None) -> Axes:
    """Share of events that light each pixel, in any channel; `mean_energy` has the mean of real values.

    Parameters
    ----------
    events : Events
    where : ndarray of bool, shape [N], optional
        Particles that light pixels; all by default.
    """
    ax = axes_or_new(ax, (9.0, 4.0) if is_wide(events.image_layout()) else SQUARE)
    share = 100 * occupancy(events, where, together=True)
    mesh = ax.pcolormesh(share, cmap=SEQUENTIAL, vmin=0, rasterized=True)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label("events with a hit [%]")
    row, column = _names(events)
    ax.set(xlabel=column, ylabel=row)
    row_ticks(ax, len(share))
    return ax


@styled
def hits_in_rows(
    events: Events, sources: Mapping[str, Mask] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Mean number of lit pixels of every row, with errors.

    Parameters
    ----------
    events : Events
    sources : mapping of str to ndarray of bool, optional
        Names of particles ``[N]`` to distinguish, such as those of the muon and of noise.
    """
    ax = axes_or_new(ax)
    means = {name: hits_per_row(events, where) for name, where in _sources(events, sources).items()}
    _points(ax, means, 0)
    row, _ = _names(events)
    ax.set(xlabel=row, ylabel="mean number of hits", ylim=(0, None))
    legend_above(ax, columns=len(means))
    return ax


@styled
def cluster_size_shares(
    events: Events, sources: Mapping[str, Mask] | None = None, *, most: int = 4, ax: Axes | None = None
) -> Axes:
    """Shares of clusters of 1, 2, … neighbouring hits of a row, with errors.

    Parameters
    ----------
    events : Events
    sources : mapping of str to ndarray of bool, optional
        As in `hits_in_rows`.
    most : int
        Clusters of this size and larger ones are counted together.
    """
    ax = axes_or_new(ax)
    shares = {n: cluster_shares(events, w, most=most) for n, w in _sources(events, sources).items()}
    _points(ax, {n: Estimate(100 * e.value, 100 * e.error, e.n_eff) for n, e in shares.items()}, 1)
    ax.set_xticks(range(1, most + 1), [*map(str, range(1, most)), f"≥ {most}"])
    ax.set(xlabel="hits in a cluster", ylabel="clusters [%]", ylim=(0, None))
    legend_above(ax, columns=len(shares))
    return ax


def _sources(events: Events, sources: Mapping[str, Mask] | None) -> Mapping[str, Mask]:
    return sources or {"all hits": np.ones(events.n_particles, dtype=np.bool_)}


def _points(ax: Axes, estimates: Mapping[str, Estimate], first: int) -> None:
    for i, (name, estimate) in enumerate(estimates.items()):
        x = np.arange(len(estimate.value)) + first + 0.12 * (i - 0.5 * (len(estimates) - 1))
        ax.errorbar(x, estimate.value, estimate.error, ls="", ms=6, label=escape_label(name), **class_look(i))


@styled
def bending_map(
    events: Events,
    target: str = "pt",
    *,
    inner: Sequence[int] = (0, 1, 2),
    outer: Sequence[int] = (7, 8),
    where: Mask | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A target against how far the track bends, in columns; the median of the bending as a line.

    The map reaches to the 98 % quantile of the bending, or to the largest median. What bends more is counted
    in its uppermost bins.

    Parameters
    ----------
    events : Events
    target : str
        One of ``schema.targets``; events without it are left out.
    inner, outer : sequence of int
        Rows whose mean columns are subtracted.
    where : ndarray of bool, shape [N], optional
        Hits that count; all by default.
    """
    if target not in events.schema.targets:
        have = ", ".join(events.schema.targets) or "none"
        raise KeyError(f"no target {target!r}; these events have {have}")
    ax = axes_or_new(ax)
    t = events.schema.targets.index(target)
    bent, value = np.abs(bending(events, inner, outer, where)), events.targets[:, t]
    finite = np.isfinite(bent) & np.isfinite(value)
    bent, value = bent[finite], value[finite]
    if len(value):
        _map_and_median(ax, value, bent)
        legend_above(ax)
    units = events.schema.target_units[t]
    ax.set(xlabel=escape_label(f"true {target} [{units}]" if units else f"true {target}"))
    ax.set_ylabel(f"|outer − inner| [{_names(events)[1]}s]")
    return ax


def _map_and_median(ax: Axes, value: NDArray[np.floating], bent: Array) -> None:
    edges = np.linspace(float(value.min()), float(value.max()), 41)
    bins = np.clip(np.digitize(value, edges[::2]) - 1, 0, 19)
    middle = [np.median(bent[bins == b]) if (bins == b).sum() > 4 else np.nan for b in range(20)]
    reach = np.nanmax([np.quantile(bent, 0.98), *middle]) + 1e-9
    bands = np.linspace(0, reach, 41)
    drawn = ax.hist2d(value, np.minimum(bent, reach), bins=[edges, bands], cmap=SEQUENTIAL, norm=LogNorm())
    ax.figure.colorbar(drawn[3], ax=ax, pad=0.02).set_label("events")
    ax.plot(0.5 * (edges[:-1:2] + edges[2::2]), middle, color=RED, label="median")


@styled
def hit_display(
    events: Events,
    row: int,
    *,
    truth: str | None = None,
    noise: bool = True,
    zoom: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One event's image: a lit pixel is a box, those of the truth in colour.

    Of an image with real values, the energies are drawn, as by `energy_image`, with frames around the truth.

    Parameters
    ----------
    events : Events
    row : int
        Position of the event.
    truth : str, optional
        One of ``events.truth``.
    noise : bool, default True
        Draw the hits that are not of the truth; without them, ``truth`` is needed.
    zoom : int, optional
        Columns to show on each side of the hits (of the truth, where there are any); all by default.
    """
    if not noise and truth is None:
        raise ValueError("noise=False needs truth=, one of " + (", ".join(events.truth) or "(none)"))
    ax = axes_or_new(ax, (9.0, 3.4) if is_wide(events.image_layout()) else SQUARE)
    single = events[[row]]
    real = None if truth is None else single.truth[truth]
    _, rows, columns = single.image_layout().shape
    energies = single.image_layout().quantity is not None
    if energies:
        energy_image(single, 0, where=None if noise else real, ax=ax)
    elif noise:
        _boxes(ax, single, None, GREY, "hits" if truth is None else "other hits")
    if truth is not None and not energies:
        _boxes(ax, single, real, BLUE, escape_label(truth))
    lit = LitPixels.lit(single, truth)
    ax.set(xlim=window(lit, columns, zoom), ylim=(0, rows))
    if energies:
        _frames(ax, lit, columns, only_true=True)
        ax.set_title(_caption(single), loc="right", fontsize="small")
        return ax
    row_ticks(ax, rows)
    for line in range(1, rows):
        ax.axhline(line, color=FAINT, lw=0.6, zorder=0)
    ax.set(ylabel=_names(events)[0], xlabel=_names(events)[1])
    ax.set_title(_caption(single), loc="right", fontsize="small")
    legend_above(ax, columns=2)
    return ax


def _boxes(ax: Axes, single: Events, where: Mask | None, colour: str, name: str) -> None:
    _, _, rows, columns = lit_pixels(single, where)
    for i, (r, c) in enumerate(zip(rows, columns, strict=True)):
        box = Rectangle((c, r), 1, 1, fc=colour, ec=colour, lw=1.2, label=name if i == 0 else None)
        ax.add_patch(box)


def _caption(single: Events) -> str:
    parts = []
    for name, units, value in zip(
        single.schema.targets, single.schema.target_units, single.targets[0], strict=True
    ):
        parts.append(f"{name} = {value:.3g} {units}".strip() if np.isfinite(value) else f"no {name}")
    return escape_label(", ".join(parts), 80)


# --- maps over pixels ------------------------------------------------------------------------


@styled
def attribution_image(
    attribution: Attribution,
    event: int,
    *,
    channel: str | None = None,
    truth: str | None = None,
    zoom: int | None = 12,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One event's map: red raises the output, blue lowers it, on a symmetric scale; one colour if none does.

    Unless most pixels are lit, hits are framed, thick and black those of the truth, thin and grey the others.
    Of an image with real values, only the truth is framed, and the energies stand beside the map, or above it
    where the image is wide. Rows (layers) go upwards; a pixel is as high as the frame allows, whatever its
    width.

    Parameters
    ----------
    attribution : Attribution
        Axes ("event", "row", "column"), or with a channel axis.
    event : int
        Position in ``attribution.events``.
    channel : str, optional
        Channel of the map and of the energies; they are added up by default.
    truth : str, optional
        One of ``events.truth``.
    zoom : int, optional
        Columns of a wide image that are shown on each side of the hits (of the truth, where there are any);
        None shows all.
    title : str, optional
        The method and the target by default. The unit is written at the scale.
    ax : Axes, optional
        For the map alone.
    """
    single = attribution[np.array([event])]
    single = single if channel is None else single.select(channel=channel)
    layout = single.events.image_layout()
    if ax is None and layout.quantity is not None:
        beside, ax = _beside(layout)
        energy_image(single.events, 0, channels=None if channel is None else [channel], ax=beside)
        beside.set_title(escape_label(channel or ", ".join(layout.types)), loc="left", fontsize="small")
    ax = axes_or_new(ax, (10.0, 3.0) if is_wide(layout) else SQUARE)
    zoom = zoom if is_wide(layout) else None
    lit = LitPixels.lit(single.events, truth)
    rows, columns = single.values.shape[-2:]
    values = flat(single).reshape(rows, columns)
    _coloured(ax, single, values)
    ax.set(xlim=window(lit, columns, zoom), ylim=(0, rows))
    if len(lit.place) <= FRAMED * rows * columns:
        _frames(ax, lit, columns, only_true=layout.quantity is not None)
    text = title or f"{short_name(single)} of {single.target}"
    text = escape_label(text, 90) if is_wide(layout) else wrapped(text, 28)
    ax.set_title(text, loc="left", fontsize="small")
    return ax


def _beside(layout: ImageLayout) -> tuple[Axes, Axes]:
    """Axes for the energies and for a map."""
    wide = is_wide(layout)
    size = (10.0, 5.2) if wide else (9.6, 4.2)
    _, (first, second) = plt.subplots(2 if wide else 1, 1 if wide else 2, figsize=size, layout="constrained")
    return first, second


@styled
def mean_map(attribution: Attribution, class_name: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Weighted mean map of a population: red raises the output, blue lowers it.

    Parameters
    ----------
    attribution : Attribution
        Axes ("event", "row", "column"); channels are added up, ``attribution.select(channel=…)`` is one.
    class_name : str, optional
        Class of the events; all by default.
    """
    events = attribution.events
    where = None if class_name is None else events.label == events.schema.classes.index(class_name)
    mean = attribution.population(where).value
    mean = mean.sum(0) if attribution.axes == CHANNEL_PIXELS else mean
    ax = axes_or_new(ax, (10.0, 3.0) if is_wide(events.image_layout()) else SQUARE)
    _coloured(ax, attribution, mean)
    what = f"mean {short_name(attribution)} of {attribution.target}, {class_name or 'all events'}"
    ax.set_title(escape_label(what, 90), loc="left", fontsize="small")
    add_footnote(ax, attribution.caveat)
    return ax


def _coloured(ax: Axes, attribution: Attribution, values: NDArray[np.floating]) -> None:
    """Pixels with a colour bar, and the names of rows and columns."""
    scale, norm = colours(values)
    mesh = ax.pcolormesh(values, cmap=scale, norm=norm, rasterized=True)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.01, aspect=12)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.ax.tick_params(labelsize="x-small", which="both")
    unit = attribution.settings.get("unit", target_unit(attribution))
    label = ", ".join(filter(None, (sum_of_channels(attribution), unit)))
    bar.set_label(escape_label(label), fontsize="x-small")
    row_ticks(ax, len(values), 5)
    row, column = _names(attribution.events)
    ax.set(ylabel=row, xlabel=column)


def window(lit: LitPixels, columns: int, zoom: int | None) -> tuple[float, float]:
    """Columns from and to that show the hits of one event, with ``zoom`` more on each side."""
    if zoom is None or len(lit.place) == 0:
        return 0.0, float(columns)
    hit_columns = (lit.place[lit.true] if lit.true.any() else lit.place) % columns
    low, high = int(hit_columns.min()) - zoom, int(hit_columns.max()) + 1 + zoom
    missing = max(LEAST - (high - low), 0)
    return float(max(low - missing // 2, 0)), float(min(high + missing - missing // 2, columns))


def _frames(ax: Axes, lit: LitPixels, columns: int, *, only_true: bool = False) -> None:
    """Frame the hits, those of the truth last so that no other frame covers theirs."""
    low, high = ax.get_xlim()
    thickest = 0.3 * 72 * ax.get_window_extent().width / ax.figure.dpi / (high - low)  # or it hides the pixel
    for place, true in sorted(zip(lit.place.tolist(), lit.true.tolist(), strict=True), key=lambda p: p[1]):
        if only_true and not true:
            continue
        row, column = divmod(place, columns)
        colour, width = (INK, 1.8) if true else (GREY, 0.9)
        frame = Rectangle((column, row), 1, 1, fc="none", ec=colour, lw=min(width, thickest))
        ax.add_patch(frame)


def sum_of_channels(attribution: Attribution) -> str:
    """Channels that a figure of a map adds up, in words; empty for a map without channels."""
    if attribution.axes != CHANNEL_PIXELS:
        return ""
    names = attribution.labels.get("channel") or attribution.events.image_layout().types
    return f"sum of {' + '.join(names)}" if len(names) > 1 else ""


def target_unit(attribution: Attribution) -> str:
    """Unit of the explained target; empty for a logit."""
    schema = attribution.events.schema
    units = dict(zip(schema.targets, schema.target_units, strict=True))
    return units.get(attribution.target, "")
