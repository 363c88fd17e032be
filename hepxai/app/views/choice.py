"""Fields that several pages share: an event, a target, a method with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from hepxai.app.settings import entries
from hepxai.app.widgets import choose, field, form_of, key_of, obtain, plain, reset
from hepxai.app.work import Study, explain_events
from hepxai.attribution import Attribution
from hepxai.attribution.reductions import labels_of
from hepxai.core.formatting import general
from hepxai.datasets.event_numbers import EventNumbers, select_events
from hepxai.events import SPLITS
from hepxai.explainers import EXPLAINERS
from hepxai.explainers.methods import default_methods

NUMBERS = (
    "from hepxai.datasets.event_numbers import EventNumbers, select_events",
    "numbers = EventNumbers(events, model.logits(events), model.outputs)",
)
"""Python that leaves the numbers of each event in ``numbers``."""
EVERY = "all"
NONE = "none"


class Method(NamedTuple):
    """A method and the settings that differ from its defaults."""

    name: str
    settings: dict[str, Any]

    @property
    def title(self) -> str:
        """Short name of the method."""
        return EXPLAINERS[self.name].short_title


def columns() -> tuple[Any, Any]:
    """Places of the fields and of the figures; on a phone the fields come last: `hepxai.app.main.PHONE`."""
    left, right = st.columns([1, 3], gap="medium")
    return left.container(key="fields"), right


def numbers_of(study: Study) -> EventNumbers:
    """Numbers of each event, for selections and orders."""
    return EventNumbers(study.events, study.scores, study.outputs)


class Selection(NamedTuple):
    """Positions of the selected events, and the Python that selects them."""

    rows: NDArray[np.int64]
    lines: list[str]


def selection(study: Study) -> Selection:
    """Events of a class and a split for which an expression is true."""
    events, numbers, codes = study.events, numbers_of(study), dict[str, int]()
    if (
        len(classes := events.schema.classes) > 1
        and (name := choose("Class", "class", (EVERY, *classes))) != EVERY
    ):
        codes["label"] = classes.index(name)
    default = "test" if (events.split == SPLITS.index("test")).any() else EVERY
    if (split := choose("Events", "split", (EVERY, *SPLITS), default)) != EVERY:
        codes["split"] = SPLITS.index(split)
    mask = np.ones(len(events), dtype=bool)
    for column, code in codes.items():
        mask &= getattr(events, column) == code
    hint = f"Of {', '.join(numbers.values)}. Example: {next(iter(numbers.values))} > 1"
    text = field(
        st.text_input, "Only events with", "where", "", help=plain(hint), placeholder="an expression"
    )
    rows = np.flatnonzero(mask & select_events(numbers, text, len(mask)))
    if not len(rows):
        raise ValueError("no event is left; loosen the class, the split or the expression")
    return Selection(rows, _selecting(codes, text))


def _selecting(codes: Mapping[str, int], text: str) -> list[str]:
    lines = ["import numpy as np"]
    conditions = [f"(events.{column} == {code})" for column, code in codes.items()]
    if text.strip():
        lines += NUMBERS
        conditions += [f"select_events(numbers, {text!r}, len(events))"]
    mask = " & ".join(conditions) or "np.ones(len(events), dtype=bool)"
    return [*lines, f"rows = np.flatnonzero({mask})"]


def event(study: Study) -> tuple[int, NDArray[np.int64]]:
    """Position of the chosen event, and those of all selected ones in their order."""
    rows, numbers = selection(study).rows, numbers_of(study)
    orders = {f"{n}, {way}": (n, way) for n in numbers.values for way in ("highest first", "lowest first")}
    names = [o for o in orders if o.startswith("score")] + [o for o in orders if not o.startswith("score")]
    order = choose("Order", "order", ("as in the file", *names))
    if order in orders:
        name, way = orders[order]
        values = np.asarray(numbers.values[name], dtype=np.float64)[rows]
        rows = rows[np.argsort(-values if way == "highest first" else values, kind="stable")]
    limits = {"kind": "whole", "low": 1, "high": len(rows)}
    place = field(
        st.number_input,
        f"Event, 1 to {len(rows):,}",
        "event",
        1,
        limits=limits,
        min_value=1,
        max_value=len(rows),
        step=1,
    )
    return int(rows[place - 1]), rows


def about(study: Study, row: int) -> str:
    """Identity, class and scores of an event, as plain text."""
    events = study.events
    file = events.files[events.file[row]].rpartition("/")[2]
    parts = [f"run {events.run[row]}, event {events.event[row]} (entry {events.entry[row]} of {file})"]
    if len(events.schema.classes) > 1:
        parts.append(f"class {events.schema.classes[events.label[row]]}")
    scores = zip(study.outputs, study.scores[row], strict=False)
    parts += [f"{name} {general(float(value), 3)}" for name, value in scores]
    parts += [f"{n} {general(float(v[row]), 3)}" for n, v in list(events.observers.items())[:4]]
    return "; ".join(parts)


def target(study: Study) -> str:
    """What is explained; the only one there is without a field."""
    if len(study.targets) < 2:
        return study.targets[0]
    return str(choose("Explained output", "target", study.targets))


def method(study: Study, label: str, prefix: str, *, optional: bool = False) -> Method | None:
    """A method that works on the model, with fields for its settings."""
    defaults = [m for m in default_methods().get(study.view, ()) if m in study.methods]
    first = NONE if optional else next(iter(defaults), study.methods[0])
    options = ((NONE,) if optional else ()) + tuple(study.methods)
    name = choose(
        label, prefix, options, first, format_func=lambda m: m if m == NONE else EXPLAINERS[m].short_title
    )
    if name == NONE:
        return None
    return with_settings(study, name, prefix)


def with_settings(study: Study, name: str, prefix: str = "a") -> Method:
    """A method with fields for its settings; pages with the same prefix share them."""
    form, keys = entries(name, study.layers), f"{prefix}.{name}."
    if not form:
        return Method(name, {})
    with st.expander(f"Settings of {plain(EXPLAINERS[name].short_title)}"):
        st.caption(plain(EXPLAINERS[name].title))
        settings = form_of(form, keys)
        st.button("Reset", key=f"reset {keys}", on_click=reset, args=(keys,), disabled=not settings)
        return Method(name, settings)


def attribution_of(
    study: Study, rows: NDArray[np.int64], chosen: Method, target: str, *, quiet: bool = False
) -> tuple[str, Attribution | None]:
    """Key and map of some events; the map is None while it is not there."""
    key = key_of(study.key, study.events, rows, chosen.name, target, chosen.settings)
    arguments = (study.source, study.events, study.events[rows], chosen.name, target, chosen.settings)
    return key, obtain(key, chosen.title, explain_events, *arguments, quiet=quiet)


def one_layer(attribution: Attribution, prefix: str) -> tuple[Attribution, list[str]]:
    """Map of one layer, and the Python line that selects it, where there are several."""
    if "layer" not in attribution.axes:
        return attribution, []
    names = labels_of(attribution, "layer")
    name = names[0] if len(names) == 1 else choose("Layer", f"{prefix}.shown", names, names[-1])
    return attribution.select(layer=name), [f"attribution = attribution.select(layer={name!r})"]
