"""State of a page in its link, as texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def encode(value: Any) -> str:
    """Text of a value; a text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def decode(
    text: str,
    default: Any,
    *,
    valid: Sequence[Any] | None = None,
    kind: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Value of a text from a link; the default if it is not allowed, for a link may hold anything.

    Parameters
    ----------
    text : str
    default : object
    valid : sequence, optional
        Allowed values.
    kind : str
        "whole", "number", "switch", "several" (of the valid values) or "" (a text).
    low, high : float, optional
    """
    if kind == "" and valid is None:
        return text[:1000]
    by_text = {encode(v): v for v in valid or ()}
    if kind == "several":
        values = _json(text)
        return [v for v in values if v in by_text.values()] if isinstance(values, list) else default
    if valid is not None:
        return by_text.get(text, default)
    value = _json(text)
    if value is None or kind == "switch":
        return value if isinstance(value, bool) or default is None else default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        return default
    inside = min(max(value, low if low is not None else value), high if high is not None else value)
    return int(inside) if kind == "whole" else float(inside)


def _json(text: str) -> Any:
    try:
        return json.loads(text[:5000])
    except (ValueError, RecursionError):
        return None
