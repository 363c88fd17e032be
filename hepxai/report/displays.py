"""Event displays: choice of the events, and their figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepxai.attribution.means import ENDS
from hepxai.attribution.reductions import pair_name
from hepxai.events import Events
from hepxai.plots.display import (
    CROWDED,
    FEW,
    HARDEST,
    TAGGED,
    event_display,
    strongest_pairs,
    type_legend,
)
from hepxai.plots.plane import eta_limit
from hepxai.plots.scores import SIGNAL
from hepxai.plots.style import canvas, style
from hepxai.report.layer_attributions import LayerAttribution
from hepxai.report.section import CaptionedFigure, capital
from hepxai.report.view import RunView

Chosen = dict[tuple[str, str], int]
ROLES = ("typical", "best", "worst")
NUMBER = 8


def chosen_events(events: Events, scores: NDArray[np.float64]) -> Chosen:
    """Rows to show for each ``(class, role)``, from the scores alone.

    Best: the most confident right one; worst: the most confident wrong one (the least confident right one
    where none is wrong); typical: nearest to the median score of its class. Events without a pair are not
    shown.
    """
    chosen: Chosen = {}
    for c, name in enumerate(events.schema.classes):
        rows = np.flatnonzero((events.label == c) & (events.counts > 1))
        if len(rows):
            right = scores[rows] if c == SIGNAL else -scores[rows]
            away = abs(right - np.median(right))
            picks = (away.argmin(), right.argmax(), right.argmin())
            chosen |= {(name, role): int(rows[at]) for role, at in zip(ROLES, picks, strict=True)}
    return chosen


def display_figure(view: RunView, layer: LayerAttribution) -> CaptionedFigure | None:
    """Typical, best and worst event of each class; None if no event has a pair."""
    events = layer.plain.events
    chosen = chosen_events(events, view.scores_of(events))
    if not chosen:
        return None
    truth = telling_truth(events, view.focus)
    with style():
        figure = _grid(view, layer, chosen, truth)
    return CaptionedFigure(f"{layer.key}_displays", figure, _caption(view, layer, truth), wide=True)


def telling_truth(events: Events, focus: tuple[str, str]) -> str | None:
    """Truth mask with the largest share of its particles among the types in focus; the first of equals."""
    in_pair = events.is_type(focus[0]) | events.is_type(focus[1])
    shares = {name: (mask & in_pair).sum() / max(mask.sum(), 1) for name, mask in events.truth.items()}
    return max(shares, key=lambda name: shares[name], default=None)


def _grid(view: RunView, layer: LayerAttribution, chosen: Chosen, truth: str | None) -> Figure:
    events, scores = layer.plain.events, view.scores_of(layer.plain.events)
    classes = list(dict.fromkeys(c for c, _ in chosen))[::-1]
    figure, axes = canvas(len(ROLES), len(classes), (6.3 * len(classes), 16.2))
    limit = eta_limit(events[np.array(list(chosen.values()))])
    focus = view.focus if layer.tells_apart(view.focus) else None
    shared: dict[str, Any] = {"observer": view.observer, "truth": truth, "focus": focus}
    shared |= {"limit": limit, "number": NUMBER}
    for (name, role), row in chosen.items():
        ax = axes[ROLES.index(role), classes.index(name)]
        look: dict[str, Any] = {"name": f"{role} {name}", "score": float(scores[row])}
        event_display(layer.plain, row, ax=ax, **look, **shared)
    type_legend(figure, events, truth=truth)
    return figure


def _caption(view: RunView, layer: LayerAttribution, truth: str | None) -> str:
    ring = f" A black ring marks particles of the truth “{truth}”." if truth else ""
    centre = "equal attention (1)" if layer.relative else "zero"
    lines = "pairs, lines between their particles"
    if layer.directed:
        lines = "ordered pairs, arrows from sender to receiver"
    focus = (
        f"{capital(pair_name(view.focus))}, the strongest {NUMBER}, are drawn too, outlined in black; "
        "the third line of the title has their values, and their ranks by magnitude. "
    )
    crowded = (layer.plain.events.counts > CROWDED).any()
    few = (
        f"In events of more than {CROWDED} particles there are {FEW} of them at most and no other pairs, and "
        f"only the ends of the drawn pairs and the {HARDEST} hardest particles have numbers. "
    )
    return (
        f"Events in the η–φ plane with their {NUMBER} strongest {lines}; width and colour give the value; "
        f"every event has a colour scale of its own, around {centre}. "
        f"{focus if layer.tells_apart(view.focus) else ''}"
        f"{few if crowded else 'Hairlines: all other pairs. '}"
        "Typical: nearest to the median score of its class; best: the most confident right one; worst: "
        "the most confident wrong one (the least confident right one if none is wrong). Numbers beside "
        f"particles: pT in GeV; b: b-tag score above {TAGGED:g}. Lines across φ = ±π leave on one side "
        "and come back on the other. Particles that are all close together are shown enlarged. Missing "
        "momentum has no η: it stands in the margin, and a dashed line marks its φ."
        f"{ring} Title: run:lumi:event."
    )


def display_numbers(view: RunView, layer: LayerAttribution) -> list[dict[str, Any]]:
    """Identity, score and strongest pairs of the events shown."""
    scores = view.scores_of(layer.plain.events)
    chosen = chosen_events(layer.plain.events, scores)
    return [
        {"class": name, "role": role, "row": row, "score": float(scores[row])} | _event(view, layer, row)
        for (name, role), row in chosen.items()
    ]


def _event(view: RunView, layer: LayerAttribution, row: int) -> dict[str, Any]:
    event = layer.plain.events[np.array([row])]
    identity = {k: int(getattr(event, k)[0]) for k in ("run", "luminosity_block", "event", "file", "entry")}
    observed = {view.observer: float(event.observers[view.observer][0])} if view.observer else {}
    return identity | {"observers": observed, "pairs": list(_pairs(layer, event, row))}


def _pairs(layer: LayerAttribution, event: Events, row: int) -> Iterator[dict[str, Any]]:
    names = event.labels_of_particles()
    best = strongest_pairs(layer.plain, row, NUMBER)
    receiver, sender = ENDS[layer.directed]
    for a, b, value in zip(best.src, best.dst, best.value, strict=True):
        yield {sender: names[a], receiver: names[b], "value": float(value)}
