"""All methods on one event: their maps side by side, and the agreement of every two."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import streamlit as st
from matplotlib.figure import Figure

from hepxai.app.figures import figure_of, figure_of_event
from hepxai.app.maps import agreement, rows_of
from hepxai.app.settings import entries
from hepxai.app.views import choice
from hepxai.app.widgets import error_of, field, forget, key_of, plain, show_figure
from hepxai.app.work import Study
from hepxai.attribution import Attribution
from hepxai.attribution.reductions import layers
from hepxai.core.estimate import Estimate
from hepxai.explainers import EXPLAINERS
from hepxai.metrics.agreement import AgreementMatrix
from hepxai.plots import method_agreement
from hepxai.plots.style import escape_label

ACROSS = 2


def show(study: Study) -> None:
    """Page of several methods on one event."""
    left, right = st.columns([1, 3], gap="medium")
    with left:
        row, _ = choice.event(study)
        aim = choice.target(study)
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
    with right:
        st.caption(plain(choice.about(study, row)))
        maps = _maps(study, row, aim, names)
        if len(maps) < 2:
            st.info("Choose two methods or more\\.")
        methods = list(dict.fromkeys(a.method for a in maps.values()))
        lines = [*study.lines(), f"methods, event = {methods}, events[[{row}]]"]
        lines += [
            "from hepxai.app.views.convergence import compared, named_layers",
            f"options = dict(target={aim!r}, population=events)",
            "explained = [hepxai.explain(model, event, m, **options) for m in methods]",
            "maps = {name: one for a in explained for name, one in named_layers(a).items()}",
        ]
        key = key_of(study.key, study.events, row, aim, list(maps))
        if len(maps) > 1:
            matrix, rows = compared(maps)
            st.subheader("Agreement")
            st.caption(
                "Rank correlation of the absolute values in this event\\. Maps over pairs and over particles "
                "are compared by the sum at each particle\\. Methods that agree need not be right\\."
            )
            show_figure("agreement", key, lambda: _matrix_figure(matrix), rows, [*lines, "compared(maps)"])
        st.subheader("Maps")
        _show_maps(maps, key, lines)


def _maps(study: Study, row: int, aim: str, names: list[str]) -> dict[str, Attribution]:
    """Maps of one event by the title of their method, of several layers one for each."""
    maps: dict[str, Attribution] = {}
    errors = {}
    for name in names:
        method = choice.Method(name, {})
        key, attribution = choice.explained(study, np.array([row]), method, aim, quiet=True)
        if attribution is None:
            errors[key] = f"{method.title}: {error_of(key)}"
        else:
            maps |= named_layers(attribution)
    if errors:
        with st.expander(f"Without a map of this event: {len(errors)}"):
            for text in errors.values():
                st.markdown(plain(text))
            st.button("Try again", on_click=forget, args=tuple(errors))
    return maps


def named_layers(attribution: Attribution) -> dict[str, Attribution]:
    """A map by the short title of its method; of several layers one for each."""
    title = attribution.short_title or attribution.method
    if "layer" not in attribution.axes:
        return {title: attribution}
    return {f"{title} {name}".strip(): one for name, one in layers(attribution).items()}


def _show_maps(maps: Mapping[str, Attribution], key: str, lines: list[str]) -> None:
    places = st.columns(ACROSS)
    for i, (title, attribution) in enumerate(maps.items()):
        with places[i % ACROSS]:
            st.markdown(f"**{plain(title)}**")
            code = [*lines, f"attribution = maps[{title!r}]", "attribution.plot(0)"]
            draw = partial(figure_of_event, attribution)
            show_figure(f"map_{i + 1}_{attribution.method}", key, draw, rows_of(attribution), code)


def compared(maps: Mapping[str, Attribution]) -> tuple[AgreementMatrix, list[dict[str, object]]]:
    """Rank correlations of every two maps of one event, as a matrix and as rows."""
    size, names = len(maps), tuple(maps)
    value, rows = np.eye(size), []
    for i, j in zip(*np.triu_indices(size, 1), strict=True):
        numbers, what = agreement(maps[names[i]], maps[names[j]])
        value[i, j] = value[j, i] = numbers[0]
        rows.append(
            {"method": names[i], "other": names[j], "entries": what, "rank correlation": float(numbers[0])}
        )
    none = np.full((size, size), np.nan)
    mean, chance = Estimate(value, none, np.nan), Estimate(np.zeros((size, size)), none, np.nan)
    return AgreementMatrix(names, mean, chance, np.zeros((size, size), dtype=np.int64), None, names), rows


def _matrix_figure(matrix: AgreementMatrix) -> Figure:
    title = escape_label("rank correlation in this event")
    return figure_of(method_agreement(matrix, title=title))
