"""Evaluation of expressions over columns; operations that would silently give wrong numbers are refused."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterable
from functools import reduce
from typing import Any, Protocol

import awkward as ak
import numpy as np

from hepxai.cards import CardError, nearest
from hepxai.datasets.columns import Array, ExpressionError, ReadError, Records, RowError
from hepxai.datasets.expressions import BINARY, COMPARE, NO_TEXT, WHOLE, parse, shorten_text
from hepxai.datasets.vocabulary import attribute, call, condition, kind_of, refuse_unsigned, signed

_SYMBOL: dict[type[ast.operator], str] = {ast.Mod: "%", ast.FloorDiv: "//"}
_MAY_OVERFLOW = (ast.Add, ast.Sub, ast.Mult, ast.Pow)
_REFUSED = (TypeError, ValueError, IndexError, AttributeError, NotImplementedError, ZeroDivisionError)


class Lookup(Protocol):
    """Values of the names in an expression; dotted names (``muon.pt``) are passed whole."""

    def place(self, row: int) -> str:
        """File and entry of an event, for messages."""

    def __call__(self, name: str) -> Any:
        """Value of a name."""

    def in_file(self, name: str) -> Any:
        """Value of a name before cuts and in file order: stored positions refer to it."""


class UnknownNameError(ExpressionError):
    """A name that nothing defines; says which known one is nearest."""

    def __init__(self, name: str, where: str, names: Iterable[str]) -> None:
        self.name, self.where, self.all_names = name, where, tuple(names)
        super().__init__(f"no branch or variable {name!r} in {where}{nearest(name, self.all_names)}")

    def among(self, more: Iterable[str]) -> UnknownNameError:
        """The same error where more names are known."""
        return UnknownNameError(self.name, self.where, (*more, *self.all_names))


def evaluate(text: str, lookup: Lookup, *, in_file: bool = False) -> Any:
    """Value of an expression.

    Parameters
    ----------
    text : str
    lookup : Lookup
        Values of names.
    in_file : bool
        Take names before cuts and in file order.

    Returns
    -------
    number, ndarray (one value per event) or awkward array (one value per particle, or records)
    """
    try:
        with np.errstate(all="ignore"):  # NaN and inf are reported where they matter, with file and entry
            return materialise(_value(parse(text), lookup, in_file))
    except RecursionError:
        raise ExpressionError(
            f"in {shorten_text(text)!r}: nested too deeply; use fewer new_variables"
        ) from None
    except ExpressionError as problem:
        if problem.row is None:
            raise
        raise ExpressionError(f"{lookup.place(problem.row)}: {problem}") from problem


def materialise(value: Any) -> Any:
    """Particles with their fields; anything else as it is."""
    return value.compute() if isinstance(value, Records) else value


def _value(node: ast.expr, lookup: Lookup, in_file: bool) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    try:
        name = _dotted(node)
        if name is None:
            value = _compute(node, lookup, in_file)
        else:
            value = lookup.in_file(name) if in_file else lookup(name)
    except (ExpressionError, CardError, ReadError):
        raise
    except OverflowError as problem:
        raise ExpressionError(f"in {ast.unparse(node)!r}: the number is too large") from problem
    except _REFUSED as problem:
        reason = str(problem).strip().split("\n")[0]
        refusal = ExpressionError(f"in {ast.unparse(node)!r}: {reason}")
        refusal.row = problem.row if isinstance(problem, RowError) else None
        raise refusal from problem
    if isinstance(value, ak.Array) and value.layout.is_numpy and value.layout.purelist_depth == 1:
        return ak.to_numpy(value)  # one number per event
    return value


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := _dotted(node.value)) is not None:
        return f"{head}.{node.attr}"
    return None


def _compute(node: ast.expr, lookup: Lookup, in_file: bool) -> Any:
    def value(part: ast.expr) -> Any:
        return _value(part, lookup, in_file)

    match node:
        case ast.BoolOp(op=op, values=values):
            joined = operator.and_ if isinstance(op, ast.And) else operator.or_
            return reduce(joined, [condition(value(v)) for v in values])
        case ast.UnaryOp(op=op, operand=operand):
            return _unary(op, value(operand))
        case ast.BinOp(left=left, op=op, right=right):
            return signed(_binary(type(op), value(left), value(right)))
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [value(side) for side in (left, *others)]
            numbers = any(not isinstance(s, ak.Array) and kind_of(s) in "biuf" for s in sides)
            if numbers and any(isinstance(s, str) for s in sides):
                raise TypeError("a number is compared with a text; write the number without quotes")
            results = [COMPARE[type(op)](a, b) for op, a, b in zip(ops, sides, sides[1:], strict=False)]
            return reduce(operator.and_, results)
        case ast.Call(func=ast.Name(id=name), args=args):
            values = [_value(a, lookup, in_file or (name == "take" and a is args[0])) for a in args]
            # count() needs no fields
            return call(name, values if name == "count" else [materialise(v) for v in values])
        case ast.Attribute(value=owner, attr=name):
            return signed(attribute(value(owner), name))
        case ast.Subscript(value=values, slice=mask):
            return signed(_masked(materialise(value(values)), value(mask)))
    raise ExpressionError(f"{ast.unparse(node)!r} is not allowed")


def _unary(op: ast.unaryop, value: Any) -> Any:
    if isinstance(op, ast.Not | ast.Invert):
        return ~condition(value)
    refuse_unsigned("-", [value])
    return -value if isinstance(op, ast.USub) else +value


def _binary(kind: type[ast.operator], left: Any, right: Any) -> Any:
    """Result of a binary operator; whole numbers divided by 0, or beyond 64 bits, are refused."""
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
        return result if -WHOLE <= result < WHOLE else float(result)
    if whole and kind in _MAY_OVERFLOW and kind_of(result) == "i":
        sizes = np.abs(_flat(BINARY[kind](left * 1.0, right * 1.0)))
        if sizes.max(initial=0) >= WHOLE:
            raise ValueError("the result does not fit into 64 bits; write 1.0 * x for one of the numbers")
    return result


def _flat(value: Any) -> Array:
    return np.asarray(ak.flatten(value, axis=None) if isinstance(value, ak.Array) else value)


def _masked(value: Any, mask: Any) -> Any:
    """The particles (or values) for which a condition is true; whole numbers may be positions: refused."""
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
