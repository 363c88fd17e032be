"""Event displays: choice of the events, and their figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepxai.attribution.means import ENDS
from hepxai.attribution.reductions import pair_name
from hepxai.core.formatting import general
from hepxai.core.jagged import IntArray
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
from hepxai.plots.scores import class_score
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
    shown. Of three classes or more, all but the last, signal, have a typical event alone.
    """
    chosen: Chosen = {}
    classes = events.schema.classes
    for c, name in enumerate(classes):
        rows = np.flatnonzero((events.label == c) & (events.counts > 1))
        if len(rows):
            score = class_score(events.schema, scores, name)
            right = (score.values if c == score.code else -score.values)[rows]
            roles = ROLES if len(classes) < 3 or c == len(classes) - 1 else ROLES[:1]
            chosen |= {(name, role): row for role, row in _by_role(rows, right).items() if role in roles}
    return chosen


def by_error(
    predicted: NDArray[np.float64], true: NDArray[np.floating], allowed: NDArray[np.bool_]
) -> dict[str, int]:
    """Rows with the typical, smallest and largest error, and the highest prediction without a true value."""
    error = np.abs(predicted - true)
    with_truth, without = (np.flatnonzero(allowed & rows) for rows in (np.isfinite(error), np.isnan(error)))
    chosen = _by_role(with_truth, -error[with_truth]) if len(with_truth) else {}
    return chosen | ({"no true value": int(without[predicted[without].argmax()])} if len(without) else {})


def _by_role(rows: IntArray, right: NDArray[np.float64]) -> dict[str, int]:
    picks = (abs(right - np.median(right)).argmin(), right.argmax(), right.argmin())
    return {role: int(rows[at]) for role, at in zip(ROLES, picks, strict=True)}


def chosen_rows(view: RunView, events: Events, target: str) -> Chosen:
    """Rows to show for each ``(class, role)``: by the score, or by the error of a predicted target."""
    if target not in view.predictions:
        return chosen_events(events, view.logits_of(events))
    true = events.targets[:, events.schema.targets.index(target)]
    rows = by_error(view.predicted(target, events), true, events.counts > 1)
    return {(events.schema.classes[events.label[row]], role): row for role, row in rows.items()}


def display_figure(view: RunView, layer: LayerAttribution) -> CaptionedFigure | None:
    """Typical, best and worst events; None if no event has a pair."""
    events = layer.plain.events
    chosen = chosen_rows(view, events, layer.full.target)
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
    events, target = layer.plain.events, layer.full.target
    columns, ordered = _ordered(chosen, events.schema.classes, by_class=target not in view.predictions)
    rows = -(-len(ordered) // columns)
    figure, axes = canvas(rows, columns, (6.3 * columns, 5.4 * rows))
    limit = eta_limit(events[np.array(list(chosen.values()))])
    focus = view.focus if layer.tells_apart(view.focus) else None
    shared: dict[str, Any] = {"observer": view.observer, "truth": truth, "focus": focus}
    shared |= {"limit": limit, "number": NUMBER}
    for ax, (name, role) in zip(axes.flat, ordered, strict=False):
        row = chosen[name, role]
        error = f"error of {target}" if role in ROLES else ""
        title = f"{role} {error if target in view.predictions else name}".strip()
        score = _result(view, target, events[np.array([row])])
        event_display(layer.plain, row, ax=ax, name=title, score=score, **shared)
    for ax in axes.flat[len(ordered) :]:
        ax.remove()
    type_legend(figure, events, truth=truth)
    return figure


def _ordered(chosen: Chosen, classes: Sequence[str], *, by_class: bool) -> tuple[int, list[tuple[str, str]]]:
    """Columns of the figure, and the events in their order: of two classes, one column each."""
    if by_class and len(classes) < 3:
        columns = len({name for name, _ in chosen})
        return columns, sorted(chosen, key=lambda k: (ROLES.index(k[1]), -classes.index(k[0])))
    return 3, sorted(chosen, key=lambda k: -classes.index(k[0])) if by_class else list(chosen)


def _result(view: RunView, target: str, event: Events) -> float | str:
    """Score of an event for its title: a logit, or another output with its name."""
    score, name = float(view.shown_score(target, event)[0]), view.shown_name(target)
    if target in view.predictions:
        true = float(event.targets[0, event.schema.targets.index(target)])
        return f"{name} {general(score, 3)}, true {general(true, 3)}"
    return score if name == "logit" else f"{name} {score:+.2f}".replace(" -", " −")


def _roles(view: RunView, target: str) -> str:
    """Meaning of the roles of the events shown."""
    if target in view.predictions:
        return (
            f"Typical: with the median |error| of {target}; best and worst: with the smallest and the "
            "largest; no true value: the highest prediction among events without one."
        )
    others = f" All but {view.classes[0]} have a typical event alone." if len(view.classes) > 2 else ""
    return (
        "Typical: nearest to the median score of its class; best: the most confident right one; worst: "
        f"the most confident wrong one (the least confident right one if none is wrong).{others}"
    )


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
        f"{_roles(view, layer.full.target)} Numbers beside "
        f"particles: pT in GeV; b: b-tag score above {TAGGED:g}. Lines across φ = ±π leave on one side "
        "and come back on the other. Particles that are all close together are shown enlarged. Missing "
        "momentum has no η: it stands in the margin, and a dashed line marks its φ."
        f"{ring} Title: run:lumi:event."
    )


def display_numbers(view: RunView, layer: LayerAttribution) -> list[dict[str, Any]]:
    """Identity, score and strongest pairs of the events shown."""
    events, target = layer.plain.events, layer.full.target
    chosen, scores = chosen_rows(view, events, target), view.shown_score(target, events)
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
