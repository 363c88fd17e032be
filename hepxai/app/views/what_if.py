"""One column of one event moved: score and attribution follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepxai.app import recipes
from hepxai.app.figures import figure_of
from hepxai.app.maps import rows_of
from hepxai.app.views import choice
from hepxai.app.widgets import choose, field, key_of, obtain, plain, show_figure
from hepxai.app.work import Study, attributed, scored
from hepxai.core.formatting import general
from hepxai.events import Events
from hepxai.models.target import Target
from hepxai.plots.style import INK, axes_or_new, escape_label, style

POINTS = 61
SHOWN = 200
"""Rows of the table on the page."""


def show_what_if(study: Study, row: int, aim: str, method: choice.Method) -> None:
    """Field of a column with its slider; score against the column, and the map of the moved event."""
    table, names = study.events.table()
    st.divider()
    st.subheader("What if")
    column = names.index(choose("Column to move", "column", names))
    low, high = _range(table[:, column], float(table[row, column]))
    limits = {"kind": "number", "low": low, "high": high}
    step = (high - low) / 200
    value = field(
        st.slider,
        f"{names[column]} (this event has {general(float(table[row, column]), 4)})",
        f"what.{row}.{column}",
        float(np.clip(table[row, column], low, high)),
        limits=limits,
        min_value=low,
        max_value=high,
        step=step,
        format="%.4g",
    )
    grid = np.linspace(low, high, POINTS)
    points = np.append(grid, [table[row, column], value])
    key = key_of(study.key, study.events, row, column, points)
    scores = obtain(key, "Score", scored, study.source, moved(study.events, row, column, points))
    if scores is None:
        return
    output = Target.of(study.outputs, aim)(scores)
    before, after = output[-2:]
    change = general(float(after - before), 3).replace("−", "-")  # streamlit reads the sign
    st.metric(f"{plain(aim)} at the new value", general(float(after), 4), delta=change)
    left, right = st.columns(2)
    lines = recipes.moved_column(study, row, {column: float(value)})
    with left:
        rows = [{names[column]: float(x), aim: float(y)} for x, y in zip(points[:-2], output, strict=False)]
        show_figure(
            f"score_{names[column]}",
            f"{key} {aim}",
            lambda: _curve(grid, points[-2:], output, names[column], aim),
            rows,
            [*lines, "scores = model.logits(event)"],
        )
    with right:
        _moved_map(study, row, aim, method, column, float(value), lines)


def _moved_map(
    study: Study, row: int, aim: str, method: choice.Method, column: int, value: float, lines: list[str]
) -> None:
    event = moved(study.events, row, column, np.array([value]))
    key = key_of(study.key, study.events, event, method.name, aim, method.settings)
    arguments = (study.source, study.events, event, method.name, aim, method.settings)
    attribution = obtain(key, method.title, attributed, *arguments)
    if attribution is None:
        return
    options = "".join(f", {k}={v!r}" for k, v in method.settings.items())
    call = f"hepxai.explain(model, event, {method.name!r}, target={aim!r}, population=events{options})"
    code = [*lines, f"attribution = {call}", "attribution.plot(0)"]
    show_figure(
        f"moved_{method.name}", key, lambda: figure_of(attribution.plot(0)), rows_of(attribution), code
    )


def moved(events: Events, row: int, column: int, values: NDArray[np.float64]) -> Events:
    """One event several times, with these values in one of its columns."""
    many = events[np.full(len(values), row)]
    table = many.globals.copy()
    table[:, column] = values
    return many.replace(globals=table)


def _range(values: NDArray[np.floating], here: float) -> tuple[float, float]:
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = (float(v) for v in np.quantile(finite, [0.005, 0.995])) if len(finite) else (0.0, 1.0)
    low, high = min(low, here), max(high, here)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _curve(
    grid: NDArray[np.float64], two: NDArray[np.float64], output: NDArray[np.float64], column: str, aim: str
) -> Figure:
    with style():
        ax = axes_or_new(None, (6.4, 4.6))
        ax.plot(grid, output[: len(grid)], color=INK, lw=1.5)
        ax.plot(two[0], output[-2], "o", mfc="white", mec=INK, ms=9, label="this event")
        ax.plot(two[1], output[-1], "o", color=INK, ms=9, label="moved")
        ax.set(xlabel=escape_label(column), ylabel=escape_label(aim))
        ax.legend(loc="best", fontsize="small")
        return figure_of(ax)


def show_rows(study: Study, rows: NDArray[np.int64]) -> None:
    """Columns and scores of the first selected events."""
    rows = rows[:SHOWN]
    table, names = study.events.table()
    content: dict[str, Any] = {"number": np.arange(1, len(rows) + 1), "entry": study.events.entry[rows]}
    content |= {n: table[rows, i] for i, n in enumerate(names)}
    content |= {f"score {o}": study.scores[rows, i] for i, o in enumerate(study.outputs)}
    with st.expander(f"Rows: the first {len(rows)} of the selection"):
        st.dataframe(content, hide_index=True, height=260)
