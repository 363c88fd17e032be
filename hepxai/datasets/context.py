"""Names in a card's expressions, for one chunk of one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Any, Literal, Self

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.cards import Place
from hepxai.core.jagged import IntArray
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.columns import Columns, take
from hepxai.datasets.evaluation import Lookup, UnknownNameError, evaluate
from hepxai.datasets.kinematics import BranchMap
from hepxai.datasets.particles import Particles
from hepxai.datasets.shifting import ShiftedParticles, VariedNames
from hepxai.datasets.variations import Shift
from hepxai.datasets.vocabulary import attribute, condition


class ExpressionContext:
    """Branches, new variables and particle types of a chunk; values are computed on demand.

    Parameters
    ----------
    card : DatasetCard
    maps : mapping of str to tuple of BranchMap
        Branches of each particle type.
    columns : Columns
    nominal : ExpressionContext, optional
        The same events without the card's variation; only with it the variation applies here.
    """

    def __init__(
        self,
        card: DatasetCard,
        maps: Mapping[str, tuple[BranchMap, ...]],
        columns: Columns,
        nominal: ExpressionContext | None = None,
    ) -> None:
        self.card, self.maps, self.columns, self._nominal = card, maps, columns, nominal
        self.shift, self._varied_names = Shift() if nominal is None else card.shift, VariedNames(self)
        self.entries, self.where = columns.entries, columns.where
        self._parent: Self | None = None
        self._rows: IntArray = np.arange(0)
        self._variables: dict[str, Any] = {}
        self._types: dict[str, Particles] = {}
        self._active: list[str] = []

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def nominal(self) -> ExpressionContext:
        """The same events without the variation."""
        return self if self._nominal is None else self._nominal

    def place(self, row: int) -> str:
        """File and entry of an event, for messages."""
        return f"{self.where}: entry {self.entries[row]}"

    def take(self, rows: IntArray) -> ExpressionContext:
        """The same names for some of the events; computed values are not computed again."""
        nominal = None if self._nominal is None else self._nominal.take(rows)
        view = ExpressionContext(self.card, self.maps, self.columns.take(rows), nominal)
        view._parent, view._rows = self, rows
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
        """Value of a name before cuts and in file order: stored positions refer to it."""
        head, *attributes = name.split(".")
        if head in self.card.particles:
            value = self.particles(head).in_file(attributes[0] if attributes else "self")
            return reduce(attribute, attributes[1:], value)
        if head in self.card.new_variables:
            expression, place = self.definition("new_variables", head)
            with self._once(head, place), self.card.at(*place):
                value = evaluate(expression, self._names_at(place), in_file=True)
            return reduce(attribute, attributes, value)
        return self.branch(name)

    def has_lists(self, name: str) -> bool:
        """True for a particle type of which events have any number."""
        return name in self.card.particles and not self.particles(name).one_each

    def _of_type(self, name: str, attributes: list[str]) -> Any:
        particles = self.particles(name)
        if not attributes:
            return particles.records()
        value = particles.flat(attributes[0]) if particles.one_each else particles(attributes[0])
        return reduce(attribute, attributes[1:], value)

    def branch(self, name: str) -> Any:
        """Column of a branch."""
        if name not in self.columns.all_names:
            names = (*self.card.new_variables, *self.card.particles, *self.columns.all_names)
            raise UnknownNameError(name, self.where, names)
        return self.columns[name]

    def variable(self, name: str) -> Any:
        """Value of a new variable."""
        if name not in self._variables:
            if self._parent is not None and name in self._parent._variables:
                self._variables[name] = take(self._parent._variables[name], self._rows)
            else:
                expression, place = self.definition("new_variables", name)
                with self._once(name, place):
                    self._variables[name] = self.value(expression, place)
        return self._variables[name]

    def particles(self, name: str) -> Particles:
        """Particles of a type after cuts, order and limit of the card."""
        if name not in self._types:
            if self._parent is not None and name in self._parent._types:
                self._types[name] = self._parent._types[name].of_events(self._rows)
            else:
                with self._once(name, ("particles", name)):
                    with self.card.at("particles", name, "branches"):
                        particles = self._all_particles(name)
                    self._types[name] = particles.selected()
        return self._types[name]

    def _all_particles(self, name: str) -> Particles:
        """Particles of a type before cuts."""
        content = name, self.card, self.maps[name], self.columns
        if self.shift.of_type(name):
            return ShiftedParticles(*content, self.shift, self, self._varied_names)
        return Particles(*content, self)

    def definition(self, kind: Literal["new_variables", "globals"], name: str) -> tuple[str, Place]:
        """Expression of a new variable or global and its entry of the card, those of the variation first."""
        is_first = kind == "new_variables" or name not in self.card.new_variables
        if is_first and name in self.shift.expressions:
            return self.shift.expressions[name], (*self.shift.place, "expressions", name)
        if kind == "new_variables":
            return self.card.new_variables[name], (kind, name)
        return self.card.globals[name].expression, (kind, name, "expression")

    # --- values ------------------------------------------------------------------------------

    @contextmanager
    def _once(self, name: str, place: Place) -> Iterator[None]:
        if name in self._active:
            instead = f", or write nominal.{name}" if place[0] == "variations" else ""
            circle = " -> ".join([*self._active, name])
            raise self.card.error(place, f"needs itself: {circle}; break the circle{instead}")
        self._active.append(name)
        try:
            yield
        finally:
            self._active.pop()

    def _names_at(self, place: Place) -> Lookup:
        """Names that an expression may use: those of a variation know two more prefixes."""
        return self._varied_names if place[0] == "variations" else self

    def value(self, expression: str, place: Place) -> Any:
        """Value of an expression of the card."""
        with self.card.at(*place):
            return evaluate(expression, self._names_at(place))

    def per_event(self, expression: str, place: Place) -> NDArray[np.float64]:
        """Value of an expression that has one number per event, ``[E]``."""
        return self.numbers(expression, place).astype(np.float64)

    def mask(self, expression: str, place: Place) -> NDArray[np.bool_]:
        """Value of a condition on events, ``[E]``."""
        with self.card.at(*place):
            return np.asarray(condition(self.numbers(expression, place)))

    def numbers(self, expression: str, place: Place) -> NDArray[Any]:
        """Value of an expression that has one number per event, ``[E]``; whole numbers stay whole."""
        value = self.value(expression, place)
        if isinstance(value, ak.Array):
            raise self.card.error(place, f"{expression!r} is {_instead(value, expression)}")
        value = np.asarray(value)
        if value.dtype.kind == "u":
            row = int(np.argmax(value))
            raise self.card.error(place, f"{self.beyond(expression, row, value[row])} as a new variable")
        return np.broadcast_to(value, len(self))

    def beyond(self, name: str, row: int, number: int) -> str:
        """Message about a number from 2^63 on."""
        branch = name if name in self.columns.all_names else "BRANCH"
        return (
            f"{self.place(row)}: {name} is {number}, which does not fit into a signed 64-bit integer; "
            f"if that means missing, write missing: {{{branch}: {{values: [{number}], replace: 0}}}}, "
            f"else {name} % 1000000007, say,"
        )


def _instead(value: ak.Array, expression: str) -> str:
    """Kind of a value that is not one number per event, and an expression that is."""
    if ak.parameters(value).get("__array__") == "string":
        return f"text, not one number per event; compare it, as in {expression} == 'GG'"
    if value.fields:
        return f"particles, not one number per event; write for example count({expression})"
    lists = "" if value.ndim < 3 else f"a list per particle ({value.type.content}), "
    one = "one value per particle, " if value.ndim == 2 else ""
    reduced = f"{'sum(' * (value.ndim - 1)}{expression}{')' * (value.ndim - 1)}"
    return f"{lists or one}not one number per event; write for example {reduced}, or max(), any() ..."
