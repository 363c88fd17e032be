"""Event browser of a report: particles, scores and maps of some events, for the script of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import full_name, pairs_of, quantity, reference_value
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Array
from hepxai.core.formatting import observer_name
from hepxai.core.jagged import IntArray
from hepxai.events import SPLITS, Events
from hepxai.plots.display import CROWDED
from hepxai.plots.plane import without_eta
from hepxai.plots.style import DIVERGING, for_lines, type_looks
from hepxai.report.columns import column_maps
from hepxai.report.displays import chosen_rows, telling_truth
from hepxai.report.layer_attributions import LayerAttribution, maps
from hepxai.report.section import Section
from hepxai.report.view import RunView

EVENTS = 120
"""Events on the page: evenly spread over the explained ones, and those of the displays."""
PAIRS = 40
"""Strongest pairs, or columns, of an event and a map on the page."""
DIGITS = 3
TEXT = (
    "Choose an event and a map; point at a particle or a line for its numbers. Arrows run from the sender to "
    "the receiver of a message. Red is above zero, or above equal attention, blue below, on a scale of the "
    "event; width is the magnitude."
)


def browser_section(view: RunView) -> Section | None:
    """Events with their maps over particles, pairs and columns; None if no such map has figures."""
    layers = [layer for layer in maps(view) if not layer.compact]
    columns = [a for a in column_maps(view).values() if not view.compact(a.target)]
    every = [*(layer.plain for layer in layers), *columns]
    if not every or not len(every[0].events):
        return None
    events, target = every[0].events, every[0].target
    chosen = list(chosen_rows(view, events, target).values())
    rows = np.unique([*evenly_spread(len(events), EVENTS), *chosen])
    data = _about(view, events) | {
        "events": list(_events(view, events, rows)),
        "maps": [
            *(_map(layer, rows) for layer in layers if _same(layer.plain.events, events)),
            *(_column_map(a, rows) for a in columns if _same(a.events, events)),
        ],
    }
    for one in data["maps"]:
        one |= {"score": view.shown_name(one["target"])}
        one |= {"scores": list(map(_short, view.shown_score(one["target"], events[rows])))}
    others = [full_name(a) for a in every if not _same(a.events, events)]
    lacking = [f"Of other events, and left out: {', '.join(others)}."] if others else []
    count = f"{len(rows)} of the {len(events):,} explained events, evenly spread, and those of the displays."
    return Section("events", "Event by event", text=[f"{TEXT} {count}", *lacking], browser=data)


def _same(one: Events, other: Events) -> bool:
    """True if two maps explain the same events, in the same order."""
    return len(one) == len(other) and all(
        np.array_equal(getattr(one, k), getattr(other, k)) for k in ("file", "entry")
    )


def _about(view: RunView, events: Events) -> dict[str, Any]:
    """Names, colours and limits that all events share."""
    types, lines = view.events.schema.types, for_lines(mpl.colormaps[DIVERGING])
    looks = zip(types, type_looks(types), strict=True)
    return {
        "types": [{"name": n, "colour": c, "marker": m} for n, (c, m) in looks],
        "classes": list(view.classes),
        "palette": [to_hex(lines(x)) for x in np.linspace(0, 1, 33)],
        "observer": None if view.observer is None else observer_name(view.observer),
        "truth": telling_truth(events, view.focus),
        "crowded": CROWDED,
    }


def _events(view: RunView, events: Events, rows: IntArray) -> Iterator[dict[str, Any]]:
    """Identity and particles of each event; particles are ``[type, name, pt, η, φ, truth]``."""
    truth, part = telling_truth(events, view.focus), events[rows]
    names, no_eta = part.labels_of_particles(), without_eta(part)
    ringed = part.truth[truth] if truth else np.zeros(part.n_particles, dtype=bool)
    for row, (start, stop) in enumerate(zip(part.offsets[:-1], part.offsets[1:], strict=True)):
        observed = part.observers[view.observer][row] if view.observer else np.nan
        yield {
            "id": f"{part.run[row]}:{part.luminosity_block[row]}:{part.event[row]}",
            "file": part.files[part.file[row]].rpartition("/")[2],
            "entry": int(part.entry[row]),
            "class": part.schema.classes[part.label[row]],
            "split": SPLITS[part.split[row]],
            "weight": _short(part.weight[row]),
            "observer": _short(observed),
            "particles": [
                [int(part.type[i]), names[i], *_momentum(part.p4[i], no_eta[i]), int(ringed[i])]
                for i in range(start, stop)
            ],
        }


def _momentum(p4: Array, no_eta: np.bool_) -> list[float | None]:
    """Give pT [GeV], η (None for missing momentum) and φ."""
    return [_short(p4[0], 4), None if no_eta else _short(p4[1]), _short(p4[2])]


def _map(layer: LayerAttribution, rows: IntArray) -> dict[str, Any]:
    """Value, and its spread, of each particle; of the strongest pairs behind the positions of both ends."""
    values = np.column_stack([layer.plain.values, *([_spread(layer.every)] if layer.singles else [])])
    over = layer.full.axes[0]
    return {
        "name": layer.name,
        "target": layer.full.target,
        "quantity": quantity(layer.plain),
        "over": over,
        "directed": layer.directed,
        "centre": reference_value(layer.plain),
        "values": [(_pairs if over == "pair" else _particles)(layer, values, int(row)) for row in rows],
    }


def _column_map(every: Attribution, rows: IntArray) -> dict[str, Any]:
    """Name and value of each column behind, and its attribution with the spread; the largest first."""
    mean = mean_of_trainings(every)
    table, names = mean.events.table()
    values = np.stack([mean.values, *([_spread(every)] if "training" in every.axes else [])], axis=-1)

    def largest(row: int) -> list[list[str | float | None]]:
        order = np.argsort(-abs(values[row, :, 0]), kind="stable")[:PAIRS]
        return [[names[i], _short(table[row, i]), *map(_short, values[row, i])] for i in order]

    about = {
        "name": full_name(mean),
        "target": mean.target,
        "quantity": quantity(mean),
        "over": "column",
        "directed": False,
    }
    return about | {"centre": 0.0, "values": [largest(int(row)) for row in rows]}


def _spread(every: Attribution) -> Array:
    """Standard deviation over the trainings of each value."""
    return np.asarray(np.std(every.values, axis=-1, ddof=1, dtype=np.float64))


def _pairs(layer: LayerAttribution, values: Array, row: int) -> list[list[float | None]]:
    pairs, first = pairs_of(layer.plain), layer.plain.events.offsets[row]
    entries = np.arange(*pairs.offsets[row : row + 2])
    entries = entries[np.argsort(-np.nan_to_num(abs(values[entries, 0])), kind="stable")[:PAIRS]]
    return [[int(pairs.src[i] - first), int(pairs.dst[i] - first), *map(_short, values[i])] for i in entries]


def _particles(layer: LayerAttribution, values: Array, row: int) -> list[list[float | None]]:
    return [list(map(_short, value)) for value in values[slice(*layer.plain.events.offsets[row : row + 2])]]


def _short(value: float, digits: int = DIGITS) -> float | None:
    """Number with a few significant digits; None, JSON's null, for NaN and infinity."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
