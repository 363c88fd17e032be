"""One event with one method or two side by side: of graphs, tables and images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import streamlit as st

from hepxai.app import recipes
from hepxai.app.figures import figure_of_event
from hepxai.app.views import choice
from hepxai.app.views.boxes import show_boxes
from hepxai.app.views.what_if import show_rows, show_what_if
from hepxai.app.widgets import plain, show_figure
from hepxai.app.work import Study
from hepxai.attribution import Attribution
from hepxai.core.formatting import general, measured
from hepxai.metrics.event_maps import agreement, difference, ranking, rows_of

FIRST = 3
"""Entries of a ranking that stand in words below the figure."""


def show(study: Study) -> None:
    """Page of one event."""
    left, right = choice.columns()
    with left:
        row, rows = choice.event(study)
        if study.detects:
            show_boxes(study, row, right)
            return
        target = choice.target(study)
        first = choice.method(study, "Method", "a")
        second = choice.method(study, "Beside it", "b", optional=True)
    assert first is not None
    with right:
        st.caption(plain(choice.about(study, row)))
        if study.view == "table":
            show_rows(study, rows)
        if study.view == "image":  # a map is drawn beside its image
            places = [st.columns([3, 1])[0] for _ in "ab"]
        else:
            places = st.columns(2 if second is not None else [3, 1])
        maps = []
        for place, prefix, method in zip(places, "ab", [first, second], strict=False):
            if method is not None:
                with place:
                    maps.append(_show_map(study, row, target, method, prefix))
        complete = [m for m in maps if m is not None]
        if len(complete) == 2:
            _compare(complete)
        if study.view == "table":
            show_what_if(study, row, target, first)


def _show_map(
    study: Study, row: int, target: str, method: choice.Method, prefix: str
) -> tuple[str, Attribution, list[str]] | None:
    key, attribution = choice.attribution_of(study, np.array([row]), method, target)
    if attribution is None:
        return None
    single, extra = choice.one_layer(attribution, prefix)
    lines = [*recipes.one_event(study, row, method.name, target, method.settings), *extra]
    name = f"event_{row}_{method.name}"
    key = f"{key} {extra}"
    st.markdown(f"**{plain(method.title)}**")
    code = [*lines, "attribution.plot(0)"]
    show_figure(name, key, partial(figure_of_event, single), rows_of(single), code)
    _show_ranking(single)
    return key, single, lines


def _show_ranking(attribution: Attribution) -> None:
    """Largest entries in words, and all of them in a table that sorts by a click on its head."""
    rows = ranking(attribution)
    words = []
    for name, value, *error in (row.values() for row in rows[:FIRST]):
        sign = "+" if value > 0 and attribution.sign == "both" else ""
        words.append(plain(f"{name}: {sign}{measured(value, *error)}"))
    st.markdown("  \n".join(words))
    if len(rows) > FIRST:
        with st.expander(f"Ranking of all {len(rows)}"):
            st.dataframe(rows, hide_index=True, height=260)


def _compare(maps: Sequence[tuple[str, Attribution, list[str]]]) -> None:
    """Agreement and difference of two maps of one event."""
    (key_1, first, lines_1), (key_2, second, lines_2) = maps
    values, what = agreement(first, second)
    number = "no order to compare" if np.isnan(values[0]) else general(float(values[0]), 2)
    with st.container(border=True):
        st.metric(f"Agreement over {plain(what)}", number)
        st.caption("Rank correlation: 1 the same order, 0 unrelated\\.")
        if (change := difference(first, second)) is None:
            st.caption("The two maps have other axes, so there is no difference to draw\\.")
            return
        st.markdown("**Difference**, each map relative to the sum of its absolute values")
        lines = [
            *lines_1,
            "first = attribution",
            *[line for line in lines_2 if line not in lines_1 or line.startswith("attribution")],
            "from hepxai.metrics.event_maps import difference",
            "change = difference(first, attribution)",
            "change.plot(0)",
        ]
        with st.columns([2, 1])[0]:
            draw = partial(figure_of_event, change)
            show_figure("difference", f"{key_1} {key_2}", draw, rows_of(change), lines)
