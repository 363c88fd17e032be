"""η–φ event displays: particles by type with their pt, the strongest pairs drawn between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from hepxai.attribution import Attribution, Pairs
from hepxai.attribution.reductions import is_directed, is_relative, pairs_of, quantity, reduced, whole_pairs
from hepxai.core.estimate import Array
from hepxai.core.formatting import general, observer_name, symbol
from hepxai.core.jagged import IntArray
from hepxai.events import SPLITS, Events
from hepxai.plots.matrices import scale_of
from hepxai.plots.plane import SEAM, Place, View, label_centres
from hepxai.plots.style import (
    FAINT,
    INK,
    add_footnote,
    axes_or_new,
    escape_label,
    for_lines,
    short,
    styled,
    type_looks,
    wrapped,
)

NEAR = 36.0  # points between two particles below which arrows between them swing out
TAGGED = 0.5  # b-tag score from which it is written beside the jet
CROWDED = 20  # particles beyond which markers shrink, and hairlines and most labels are left out
FEW = 2  # pairs in focus that are drawn in a crowded event, if they are not among the strongest
HARDEST = 3  # particles that have a label also in a crowded event


@dataclass(frozen=True)
class RankedPairs:
    """Pairs of one event, strongest first: local indices of its particles, and values."""

    src: IntArray
    dst: IntArray
    value: Array

    def __getitem__(self, which: slice | NDArray[Any]) -> RankedPairs:
        return RankedPairs(self.src[which], self.dst[which], self.value[which])

    def between(self, event: Events, types: tuple[str, str]) -> NDArray[np.bool_]:
        """Mask of the pairs of two particle types, in either order."""
        return Pairs(self.src, self.dst, np.array([0, len(self.src)])).between(event, types)


def all_pairs(attribution: Attribution, row: int) -> RankedPairs:
    """All pairs of one event, those with the largest magnitude first."""
    pairs = pairs_of(attribution)
    rows = slice(int(pairs.offsets[row]), int(pairs.offsets[row + 1]))
    value = np.asarray(attribution.values[rows], dtype=np.float64)
    order = np.argsort(-np.nan_to_num(abs(value)), kind="stable")
    first = attribution.events.offsets[row]
    return RankedPairs(pairs.src[rows] - first, pairs.dst[rows] - first, value)[order]


def strongest_pairs(attribution: Attribution, row: int, number: int = 8) -> RankedPairs:
    """Pairs of one event with the largest magnitude; pairs at zero are never among them."""
    ranked = all_pairs(attribution, row)[:number]
    return ranked[np.nan_to_num(abs(ranked.value)) > 0]


@styled
def event_display(
    attribution: Attribution,
    row: int,
    *,
    score: float | str | None = None,
    observer: str | None = None,
    truth: str | None = None,
    focus: tuple[str, str] | None = None,
    name: str | None = None,
    number: int = 8,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One event in the η–φ plane with its strongest pairs, arrows from sender to receiver.

    Pairs without direction are lines. Marker and colour give the particle type, the area grows with pt, which
    is written beside it. The colour scale is the event's own, around equal attention or zero. The strongest
    pairs in focus are drawn too and outlined in black; other pairs are hairlines. An edge across φ = ±π
    leaves the frame on one side and comes back on the other. Missing momentum has no η: a dashed line marks
    its φ, and its marker is in the margin on the right.

    With more than ``CROWDED`` particles there are no hairlines, and labels only at the ends of arrows and at
    the hardest particles. Particles that are all close together, such as those of a jet, are shown enlarged.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged.
    row : int
        Position of the event.
    score : float or str, optional
        Logit, or another output with its name, shown in the title.
    observer : str, optional
        Shown in the title.
    truth : str, optional
        Particles of this truth mask get a black ring.
    focus : tuple of two str, optional
        Particle types of the pairs to outline; the title gives their values and ranks.
    name : str, optional
        First words of the title, the class by default.
    number : int
        Number of pairs to draw as arrows, and largest number of those in focus.
    limit : float, optional
        Half width in η; see `eta_limit`.
    """
    ax = axes_or_new(ax, (7.2, 6.2))
    plain_map = whole_pairs(reduced(attribution))
    event = plain_map.events[np.array([row])]
    view = View.of(event, limit)
    view.frame(ax, event)
    ranked = all_pairs(plain_map, row)
    nothing = np.zeros(len(ranked.value), dtype=bool)
    chosen = nothing if focus is None else ranked.between(event, focus)
    scale, norm = scale_of(plain_map, ranked.value)
    places = view.places(event)
    crowded = event.n_particles > CROWDED
    if not crowded:
        _faint(ax, ranked, places)
    is_drawn = (np.arange(len(ranked.value)) < number) & (np.nan_to_num(ranked.value) != 0)
    is_drawn |= chosen & (np.cumsum(chosen) <= (FEW if crowded else number))
    arrow = "-|>" if is_directed(plain_map) else "-"
    _arrows(ax, ranked, chosen, is_drawn, places, (for_lines(scale), norm), arrow)
    named = (
        np.union1d(ranked[is_drawn].src, ranked[is_drawn].dst) if crowded else np.arange(event.n_particles)
    )
    _nodes(ax, event, places, truth, named)
    _bar(ax, plain_map, (for_lines(scale), norm))
    ax.tick_params(left=True, bottom=True, labelleft=True, labelbottom=True)  # networkx switched them off
    title = [*_title(event, score, observer, name), *_focus_line(plain_map, ranked, chosen, focus)]
    ax.set_title("\n".join(title), loc="left", fontsize="small", pad=8)
    add_footnote(ax, attribution.caveat)
    return ax


# --- pairs -----------------------------------------------------------------------------------


def _faint(ax: Axes, ranked: RankedPairs, places: Array) -> None:
    once = {(min(p), max(p)) for p in zip(ranked.src.tolist(), ranked.dst.tolist(), strict=True)}
    lines = [ends for a, b in sorted(once) for ends in _wrapped(tuple(places[a]), tuple(places[b]))]
    ax.add_collection(LineCollection(lines, colors=FAINT, linewidths=0.5, zorder=0.5), autolim=False)


def _arrows(
    ax: Axes,
    ranked: RankedPairs,
    chosen: NDArray[np.bool_],
    is_drawn: NDArray[np.bool_],
    places: Array,
    scale: tuple[Colormap, Normalize],
    arrow: str,
) -> None:
    colour_map, norm = scale
    top = float(np.nan_to_num(abs(ranked.value)).max(initial=0.0)) or 1.0
    for i in np.flatnonzero(is_drawn)[::-1]:  # the strongest on top
        value = float(np.nan_to_num(ranked.value[i]))
        width = 0.8 + 2.6 * abs(value) / top
        look = {
            "width": width,
            "edge_color": [colour_map(norm(value))],
            "arrowsize": 8 + 2 * width,
            "arrowstyle": arrow,
        }
        _arrow(ax, places[ranked.src[i]], places[ranked.dst[i]], look, outlined=bool(chosen[i]))


def _arrow(ax: Axes, start: Array, end: Array, look: dict[str, Any], *, outlined: bool) -> None:
    for a, b in _wrapped(tuple(start), tuple(end)):
        bend = 0.55 if _distance(ax, a, b) < NEAR else 0.14  # the two directions of a pair side by side
        if look["arrowstyle"] == "-":
            bend = 0.0
        patches = nx.draw_networkx_edges(
            nx.DiGraph([(0, 1)]),
            {0: a, 1: b},
            ax=ax,
            node_size=110,
            connectionstyle=f"arc3,rad={bend}",
            **look,
        )
        for patch in patches:
            patch.set(clip_on=True, zorder=3 if outlined else 2, joinstyle="miter")
            if outlined:
                patch.set_path_effects([withStroke(linewidth=look["width"] + 2.2, foreground=INK)])


def _distance(ax: Axes, a: Place, b: Place) -> float:
    """Distance on paper, in points."""
    (xa, ya), (xb, yb) = ax.transData.transform([a, b])
    return float(np.hypot(xb - xa, yb - ya)) * 72 / float(ax.figure.dpi)


def _wrapped(a: Place, b: Place) -> list[tuple[Place, Place]]:
    """The shortest line between two places in φ; twice, once per side, where it crosses ±π."""
    turn = -2 * np.pi * np.round((b[1] - a[1]) / (2 * np.pi))
    if turn == 0:
        return [(a, b)]
    return [(a, (b[0], b[1] + turn)), ((a[0], a[1] - turn), b)]


def _bar(ax: Axes, attribution: Attribution, scale: tuple[Colormap, Normalize]) -> None:
    colour_map, norm = scale
    bar = ax.figure.colorbar(ScalarMappable(norm, colour_map), ax=ax, aspect=32, fraction=0.04, pad=0.02)
    middle = getattr(norm, "vcenter", None)
    ticks = [float(t) for t in (norm.vmin, middle, norm.vmax) if t is not None]
    bar.set_ticks(ticks, labels=[general(t, 2) for t in ticks], fontsize="x-small")
    bar.ax.minorticks_off()
    bar.set_label(wrapped(quantity(attribution), 46), fontsize="x-small", loc="center", labelpad=0)


# --- particles -------------------------------------------------------------------------------


def _nodes(ax: Axes, event: Events, places: Array, truth: str | None, named: IntArray) -> None:
    nobody = np.zeros(event.n_particles, dtype=bool)
    ringed = nobody if truth is None else event.truth.get(truth, nobody)
    pt = np.clip(event.p4[:, 0], 0, None)
    size = 8.5 + 0.45 * np.sqrt(np.minimum(pt, 400))
    if len(pt) > CROWDED:
        size = 2.5 + 11 * np.sqrt(pt / (pt.max(initial=0.0) or 1.0))
    order = np.argsort(-event.p4[:, 0], kind="stable")  # small ones on top
    named = np.union1d(named, order[:HARDEST])
    looks = type_looks(event.schema.types)
    for i in order:
        colour, marker = looks[event.type[i]]
        look: dict[str, Any] = {"color": colour, "marker": marker, "mec": INK if ringed[i] else "white"}
        look |= {"ls": "", "ms": size[i], "mew": 2.2 if ringed[i] else 0.8, "zorder": 4}
        ax.plot(*places[i], **look)
        x, y = places[i]
        if abs(y) > np.pi - SEAM:
            ax.plot(x, y - np.copysign(2 * np.pi, y), alpha=0.35, **look)  # seen beyond the seam
    order = order[np.isin(order, named)]
    _labels(ax, event, places[order], order, size[order] / 2)


def _labels(ax: Axes, event: Events, places: Array, order: IntArray, radius: Array) -> None:
    points = 72 / float(ax.figure.dpi)
    texts = [list(particle_labels(event))[i] for i in order]
    box = ax.get_window_extent()
    inside = (ax.transData.transform(places) - [box.x0, box.y0]) * points if len(places) else places
    size = np.array([(5.6 * len(t), 12.0) for t in texts]).reshape(-1, 2)
    centres = label_centres(inside, radius, size, (box.width * points, box.height * points))
    for text, place, shift in zip(texts, places, centres - inside, strict=True):
        ax.annotate(
            text,
            tuple(place),
            xytext=tuple(shift),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def particle_labels(event: Events) -> Iterator[str]:
    """``μ1 45`` for each particle: symbol, number where there are several of a type, pt in GeV, b-tag.

    The pt alone where all particles are of one type, or are many.
    """
    several = np.bincount(event.type, minlength=len(event.schema.types)) > 1
    alone = len(several) == 1 or event.n_particles > CROWDED
    btag = event.values_of("btag") if "btag" in event.schema.features else np.zeros(event.n_particles)
    for i, name in enumerate(event.labels_of_particles()):
        kind, _, number = name.rpartition(" ")
        first = f"{escape_label(symbol(kind), 12)}{number if several[event.type[i]] else ''} "
        pt = float(event.p4[i, 0])
        text = f"{pt:.0f}" if pt >= 10 else general(pt, 2)
        yield (("" if alone else first) + text + (f" (b {btag[i]:.2f})" if btag[i] > TAGGED else ""))


# --- text ------------------------------------------------------------------------------------


def _title(event: Events, score: float | str | None, observer: str | None, name: str | None) -> list[str]:
    where = f"{event.run[0]}:{event.luminosity_block[0]}:{event.event[0]}"
    what = []
    if score is not None:
        text = score if isinstance(score, str) else f"logit {score:+.2f}".replace("-", "−")
        what.append(escape_label(text))
    if observer is not None and np.isfinite(value := event.observers[observer][0]):
        sign, _, unit = observer_name(observer).partition(" [")
        what.append(f"{escape_label(sign)} = {value:.1f} {unit.rstrip(']')}".rstrip())
    first = escape_label(name or event.schema.classes[event.label[0]])
    return [f"{first}: event {where}, {SPLITS[event.split[0]]}", *([", ".join(what)] if what else [])]


def _focus_line(
    attribution: Attribution, ranked: RankedPairs, chosen: NDArray[np.bool_], focus: tuple[str, str] | None
) -> Iterator[str]:
    """Values and ranks of the two strongest pairs in focus."""
    if focus is None:
        return
    pair = "–".join(escape_label(symbol(t), 12) for t in focus)
    form = ".2f" if is_relative(attribution) else "+.2g"
    values = [
        f"{ranked.value[i]:{form}} (rank {i + 1})".replace("-", "−") for i in np.flatnonzero(chosen)[:2]
    ]
    yield f"{pair}: {', '.join(values)} of {len(ranked.value)} pairs" if values else f"no {pair} pair"


def type_legend(figure: Figure, events: Events, *, truth: str | None = None) -> None:
    """Markers of the particle types, in one row above all displays of a figure."""
    handles = []
    types = events.schema.types
    for name, (colour, marker) in zip(types, type_looks(types), strict=True):
        handles.append(Line2D([], [], ls="", marker=marker, color=colour, ms=11, label=short(name)))
    if truth is not None:
        ring: dict[str, Any] = {"ls": "", "marker": "o", "mfc": "white", "mec": INK, "mew": 2.2, "ms": 10}
        handles.append(Line2D([], [], label=short(truth), **ring))
    handles.append(Line2D([], [], ls="", label="numbers: pT [GeV]"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 7), handletextpad=0.3)
