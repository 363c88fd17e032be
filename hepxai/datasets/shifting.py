"""Particles with shifted quantities, and the names of nominal and shifted values in expressions."""

from __future__ import annotations

import weakref
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest
from hepxai.core.jagged import IntArray
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.columns import Array, Columns
from hepxai.datasets.evaluation import Lookup, evaluate
from hepxai.datasets.kinematics import BranchMap
from hepxai.datasets.particles import Particles
from hepxai.datasets.variations import BASES, NOMINAL, SHIFTED, Shift
from hepxai.events import momenta

_MOMENTUM = frozenset([*momenta.SPELLINGS, *momenta.DERIVED])


class Context(Lookup, Protocol):
    """Values of a card's names for some events, under a variation."""

    @property
    def nominal(self) -> Context:
        """The same events without the variation."""

    def has_lists(self, name: str) -> bool:
        """True for a particle type of which events have any number."""


class VariedNames:
    """Names in the expressions of a variation.

    ``nominal.NAME`` is the value without the variation, ``shifted.NAME`` with it. Those of a particle type
    have all particles of the file, before cuts and in its order, so that the two can be subtracted. All other
    names are those of the context.
    """

    def __init__(self, context: Context) -> None:
        self.context: Context = weakref.proxy(context)  # the context owns these names

    def place(self, row: int) -> str:
        """File and entry of an event, for messages."""
        return self.context.place(row)

    def __call__(self, name: str) -> Any:
        """Value of a name in an expression."""
        prefix, _, rest = name.partition(".")
        if not rest or prefix not in (NOMINAL, SHIFTED):
            return self.context(name)
        context = self.context.nominal if prefix == NOMINAL else self.context
        return context.in_file(rest) if context.has_lists(rest.partition(".")[0]) else context(rest)

    def in_file(self, name: str) -> Any:
        """Value of a name before cuts and in file order."""
        return self(name) if name.startswith((f"{NOMINAL}.", f"{SHIFTED}.")) else self.context.in_file(name)


class ShiftedParticles(Particles):
    """Particles of which some quantities are given by the expressions of a variation.

    Expressions see the quantities of their own particles without them. A shift of a component of momentum
    keeps the other three of pt, eta, phi, mass (or px, py, pz, mass), and everything else follows; particles
    whose components do not change keep all their numbers, bit by bit.

    Parameters
    ----------
    name, card, maps, columns
        As of `Particles`.
    shift : Shift
    lookup : Lookup
        Values of the card's names.
    names : VariedNames
        Values of names in the expressions of the variation.
    """

    def __init__(
        self,
        name: str,
        card: DatasetCard,
        maps: tuple[BranchMap, ...],
        columns: Columns,
        shift: Shift,
        lookup: Lookup,
        names: VariedNames,
    ) -> None:
        super().__init__(name, card, maps, columns, lookup)
        self.unshifted = Particles(name, card, maps, columns, names)
        self.shift, self.expressions = shift, shift.of_type(name)
        self._in_progress: set[str] = set()
        self._moved: NDArray[np.bool_] | None = None
        self._basis = next(b for b in BASES if set(b) >= set(self.expressions) & {*BASES[0], *BASES[1]})
        self._refuse_unknown()

    def _refuse_unknown(self) -> None:
        components = [c for c in self._basis if not (self.transverse and c in ("eta", "pz", "mass"))]
        names = [*(components if self.moving else ()), *self.card.features, *self.card.truth]
        branches = [n for n in self.maps[0].quantities if n not in _MOMENTUM]
        for name in self.expressions:
            if name not in names and (name in _MOMENTUM or self.maps[0][name] is None):
                hint = nearest(name, [*names, *branches])
                text = f"{self.name} of {self.columns.where} has no {name!r} to shift{hint}"
                raise self.dataset.error(self._place(name), f"{text}; there are {', '.join(names)}")

    def _place(self, name: str) -> tuple[str | int, ...]:
        return (*self.shift.place, "expressions", f"{self.name}.{name}")

    def _view(self, rows: IntArray, offsets: IntArray, events: IntArray | None) -> Self:
        view = super()._view(rows, offsets, events)
        view.unshifted = self.unshifted._view(rows, offsets, events)
        return view

    def _compute(self, name: str) -> Array:
        if self.moving and name in _MOMENTUM:
            return self._rows_of(self.root._momentum(name))
        return self._shifted(name) if name in self.expressions else super()._compute(name)

    def _momentum(self, name: str) -> Array:
        """Component of momentum, or a feature that follows, of all particles of the collection."""
        before = self.unshifted.flat(name)
        if name in self._basis:
            return self._shifted(name) if name in self.expressions else before
        if (self.transverse and name in ("eta", "pz")) or not self.moved.any():
            return before
        given = momenta.FROM_POLAR if self._basis == BASES[0] else momenta.FROM_CARTESIAN
        formula = (given | momenta.DERIVED | {"energy": momenta.ENERGY_FROM_MASS})[name]
        return np.where(self.moved, self._from(formula), before).astype(before.dtype)

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Mask of the particles of the collection whose momentum changes, ``[n]``."""
        if self._moved is None:
            shifted = [c for c in self._basis if c in self.expressions]
            changes = [self.flat(c) != self.unshifted.flat(c) for c in shifted]
            self._moved = np.any(changes, axis=0) if changes else np.zeros(self.n, dtype=np.bool_)
        return self._moved

    def _shifted(self, name: str) -> Array:
        """Value of the expression of a quantity; numbers that were single precision stay so."""
        if name in self._in_progress:
            text = f"the shift of {self.name}.{name} needs its own result; write {NOMINAL}.{self.name}.{name}"
            raise self.dataset.error(self._place(name), text)
        self._in_progress.add(name)
        try:
            with self.dataset.at(*self._place(name)):
                text = self.expressions[name]
                values = self.unshifted.spread(evaluate(text, self.unshifted), text)
        finally:
            self._in_progress.discard(name)
        before = self.unshifted.flat(name).dtype
        return values.astype(before) if before.kind == "f" else values
