"""Functions of columns, particles and pairs of particles: the vocabulary of expressions on cards.

A value is a number, one number per event (ndarray ``[E]``), one per particle (awkward array
``[E, var]``), a list per particle (``[E, var, var]``), or records: particles (fields pt, eta, phi, mass and
more) and pairs (fields first, second). Where an event has no such particle, the answer is NaN (-1 for argmin
and argmax).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import vector

from hepxai.datasets.columns import Array, Records, RowError, column, flatten
from hepxai.events import P4

MOMENTUM = ("energy", "px", "py", "pz", "pt", "eta", "phi", "mass", "rapidity", "mt")
_EXACT = 2**53  # doubles hold all whole numbers up to here
#: Operations in which numbers from 2^63 on stay exact.
_UNSIGNED = ("%", "//", "where", "isin", "count")
_SEPARATION = {"delta_r": "deltaR", "delta_phi": "deltaphi", "delta_eta": "deltaeta"}


class Function(NamedTuple):
    """A function of the vocabulary; ``arity`` is (least, most), None for no limit."""

    compute: Callable[..., Any]
    arity: tuple[int, int | None]


def kind_of(value: Any) -> str:
    """Kind code of numpy: b, i, u or f for numbers, another letter for anything else."""
    if not isinstance(value, ak.Array):
        return np.asarray(value).dtype.kind
    layout: Any = value.layout
    while hasattr(layout, "content"):
        layout = layout.content
    return layout.dtype.kind if hasattr(layout, "dtype") else "O"


def condition(value: Any) -> Any:
    """Value as true or false; whole numbers are true where they are not 0."""
    kind = kind_of(value)
    if kind == "b":
        return np.bool_(value) if isinstance(value, bool) else value
    if kind in "iu":
        return value != 0
    raise TypeError("should be true or false, not a number; compare it with something")


def attribute(value: Any, name: str) -> Any:
    """A field of particles or pairs, or a kinematic quantity that follows from their four-momenta."""
    fields = value.fields if isinstance(value, ak.Array) else []
    if name in fields:
        return value[name]
    if fields[:2] == ["first", "second"]:
        return _of_pair(value, name)
    if name in MOMENTUM and set(P4) <= set(fields):
        return getattr(four_momentum(value), name)
    have = ", ".join(dict.fromkeys([*fields, *(MOMENTUM if fields else ())])) or "none: it is a number"
    raise AttributeError(f"no attribute {name!r}; there are {have}")


def _of_pair(pair: Any, name: str) -> Any:
    first, second = four_momentum(pair["first"]), four_momentum(pair["second"])
    if name in _SEPARATION:
        return getattr(first, _SEPARATION[name])(second)
    if name in MOMENTUM:
        return getattr(first + second, name)
    have = ", ".join(("first", "second", *_SEPARATION, *MOMENTUM))
    raise AttributeError(f"pairs have no attribute {name!r}; there are {have}")


def four_momentum(particles: Any) -> Any:
    """Four-momenta in double precision, with the behaviour of `vector`."""
    if not isinstance(particles, ak.Array) or not set(P4) <= set(particles.fields):
        raise TypeError("needs particles, such as muon or first(muon)")
    return vector.zip({n: ak.values_astype(particles[n], np.float64) for n in P4})


# --- over the particles of an event --------------------------------------------------------------


def _reduction(function: Callable[..., Any], empty: float | None = None) -> Callable[[Any], Any]:
    """Reduction of the innermost lists: per event, or per particle where each particle has a list."""

    def reduction(values: Any) -> Any:
        _per_particle(values)
        if values.fields:
            raise TypeError("needs numbers, not particles; write for example muon.pt")
        if empty is None:
            return function(values, axis=-1)
        if np.isnan(empty):
            _refuse_rounding(values)
        return ak.fill_none(function(values, axis=-1), empty, axis=-1)

    return reduction


def _per_particle(values: Any) -> None:
    if not isinstance(values, ak.Array) or values.ndim < 2:
        raise TypeError("needs one value per particle; this has one per event")


def _count(values: Any) -> Any:
    """Number of particles, or how many meet a condition."""
    if isinstance(values, Records):
        return np.diff(values.offsets)
    _per_particle(values)
    if not values.fields and kind_of(values) == "b":
        return ak.sum(values, axis=-1)
    return ak.num(values, axis=1 if values.fields else -1)


def _nth(values: Any, number: Any) -> Any:
    """The particle (or value) at a position in each event; NaN where there is none."""
    _per_particle(values)
    if kind_of(number) not in "iu":
        raise TypeError("a position is a whole number, 0 for the first")
    if isinstance(number, ak.Array) and number.ndim >= values.ndim:
        raise TypeError("takes one position per event; for one per particle write take(x, i)")
    if values.fields:
        return ak.zip({n: _nth(values[n], number) for n in values.fields})
    if values.ndim > 2:
        each = ak.broadcast_arrays(number, ak.num(values, axis=-1))[0]
        return ak.unflatten(_nth(ak.flatten(values), ak.to_numpy(ak.flatten(each))), ak.num(values))
    content, offsets = flatten(values)
    counts = np.diff(offsets)
    position = np.broadcast_to(np.asarray(number, dtype=np.int64), counts.shape)
    exists = (position >= 0) & (position < counts)
    taken = content[(offsets[:-1] + position)[exists]]
    _refuse_rounding(taken)
    result = np.full(len(counts), np.nan)
    result[exists] = taken
    return result


def _pairs(a: Any, b: Any = None) -> Any:
    for side in (a, b):
        if side is not None and not (isinstance(side, ak.Array) and side.fields and side.ndim == 2):
            raise TypeError("pairs() needs particles, such as muon")
    if b is None:
        return ak.combinations(a, 2, fields=["first", "second"])
    return ak.cartesian({"first": a, "second": b})


def _system(*particles: Any) -> Any:
    momenta = [four_momentum(p) for p in particles]
    total: dict[str, Any] = {}
    for axis in ("px", "py", "pz", "energy"):
        parts = [getattr(p, axis) for p in momenta]
        total[axis] = sum(ak.to_numpy(ak.sum(v, axis=1) if v.ndim > 1 else v) for v in parts)
    whole = vector.zip(total)
    return ak.zip({n: getattr(whole, n) for n in P4})


def _between(name: str) -> Callable[[Any, Any], Any]:
    return lambda a, b: getattr(four_momentum(a), _SEPARATION[name])(four_momentum(b))


def _transverse_mass(a: Any, b: Any) -> Any:
    one, other = four_momentum(a), four_momentum(b)
    return np.sqrt(2 * one.pt * other.pt * (1 - np.cos(one.deltaphi(other))))


def _nearest(a: Any, b: Any) -> Any:
    one, other = ak.unzip(ak.cartesian([four_momentum(a), four_momentum(b)], nested=True))
    return ak.fill_none(ak.min(one.deltaR(other), axis=2), np.inf)


def _where(mask: Any, yes: Any, no: Any) -> Any:
    jagged_args = any(isinstance(x, ak.Array) for x in (mask, yes, no))
    return ak.where(condition(mask), yes, no) if jagged_args else np.where(condition(mask), yes, no)


# --- values at stored positions: cross references such as NanoAOD's ``Muon_genPartIdx`` -------------


def _refuse_rounding(values: Any) -> None:
    """Refuse whole numbers that would be rounded as doubles."""
    if kind_of(values) not in "iu":
        return
    flat = np.asarray(ak.flatten(values, axis=None) if isinstance(values, ak.Array) else values)
    if flat.size and (flat.max() > _EXACT or flat.min() < -_EXACT):
        raise TypeError(
            "whole numbers beyond 2^53 would be rounded, because NaN for missing values needs doubles; give "
            "a whole number for missing values, as in take(x, argmax(x), 0)"
        )


def gather(values: Any, positions: Any, none: Any = None) -> Any:
    """Values of a collection ``[E, var]`` at positions in it, one for each position.

    Parameters
    ----------
    values : awkward array, [E, var]
        Numbers or records, in the order to which the positions refer.
    positions : number, ndarray [E] or awkward array [E, var ...]
        Whole numbers; -1 means none.
    none : number, optional
        Value at position -1; by default NaN, for conditions false.
    """
    if not isinstance(values, ak.Array) or values.ndim != 2:
        raise TypeError(
            "take(x, i) needs one value per particle as x; for lists write for example take(sum(x), i)"
        )
    if kind_of(positions) not in "iu":
        raise TypeError(
            "take(x, i) needs whole numbers, the positions, as i; for a condition write x[condition]"
        )
    where = positions if isinstance(positions, ak.Array) else np.broadcast_to(positions, len(values))
    if values.fields:
        if none is not None:
            raise TypeError("take(x, i, value) is for numbers; write for example take(x, i).pt")
        return ak.zip({n: gather(values[n], where) for n in values.fields}, depth_limit=where.ndim)
    content, offsets = flatten(values)
    events = ak.broadcast_arrays(ak.Array(np.arange(len(values))), ak.Array(where))[0]
    event, position = (np.asarray(ak.flatten(v, axis=None), dtype=np.int64) for v in (events, where))
    _refuse_outside(position, event, np.diff(offsets)[event], isinstance(positions, ak.Array))
    present = position >= 0
    gathered = _blank(content, len(position), none)
    gathered[present] = content[offsets[event[present]] + position[present]]
    return _shaped(gathered, where)


def _refuse_outside(position: Array, event: Array, size: Array, from_branch: bool) -> None:
    outside = (position < -1) | (position >= size)
    if outside.any():
        first = int(np.argmax(outside))
        remedy = (
            f"if it means none, write missing: {{BRANCH: {{values: [{position[first]}], replace: -1}}}} for "
            "the branch of positions"
        )
        raise RowError(
            int(event[first]),
            f"position {position[first]} among {size[first]} particles ({outside.sum()} such in this chunk); "
            f"{remedy if from_branch else 'write nth(x, i), which gives NaN there'}",
        )


def _blank(content: Array, size: int, none: Any) -> Array:
    """Array of the value for missing entries; doubles if that is NaN."""
    if none is None and content.dtype.kind in "iu":
        _refuse_rounding(content)
    default = False if content.dtype.kind == "b" else np.nan
    value = np.asarray(default if none is None else none)
    return np.full(size, value, dtype=np.result_type(content, value))


def _shaped(flat: Array, like: Any) -> Any:
    """Flat values, nested like another array."""
    if like.ndim == 1:
        return flat
    return ak.unflatten(_shaped(flat, ak.flatten(like)), ak.num(like))


_ELEMENTWISE = (
    *("abs", "sqrt", "exp", "log", "log10", "log1p", "floor", "ceil", "sign", "isfinite", "isnan"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh"),
)
#: Every function; `docs/dataset_card.md` says what each does.
FUNCTIONS: dict[str, Function] = {
    **{n: Function(getattr(np, n), (1, 1)) for n in _ELEMENTWISE},
    **{n: Function(getattr(np, n), (2, 2)) for n in ("arctan2", "hypot", "minimum", "maximum")},
    "clip": Function(lambda x, low, high: np.minimum(np.maximum(x, low), high), (3, 3)),
    "where": Function(_where, (3, 3)),
    "isin": Function(lambda x, *numbers: reduce(operator.or_, [x == n for n in numbers]), (2, None)),
    "count": Function(_count, (1, 1)),
    **{n: Function(_reduction(getattr(ak, n)), (1, 1)) for n in ("sum", "any", "all")},
    **{n: Function(_reduction(getattr(ak, n), np.nan), (1, 1)) for n in ("min", "max", "mean")},
    **{n: Function(_reduction(getattr(ak, n), -1), (1, 1)) for n in ("argmin", "argmax")},
    "first": Function(lambda x: _nth(x, 0), (1, 1)),
    "nth": Function(_nth, (2, 2)),
    "take": Function(gather, (2, 3)),
    "pairs": Function(_pairs, (1, 2)),
    "system": Function(_system, (1, None)),
    **{n: Function(_between(n), (2, 2)) for n in _SEPARATION},
    "transverse_mass": Function(_transverse_mass, (2, 2)),
    "nearest": Function(_nearest, (2, 2)),
}


def call(name: str, values: Sequence[Any]) -> Any:
    """Result of a function of the vocabulary."""
    refuse_unsigned(name, values)
    return signed(FUNCTIONS[name].compute(*values))


def signed(value: Any) -> Any:
    """Whole numbers as int64 wherever they fit."""
    if kind_of(value) != "u":
        return value
    return column(value if isinstance(value, ak.Array) else ak.Array(np.atleast_1d(value)))


def refuse_unsigned(operation: str, values: Sequence[Any]) -> None:
    """Refuse whole numbers from 2^63 on where they would wrap around or be rounded."""
    if all(kind_of(v) != "u" for v in values):
        return
    exact = (kind_of(v) in "ub" or (isinstance(v, int) and v >= 0) for v in values)
    if operation not in _UNSIGNED or not all(exact):
        raise TypeError(
            "holds numbers from 2^63 on, which do not fit into signed 64-bit integers; "
            "write event % 1000000007, say, or where(event < 2**63, event, 0)"
        )
