"""Python expressions of weaver's data configs as expressions of data-set cards.

Functions of numpy and awkward with a counterpart are renamed, new variables are written out; everything else
is refused by `hepxai.datasets.expressions`. Nothing is executed.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping

from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.expressions import parse, shorten_text
from hepxai.datasets.vocabulary import FUNCTIONS

LIBRARIES = ("np", "numpy", "ak", "awkward", "math")
RENAMED = {"absolute": "abs", "fabs": "abs", "num": "count", "atan2": "arctan2", "asinh": "arcsinh"}
REDUCTIONS = ("sum", "any", "all", "min", "max", "mean", "argmin", "argmax", "count")
#: Functions that are written as other expressions of their arguments a, b.
WRITTEN_OUT = {
    "ones_like": (1, "where(a == a, 1, 1)"),
    "zeros_like": (1, "where(a == a, 0, 0)"),
    "nan_to_num": (1, "where(isnan(a), 0, a)"),
    "square": (1, "a ** 2"),
    "power": (2, "a ** b"),
    "logical_not": (1, "~a"),
    "logical_and": (2, "a & b"),
    "logical_or": (2, "a | b"),
}
LARGEST = 1000
"""Largest number of variables that are written out in an expression."""


def translate(text: str, variables: Mapping[str, str]) -> str:
    """Expression of a card with the value of a Python expression.

    Parameters
    ----------
    text : str
    variables : mapping of str to str
        ``new_variables`` of the config, which are written out.

    Raises
    ------
    ExpressionError
        If a part has no counterpart; the message quotes it.
    """
    try:
        translated = ast.unparse(_Translation(variables, text, [], ()).visit(_parsed(text)))
    except RecursionError:
        raise ExpressionError(f"in {shorten_text(text)!r}: nested too deeply") from None
    parse(translated)
    return translated


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, MemoryError):
        raise ExpressionError(f"in {shorten_text(text)!r}: syntax not understood; check brackets") from None


class _Translation(ast.NodeTransformer):
    """Rename functions, and replace variables by their expressions.

    Attributes
    ----------
    written : list of str
        Variables written out so far, shared by the translations of all of them.
    active : tuple of str
        Variables that this expression is a part of.
    """

    def __init__(
        self, variables: Mapping[str, str], text: str, written: list[str], active: tuple[str, ...]
    ) -> None:
        self.variables, self.text, self.written, self.active = variables, text, written, active

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Write a new variable out."""
        name = node.id
        if name.startswith("__") or name in LIBRARIES:
            raise self._refusal(node)
        if name not in self.variables or self.variables[name].strip() == name:
            return node
        if name in self.active:
            raise ExpressionError(f"needs itself: {' -> '.join([*self.active, name])}; break the circle")
        self.written.append(name)
        if len(self.written) > LARGEST:
            raise ExpressionError(f"in {shorten_text(self.text)!r}: more than {LARGEST} variables; use fewer")
        text = self.variables[name]
        inner = _Translation(self.variables, text, self.written, (*self.active, name))
        tree: ast.expr = inner.visit(_parsed(text))
        return tree

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Constant of a library."""
        constants = {"pi": math.pi, "e": math.e}
        if _library_name(node) not in constants:
            raise self._refusal(node)
        return ast.Constant(constants[node.attr])

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Rename a function of a library."""
        weaver_name = _library_name(node.func)
        name = RENAMED.get(weaver_name or "", weaver_name)
        if name not in FUNCTIONS and name not in WRITTEN_OUT:
            raise self._refusal(node)
        arguments = [self.visit(argument) for argument in self._positional(name, node)]
        if name in FUNCTIONS:
            return ast.Call(ast.Name(name, ast.Load()), arguments, [])
        arity, written = WRITTEN_OUT[name]
        if len(arguments) != arity:
            raise self._refusal(node)
        tree: ast.expr = _Filled(dict(zip("ab", arguments, strict=False))).visit(_parsed(written))
        return tree

    def _positional(self, name: str, node: ast.Call) -> list[ast.expr]:
        """Arguments; of a reduction without its axis, which is that of the particles."""
        args, named = list(node.args), {str(k.arg): ast.unparse(k.value) for k in node.keywords}
        if name in REDUCTIONS and len(args) == 2:
            named["axis"] = ast.unparse(args.pop())
        if named and not (name in REDUCTIONS and named in ({"axis": "1"}, {"axis": "-1"})):
            raise self._refusal(node)
        return args

    def _refusal(self, node: ast.expr) -> ExpressionError:
        return ExpressionError(
            f"in {shorten_text(self.text)!r}: {shorten_text(ast.unparse(node))!r} is free Python, which is "
            "not executed; write it with branches, arithmetic, comparisons, & | ~ and functions of np and ak "
            "such as np.log, np.hypot, np.where, ak.sum"
        )


def _library_name(node: ast.expr) -> str | None:
    """Name in numpy, awkward or math; None for anything else."""
    is_library = (
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in LIBRARIES
    )
    return node.attr if is_library and isinstance(node, ast.Attribute) else None


class _Filled(ast.NodeTransformer):
    """Replace the names a and b by arguments."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Argument of that name."""
        return self.values.get(node.id, node)
