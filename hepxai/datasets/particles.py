"""The particles of one type in a chunk: cut, ordered, and asked for their quantities by name."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

import awkward as ak
import numpy as np

from hepxai.cards import nearest
from hepxai.core.jagged import IntArray, local_index, parents, take_rows
from hepxai.datasets.branches import objects, spellings
from hepxai.datasets.card import Particle
from hepxai.datasets.columns import Array, ReadError, Records, flatten, jagged, materialise, records, take
from hepxai.datasets.expressions import ExpressionError, UnknownNameError, evaluate
from hepxai.datasets.gathering import kind_of
from hepxai.datasets.kinematics import (
    DERIVED,
    FROM_CARTESIAN,
    FROM_POLAR,
    MOMENTA,
    SPELLINGS,
    convention,
    energy_from_mass,
    mass_from_energy,
    patterns,
)
from hepxai.events import P4

if TYPE_CHECKING:
    from hepxai.datasets.scope import ExpressionContext


@dataclass(frozen=True)
class BranchMap:
    """Branches or expressions for the names of a particle type's quantities.

    A pattern with ``{}`` has the quantity in that place; one without is an object such as a TLorentzVector.
    """

    pattern: str | Mapping[str, str]
    events: ExpressionContext

    def own(self, name: str) -> str | None:
        """Branch or expression of a quantity, None where there is none."""
        if not isinstance(self.pattern, str):
            return self.pattern.get(name) or (self.pattern.get("E") if name == "energy" else None)
        return next((s for s in spellings(self.pattern, name) if s in self.events.all_names), None)

    def values(self, name: str) -> Any:
        """Column of a quantity."""
        source = self.own(name)
        if source is None:
            raise ExpressionError(f"{self.events.where} has no {name} for {self.pattern}")
        known = source in self.events.all_names  # a branch may be called like its particle type
        return self.events.branch(source) if known else evaluate(source, self.events)

    @cached_property
    def components(self) -> tuple[str, ...]:
        """Components of momentum to read."""
        found = [n for n in SPELLINGS if self.own(n)]
        components = convention(found)
        if components is None:
            have = ", ".join(found) or "no momenta"
            raise ExpressionError(
                f"found {have} for {self.pattern} in {self.events.where}{self._hint()}; needs pt, eta, phi "
                "or px, py, pz (without eta or pz for transverse momentum)"
            )
        return components

    def _hint(self) -> str:
        known = self.events.all_names
        things = [*patterns(known), *objects(known)]
        return nearest(self.pattern, things) if isinstance(self.pattern, str) else ""


_OF_ONE_PARTICLE = frozenset(["index", *SPELLINGS, *DERIVED])


def collection_name(card: Particle, name: str) -> str:
    """Prefix of the branches that a particle type is read from; its own name where they share none."""
    if len(card.branches) > 1:
        return name
    one = card.branches[0]
    text = one.partition("{}")[0] if isinstance(one, str) else next(iter(one.values())).rpartition("_")[0]
    prefix = text.rstrip("_.")
    return prefix if prefix.isidentifier() else name  # an expression has no prefix


class Particles:
    """Particles of one type; a view that computes what it is asked for.

    ``rows`` are positions in ``root``, which holds all particles of the collection; ``events`` are
    positions of the events in those of ``root``. None stands for all.
    """

    def __init__(self, name: str, card: Particle, events: ExpressionContext, scale: float) -> None:
        self.name, self.card, self.scale = name, card, scale
        # The events own their particles: a circle of references would keep chunks until garbage is collected.
        self.names = cast("ExpressionContext", weakref.proxy(events))
        self.sets = [BranchMap(p, self.names) for p in card.branches]
        self.components = self.sets[0].components if self.moving else ()
        self._root: Particles | None = None
        self.rows: IntArray | None = None
        self.events: IntArray | None = None
        self._cache: dict[str, Array] = {}
        self._active: set[str] = set()
        self.counted = self.components[0] if self.moving else self._any_branch()
        first = self.sets[0].values(self.counted)
        self.scalar = not isinstance(first, ak.Array)
        self.offsets = np.arange(len(events) + 1) * len(self.sets) if self.scalar else flatten(first)[1]
        self._refuse_impossible()

    def _any_branch(self) -> str:
        """Feature without momenta that is a branch: its values are what counts the particles."""
        names = [f.expression for f in self.card.features.values()]
        found = next((n for n in names if self.sets[0].own(n)), None)
        if found is None:
            raise ExpressionError(
                f"no branch of {self.names.where} counts the particles of {self.sets[0].pattern}; with "
                "momenta: none one of features: has to be a branch of this name"
            )
        return found

    def _refuse_impossible(self) -> None:
        if not self.scalar and len(self.sets) > 1:
            raise ExpressionError(
                "a list of branches is for branches with one value per event; these have many"
            )
        if not self.scalar and self.transverse:
            found = " and ".join(self.components)
            raise ExpressionError(
                f"found only {found} in {self.names.where}; particles need eta or pz as well"
            )

    @property
    def root(self) -> Particles:
        """All particles of the collection."""
        return self if self._root is None else self._root

    @property
    def moving(self) -> bool:
        """Whether they have four-momenta; detector hits have none."""
        return self.card.momenta is None

    @property
    def transverse(self) -> bool:
        """Whether only transverse momentum is known (missing momentum)."""
        return len(self.components) == 2

    @property
    def one_each(self) -> bool:
        """Whether every event has exactly one, whatever is in the file."""
        return self.scalar and len(self.sets) == 1 and not self.card.cuts

    @property
    def n(self) -> int:
        """Number of particles."""
        return int(self.offsets[-1])

    # --- subsets -----------------------------------------------------------------------------

    def _view(self, rows: IntArray, offsets: IntArray, events: IntArray | None) -> Self:
        view = copy(self)
        view._root = self.root
        view.rows = rows if self.rows is None else self.rows[rows]
        view.offsets, view.events = offsets, events
        view._cache, view._active = {}, set()
        return view

    def of_events(self, events: IntArray) -> Self:
        """The particles of some events."""
        rows, offsets = take_rows(self.offsets, events)
        return self._view(rows, offsets, events if self.events is None else self.events[events])

    def where(self, keep: Array) -> Self:
        """The particles where a mask is true."""
        if keep.all():
            return self
        kept_before = np.zeros(self.n + 1, dtype=np.int64)
        np.cumsum(keep, out=kept_before[1:])
        return self._view(np.flatnonzero(keep), kept_before[self.offsets], self.events)

    def ordered(self, key: Array) -> Self:
        """By increasing key inside each event, ties in file order; only events out of order are sorted."""
        step_back = ~(key[:-1] <= key[1:])
        step_back[self.offsets[1:-1][(self.offsets[1:-1] > 0) & (self.offsets[1:-1] < self.n)] - 1] = False
        if not step_back.any():
            return self
        parent = parents(self.offsets)
        disordered = np.unique(parent[:-1][step_back])
        unsorted, _ = take_rows(self.offsets, disordered)
        rows = np.arange(self.n)
        rows[unsorted] = unsorted[np.lexsort((key[unsorted], parent[unsorted]))]
        return self._view(rows, self.offsets, self.events)

    def leading(self, maximum: int) -> Self:
        """The first ``maximum`` of every event."""
        if np.diff(self.offsets).max(initial=0) <= maximum:
            return self
        return self.where(local_index(self.offsets) < maximum)

    # --- quantities --------------------------------------------------------------------------

    def __call__(self, name: str) -> Any:
        """Value of a name in an expression about these particles."""
        if name == "self":
            return self.records()
        if self._has(name):
            return jagged(self.flat(name), self.offsets)
        value = materialise(self._event_value(name))
        if isinstance(value, ak.Array) and name in self.names.all_names:
            return jagged(self._rows_of(self.root.aligned(value, name, lists=True)), self.offsets)
        return value if self.events is None else take(value, self.events)

    def in_file(self, name: str) -> Any:
        """Value of a name for all particles of the file, in its order: what stored positions count in."""
        if name == "self":
            value = materialise(self.root.records())
        elif self._has(name):
            value = jagged(self.root.flat(name), self.root.offsets)
        else:
            value = self.names.in_file(name)
        return value if self.events is None else take(value, self.events)

    def _has(self, name: str) -> bool:
        declared = name in self.card.features or name in self.card.truth
        return (
            name in _OF_ONE_PARTICLE
            or (declared and name not in self._active)
            or self.sets[0].own(name) is not None
        )

    def _event_value(self, name: str) -> Any:
        try:
            return self.names(name)
        except UnknownNameError as problem:
            raise problem.among(self._own_names()) from None

    def _own_names(self) -> list[str]:
        pattern = self.sets[0].pattern
        if not isinstance(pattern, str):
            return [*pattern, *self.card.features]
        before, after = pattern.split("{}") if "{}" in pattern else (f"{pattern}.", "")
        ours = [b for b in self.names.all_names if b.startswith(before) and b.endswith(after)]
        return [b[len(before) : len(b) - len(after)] for b in ours] + list(self.card.features)

    def flat(self, name: str) -> Array:
        """Values of a quantity, ``[n]``; kept, for it may be asked for again."""
        if name not in self._cache:
            self._cache[name] = self.once(name)
        return self._cache[name]

    def once(self, name: str) -> Array:
        """Values of a quantity, ``[n]``, not kept."""
        if name in self._cache:
            return self._cache[name]
        # Declared features may sum over the particles that are left, so each view has its own.
        known = self.root._cache.get(name) if name in _OF_ONE_PARTICLE else None
        with np.errstate(all="ignore"):  # what is not finite is refused later, with file and entry
            return self._compute(name) if known is None else self._rows_of(known)

    def _rows_of(self, values: Array) -> Array:
        return values if self.rows is None else values[self.rows]

    def _compute(self, name: str) -> Array:
        if name == "index":
            return self._index()
        if self.moving and name in DERIVED:
            return DERIVED[name](self.flat)
        if self.moving and name in SPELLINGS:
            return self._kinematic(name)
        if name in self._active:  # `charge: charge` means the branch
            return self._rows_of(self.root.stored(name, lists=True))
        if name in self.card.features:
            return self._declared("features", name, self.card.features[name].expression)
        if name in self.card.truth:
            return self._declared("truth", name, self.card.truth[name])
        return self._rows_of(self.root.stored(name, lists=True))

    def _index(self) -> Array:
        if self.transverse:
            return np.full(self.n, -1)
        if self.rows is None:
            return local_index(self.offsets)
        starts = self.root.offsets[:-1] if self.events is None else self.root.offsets[self.events]
        return self.rows - np.repeat(starts, np.diff(self.offsets))

    def _declared(self, kind: str, name: str, expression: str) -> Array:
        self._active.add(name)
        try:
            with self.names.at("particles", self.name, kind, name):
                return self.spread(evaluate(expression, self), expression)
        finally:
            self._active.discard(name)

    def spread(self, value: Any, what: str = "the expression") -> Array:
        """One value per particle from a value per particle, per event, or for all."""
        if isinstance(value, ak.Array):
            return self.aligned(value, what)
        return _repeated(value, np.diff(self.offsets))

    def stored(self, name: str, *, lists: bool = False) -> Array:
        """Values of a quantity as the file has them; of all particles."""
        sets = [self._numbers(s, name, lists=lists) for s in self.sets]
        return sets[0] if len(sets) == 1 else np.stack(sets, axis=1).ravel()

    def _numbers(self, naming: BranchMap, name: str, *, lists: bool) -> Array:
        value = naming.values(name)
        if isinstance(value, ak.Array):
            return self.aligned(value, str(naming.own(name)), lists=lists)
        return _repeated(value, np.diff(self.offsets) // len(self.sets))

    def aligned(self, value: ak.Array, what: str, *, lists: bool = False) -> Array:
        """Flat values (or lists, where allowed) of as many particles as these, in every event."""
        self._refuse_kind(value, what, lists=lists)
        flat, offsets = flatten(value)
        if not np.array_equal(offsets, self.offsets):
            row = int(np.argmax(np.diff(offsets) != np.diff(self.offsets)))
            found, expected = np.diff(offsets)[row], np.diff(self.offsets)[row]
            reference = self.sets[0].own(self.counted)
            raise ReadError(
                f"{self.place(row)}: {what} has {found} values, {reference} has "
                f"{expected}; branches of one particle type need the same length"
            )
        return flat

    def _refuse_kind(self, value: ak.Array, what: str, *, lists: bool) -> None:
        numbers = kind_of(value) in "biuf" and ak.parameters(value).get("__array__") is None
        if numbers and (value.ndim == 2 or (lists and value.ndim > 2)):
            return
        reduced = f"; write for example {'sum(' * (value.ndim - 2)}{what}{')' * (value.ndim - 2)}"
        raise ExpressionError(
            f"{what} in {self.names.where} holds {value.type.content}, not one number per particle"
            f"{reduced if numbers and value.ndim > 2 else ''}"
        )

    def entry(self, row: int) -> int:
        """Entry number of an event."""
        return self.names.entry(row if self.events is None else int(self.events[row]))

    def place(self, row: int) -> str:
        """File and entry of an event, for messages."""
        return f"{self.names.where}: entry {self.entry(row)}"

    def records(self) -> Records:
        """All that is declared about the particles."""
        momenta = P4 if self.moving else ()
        names = (*momenta, "index", *self.card.features, *self.card.truth)
        named = [n for n in names if n not in self._active]
        return Records(self.offsets, lambda: records({n: self.flat(n) for n in named}, self.offsets))

    # --- momenta -----------------------------------------------------------------------------

    def _kinematic(self, name: str) -> Array:
        polar = self.components[0] == "pt"
        if name in self.components:
            return self._component(name)
        if name == "mass":
            return self._mass(polar=polar)
        if name == "energy":
            stored = not polar and self.card.mass is None and self.sets[0].own("energy")
            return self._component("energy") if stored else energy_from_mass(self.flat)
        if self.transverse and name in ("eta", "pz"):
            return np.zeros(self.n, dtype=np.float32)
        return (FROM_POLAR if polar else FROM_CARTESIAN)[name](self.flat)

    def _component(self, name: str) -> Array:
        values = self._rows_of(self.root.stored(name))
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        return values / self.scale if name in MOMENTA and self.scale != 1 else values

    def _mass(self, *, polar: bool) -> Array:
        if self.card.mass is not None:
            return np.full(self.n, self.card.mass, dtype=np.float32)
        if self.sets[0].own("mass"):
            return self._component("mass")
        if self.sets[0].own("energy"):
            return mass_from_energy(
                lambda n: self._component(n) if n == "energy" else self.flat(n), polar=polar
            )
        if self.transverse:
            return np.zeros(self.n, dtype=np.float32)
        raise ExpressionError(
            f"{self.names.where} has neither mass nor energy; write mass: and a number in GeV"
        )

    def origin(self, name: str) -> tuple[str, ...]:
        """Branches or expressions that a quantity comes from, for messages."""
        naming = self.sets[0]
        if name in self.card.features:
            text = self.card.features[name].expression
            return (naming.own(text) or text,)
        own = naming.own(name)
        return (own,) if own else tuple(str(naming.own(c)) for c in self.components)


def _repeated(value: Any, counts: IntArray) -> Array:
    """A value per event (or one for all), for each of its particles."""
    each = np.broadcast_to(value, len(counts))
    return each if (counts == 1).all() else np.repeat(each, counts)
