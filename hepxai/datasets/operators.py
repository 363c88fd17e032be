"""Arithmetic of expressions; operations that would silently give wrong numbers are refused."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from typing import Any

import awkward as ak
import numpy as np

from hepxai.datasets.columns import Array, column
from hepxai.datasets.gathering import RowError, kind_of
from hepxai.datasets.vocabulary import condition

NO_TEXT = "text has no arithmetic; compare it, as in kind == 'GG'"
_WHOLE = 2**63  # whole numbers are of 64 bits, as those of branches
#: Where numbers from 2^63 on stay exact.
_UNSIGNED = ("%", "//", "where", "isin", "count")


def _power(base: Any, exponent: Any) -> Any:
    """Power; a whole number that would not fit into 64 bits is a float instead."""
    if isinstance(base, int) and isinstance(exponent, int) and exponent * (abs(base).bit_length() - 1) > 63:
        base = float(base)
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("the result is not a real number")
    return result


BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_SYMBOL: dict[type[ast.operator], str] = {ast.Mod: "%", ast.FloorDiv: "//"}
_MAY_OVERFLOW = (ast.Add, ast.Sub, ast.Mult, ast.Pow)


def binary(kind: type[ast.operator], left: Any, right: Any) -> Any:
    """Result of a binary operator.

    Raises
    ------
    ZeroDivisionError
        If whole numbers are divided by 0: numpy answers 0.
    OverflowError
        If whole numbers do not fit into 64 bits: numpy answers others.
    """
    if isinstance(left, str) or isinstance(right, str):
        raise TypeError(NO_TEXT)
    refuse_unsigned(_SYMBOL.get(kind, ""), [left, right])
    if kind not in (ast.BitAnd, ast.BitOr):
        left, right = (v * 1 if kind_of(v) == "b" else v for v in (left, right))  # true + true is 2
    whole = all(kind_of(v) in "iu" for v in (left, right))
    if whole and kind in _SYMBOL and np.any(_flat(right) == 0):
        raise ZeroDivisionError(
            f"a whole number divided by 0; write for example x {_SYMBOL[kind]} maximum(y, 1)"
        )
    result = BINARY[kind](left, right)
    if isinstance(result, int):
        return result if -_WHOLE <= result < _WHOLE else float(result)
    if whole and kind in _MAY_OVERFLOW and kind_of(result) == "i":
        sizes = np.abs(_flat(BINARY[kind](left * 1.0, right * 1.0)))
        if sizes.max(initial=0) >= _WHOLE:
            raise ValueError("the result does not fit into 64 bits; write 1.0 * x for one of the numbers")
    return result


def _flat(value: Any) -> Array:
    return np.asarray(ak.flatten(value, axis=None) if isinstance(value, ak.Array) else value)


def masked(value: Any, mask: Any) -> Any:
    """The particles (or values) for which a condition is true.

    Raises
    ------
    TypeError
        If the mask is no condition: whole numbers may be positions.
    RowError
        If a mask has another length than the values.
    """
    lists = isinstance(value, ak.Array) and isinstance(mask, ak.Array)
    if not lists or not 2 <= mask.ndim <= value.ndim:
        raise TypeError("[ ] takes a condition per particle, as in jet[jet.pt > 30]; for one use nth(x, 0)")
    if kind_of(mask) != "b":
        raise TypeError(
            "[ ] takes a condition per particle, not numbers; for positions write take(x, positions), "
            "for numbers that are 0 or 1 compare them, as in jet[jet.tight != 0]"
        )
    lengths, expected = np.asarray(ak.num(mask)), np.asarray(ak.num(value))
    if (different := lengths != expected).any():
        row = int(np.argmax(different))
        raise RowError(
            row,
            f"the condition has {lengths[row]} values for {expected[row]} particles; "
            "write a condition on the same particles, as in jet[jet.pt > 30]",
        )
    return value[condition(mask)]


def signed(value: Any) -> Any:
    """Whole numbers as int64 wherever they fit."""
    if kind_of(value) != "u":
        return value
    return column(value if isinstance(value, ak.Array) else ak.Array(np.atleast_1d(value)))


def refuse_unsigned(what: str, values: Sequence[Any]) -> None:
    """Refuse whole numbers from 2^63 on where they would wrap around or be rounded.

    Raises
    ------
    TypeError
    """
    if all(kind_of(v) != "u" for v in values):
        return
    exact = (kind_of(v) in "ub" or (isinstance(v, int) and v >= 0) for v in values)
    if what not in _UNSIGNED or not all(exact):
        raise TypeError(
            "holds numbers from 2^63 on, which do not fit into signed 64-bit integers; "
            "write event % 1000000007, say, or where(event < 2**63, event, 0)"
        )
