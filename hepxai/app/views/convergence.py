"""All methods on one event: their maps side by side, and the agreement of every two."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations

import numpy as np
import streamlit as st
from matplotlib.figure import Figure

from hepxai.app.figures import figure_of, figure_of_event
from hepxai.app.settings import entries
from hepxai.app.views import choice
from hepxai.app.widgets import error_of, field, forget, key_of, message, plain, show_figure
from hepxai.app.work import Study
from hepxai.attribution import Attribution
from hepxai.explainers import EXPLAINERS
from hepxai.metrics.agreement import AgreementMatrix, agreement_matrix
from hepxai.metrics.event_maps import agreement, maps_by_title, rank_measure, rows_of
from hepxai.plots import method_agreement
from hepxai.plots.style import escape_label

ACROSS = 2
MATRIX = (
    "from hepxai.plots import method_agreement",
    "matrix = agreement_matrix(maps, rank_measure)",
    "method_agreement(matrix, title='rank correlation in this event')",
)
"""Python that draws the agreement of ``maps``."""


def show(study: Study) -> None:
    """Page of several methods on one event."""
    left, right = choice.columns()
    with left:
        row, _ = choice.event(study)
        target = choice.target(study)
        quick = [m for m in study.methods if not any(e.name == "epochs" for e in entries(m))]
        names = field(
            st.multiselect,
            "Methods",
            "methods",
            quick,
            limits={"valid": study.methods, "kind": "several"},
            format_func=lambda m: EXPLAINERS[m].short_title,
            help="Those that train a network take minutes and are left out at first",
        )
        methods = [choice.with_settings(study, name) for name in names]
    with right:
        st.caption(plain(choice.about(study, row)))
        maps = _maps(study, row, target, methods)
        if len(maps) < 2:
            st.info(_missing(study))
        used = {a.method for a in maps.values()}
        settings = {m.name: m.settings for m in methods if m.name in used}
        lines = [*study.lines(), f"methods, event = {settings!r}, events[[{row}]]"]
        lines += [
            "from hepxai.metrics.agreement import agreement_matrix",
            "from hepxai.metrics.event_maps import maps_by_title, rank_measure",
            f"options = dict(target={target!r}, population=events)",
            "attributions = [hepxai.explain(model, event, m, **options, **s) for m, s in methods.items()]",
            "maps = {name: one for a in attributions for name, one in maps_by_title(a).items()}",
        ]
        key = key_of(study.key, study.events, row, target, list(maps), settings)
        if len(maps) > 1:
            matrix = agreement_matrix(maps, rank_measure)
            st.subheader("Agreement")
            st.caption(
                "Rank correlation of the absolute values in this event\\. Maps over pairs and over particles "
                "are compared by the sum at each particle\\. Methods that agree need not be right\\."
            )
            show_figure("agreement", key, lambda: _matrix_figure(matrix), _rows(maps), [*lines, *MATRIX])
        st.subheader("Maps")
        _show_maps(maps, key, lines)


def _missing(study: Study) -> str:
    """Sentence about what the agreement needs."""
    if len(study.methods) > 1:
        return "The agreement needs the maps of two methods or more: choose another one\\."
    only = plain(EXPLAINERS[study.methods[0]].short_title)
    return (
        f"Only one method works on this model, {only}, so there is no agreement to show\\. Methods with "
        "gradients or attention need the zip of a run folder, whose network is known\\."
    )


def _maps(study: Study, row: int, target: str, methods: list[choice.Method]) -> dict[str, Attribution]:
    """Maps of one event by the title of their method, of several layers one for each."""
    maps: dict[str, Attribution] = {}
    errors = {}
    for method in methods:
        key, attribution = choice.attribution_of(study, np.array([row]), method, target, quiet=True)
        if attribution is None:
            errors[key] = f"{plain(method.title)}: {message(error_of(key))}"
        else:
            maps |= maps_by_title(attribution)
    if errors:
        with st.expander(f"Without a map of this event: {len(errors)}"):
            for text in errors.values():
                st.markdown(text)
            st.button("Try again", on_click=forget, args=tuple(errors))
    return maps


def _show_maps(maps: Mapping[str, Attribution], key: str, lines: list[str]) -> None:
    places = st.columns(ACROSS)
    for i, (title, attribution) in enumerate(maps.items()):
        with places[i % ACROSS]:
            st.markdown(f"**{plain(title)}**")
            code = [*lines, f"attribution = maps[{title!r}]", "attribution.plot(0)"]
            draw = partial(figure_of_event, attribution)
            show_figure(f"map_{i + 1}_{attribution.method}", key, draw, rows_of(attribution), code)


def _rows(maps: Mapping[str, Attribution]) -> list[dict[str, object]]:
    """Rank correlation of every two maps."""
    pairs = [(a, b, *agreement(maps[a], maps[b])) for a, b in combinations(maps, 2)]
    return [{"method": a, "other": b, "entries": e, "rank correlation": float(v[0])} for a, b, v, e in pairs]


def _matrix_figure(matrix: AgreementMatrix) -> Figure:
    title = escape_label("rank correlation in this event")
    return figure_of(method_agreement(matrix, title=title))
