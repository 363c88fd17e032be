"""Means of a selection of events, with errors, and their profile against another number."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from hepxai.app import recipes
from hepxai.app.figures import figure_of
from hepxai.app.views import choice
from hepxai.app.widgets import choose, field, key_of, show_figure
from hepxai.app.work import Study
from hepxai.attribution import Attribution
from hepxai.core.chunks import evenly_spread
from hepxai.core.formatting import measured
from hepxai.metrics.entries import class_profiles, entry_names, entry_values, mean_rows
from hepxai.metrics.event_maps import kind_of
from hepxai.plots import entry_profile

FEW, MANY = 20, 5000


def show(study: Study) -> None:
    """Page of a population."""
    left, right = choice.columns()
    with left:
        rows, selecting = choice.selection(study)
        most = field(
            st.number_input,
            "Explain at most",
            "most",
            200 if study.view != "image" else 50,
            limits={"kind": "whole", "low": FEW, "high": MANY},
            min_value=FEW,
            max_value=MANY,
            step=50,
            help="Evenly spread over the selection",
        )
        target = choice.target(study)
        method = choice.method(study, "Method", "a")
    assert method is not None
    total, rows = len(rows), rows[evenly_spread(len(rows), int(most))]
    with right:
        some = f", {len(rows):,} of them explained, evenly spread" if len(rows) < total else ""
        st.caption(f"{total:,} events selected{some}")
        key, attribution = choice.attribution_of(study, rows, method, target)
        if attribution is None:
            return
        single, extra = choice.one_layer(attribution, "population")
        lines = recipes.population(study, int(most), selecting, method.name, target, method.settings) + extra
        _means(f"{key} {extra}", single, lines)
        _profile(study, f"{key} {extra}", single, rows, lines)


def _means(key: str, attribution: Attribution, lines: list[str]) -> None:
    classes = attribution.events.schema.classes
    options: dict[str, Any] = {}
    if kind_of(attribution) in ("pair", "pixel"):
        options["class_name"] = choose("Class of the means", "shown", classes, classes[-1])
    arguments = "".join(f"{k}={v!r}" for k, v in options.items())
    rows = mean_rows(attribution)
    show_figure(
        "means",
        f"{key} {arguments}",
        lambda: figure_of(attribution.plot(**options)),
        rows,
        [*lines, f"attribution.plot({arguments})"],
    )
    if rows and len(rows) <= 500:
        with st.expander("Means with errors"):
            named = [{k: v for k, v in r.items() if k not in ("value", "error")} for r in rows]
            cells = [n | {"mean": measured(r["value"], r["error"])} for n, r in zip(named, rows, strict=True)]
            st.dataframe(cells, hide_index=True)


# --- profile ---------------------------------------------------------------------------------------------


def _profile(
    study: Study, key: str, attribution: Attribution, rows: NDArray[np.int64], lines: list[str]
) -> None:
    st.divider()
    st.subheader("Profile")
    names = entry_names(attribution)
    first, second = st.columns(2)
    numbers = choice.numbers_of(study)
    with first:
        entry = choose("Mean of", "of", tuple(names), _strongest(attribution, names))
    with second:
        observers = tuple(n for n in numbers.values if n not in ("label", "weight", "entry"))
        best = next((o for o in study.events.observers), observers[-1])
        observer = choose("Against", "against", observers, best)
    values = numbers.values[observer][rows]
    code = [
        *lines,
        *(line for line in choice.NUMBERS if line not in lines),
        "from hepxai.plots import entry_profile",
        f"entry_profile(attribution, {entry!r}, numbers.values[{observer!r}][rows], name={observer!r})",
    ]
    show_figure(
        "profile",
        key_of(key, entry, observer),
        lambda: figure_of(entry_profile(attribution, entry, values, name=observer)),
        _profile_rows(attribution, entry, values),
        code,
    )


def _strongest(attribution: Attribution, names: list[str]) -> str:
    """Entry with the largest mean |value|."""
    sizes = [np.abs(entry_values(attribution, name)) for name in names]
    means = [float(np.nanmean(s)) if np.isfinite(s).any() else 0.0 for s in sizes]
    return names[int(np.argmax(means))]


def _profile_rows(attribution: Attribution, entry: str, observer: NDArray[Any]) -> list[dict[str, Any]]:
    """Means in bins, class by class; none where there are too few events."""
    try:
        profiles = class_profiles(attribution, entry, observer)
    except ValueError:
        return []
    return [
        {"class": name, "from": float(p.edges[b]), "to": float(p.edges[b + 1])}
        | {"value": float(p.mean.value[b]), "error": float(p.mean.error[b])}
        for name, p in profiles.items()
        for b in range(len(p.edges) - 1)
    ]
