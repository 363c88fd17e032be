"""Columns of `Events` from awkward records of particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest
from hepxai.core.jagged import IntArray, interleave, local_index, offsets_from_counts, parents
from hepxai.events.complete import Columns, check_finite, check_momenta, complete, narrow
from hepxai.events.momenta import NODE_FEATURES, SPELLINGS, Momenta, component_columns
from hepxai.events.per_event import PerEvent, refuse_delayed
from hepxai.events.schema import P4

FOUR_MOMENTUM = ("energy", "px", "py", "pz")
"""First features of particles, unless others are chosen."""
MAX_EXTRA_FIELDS = 12
"""Maximum number of extra fields used as features by default."""
_OF_VECTOR = {"pt": "rho", "mass": "tau", "energy": "t", "px": "x", "py": "y", "pz": "z"}
"""Names under which scikit-hep's vector stores the components of its records."""


class RecordOptions(PerEvent, total=False):
    """Options of `Events.from_awkward` beside those of `PerEvent`.

    Attributes
    ----------
    features : sequence of str
        Names among the components, log_pt, sin_phi, cos_phi, the further fields (0 where a type has none) and
        "type", one ``is_<type>`` each. By default energy, px, py, pz and all further fields, at most 12 of a
        type.
    truth : sequence of str
        Further fields that are truth masks.
    pair_features : sequence of str
        See `hepxai.events.pair_features`.
    """

    features: Sequence[str] | None
    truth: Sequence[str]
    pair_features: Sequence[str]


class Collection:
    """Particles of one type in awkward arrays: records, or a mapping of fields; one or many per event.

    Parameters
    ----------
    name : str
        Type.
    records : awkward array or mapping of str to array
        Fields pt, eta, phi, mass or px, py, pz, energy, in any of the ``SPELLINGS``, and further ones.

    Attributes
    ----------
    offsets : ndarray, shape [E+1]
    momenta : Momenta
    extras : tuple of str
        Names of the fields that are no component of a momentum.
    """

    def __init__(self, name: str, records: Any) -> None:
        refuse_delayed(records, name)
        if not isinstance(records, Mapping) and not (isinstance(records, ak.Array) and ak.fields(records)):
            raise TypeError(
                f"{name} is a {type(records).__name__} without fields; give a record array, or a mapping "
                "such as {'pt': ..., 'eta': ..., 'phi': ..., 'mass': ...}"
            )
        self.name, self.records = name, records
        self.fields = tuple(records) if isinstance(records, Mapping) else tuple(ak.fields(records))
        sources = self._sources()
        self.extras = tuple(f for f in self.fields if f not in sources.values())
        self.reference_field, self.offsets = "", np.zeros(0, dtype=np.int64)
        self.momenta = Momenta({c: self._component(f) for c, f in sources.items()}, name)

    def _sources(self) -> dict[str, str]:
        """Field of each component of the momenta."""
        layout = None if isinstance(self.records, Mapping) else ak.to_layout(self.records)
        record_name = "" if layout is None else str(layout.purelist_parameter("__record__"))
        vector = record_name.startswith(("Momentum", "Vector"))
        spellings = {c: (*s, _OF_VECTOR.get(c, "")) if vector else s for c, s in SPELLINGS.items()}
        return component_columns(self.fields, spellings=spellings)

    def _component(self, field: str) -> NDArray[Any]:
        values = self.flat(field)
        return values if values.dtype.kind == "f" else values.astype(np.float64)

    def flat(self, field: str) -> NDArray[Any]:
        """Values of a field, ``[n]``."""
        values, offsets = flat_content(self.records[field], f"{self.name}.{field}")
        if not self.reference_field:
            self.reference_field, self.offsets = field, offsets
        if len(offsets) != len(self.offsets):
            raise ValueError(
                f"{self.name}.{field} has {len(offsets) - 1} events, {self.name}.{self.reference_field} has "
                f"{len(self.offsets) - 1}; expected the same events in all fields"
            )
        if not np.array_equal(offsets, self.offsets):
            row = int(np.argmax(np.diff(offsets) != np.diff(self.offsets)))
            size, expected = np.diff(offsets)[row], np.diff(self.offsets)[row]
            raise ValueError(
                f"{self.name}.{field} has {size} values in event {row}, {self.name}.{self.reference_field} "
                f"has {expected}; give one value for each {self.name}"
            )
        return values

    def table(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Quantities ``[n, len(names)]``; 0 where the type has none, 1 for ``is_<type>``."""
        table = np.zeros((int(self.offsets[-1]), len(names)), dtype=np.float32)
        for i, name in enumerate(names):
            if name == f"is_{self.name}":
                table[:, i] = 1
            elif name in self.extras:
                table[:, i] = narrow(self.flat(name))
            elif name in (*NODE_FEATURES, *SPELLINGS):
                table[:, i] = narrow(self.momenta[name])
        return table

    def truth(self, field: str) -> NDArray[np.bool_]:
        """True where a field is not 0, ``[n]``; false where the type has none."""
        if field not in self.extras:
            return np.zeros(int(self.offsets[-1]), dtype=np.bool_)
        return np.asarray(self.flat(field) != 0)

    @property
    def index(self) -> IntArray:
        """Position in the collection; -1 for missing momentum."""
        size = int(self.offsets[-1])
        return np.full(size, -1) if self.momenta.transverse else local_index(self.offsets)


def flat_content(values: Any, what: str) -> tuple[NDArray[Any], IntArray]:
    """Flat content and offsets of one number per particle, or of one number per event."""
    refuse_delayed(values, what)
    array = values if isinstance(values, ak.Array) else ak.Array(values)
    _refuse_missing(array, what)
    if array.ndim > 2 or ak.fields(array):
        raise TypeError(f"{what} holds {array.type.content}; expected one number per particle")
    counts = np.ones(len(array), dtype=np.int64) if array.ndim == 1 else np.asarray(ak.num(array, axis=1))
    flat = array if array.ndim == 1 else ak.flatten(array, axis=1)
    content = None if "union" in str(flat.type) else np.asarray(flat)
    if content is None or content.dtype.kind not in "biuf":
        raise TypeError(f"{what}: expected numbers, got {flat.type.content}")
    return content, offsets_from_counts(counts)


def _refuse_missing(array: ak.Array, what: str) -> None:
    if "?" not in (text := str(array.type)) and "option[" not in text:
        return
    none = ak.is_none(array, axis=-1)
    missing = np.asarray(none if array.ndim == 1 else ak.fill_none(ak.any(none, axis=-1), True))
    if missing.any():
        raise ValueError(
            f"{what} has missing values (None), in {missing.sum()} events, first in event "
            f"{int(np.argmax(missing))}; write a number in their place, as in ak.fill_none(x, 0), "
            "or drop such particles, as in ak.drop_none(x)"
        )


def from_awkward(
    particles: Mapping[str, Any],
    *,
    features: Sequence[str] | None = None,
    truth: Sequence[str] = (),
    pair_features: Sequence[str] = (),
    **columns: Unpack[PerEvent],
) -> Columns:
    """Columns of `Events.from_awkward`."""
    if not isinstance(particles, Mapping):
        raise TypeError(
            f"particles is a {type(particles).__name__}; give a mapping of particle types to their arrays, "
            "as in {'muon': array}"
        )
    types = [Collection(name, records) for name, records in particles.items()]
    rows = _number_of_events(types, columns.get("globals") or {})
    names = _features(types, features, truth)
    if types:
        order, kind, offsets = interleave([t.offsets for t in types])
    else:
        order, kind, offsets = (np.zeros(n, dtype=np.int64) for n in (0, 0, rows + 1))
    table, p4 = (_concatenate([t.table(n) for t in types], len(n))[order] for n in (names, P4))
    type_names = tuple(particles)
    parent = parents(offsets)
    check_momenta(p4, lambda i: f"{type_names[kind[i]]} in event {parent[i]}")
    check_finite(table, names, lambda i: f"{type_names[kind[i]]} in event {parent[i]}")
    schema = {"features": names, "types": type_names, "pair_features": tuple(pair_features)}
    flat = {
        "offsets": offsets,
        "particles": table,
        "p4": p4,
        "type": kind,
        "index": _concatenate([t.index for t in types])[order].astype(np.int64),
        "truth": {n: _concatenate([t.truth(n) for t in types])[order].astype(np.bool_) for n in truth},
    }
    return complete(flat, schema, columns)


def _number_of_events(types: Sequence[Collection], others: Mapping[str, Any]) -> int:
    """Number of events, the same for all particle types."""
    if not types:
        if not others:
            raise ValueError("there are neither particles nor globals; give at least one of them")
        return len(next(iter(others.values())))
    first = types[0]
    for one in types:
        if len(one.offsets) != len(first.offsets):
            sizes = f"{one.name} has {len(one.offsets) - 1} events, {first.name} has {len(first.offsets) - 1}"
            raise ValueError(f"{sizes}; give all particle types for the same events")
    return len(first.offsets) - 1


def _features(
    types: Sequence[Collection], chosen: Sequence[str] | None, truth: Sequence[str]
) -> tuple[str, ...]:
    """Names of the features, "type" as one ``is_<type>`` for each particle type."""
    all_extras = tuple(dict.fromkeys(f for t in types for f in t.extras if f not in truth))
    if unknown := [n for n in truth if not any(n in t.extras for t in types)]:
        raise ValueError(
            f"no particle type has a field {unknown[0]!r} for truth; write its name as in the array"
        )
    one_hot = tuple(f"is_{t.name}" for t in types)
    if chosen is None:
        for t in types:
            if len(extras := [f for f in t.extras if f not in truth]) > MAX_EXTRA_FIELDS:
                raise ValueError(
                    f"{t.name} has {len(extras)} further fields ({', '.join(extras[:4])}, …); choose those "
                    f"that the model reads, as in features=['energy', 'px', 'py', 'pz', {extras[0]!r}]"
                )
        chosen = (*FOUR_MOMENTUM, *all_extras) if types else ()
    available = (*NODE_FEATURES, *all_extras, *one_hot, "type")
    for name in chosen:
        if name not in available:
            raise ValueError(
                f"no feature {name!r}{nearest(name, available)}; there are {', '.join(available)}"
            )
        for t in types:
            if name in t.extras and name in (*NODE_FEATURES, *one_hot, "type"):
                raise ValueError(
                    f"{t.name} has a field {name!r}, the name of a feature that is computed for all "
                    f"particles; rename it, as in {t.name}_{name}"
                )
    return tuple(n for f in chosen for n in (one_hot if f == "type" else (f,)))


def _concatenate(parts: Sequence[NDArray[Any]], columns: int | None = None) -> NDArray[Any]:
    if parts:
        return np.concatenate(parts)
    return np.zeros(0 if columns is None else (0, columns), dtype=np.float32)
