"""η–φ event displays: particles by type, the strongest pairs drawn between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.events import SPLITS, Events
from hepxai.jagged import IntArray
from hepxai.plots.means import pairs_of, single
from hepxai.plots.style import (
    INK,
    RISE,
    axes_or_new,
    colours,
    for_lines,
    noted,
    plain,
    short,
    styled,
    type_look,
)
from hepxai.plots.text import observer_name

Places = dict[int, tuple[float, float]]
MARGIN = 1.16  # where particles without η stand, in units of the half width
CURVE = "arc3,rad=0.12"  # the two directions of a pair side by side


@dataclass(frozen=True)
class Strongest:
    """The strongest pairs of one event, strongest first: local indices of its particles, and values."""

    src: IntArray
    dst: IntArray
    value: NDArray[np.float64]


def strongest_pairs(attribution: Attribution, row: int, number: int = 8) -> Strongest:
    """Pairs of one event with the largest magnitude; pairs at zero are never among them."""
    pairs = pairs_of(attribution)
    own = slice(int(pairs.offsets[row]), int(pairs.offsets[row + 1]))
    value = np.asarray(attribution.values[own], dtype=np.float64)
    size = np.nan_to_num(abs(value))
    order = np.argsort(-size, kind="stable")[:number]
    order = order[size[order] > 0]
    first = attribution.events.offsets[row]
    return Strongest(pairs.src[own][order] - first, pairs.dst[own][order] - first, value[order])


def display_scale(
    attribution: Attribution, rows: Sequence[int], number: int = 8
) -> tuple[Colormap, Normalize]:
    """Colour scale that the displays of several events share."""
    shown = [strongest_pairs(attribution, row, number).value for row in rows]
    scale, norm = colours(np.concatenate([np.zeros(1), *shown]))
    return for_lines(scale), norm


def without_eta(events: Events) -> NDArray[np.bool_]:
    """Particles that have a φ but no η, such as missing momentum, ``[N]``."""
    named = np.array([t.lower().startswith(("met", "missing", "puppimet")) for t in events.schema.types])
    return np.asarray((events.index < 0) | named[events.type])


def eta_limit(events: Events) -> float:
    """Half width of a display that holds all particles, in steps of a half, at least 2.5."""
    eta = abs(events.p4[~without_eta(events), 1])
    return max(2.5, float(np.ceil(2 * (eta.max(initial=0.0) + 0.2)) / 2))


@styled
def event_display(
    attribution: Attribution,
    row: int,
    *,
    score: float | None = None,
    observer: str | None = None,
    truth: str | None = None,
    name: str | None = None,
    number: int = 8,
    scale: tuple[Colormap, Normalize] | None = None,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One event in the η–φ plane with its strongest pairs, arrows from sender to receiver.

    Marker and colour give the particle type, the area grows with pt, numbers count inside a type. An edge
    across φ = ±π leaves the frame on one side and comes back on the other. Missing momentum has no η: a
    dashed line marks its φ, and its node stands in the margin on the right.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged.
    row : int
        Position of the event.
    score, observer : float, str, optional
        Shown in the title.
    truth : str, optional
        Particles of this truth mask get a black ring.
    name : str, optional
        First words of the title, the class by default.
    number : int
        How many pairs to draw.
    scale : tuple of Colormap and Normalize, optional
        See `display_scale`; that of the event by default.
    limit : float, optional
        Half width in η; see `eta_limit`.
    """
    ax = axes_or_new(ax, (6.4, 5.6))
    plain_map = single(attribution)
    event = plain_map.events[np.array([row])]
    half = eta_limit(event) if limit is None else limit
    places = _places(event, half)
    best = strongest_pairs(plain_map, row, number)
    _edges(ax, best, places, scale or display_scale(plain_map, [row], number))
    _nodes(ax, event, places, truth)
    _frame(ax, event, half)
    ax.set_title(_title(event, score, observer, name), loc="left", fontsize="small", pad=11)
    noted(ax, attribution.caveat)
    return ax


def _places(event: Events, half: float) -> Places:
    eta = np.where(without_eta(event), half * MARGIN, event.p4[:, 1])
    return {i: (float(x), float(y)) for i, (x, y) in enumerate(zip(eta, event.p4[:, 2], strict=True))}


def _edges(ax: Axes, best: Strongest, places: Places, scale: tuple[Colormap, Normalize]) -> None:
    colour_map, norm = scale
    top = max(abs(float(norm.vmax or 1.0)), 1e-30)
    for a, b, value in reversed(list(zip(best.src, best.dst, best.value, strict=True))):
        for start, end in _wrapped(places[int(a)], places[int(b)]):
            graph = nx.DiGraph([(0, 1)])
            nx.draw_networkx_edges(
                graph,
                {0: start, 1: end},
                ax=ax,
                width=1.0 + 4.0 * min(abs(value) / top, 1.0),
                edge_color=[colour_map(norm(value))],
                arrowsize=14,
                node_size=160,
                connectionstyle=CURVE,
            )
    for patch in ax.patches:
        patch.set_clip_on(True)


def _wrapped(a: tuple[float, float], b: tuple[float, float]) -> list[tuple[tuple[float, float], ...]]:
    """The shortest line between two places in φ; twice, once per side, where it crosses ±π."""
    turn = -2 * np.pi * np.round((b[1] - a[1]) / (2 * np.pi))
    if turn == 0:
        return [(a, b)]
    return [(a, (b[0], b[1] + turn)), ((a[0], a[1] - turn), b)]


def _nodes(ax: Axes, event: Events, places: Places, truth: str | None) -> None:
    nobody = np.zeros(event.n_particles, dtype=bool)
    ringed = nobody if truth is None else event.truth.get(truth, nobody)
    names = event.labels_of_particles()
    for i in np.argsort(-event.p4[:, 0], kind="stable"):  # small ones on top
        colour, marker = type_look(int(event.type[i]))
        look: dict[str, Any] = {"color": colour, "marker": marker, "mec": INK if ringed[i] else "white"}
        size = 12 + 0.8 * float(np.sqrt(np.clip(event.p4[i, 0], 0, 400)))
        ax.plot(
            *places[int(i)], ls="", ms=size, mew=2.4 if ringed[i] else 0.8, zorder=4, clip_on=False, **look
        )
        _digit(ax, places[int(i)], names[i].rsplit(" ", 1)[1], RISE.get(marker, 0.0))


def _digit(ax: Axes, place: tuple[float, float], text: str, rise: float) -> None:
    ax.annotate(
        text,
        place,
        xytext=(0, rise),
        textcoords="offset points",
        ha="center",
        va="center_baseline",
        color="white",
        fontsize=10,
        weight="bold",
        zorder=5,
    )


def _frame(ax: Axes, event: Events, half: float) -> None:
    for phi in event.p4[without_eta(event), 2]:
        ax.axhline(float(phi), color=INK, lw=0.8, ls=(0, (4, 4)), alpha=0.4, zorder=1)
    ax.axvline(half, color=INK, lw=0.8, alpha=0.6, zorder=1)
    ax.set(xlabel="η", ylabel="φ [rad]", xlim=(-half, 1.32 * half), ylim=(-np.pi, np.pi))
    ax.set_yticks(np.pi * np.array([-1, -0.5, 0, 0.5, 1]), ["−π", "−π/2", "0", "π/2", "π"])
    ticks = np.arange(-np.floor(half), np.floor(half) + 1, 1 if half < 4 else 2)
    margin = {MARGIN * half: "no η"} if without_eta(event).any() else {}
    ax.set_xticks([*ticks, *margin], [*(f"{t:g}".replace("-", "−") for t in ticks), *margin.values()])
    ax.minorticks_off()
    ax.tick_params(left=True, bottom=True, labelleft=True, labelbottom=True)  # networkx switched them off


def _title(event: Events, score: float | None, observer: str | None, name: str | None) -> str:
    where = f"{event.run[0]}:{event.luminosity_block[0]}:{event.event[0]}"
    what = [SPLITS[event.split[0]]]
    if score is not None:
        what.append(f"logit {score:+.2f}".replace("-", "−"))
    if observer is not None and np.isfinite(value := event.observers[observer][0]):
        symbol, _, unit = observer_name(observer).partition(" [")
        what.append(f"{plain(symbol)} = {value:.1f} {unit.rstrip(']')}".rstrip())
    first = plain(name or event.schema.classes[event.label[0]])
    return f"{first}: event {where}\n" + ", ".join(what)


def type_legend(figure: Figure, events: Events, *, truth: str | None = None) -> None:
    """Markers of the particle types, in one row above all displays of a figure."""
    handles = []
    for i, name in enumerate(events.schema.types):
        colour, marker = type_look(i)
        handles.append(Line2D([], [], ls="", marker=marker, color=colour, ms=12, label=short(name)))
    if truth is not None:
        ring: dict[str, Any] = {"ls": "", "marker": "o", "mfc": "white", "mec": INK, "mew": 2.4, "ms": 11}
        handles.append(Line2D([], [], label=short(truth), **ring))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6), handletextpad=0.3)
