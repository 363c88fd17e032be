"""One column of one event at another value: score and attribution follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from hepxai.app import recipes
from hepxai.app.figures import figure_of
from hepxai.app.views import choice
from hepxai.app.widgets import choose, field, key_of, obtain, plain, show_figure
from hepxai.app.work import Study, explain_events, score_events
from hepxai.core.formatting import general
from hepxai.metrics.event_maps import rows_of
from hepxai.models.target import Target
from hepxai.studies.what_if.figures import score_curve
from hepxai.studies.what_if.numbers import POINTS, grid, usual_range, with_values

TABLE_ROWS = 200
"""Rows of the table on the page."""


def show_what_if(study: Study, row: int, target: str, method: choice.Method) -> None:
    """Field of a column with its slider; score against the column, and the map at the new value."""
    table, names = study.events.table()
    st.divider()
    st.subheader("What if")
    column = names.index(choose("Column to change", "column", names))
    before = float(table[row, column])
    low, high = usual_range(table[:, column], before)
    limits = {"kind": "number", "low": low, "high": high}
    step = (high - low) / 200
    value = field(
        st.slider,
        f"{names[column]} (this event has {general(before, 4)})",
        f"what.{row}.{column}",
        float(np.clip(before, low, high)),
        limits=limits,
        min_value=low,
        max_value=high,
        step=step,
        format="%.4g",
    )
    points = grid(low, high, before, value)
    key = key_of(study.key, study.events, row, column, points)
    scores = obtain(key, "Score", score_events, study.source, with_values(study.events, row, column, points))
    if scores is None:
        return
    output = Target.of(study.outputs, target)(scores)
    after = float(output[-1])
    change = general(after - float(output[-2]), 3).replace("−", "-")  # streamlit reads the sign
    st.metric(f"{plain(target)} at the new value", general(after, 4), delta=change)
    left, right = st.columns(2)
    with left:
        pairs = zip(points[:POINTS], output, strict=False)
        rows = [{names[column]: float(x), target: float(y)} for x, y in pairs]
        show_figure(
            f"score_{names[column]}",
            f"{key} {target}",
            lambda: figure_of(score_curve(points, output, column=names[column], target=target)),
            rows,
            recipes.curve(study, row, names[column], (low, high, before, value), target),
        )
    with right:
        _new_map(study, row, target, method, names[column], float(value))


def _new_map(study: Study, row: int, target: str, method: choice.Method, column: str, value: float) -> None:
    event = with_values(study.events, row, column, np.array([value]))
    key = key_of(study.key, study.events, event, method.name, target, method.settings)
    arguments = (study.source, study.events, event, method.name, target, method.settings)
    attribution = obtain(key, method.title, explain_events, *arguments)
    if attribution is None:
        return
    options = "".join(f", {k}={v!r}" for k, v in method.settings.items())
    call = f"hepxai.explain(model, event, {method.name!r}, target={target!r}, population=events{options})"
    lines = recipes.new_value(study, row, column, value)
    code = [*lines, f"attribution = {call}", "attribution.plot(0)"]
    show_figure(
        f"new_value_{method.name}", key, lambda: figure_of(attribution.plot(0)), rows_of(attribution), code
    )


def show_rows(study: Study, rows: NDArray[np.int64]) -> None:
    """Columns and scores of the first selected events."""
    rows = rows[:TABLE_ROWS]
    table, names = study.events.table()
    content: dict[str, Any] = {"number": np.arange(1, len(rows) + 1), "entry": study.events.entry[rows]}
    content |= {n: table[rows, i] for i, n in enumerate(names)}
    content |= {f"score {o}": study.scores[rows, i] for i, o in enumerate(study.outputs)}
    with st.expander(f"Rows: the first {len(rows)} of the selection"):
        st.dataframe(content, hide_index=True, height=260)
