"""What the names in a card's expressions stand for, in one chunk of one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any, Self

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.cards import Place
from hepxai.core.jagged import IntArray
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.columns import Branches, take
from hepxai.datasets.expressions import ExpressionError, InFile, UnknownNameError, evaluate
from hepxai.datasets.gathering import kind_of
from hepxai.datasets.hits import inside
from hepxai.datasets.particles import Particles
from hepxai.datasets.vocabulary import attribute, condition

_PER_GEV = {"GeV": 1.0, "MeV": 1000.0}


class ExpressionContext:
    """Branches, new variables and particle types of a chunk; values are computed when asked for.

    ``take`` gives the same for some of its events; what was computed before is not computed again.
    ``cuts`` counts the particles before and after each cut.
    """

    def __init__(self, card: DatasetCard, branches: Branches, entries: int) -> None:
        self.card, self.branches = card, branches
        self.entries: IntArray = np.arange(branches.start, branches.start + entries)
        self._parent: Self | None = None
        self._rows: IntArray = np.arange(0)
        self._variables: dict[str, Any] = {}
        self._types: dict[str, Particles] = {}
        self._active: list[str] = []
        self.cuts: dict[tuple[str, str], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def where(self) -> str:
        """``path:tree``, for messages."""
        return self.branches.where

    @property
    def all_names(self) -> frozenset[str]:
        """Names of all branches."""
        return self.branches.all_names

    def entry(self, row: int) -> int:
        """Entry number of an event."""
        return int(self.entries[row])

    def place(self, row: int) -> str:
        """File and entry of an event, for messages."""
        return f"{self.where}: entry {self.entry(row)}"

    def take(self, rows: IntArray) -> ExpressionContext:
        """The same names for some of the events."""
        view = ExpressionContext(self.card, self.branches, 0)
        view.entries, view._parent, view._rows = self.entries[rows], self, rows
        view.cuts = self.cuts
        return view

    # --- names -------------------------------------------------------------------------------

    def __call__(self, name: str) -> Any:
        """Value of a name in an expression."""
        head, *attributes = name.split(".")
        if head in self.card.particles:
            return self._of_type(head, attributes)
        if head not in self.card.new_variables:
            return self.branch(name)
        return reduce(attribute, attributes, self.variable(head))

    def in_file(self, name: str) -> Any:
        """Value of a name before cuts and in file order: what stored positions count in."""
        head, *attributes = name.split(".")
        if head in self.card.particles:
            value = self.particles(head).in_file(attributes[0] if attributes else "self")
            return reduce(attribute, attributes[1:], value)
        if head in self.card.new_variables:
            with self._once(head, ("new_variables", head)), self.at("new_variables", head):
                value = evaluate(self.card.new_variables[head], InFile(self))
            return reduce(attribute, attributes, value)
        return self.branch(name)

    def _of_type(self, name: str, attributes: list[str]) -> Any:
        found = self.particles(name)
        if not attributes:
            return found.records()
        value = found.flat(attributes[0]) if found.one_each else found(attributes[0])
        return reduce(attribute, attributes[1:], value)

    def branch(self, name: str) -> Any:
        """Column of a branch."""
        if self._parent is not None:
            return take(self._parent.branch(name), self._rows)
        if name not in self.all_names:
            names = (*self.card.new_variables, *self.card.particles, *self.all_names)
            raise UnknownNameError(name, self.where, names)
        return self.branches[name]

    def variable(self, name: str) -> Any:
        """Value of a new variable."""
        if name not in self._variables:
            parent = self._parent
            if parent is not None and name in parent._variables:
                self._variables[name] = take(parent._variables[name], self._rows)
            else:
                self._variables[name] = self._new(name)
        return self._variables[name]

    def _new(self, name: str) -> Any:
        place = ("new_variables", name)
        with self._once(name, place):
            return self.value(self.card.new_variables[name], place)

    def particles(self, name: str) -> Particles:
        """Particles of a type, cut, ordered and limited as the card says."""
        if name not in self._types:
            parent = self._parent
            if parent is not None and name in parent._types:
                self._types[name] = parent._types[name].of_events(self._rows)
            else:
                with self._once(name, ("particles", name)):
                    self._types[name] = self._built(name)
        return self._types[name]

    def _built(self, name: str) -> Particles:
        card = self.card.particles[name]
        with self.at("particles", name, "branches"):
            found = Particles(name, card, self, _PER_GEV[self.card.units])
        for step, cut in card.cuts.items():
            with self.at("particles", name, "cuts", step):
                kept = found.where(condition(found.spread(evaluate(cut, found))))
            self.cuts[name, step] = (found.n, kept.n)
            found = kept
        if self.card.image is not None and self.card.image.outside == "drop":
            kept = found.where(inside(found))
            self.cuts[name, "inside the image"] = (found.n, kept.n)
            found = kept
        with self.at("particles", name, "order_by"):
            found = found.ordered(found.spread(evaluate(card.order_by, found)))
        return found if card.max is None else found.leading(card.max)

    # --- values ------------------------------------------------------------------------------

    @contextmanager
    def at(self, *place: str | int) -> Iterator[None]:
        """Errors of expressions inside are about this entry of the card."""
        try:
            yield
        except (ExpressionError, TypeError) as problem:
            raise self.card.error(place, str(problem)) from problem

    @contextmanager
    def _once(self, name: str, place: Place) -> Iterator[None]:
        if name in self._active:
            raise self.card.error(
                place, f"needs itself: {' -> '.join([*self._active, name])}; break the circle"
            )
        self._active.append(name)
        try:
            yield
        finally:
            self._active.pop()

    def value(self, expression: str, place: Place) -> Any:
        """Value of an expression of the card."""
        with self.at(*place):
            return evaluate(expression, self)

    def per_event(self, expression: str, place: Place) -> NDArray[np.float64]:
        """Value of an expression that has one number per event, ``[E]``."""
        return self.numbers(expression, place).astype(np.float64)

    def mask(self, expression: str, place: Place) -> NDArray[np.bool_]:
        """Value of a condition on events, ``[E]``."""
        with self.at(*place):
            return np.asarray(condition(self.numbers(expression, place)))

    def numbers(self, expression: str, place: Place) -> NDArray[Any]:
        """Value of an expression that has one number per event, ``[E]``; whole numbers stay whole."""
        value = self.value(expression, place)
        if isinstance(value, ak.Array):
            raise self.card.error(place, f"{expression!r} is {_instead(value, expression)}")
        if kind_of(value) == "u":
            row = int(np.argmax(value))
            raise self.card.error(place, f"{self.beyond(expression, row, value[row])} as a new variable")
        return np.broadcast_to(np.asarray(value), len(self))

    def beyond(self, name: str, row: int, number: int) -> str:
        """Message about a number from 2^63 on."""
        branch = name if name in self.all_names else "BRANCH"
        return (
            f"{self.place(row)}: {name} is {number}, which does not fit into a signed 64-bit integer; "
            f"if that means missing, write missing: {{{branch}: {{values: [{number}], replace: 0}}}}, "
            f"else {name} % 1000000007, say,"
        )


def _instead(value: ak.Array, expression: str) -> str:
    """Kind of a value that is not one number per event, and what gives one."""
    if ak.parameters(value).get("__array__") == "string":
        return f"text, not one number per event; compare it, as in {expression} == 'GG'"
    if value.fields:
        return f"particles, not one number per event; write for example count({expression})"
    lists = "" if value.ndim < 3 else f"a list per particle ({value.type.content}), "
    one = "one value per particle, " if value.ndim == 2 else ""
    reduced = f"{'sum(' * (value.ndim - 1)}{expression}{')' * (value.ndim - 1)}"
    return f"{lists or one}not one number per event; write for example {reduced}, or max(), any() ..."
