"""Expressions on cards: a whitelisted Python syntax tree, evaluated over columns. Nothing is executed.

An expression is parsed once (`parse`), which refuses everything outside the vocabulary, and evaluated
against a lookup of names. See `hepxai.datasets.vocabulary` for the functions and `hepxai.datasets.operators`
for the arithmetic.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from hepxai.cards import CardError, nearest
from hepxai.datasets.columns import ReadError, as_numpy, materialise
from hepxai.datasets.gathering import RowError
from hepxai.datasets.operators import BINARY, NO_TEXT, binary, masked, refuse_unsigned, signed
from hepxai.datasets.vocabulary import FUNCTIONS, attribute, condition

_LONGEST, _DEEPEST = 10_000, 100
_WHOLE_ONLY = "whole numbers have 64 bits; write 1e20, say"
_IN_PARTS = "write it in parts, as new_variables:"
_WHOLE = 2**63  # whole numbers are of 64 bits, as those of branches


class Lookup(Protocol):
    """Values of the names in an expression; dotted names (``muon.pt``) are passed whole."""

    def place(self, row: int) -> str:
        """File and entry of an event, for messages."""

    def __call__(self, name: str) -> Any:
        """Value of a name."""

    def in_file(self, name: str) -> Any:
        """Value of a name before cuts and in file order, which is what stored positions count in."""


@dataclass(frozen=True)
class InFile:
    """Names of the first argument of ``take()``."""

    names: Lookup

    def place(self, row: int) -> str:
        """File and entry of an event, for messages."""
        return self.names.place(row)

    def __call__(self, name: str) -> Any:
        """Value of a name before cuts and in file order."""
        return self.names.in_file(name)

    in_file = __call__


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

_REFUSED = (TypeError, ValueError, IndexError, AttributeError, NotImplementedError, ZeroDivisionError)


class ExpressionError(ValueError):
    """An expression that cannot be used; the text quotes the token."""

    row: int | None = None  # event that it is about


class UnknownNameError(ExpressionError):
    """A name that nothing defines; says which known one is nearest."""

    def __init__(self, name: str, where: str, known: Iterable[str]) -> None:
        self.name, self.where, self.all_names = name, where, tuple(known)
        super().__init__(f"no branch or variable {name!r} in {where}{nearest(name, self.all_names)}")

    def among(self, more: Iterable[str]) -> UnknownNameError:
        """The same error where more names are known."""
        return UnknownNameError(self.name, self.where, (*more, *self.all_names))


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
    if len(text) > _LONGEST:
        raise ExpressionError(f"in {_short(text)!r}: {len(text):,} characters; {_IN_PARTS}")
    try:
        tree = ast.parse(text, mode="eval").body
    except (RecursionError, MemoryError):
        raise ExpressionError(f"in {_short(text)!r}: nested too deeply; {_IN_PARTS}") from None
    except (SyntaxError, ValueError) as problem:
        raise ExpressionError(_syntax(text, problem)) from None
    for node in _nodes(tree, text):
        _permit(node, text)
    return tree


def _nodes(tree: ast.AST, text: str) -> Iterator[ast.AST]:
    """All nodes, level by level; too many levels are refused."""
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        yield from level
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise ExpressionError(f"in {_short(text)!r}: more than {_DEEPEST} levels of nesting; {_IN_PARTS}")


def _syntax(text: str, problem: Exception) -> str:
    if not text:
        return "found nothing; write an expression"
    for wrong, right in (("&&", "and"), ("||", "or"), ("!", "not")):
        if wrong in text.replace("!=", ""):
            return f"in {_short(text)!r}: found {wrong!r}; write {right!r}"
    if re.search(r"(?<![=<>!])=(?!=)", text):
        return f"in {_short(text)!r}: found '='; write '=='"
    if re.search(r"\d{100}", text):
        return f"in {_short(text)!r}: {_WHOLE_ONLY}"
    column = getattr(problem, "offset", None)
    at = f" at {text[column - 1 :][:20]!r}" if column and column <= len(text) else ""
    comma = (
        "" if text.count("(") == text.count(")") else " (inside YAML's [ ] or { }, quote text with commas)"
    )
    return f"in {_short(text)!r}: syntax not understood{at}; check brackets and operators{comma}"


def _permit(node: ast.AST, text: str) -> None:
    match node:
        case ast.Call():
            _permit_call(node, text)
        case ast.Compare():
            _permit_compare(node, text)
        case ast.Constant(value=bool() | int() | float() | str()):
            _permit_number(node.value, text)
        case ast.BinOp(left=ast.Constant(value=str())) | ast.BinOp(right=ast.Constant(value=str())):
            raise ExpressionError(f"in {_short(text)!r}: {NO_TEXT}")
        case ast.BoolOp() | ast.BinOp() | ast.UnaryOp() | ast.Name() | ast.Attribute() | ast.Subscript():
            pass
        case ast.boolop() | ast.unaryop() | ast.expr_context():
            pass
        case ast.operator() if type(node) in BINARY:
            pass
        case ast.cmpop() if type(node) in _COMPARE:
            pass
        case _:
            found = ast.get_source_segment(text, node) if isinstance(node, ast.expr) else type(node).__name__
            instead = _INSTEAD.get(type(node), "use arithmetic, comparisons, and/or/not and functions")
            raise ExpressionError(f"in {text!r}: {found!r} is not allowed; {instead}")


def _permit_number(value: Any, text: str) -> None:
    if isinstance(value, int) and value >= _WHOLE:
        raise ExpressionError(f"in {_short(text)!r}: {_WHOLE_ONLY}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError(f"in {_short(text)!r}: a number beyond 1.8e308; write a smaller one")


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
    lookup : Lookup
        Values of names.

    Returns
    -------
    number, ndarray (one value per event) or awkward array (one value per particle, or records)
    """
    try:
        with np.errstate(all="ignore"):  # NaN and inf are reported where they matter, with file and entry
            return materialise(_value(parse(text), lookup))
    except RecursionError:
        raise ExpressionError(f"in {_short(text)!r}: nested too deeply; use fewer new_variables") from None
    except ExpressionError as problem:
        if problem.row is None:
            raise
        raise ExpressionError(f"{lookup.place(problem.row)}: {problem}") from problem


def _value(node: ast.expr, lookup: Lookup) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    try:
        name = _dotted(node)
        return lookup(name) if name is not None else signed(as_numpy(_compute(node, lookup)))
    except (ExpressionError, CardError, ReadError):
        raise
    except OverflowError as problem:
        raise ExpressionError(f"in {ast.unparse(node)!r}: the number is too large") from problem
    except _REFUSED as problem:
        reason = str(problem).strip().split("\n")[0]
        refusal = ExpressionError(f"in {ast.unparse(node)!r}: {reason}")
        refusal.row = problem.row if isinstance(problem, RowError) else None
        raise refusal from problem


def _compute(node: ast.expr, lookup: Lookup) -> Any:
    match node:
        case ast.BoolOp(op=op, values=values):
            joined = operator.and_ if isinstance(op, ast.And) else operator.or_
            return reduce(joined, [condition(_value(v, lookup)) for v in values])
        case ast.UnaryOp(op=op, operand=operand):
            return _unary(op, _value(operand, lookup))
        case ast.BinOp(left=left, op=op, right=right):
            return binary(type(op), _value(left, lookup), _value(right, lookup))
        case ast.Compare():
            return _comparison(node, lookup)
        case ast.Call(func=ast.Name(id=name), args=args):
            return _call(name, args, lookup)
        case ast.Attribute(value=value, attr=name):
            return attribute(_value(value, lookup), name)
        case ast.Subscript(value=value, slice=mask):
            return masked(materialise(_value(value, lookup)), _value(mask, lookup))
    raise ExpressionError(f"{ast.unparse(node)!r} is not allowed")


def _call(name: str, args: list[ast.expr], lookup: Lookup) -> Any:
    scopes = [lookup] * len(args)
    if name == "take":
        scopes[0] = InFile(lookup)
    values = [_value(a, s) for a, s in zip(args, scopes, strict=True)]
    if name != "count":  # which needs no fields
        values = [materialise(v) for v in values]
    refuse_unsigned(name, values)
    return FUNCTIONS[name].compute(*values)


def _unary(op: ast.unaryop, value: Any) -> Any:
    if isinstance(op, ast.Not | ast.Invert):
        return ~condition(value)
    refuse_unsigned("-", [value])
    return -value if isinstance(op, ast.USub) else +value


def _comparison(node: ast.Compare, lookup: Lookup) -> Any:
    sides = [_value(side, lookup) for side in (node.left, *node.comparators)]
    results = [_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, sides, sides[1:], strict=False)]
    return reduce(operator.and_, results)


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
    if is_number and not math.isfinite(value):
        raise ValueError(f"found {value}; write a finite number")
    return repr(value) if is_number else value


#: A card entry that holds an expression, or a number.
Expression = Annotated[str, BeforeValidator(_text), AfterValidator(_checked)]
