"""Particles of one type in a chunk: cut, ordered, with their quantities by name."""

from __future__ import annotations

import weakref
from copy import copy
from typing import Any, Self

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, local_index, parents, take_rows
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.columns import (
    Array,
    Columns,
    ExpressionError,
    ReadError,
    Records,
    flatten,
    jagged,
    records,
    take,
)
from hepxai.datasets.evaluation import Lookup, UnknownNameError, evaluate, materialise
from hepxai.datasets.kinematics import BranchMap
from hepxai.datasets.vocabulary import condition, kind_of
from hepxai.events import P4, momenta
from hepxai.events.momenta import NODE_FEATURES, SPELLINGS

_PER_GEV = {"GeV": 1.0, "MeV": 1000.0}
_OF_ONE_PARTICLE = frozenset(["index", *SPELLINGS, *momenta.DERIVED])


class Particles:
    """Particles of one type; a view that computes quantities on demand.

    Parameters
    ----------
    name : str
        Type.
    card : DatasetCard
    maps : tuple of BranchMap
        Branches of the quantities; several stand for one particle per event each.
    columns : Columns
    lookup : Lookup
        Values of the card's names, for expressions.

    Attributes
    ----------
    rows, events : ndarray or None
        Positions of particles and events in those of ``root``, the whole collection; None for all.
    cut_flow : dict of str to (int, int)
        Particles before and after each cut.
    """

    def __init__(
        self, name: str, card: DatasetCard, maps: tuple[BranchMap, ...], columns: Columns, lookup: Lookup
    ) -> None:
        self.name, self.maps, self.columns = name, maps, columns
        self.dataset, self.card, self.scale = card, card.particles[name], _PER_GEV[card.units]
        # The lookup owns its particles: a reference cycle would keep chunks until garbage is collected.
        self.lookup: Lookup = weakref.proxy(lookup)
        self.moving = self.card.momenta is None  # detector hits have no four-momenta
        self.components = self._components() if self.moving else ()
        self.transverse = len(self.components) == 2  # missing momentum
        self._root: Self | None = None
        self.rows: IntArray | None = None
        self.events: IntArray | None = None
        self.cut_flow: dict[str, tuple[int, int]] = {}
        self._cache: dict[str, Array] = {}
        self._active: set[str] = set()
        self.counted = self.components[0] if self.moving else self._counting_branch()
        first = self._column(maps[0], self.counted)
        scalar = not isinstance(first, ak.Array)
        self.offsets = np.arange(len(columns.entries) + 1) * len(maps) if scalar else flatten(first)[1]
        self.n = int(self.offsets[-1])
        # Every event has exactly one, whatever the file contains.
        self.one_each = scalar and len(maps) == 1 and not self.card.cuts
        if not scalar and len(self.maps) > 1:
            raise ExpressionError(
                "a list of branches is for branches with one value per event; these have many"
            )
        if not scalar and self.transverse:
            have = " and ".join(self.components)
            raise ExpressionError(f"found only {have} in {columns.where}; particles need eta or pz as well")

    def _components(self) -> tuple[str, ...]:
        have = self.maps[0]
        if have.components is None:
            listed = ", ".join(have.have) or "no momenta"
            raise ExpressionError(
                f"found {listed} for {have.pattern} in {self.columns.where}{have.hint}; needs pt, eta, phi "
                "or px, py, pz (without eta or pz for transverse momentum)"
            )
        return have.components

    def _counting_branch(self) -> str:
        """Feature without momenta that is a branch: its values count the particles."""
        names = [f.expression for f in self.card.features.values()]
        branch = next((n for n in names if self.maps[0][n]), None)
        if branch is None:
            raise ExpressionError(
                f"no branch of {self.columns.where} counts the particles of {self.maps[0].pattern}; with "
                "momenta: none one of features: has to be a branch of this name"
            )
        return branch

    @property
    def root(self) -> Self:
        """All particles of the collection."""
        return self if self._root is None else self._root

    # --- subsets -----------------------------------------------------------------------------

    def _view(self, rows: IntArray, offsets: IntArray, events: IntArray | None) -> Self:
        view = copy(self)
        view._root = self.root
        view.rows = rows if self.rows is None else self.rows[rows]
        view.offsets, view.events, view.n = offsets, events, len(rows)
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
        before = np.zeros(self.n + 1, dtype=np.int64)
        np.cumsum(keep, out=before[1:])
        return self._view(np.flatnonzero(keep), before[self.offsets], self.events)

    def _cut(self, step: str, keep: Array) -> Self:
        selected = self.where(keep)
        selected.cut_flow = self.cut_flow | {step: (self.n, selected.n)}
        return selected

    def selected(self) -> Self:
        """The particles after cuts, order and limit of the card."""
        particles = self
        for step, cut in self.card.cuts.items():
            with self.dataset.at("particles", self.name, "cuts", step):
                mask = condition(particles.spread(evaluate(cut, particles)))
            particles = particles._cut(step, mask)
        if self.dataset.image is not None and self.dataset.image.outside == "drop":
            particles = particles._cut("inside the image", particles.inside())
        with self.dataset.at("particles", self.name, "order_by"):
            particles = particles.ordered(particles.spread(evaluate(self.card.order_by, particles)))
        maximum = self.card.max
        if maximum is None or np.diff(particles.offsets).max(initial=0) <= maximum:
            return particles
        return particles.where(local_index(particles.offsets) < maximum)

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

    def inside(self) -> NDArray[np.bool_]:
        """Mask of the particles inside the image, ``[n]``; true for types that are not drawn."""
        layout = self.dataset.image_layout
        if layout is None or self.name not in layout.types:
            return np.ones(self.n, dtype=np.bool_)
        axes = (layout.rows, layout.columns)
        rows, columns = (self.flat(a.feature).astype(np.float32, copy=False) for a in axes)
        return layout.pixels(rows, columns) >= 0

    # --- quantities --------------------------------------------------------------------------

    def __call__(self, name: str) -> Any:
        """Value of a name in an expression about these particles."""
        if name == "self":
            return self.records()
        if self._has(name):
            return jagged(self.flat(name), self.offsets)
        try:
            value = materialise(self.lookup(name))
        except UnknownNameError as problem:
            raise problem.among([*self.maps[0].quantities, *self.card.features]) from None
        if isinstance(value, ak.Array) and name in self.columns.all_names:
            return jagged(self._rows_of(self.root.aligned(value, name, lists=True)), self.offsets)
        return value if self.events is None else take(value, self.events)

    def in_file(self, name: str) -> Any:
        """Value of a name for all particles of the file, in its order: stored positions refer to it."""
        if name == "self":
            value = materialise(self.root.records())
        elif self._has(name):
            value = jagged(self.root.flat(name), self.root.offsets)
        else:
            value = self.lookup.in_file(name)
        return value if self.events is None else take(value, self.events)

    def _has(self, name: str) -> bool:
        declared = name in (*self.card.features, *self.card.truth) and name not in self._active
        return declared or name in _OF_ONE_PARTICLE or self.maps[0][name] is not None

    def flat(self, name: str) -> Array:
        """Values of a quantity, ``[n]``, cached."""
        if name not in self._cache:
            self._cache[name] = self.once(name)
        return self._cache[name]

    def once(self, name: str) -> Array:
        """Values of a quantity, ``[n]``, not cached."""
        if name in self._cache:
            return self._cache[name]
        # Declared features may sum over the particles that are left, so each view has its own.
        values = self.root._cache.get(name) if name in _OF_ONE_PARTICLE else None
        with np.errstate(all="ignore"):  # values that are not finite are refused later, with file and entry
            return self._compute(name) if values is None else self._rows_of(values)

    def table(self, names: tuple[str, ...], *, cached: bool = False) -> NDArray[np.float32]:
        """Quantities ``[n, len(names)]``; 0 where the type has no such feature, 1 for ``is_<type>``."""
        table = np.zeros((self.n, len(names)), dtype=np.float32)
        for i, name in enumerate(names):
            if name == f"is_{self.name}":
                table[:, i] = 1
            elif (self.moving and name in NODE_FEATURES) or name in self.card.features:
                table[:, i] = self.flat(name) if cached else self.once(name)
        return table

    def truth(self, name: str) -> NDArray[np.bool_]:
        """Truth mask ``[n]``; false where the type has no such truth."""
        return self.once(name) != 0 if name in self.card.truth else np.zeros(self.n, dtype=np.bool_)

    def _rows_of(self, values: Array) -> Array:
        return values if self.rows is None else values[self.rows]

    def _compute(self, name: str) -> Array:
        if name == "index":
            return self._index()
        if self.moving and name in momenta.DERIVED:
            return self._from(momenta.DERIVED[name])
        if self.moving and name in SPELLINGS:
            return self._kinematic(name)
        if name not in self._active:  # `charge: charge` means the branch
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
            with self.dataset.at("particles", self.name, kind, name):
                if name == expression and self.maps[0][name] is not None:
                    values = self.root.stored(name, lists=True)
                    if isinstance(values, np.ndarray):
                        return self._rows_of(values)
                return self.spread(evaluate(expression, self), expression)
        finally:
            self._active.discard(name)

    def spread(self, value: Any, what: str = "the expression") -> Array:
        """One value per particle from a value per particle, per event, or for all."""
        if isinstance(value, ak.Array):
            return self.aligned(value, what)
        return _repeated(value, np.diff(self.offsets))

    def stored(self, name: str, *, lists: bool = False) -> Array:
        """Values of a quantity as the file has them, of all particles."""
        parts = [self._numbers(m, name, lists=lists) for m in self.maps]
        return parts[0] if len(parts) == 1 else np.stack(parts, axis=1).ravel()

    def _numbers(self, branches: BranchMap, name: str, *, lists: bool) -> Array:
        value = self._column(branches, name)
        if not isinstance(value, ak.Array):
            return _repeated(value, np.diff(self.offsets) // len(self.maps))
        source = str(branches[name])
        flat = self.columns.flat.get(source)
        if flat is not None and flat[0].dtype.kind in "biuf" and np.array_equal(flat[1], self.offsets):
            return flat[0]
        return self.aligned(value, source, lists=lists)

    def _column(self, branches: BranchMap, name: str) -> Any:
        source = branches[name]
        if source is None:
            raise ExpressionError(f"{self.columns.where} has no {name} for {branches.pattern}")
        if source in self.columns.all_names:  # a branch may be called like its particle type
            return self.columns[source]
        return evaluate(source, self.lookup)

    def aligned(self, value: ak.Array, what: str, *, lists: bool = False) -> Array:
        """Flat values (or lists, where allowed) of as many particles as these, in every event."""
        self._refuse_kind(value, what, lists=lists)
        flat, offsets = flatten(value)
        if not np.array_equal(offsets, self.offsets):
            row = int(np.argmax(np.diff(offsets) != np.diff(self.offsets)))
            number, expected = np.diff(offsets)[row], np.diff(self.offsets)[row]
            raise ReadError(
                f"{self.place(row)}: {what} has {number} values, {self.maps[0][self.counted]} has "
                f"{expected}; branches of one particle type need the same length"
            )
        return flat

    def _refuse_kind(self, value: ak.Array, what: str, *, lists: bool) -> None:
        layout = value.layout
        if layout.is_list and layout.content.is_numpy and not layout.parameters and value.ndim == 2:
            return
        numbers = kind_of(value) in "biuf" and ak.parameters(value).get("__array__") is None
        if numbers and (value.ndim == 2 or (lists and value.ndim > 2)):
            return
        reduced = f"; write for example {'sum(' * (value.ndim - 2)}{what}{')' * (value.ndim - 2)}"
        raise ExpressionError(
            f"{what} in {self.columns.where} holds {value.type.content}, not one number per particle"
            f"{reduced if numbers and value.ndim > 2 else ''}"
        )

    def place(self, row: int) -> str:
        """File and entry of an event, for messages."""
        entry = self.columns.entries[row if self.events is None else self.events[row]]
        return f"{self.columns.where}: entry {entry}"

    def records(self) -> Records:
        """All declared quantities of the particles."""
        four_momentum = P4 if self.moving else ()
        names = (*four_momentum, "index", *self.card.features, *self.card.truth)
        named = [n for n in names if n not in self._active]
        return Records(self.offsets, lambda: records({n: self.flat(n) for n in named}, self.offsets))

    # --- momenta -----------------------------------------------------------------------------

    def _kinematic(self, name: str) -> Array:
        polar = self.components[0] == "pt"
        if name in self.components:
            return self._component(name)
        if name == "mass":
            return self._mass()
        if name == "energy":
            if not polar and self.card.mass is None and self.maps[0]["energy"]:
                return self._component("energy")
            return self._from(momenta.ENERGY_FROM_MASS)
        if self.transverse and name in ("eta", "pz"):
            return np.zeros(self.n, dtype=np.float32)
        return self._from((momenta.FROM_POLAR if polar else momenta.FROM_CARTESIAN)[name])

    def _from(self, formula: momenta.Formula) -> Array:
        return formula.compute(*map(self.flat, formula.inputs))

    def _component(self, name: str) -> Array:
        values = self._rows_of(self.root.stored(name))
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        return values / self.scale if name in momenta.MOMENTA and self.scale != 1 else values

    def _mass(self) -> Array:
        if self.card.mass is not None:
            return np.full(self.n, self.card.mass, dtype=np.float32)
        if self.maps[0]["mass"]:
            return self._component("mass")
        if self.maps[0]["energy"]:
            (_, *others), formula = momenta.MASS_FROM_ENERGY[self.components[0]]
            return formula(self._component("energy"), *map(self.flat, others))
        if self.transverse:
            return np.zeros(self.n, dtype=np.float32)
        raise ExpressionError(
            f"{self.columns.where} has neither mass nor energy; write mass: and a number in GeV"
        )

    def origin(self, name: str) -> tuple[str, ...]:
        """Branches or expressions that a quantity comes from, for messages."""
        branches = self.maps[0]
        if name in self.card.features:
            text = self.card.features[name].expression
            return (branches[text] or text,)
        names = (name,) if branches[name] else self.components
        return tuple(str(branches[n]) for n in names)


def _repeated(value: Any, counts: IntArray) -> Array:
    """A value per event (or one for all), for each of its particles."""
    each = np.broadcast_to(value, len(counts))
    return each if (counts == 1).all() else np.repeat(each, counts)
