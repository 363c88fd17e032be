"""Expressions on cards: a whitelisted Python syntax tree, evaluated over columns. Nothing is executed.

An expression is parsed once (`parse`), which refuses everything outside the vocabulary, and evaluated
against a lookup of names. See `hepxai.datasets.vocabulary` for the functions.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable
from functools import lru_cache, reduce
from typing import Annotated, Any

import awkward as ak
import numpy as np
from pydantic import AfterValidator, BeforeValidator

from hepxai.cards import CardError, nearest
from hepxai.datasets.columns import ReadError, simplest, spelled_out
from hepxai.datasets.vocabulary import FUNCTIONS, attribute, condition

Lookup = Callable[[str], Any]

_WHOLE = 2**63  # whole numbers are of 64 bits, as those of branches


def _power(base: Any, exponent: Any) -> Any:
    """Power; a whole number that would not fit into 64 bits is a float instead."""
    if isinstance(base, int) and isinstance(exponent, int) and exponent * (abs(base).bit_length() - 1) > 63:
        base = float(base)
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("the result is not a real number")
    return result


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
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
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_INSTEAD: dict[type[ast.AST], str] = {
    ast.IfExp: "write where(condition, a, b)",
    ast.BitXor: "powers are written **",
    ast.In: "write isin(x, 1, 2)",
    ast.NotIn: "write not isin(x, 1, 2)",
    ast.Is: "write ==",
    ast.IsNot: "write !=",
}

_TEXT = "text has no arithmetic; compare it, as in kind == 'GG'"
_REFUSED = (TypeError, ValueError, IndexError, AttributeError, NotImplementedError, ZeroDivisionError)


class ExpressionError(ValueError):
    """An expression that cannot be used; the text quotes the token."""


class UnknownNameError(ExpressionError):
    """A name that nothing defines; says which known one is nearest."""

    def __init__(self, name: str, where: str, known: Iterable[str]) -> None:
        self.name, self.where, self.known = name, where, tuple(known)
        super().__init__(f"no branch or variable {name!r} in {where}{nearest(name, self.known)}")

    def among(self, more: Iterable[str]) -> UnknownNameError:
        """The same error where more names are known."""
        return UnknownNameError(self.name, self.where, (*more, *self.known))


def parse(text: str) -> ast.expr:
    """Syntax tree of an expression, with everything outside the vocabulary refused.

    Raises
    ------
    ExpressionError
        Quoting the token, with what to write instead.
    """
    return _parse(" ".join(text.split()))


@lru_cache(maxsize=4096)
def _parse(text: str) -> ast.expr:
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise ExpressionError(_syntax(text, problem)) from None
    for node in ast.walk(tree):
        _permit(node, text)
    return tree


def _syntax(text: str, problem: Exception) -> str:
    if not text:
        return "found nothing; write an expression"
    for wrong, right in (("&&", "and"), ("||", "or"), ("!", "not")):
        if wrong in text.replace("!=", ""):
            return f"in {text!r}: found {wrong!r}; write {right!r}"
    if re.search(r"(?<![=<>!])=(?!=)", text):
        return f"in {text!r}: found '='; write '=='"
    column = getattr(problem, "offset", None)
    at = f" at {text[column - 1 :][:20]!r}" if column and column <= len(text) else ""
    comma = (
        "" if text.count("(") == text.count(")") else " (inside YAML's [ ] or { }, quote text with commas)"
    )
    return f"in {text!r}: syntax not understood{at}; check brackets and operators{comma}"


def _permit(node: ast.AST, text: str) -> None:
    match node:
        case ast.Call():
            _permit_call(node, text)
        case ast.Compare():
            _permit_compare(node, text)
        case ast.Constant(value=int(number)) if number >= _WHOLE:
            raise ExpressionError(f"in {_short(text)!r}: whole numbers have 64 bits; write 1e20, say")
        case ast.Constant(value=bool() | int() | float() | str()):
            pass
        case ast.BinOp(left=ast.Constant(value=str())) | ast.BinOp(right=ast.Constant(value=str())):
            raise ExpressionError(f"in {_short(text)!r}: {_TEXT}")
        case ast.BoolOp() | ast.BinOp() | ast.UnaryOp() | ast.Name() | ast.Attribute() | ast.Subscript():
            pass
        case ast.boolop() | ast.unaryop() | ast.expr_context():
            pass
        case ast.operator() if type(node) in _BINARY:
            pass
        case ast.cmpop() if type(node) in _COMPARE:
            pass
        case _:
            found = ast.get_source_segment(text, node) if isinstance(node, ast.expr) else type(node).__name__
            instead = _INSTEAD.get(type(node), "use arithmetic, comparisons, and/or/not and functions")
            raise ExpressionError(f"in {text!r}: {found!r} is not allowed; {instead}")


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."


def _permit_call(node: ast.Call, text: str) -> None:
    if not isinstance(node.func, ast.Name) or node.keywords:
        called = ast.get_source_segment(text, node)
        last = getattr(node.func, "attr", "")  # of np.sqrt(x) or muon.pt.sum()
        instead = f"{last}(...)" if last in FUNCTIONS else "function(a, b)"
        raise ExpressionError(f"in {text!r}: {called!r} is not allowed; write {instead}")
    name = node.func.id
    if name not in FUNCTIONS:
        known = ", ".join(sorted(FUNCTIONS))
        hint = " (did you mean 'count'?)" if name in ("len", "num", "size") else nearest(name, FUNCTIONS)
        raise ExpressionError(f"in {text!r}: no function {name!r}{hint}; there are {known}")
    least, most = FUNCTIONS[name].arity
    if not least <= len(node.args) <= (most or len(node.args)):
        expected = least if most == least else f"{least} to {most}" if most else f"at least {least}"
        raise ExpressionError(f"in {text!r}: {name}() takes {expected} arguments, found {len(node.args)}")


def _permit_compare(node: ast.Compare, text: str) -> None:
    """Refuse `pt > 10 & abs(eta) < 2`: in Python `&` binds tighter than `>`, so it means something else."""
    for side in (node.left, *node.comparators):
        if isinstance(side, ast.BinOp) and isinstance(side.op, ast.BitAnd | ast.BitOr):
            whole = text.encode()
            before, after = whole[: side.col_offset].rstrip(), whole[side.end_col_offset :].lstrip()
            if not (before.endswith(b"(") and after.startswith(b")")):
                found = ast.get_source_segment(text, side)
                raise ExpressionError(
                    f"in {text!r}: {found!r} is grouped before the comparison; "
                    "write `and`/`or` instead of `&`/`|`, or put the comparisons in parentheses"
                )


def evaluate(text: str, lookup: Lookup) -> Any:
    """Value of an expression.

    Parameters
    ----------
    text : str
    lookup : callable
        Value of a name; dotted names (``muon.pt``) are passed whole.

    Returns
    -------
    number, ndarray (one value per event) or awkward array (one value per particle, or records)
    """
    with np.errstate(all="ignore"):  # NaN and inf are reported where they matter, with file and entry
        return spelled_out(_value(parse(text), lookup))


def _value(node: ast.expr, lookup: Lookup) -> Any:
    if (name := _dotted(node)) is not None:
        return lookup(name)
    if isinstance(node, ast.Constant):
        return node.value
    try:
        return simplest(_compute(node, lookup))
    except (ExpressionError, CardError, ReadError):
        raise
    except OverflowError as problem:
        raise ExpressionError(f"in {ast.unparse(node)!r}: the number is too large") from problem
    except _REFUSED as problem:
        reason = str(problem).strip().split("\n")[0]
        raise ExpressionError(f"in {ast.unparse(node)!r}: {reason}") from problem


def _compute(node: ast.expr, lookup: Lookup) -> Any:
    match node:
        case ast.BoolOp(op=op, values=values):
            joined = operator.and_ if isinstance(op, ast.And) else operator.or_
            return reduce(joined, [condition(_value(v, lookup)) for v in values])
        case ast.UnaryOp(op=op, operand=operand):
            return _unary(op, _value(operand, lookup))
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(op, _value(left, lookup), _value(right, lookup))
        case ast.Compare():
            return _comparison(node, lookup)
        case ast.Call(func=ast.Name(id=name), args=args):
            values = [_value(a, lookup) for a in args]
            if name != "count":  # which needs no fields
                values = [spelled_out(v) for v in values]
            return FUNCTIONS[name].compute(*values)
        case ast.Attribute(value=value, attr=name):
            return attribute(_value(value, lookup), name)
        case ast.Subscript(value=value, slice=mask):
            return _masked(spelled_out(_value(value, lookup)), _value(mask, lookup))
    raise ExpressionError(f"{ast.unparse(node)!r} is not allowed")


def _binary(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(left, str) or isinstance(right, str):
        raise TypeError(_TEXT)
    result = _BINARY[type(op)](left, right)
    too_long = isinstance(result, int) and not -_WHOLE <= result < _WHOLE
    return float(result) if too_long else result


def _unary(op: ast.unaryop, value: Any) -> Any:
    if isinstance(op, ast.USub):
        return -value
    return +value if isinstance(op, ast.UAdd) else ~condition(value)


def _comparison(node: ast.Compare, lookup: Lookup) -> Any:
    sides = [_value(side, lookup) for side in (node.left, *node.comparators)]
    results = [_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, sides, sides[1:], strict=False)]
    return reduce(operator.and_, results)


def _masked(value: Any, mask: Any) -> Any:
    if not isinstance(value, ak.Array) or not isinstance(mask, ak.Array):
        raise TypeError("[ ] takes a condition per particle, as in jet[jet.pt > 30]; for one use nth(x, 0)")
    return value[condition(mask)]


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := _dotted(node.value)) is not None:
        return f"{head}.{node.attr}"
    return None


def _checked(text: str) -> str:
    parse(text)
    return text


def _text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(value) if is_number else value


#: A card entry that holds an expression, or a number.
Expression = Annotated[str, BeforeValidator(_text), AfterValidator(_checked)]
