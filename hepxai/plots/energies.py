"""Detector images with real values: energies of one event, and their mean over a population."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from hepxai.core.chunks import image_rows
from hepxai.events import Events
from hepxai.events.images import ImageLayout
from hepxai.plots.style import axes_or_new, colours, escape_label, for_lines, styled

WIDE = 3.0
"""Columns per row from which maps of an image stand above each other, not side by side."""
DECADES = 100.0
"""Ratio of the largest and the smallest value from which the colour scale is logarithmic."""
Mask = NDArray[np.bool_]


def is_wide(layout: ImageLayout) -> bool:
    """True for images that are much wider than high."""
    return layout.columns.size > WIDE * layout.rows.size


def value_label(events: Events) -> str:
    """Name and unit of the values of pixels, as in ``et [GeV]``."""
    name, schema = events.image_layout().quantity or "hits", events.schema
    unit = dict(zip(schema.features, schema.units, strict=True)).get(name, "")
    return escape_label(f"{name} [{unit}]" if unit else name)


def summed_channels(
    events: Events, channels: Sequence[str] | None = None, where: Mask | None = None
) -> NDArray[np.float32]:
    """Images ``[E, R, C]``, summed over some channels, all by default.

    Raises
    ------
    ValueError
        If there is no such channel.
    """
    types = events.image_layout().types
    if unknown := [c for c in channels or () if c not in types]:
        raise ValueError(f"no channel {unknown[0]!r}; the image has {', '.join(types)}")
    rows = [types.index(c) for c in (types if channels is None else channels)]
    return np.asarray(events.image(where=where)[:, rows].sum(axis=1))


@styled
def energy_image(
    events: Events,
    row: int,
    *,
    channels: Sequence[str] | None = None,
    where: Mask | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Values of the pixels of one event; pixels at 0 stay white.

    The colour scale is logarithmic where the values span two decades or more, and has two colours if some are
    negative.

    Parameters
    ----------
    events : Events
    row : int
        Position of the event.
    channels : sequence of str, optional
        Channels that are added up; all by default.
    where : ndarray of bool, shape [N], optional
        Particles of all events that are drawn; all by default.
    """
    single = events[[row]]
    if where is not None:
        where = where[events.offsets[row] : events.offsets[row + 1]]
    return _drawn(single, summed_channels(single, channels, where)[0], value_label(events), ax)


@styled
def mean_energy(
    events: Events,
    class_name: str | None = None,
    *,
    channels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Weighted mean of the values of each pixel over a population, dark pixels included.

    Parameters
    ----------
    events : Events
    class_name : str, optional
        Class of the events; all by default.
    channels : sequence of str, optional
        Channels that are added up; all by default.
    """
    if class_name is not None:
        events = events[events.label == events.schema.classes.index(class_name)]
    layout = events.image_layout()
    total = np.zeros(layout.shape[1:])
    for rows in image_rows(len(events), layout.shape):
        total += np.tensordot(events.weight[rows], summed_channels(events[rows], channels), 1)
    label = f"mean {value_label(events)}"
    ax = _drawn(events, total / (events.weight.sum() or np.nan), label, ax)
    ax.set_title(escape_label(class_name or "all events"), loc="left", fontsize="small")
    return ax


def _drawn(events: Events, values: NDArray[np.floating], label: str, ax: Axes | None) -> Axes:
    layout = events.image_layout()
    ax = axes_or_new(ax, (9.0, 3.4) if is_wide(layout) else (6.0, 5.0))
    scale, norm = colours(values)
    positive = values[values > 0]
    if not (values < 0).any() and len(positive) and positive.max() >= DECADES * positive.min():
        norm = LogNorm(positive.min(), positive.max())
    mesh = ax.pcolormesh(np.ma.masked_equal(values, 0), cmap=for_lines(scale), norm=norm, rasterized=True)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.01, aspect=15)
    bar.set_label(label, fontsize="x-small")
    bar.ax.tick_params(labelsize="x-small", which="both")
    names = (escape_label(axis.feature) for axis in (layout.columns, layout.rows))
    ax.set(
        xlim=(0, layout.columns.size),
        ylim=(0, layout.rows.size),
        **dict(zip(("xlabel", "ylabel"), names, strict=True)),
    )
    row_ticks(ax, layout.rows.size, 5)
    return ax


def row_ticks(ax: Axes, rows: int, number: int = 12) -> None:
    """Ticks in the middle of rows, about ``number`` of them."""
    step = max(1, rows // number)
    ax.set_yticks(np.arange(0, rows, step) + 0.5, [str(r) for r in range(0, rows, step)])
    ax.tick_params(axis="y", which="both", length=0)
