"""Python that makes the same numbers and figures as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hepxai.app.work import SPREAD, Study


def one_event(study: Study, row: int, method: str, target: str, settings: Mapping[str, Any]) -> list[str]:
    """Lines that leave the map of one event in ``attribution``."""
    return _explained(study, f"events[[{row}]]", method, target, settings)


def population(
    study: Study, most: int, selecting: Sequence[str], method: str, target: str, settings: Mapping[str, Any]
) -> list[str]:
    """Lines that leave the map of some events in ``attribution``.

    Parameters
    ----------
    study : Study
    most : int
        Selected events that were explained, evenly spread, at most.
    selecting : sequence of str
        Lines that leave the positions of the selected events in ``rows``.
    method, target, settings
    """
    explaining = _explained(study, "events[rows]", method, target, settings)
    thinned = [SPREAD, f"rows = rows[evenly_spread(len(rows), {most})]"]
    return [*explaining[:-1], *selecting, *thinned, explaining[-1]]


def _explained(study: Study, rows: str, method: str, target: str, settings: Mapping[str, Any]) -> list[str]:
    options = "".join(f", {name}={value!r}" for name, value in settings.items())
    call = f"hepxai.explain(model, {rows}, {method!r}, target={target!r}, population=events{options})"
    return [*study.lines(), f"attribution = {call}"]


def moved_column(study: Study, row: int, moves: Mapping[int, float]) -> list[str]:
    """Lines that leave one event with other values of its columns in ``event``."""
    lines = [*study.lines(), f"event = events[[{row}]]", "table = event.globals.copy()"]
    lines += [f"table[0, {column}] = {value!r}" for column, value in moves.items()]
    return [*lines, "event = event.replace(globals=table)"]


def boxes(study: Study, row: int, method: str, score: float, settings: Mapping[str, Any]) -> list[str]:
    """Lines that leave one map for each detected box of an event in ``maps``."""
    options = "".join(f", {name}={value!r}" for name, value in settings.items())
    return [
        *study.lines(),
        "from hepxai.studies.detection.numbers import explain_boxes",
        f"maps = explain_boxes(model, events[[{row}]], {method!r}, score={score!r}{options})",
    ]


def scan(folder: str) -> list[str]:
    """Lines that leave the results of a scan in ``table``."""
    return ["import hepxai", f"table = hepxai.Scan.open({folder!r}).table()", "rows = table.rows()"]
