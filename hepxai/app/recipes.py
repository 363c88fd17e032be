"""Python that makes the same numbers and figures as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hepxai.app.work import SPREAD, Study


def one_event(study: Study, row: int, method: str, target: str, settings: Mapping[str, Any]) -> list[str]:
    """Lines that leave the map of one event in ``attribution``."""
    return _explaining(study, f"events[[{row}]]", method, target, settings)


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
    explaining = _explaining(study, "events[rows]", method, target, settings)
    some = [SPREAD, f"rows = rows[evenly_spread(len(rows), {most})]"]
    return [*explaining[:-1], *selecting, *some, explaining[-1]]


def _explaining(study: Study, rows: str, method: str, target: str, settings: Mapping[str, Any]) -> list[str]:
    options = "".join(f", {name}={value!r}" for name, value in settings.items())
    call = f"hepxai.explain(model, {rows}, {method!r}, target={target!r}, population=events{options})"
    return [*study.lines(), f"attribution = {call}"]


def new_value(study: Study, row: int, column: str, value: float) -> list[str]:
    """Lines that leave one event with another value of a column in ``event``."""
    return [
        *study.lines(),
        "from hepxai.studies.what_if.numbers import grid, with_values",
        f"event = with_values(events, {row}, {column!r}, [{value!r}])",
    ]


def curve(study: Study, row: int, column: str, points: Sequence[float], target: str) -> list[str]:
    """Lines that draw the score against a column; ``points``: ends, value of the event, new value."""
    return [
        *new_value(study, row, column, points[-1]),
        "from hepxai.models.target import Target",
        "from hepxai.studies.what_if.figures import score_curve",
        f"points = grid{tuple(map(float, points))!r}",
        f"scores = model.logits(with_values(events, {row}, {column!r}, points))",
        f"output = Target.of(model.outputs, {target!r})(scores)",
        f"score_curve(points, output, column={column!r}, target={target!r})",
    ]


def boxes(study: Study, row: int, method: str, score: float, settings: Mapping[str, Any]) -> list[str]:
    """Lines that leave one map for each detected box of an event in ``maps``."""
    options = "".join(f", {name}={value!r}" for name, value in settings.items())
    return [
        *study.lines(),
        "from hepxai.studies.detection.numbers import explain_boxes",
        f"maps = explain_boxes(model, events[[{row}]], {method!r}, score={score!r}{options})",
    ]


def scan(folder: str) -> list[str]:
    """Lines that leave the results of a scan in ``rows``, and its figures by name in ``figures``."""
    return [
        "import hepxai",
        "from hepxai.scan.figures import ScanView",
        "from hepxai.scan.page import scan_sections",
        f"scan = hepxai.Scan.open({folder!r})",
        "table = scan.table()",
        "rows = table.rows()",
        "figures = {f.name: f.figure for s in scan_sections(ScanView(scan, table)) for f in s.figures}",
    ]
