"""Syntax of expressions on cards: a Python syntax tree in which everything outside a whitelist is refused.

`hepxai.datasets.evaluation` evaluates the tree over columns; nothing is executed.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from hepxai.cards import nearest
from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.vocabulary import FUNCTIONS

_LONGEST, _DEEPEST = 10_000, 100
_WHOLE_ONLY = "whole numbers have 64 bits; write 1e20, say"
_IN_PARTS = "write it in parts, as new_variables:"
WHOLE = 2**63  # whole numbers have 64 bits, as in branches
NO_TEXT = "text has no arithmetic; compare it, as in kind == 'GG'"


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
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
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


@lru_cache(maxsize=4096)
def parse(text: str) -> ast.expr:
    """Syntax tree of an expression, with everything outside the vocabulary refused.

    Raises
    ------
    ExpressionError
        If a part is refused; the message quotes the token and its replacement.
    """
    text = " ".join(text.split())
    if len(text) > _LONGEST:
        raise ExpressionError(f"in {shorten_text(text)!r}: {len(text):,} characters; {_IN_PARTS}")
    try:
        tree = ast.parse(text, mode="eval").body
    except (RecursionError, MemoryError):
        raise ExpressionError(f"in {shorten_text(text)!r}: nested too deeply; {_IN_PARTS}") from None
    except (SyntaxError, ValueError) as problem:
        raise ExpressionError(_syntax(text, problem)) from None
    for node in _nodes(tree, text):
        _permit(node, text)
    return tree


def names_in(text: str) -> list[str]:
    """Names in an expression, without functions; dotted names as they are written."""
    tree = parse(text)
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    inside = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    named = (n for n in ast.walk(tree) if isinstance(n, ast.Name | ast.Attribute))
    return [ast.unparse(n) for n in named if id(n) not in called | inside]


def _nodes(tree: ast.AST, text: str) -> Iterator[ast.AST]:
    """All nodes, level by level; too many levels are refused."""
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        yield from level
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise ExpressionError(
            f"in {shorten_text(text)!r}: more than {_DEEPEST} levels of nesting; {_IN_PARTS}"
        )


def _syntax(text: str, problem: Exception) -> str:
    if not text:
        return "found nothing; write an expression"
    for wrong, right in (("&&", "and"), ("||", "or"), ("!", "not")):
        if wrong in text.replace("!=", ""):
            return f"in {shorten_text(text)!r}: found {wrong!r}; write {right!r}"
    if re.search(r"(?<![=<>!])=(?!=)", text):
        return f"in {shorten_text(text)!r}: found '='; write '=='"
    if re.search(r"\d{100}", text):
        return f"in {shorten_text(text)!r}: {_WHOLE_ONLY}"
    column = getattr(problem, "offset", None)
    at = f" at {text[column - 1 :][:20]!r}" if column and column <= len(text) else ""
    comma = (
        "" if text.count("(") == text.count(")") else " (inside YAML's [ ] or { }, quote text with commas)"
    )
    return f"in {shorten_text(text)!r}: syntax not understood{at}; check brackets and operators{comma}"


def _permit(node: ast.AST, text: str) -> None:
    match node:
        case ast.Call():
            _permit_call(node, text)
        case ast.Compare():
            _permit_compare(node, text)
        case ast.Constant(value=bool() | int() | float() | str()):
            _permit_number(node.value, text)
        case ast.BinOp(left=ast.Constant(value=str())) | ast.BinOp(right=ast.Constant(value=str())):
            raise ExpressionError(f"in {shorten_text(text)!r}: {NO_TEXT}")
        case ast.BoolOp() | ast.BinOp() | ast.UnaryOp() | ast.Name() | ast.Attribute() | ast.Subscript():
            pass
        case ast.boolop() | ast.unaryop() | ast.expr_context():
            pass
        case ast.operator() if type(node) in BINARY:
            pass
        case ast.cmpop() if type(node) in COMPARE:
            pass
        case _:
            token = ast.get_source_segment(text, node) if isinstance(node, ast.expr) else type(node).__name__
            instead = _INSTEAD.get(type(node), "use arithmetic, comparisons, and/or/not and functions")
            raise ExpressionError(f"in {text!r}: {token!r} is not allowed; {instead}")


def _permit_number(value: Any, text: str) -> None:
    if isinstance(value, int) and value >= WHOLE:
        raise ExpressionError(f"in {shorten_text(text)!r}: {_WHOLE_ONLY}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError(f"in {shorten_text(text)!r}: a number beyond 1.8e308; write a smaller one")


def shorten_text(text: str) -> str:
    """Expression for a message, cut if it is long."""
    return text if len(text) <= 100 else f"{text[:97]}..."


def _permit_call(node: ast.Call, text: str) -> None:
    if not isinstance(node.func, ast.Name) or node.keywords:
        called = ast.get_source_segment(text, node)
        last = getattr(node.func, "attr", "")  # of np.sqrt(x) or muon.pt.sum()
        instead = f"{last}(...)" if last in FUNCTIONS else "function(a, b)"
        raise ExpressionError(f"in {text!r}: {called!r} is not allowed; write {instead}")
    name = node.func.id
    if name not in FUNCTIONS:
        functions = ", ".join(sorted(FUNCTIONS))
        hint = " (did you mean 'count'?)" if name in ("len", "num", "size") else nearest(name, FUNCTIONS)
        raise ExpressionError(f"in {text!r}: no function {name!r}{hint}; there are {functions}")
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
                token = ast.get_source_segment(text, side)
                raise ExpressionError(
                    f"in {text!r}: {token!r} is grouped before the comparison; "
                    "write `and`/`or` instead of `&`/`|`, or put the comparisons in parentheses"
                )


def _checked(text: str) -> str:
    parse(text)
    return text


def _text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not math.isfinite(value):
        raise ValueError(f"found {value}; write a finite number")
    return repr(value) if is_number else value


#: A card entry that holds an expression, or a number.
Expression = Annotated[str, BeforeValidator(_text, str | float), AfterValidator(_checked)]
