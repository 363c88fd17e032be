"""Short forms of card entries: one for a list, a text for a mapping, an expression for a quantity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from hepxai.cards import Card
from hepxai.datasets.expressions import Expression


def listed(value: Any) -> Any:
    """A list of the value, unless it is one."""
    return value if value is None or isinstance(value, list | tuple) else [value]


def _steps(value: Any) -> Any:
    if isinstance(value, str):
        return {value: value}
    return {str(v): v for v in value} if isinstance(value, list | tuple) else value


def _by_sample(value: Any) -> Any:
    return dict.fromkeys(map(str, value)) if isinstance(value, list | tuple) else value


def _labels(value: dict[str, str | None]) -> Any:
    return value if any(value.values()) else list(value)


Cut = str | float
#: A cut, a list of cuts, or named cuts.
Steps = Annotated[dict[str, Expression], BeforeValidator(_steps, Cut | list[Cut] | dict[str, Cut])]
#: Class names (the samples say which), or a condition for each class.
Labels = Annotated[
    dict[str, Expression | None],
    BeforeValidator(_by_sample, list[str] | dict[str, Expression | None]),
    PlainSerializer(_labels),
]


class Quantity(Card):
    """A named expression with units."""

    expression: Expression
    units: str = ""


def _quantity(value: Any) -> Any:
    return value if isinstance(value, Mapping | Quantity) else {"expression": value}


#: An expression, or a mapping of `expression` and `units`.
Feature = Annotated[Quantity, BeforeValidator(_quantity, Expression | Quantity)]
