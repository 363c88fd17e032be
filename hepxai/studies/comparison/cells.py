"""Table of faithfulness as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hepxai.core.formatting import general, measured, percentage, real

HEADINGS = {
    "residual": "residual",
    "faithfulness": "rank correlation",
    "deletion": "deletion",
    "insertion": "insertion",
    "infidelity": "infidelity",
    "sparsity": "sparsity",
    "truth_share": "on true hits",
    "randomised": "randomised",
    "seconds": "s/event",
}
"""Measures in the order of a table, and their headings."""


def table_cells(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table for people, one row for each method.

    Parameters
    ----------
    content : mapping
        From `FaithfulnessTable.to_json`.
    """
    numbers: Mapping[str, Mapping[str, Mapping[str, float | None]]] = content["numbers"]
    measures = dict.fromkeys(m for row in numbers.values() for m in row)
    order = [m for m in HEADINGS if m in measures]
    at = order.index("sparsity")
    order[at:at] = [m for m in measures if m.startswith("sensitivity_")]
    rows = [
        [content["titles"][method], *(_cell(m, row.get(m)) for m in order)] for method, row in numbers.items()
    ]
    return ["method", *(_heading(m) for m in order)], rows


def _heading(measure: str) -> str:
    if measure in HEADINGS:
        return HEADINGS[measure]
    n = float(measure.removeprefix("sensitivity_"))
    return f"sensitivity, {percentage(n)}" if n < 1 else f"sensitivity, n={n:g}"


def _cell(measure: str, number: Mapping[str, float | None] | None) -> str:
    if number is None:
        return "–"
    if measure == "residual":
        return percentage(number["value"])
    alone = math.isnan(real(number["error"]))
    return general(number["value"], 3) if alone else measured(number["value"], number["error"])
