"""Columns with one value per event, from arrays in memory: labels, weights, identity, splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray
from hepxai.events.schema import SPLITS, as_resolutions
from hepxai.events.splits import Split, assign_split, text_hash

MEMORY = "memory"
"""File of events that were made from arrays."""
IDENTITY = ("run", "luminosity_block", "event")


class PerEvent(TypedDict, total=False):
    """Columns that all constructors of `Events` from arrays take by keyword; each is optional.

    Attributes
    ----------
    label : array of int or str, shape [E]
        Numbers from 0, or names of ``classes``. Without labels all events are of one class.
    classes : sequence of str
        Names in the order of the numbers, and of the outputs of the model: background first if there are two.
        By default background and signal, or class_0, class_1 … if there are more.
    weight : array of float, shape [E]
        Signed; 1 by default.
    globals, targets, observers : mapping of str to array, shape [E]
        Event-level features; targets of a regression (NaN where an event has none); numbers that are stored
        with the events and never used in training.
    identity : mapping of str to array of int, shape [E]
        "run", "luminosity_block" and "event". Made up by default: the event number is the row, the run is a
        hash of the content. File and entry are always "memory" and the row.
    split : str, array, or Split
        "train", "valid" or "test" for all, or a name or number for each. By default as on the cards:
        shares of 6 : 3 : 1 by a hash of the identity, or of the row.
    units : mapping of str to str
        Units of features, globals and targets; momenta are in GeV.
    resolutions : mapping of str to mapping
        Detector resolution of particle types, as on the cards:
        ``{"muon": {"pt": "0.02 * pt", "eta": 0.001, "phi": 0.001, "max_eta": 2.4}}``, the last one optional.
    """

    label: Any
    classes: Sequence[str] | None
    weight: Any
    globals: Mapping[str, Any] | None
    targets: Mapping[str, Any] | None
    observers: Mapping[str, Any] | None
    identity: Mapping[str, Any] | None
    split: Any
    units: Mapping[str, str] | None
    resolutions: Mapping[str, Mapping[str, str | float]] | None


def per_event(
    rows: int,
    *,
    label: Any = None,
    classes: Sequence[str] | None = None,
    weight: Any = None,
    globals: Mapping[str, Any] | None = None,
    targets: Mapping[str, Any] | None = None,
    observers: Mapping[str, Any] | None = None,
    identity: Mapping[str, Any] | None = None,
    split: Any = None,
    units: Mapping[str, str] | None = None,
    resolutions: Mapping[str, Mapping[str, str | float]] | None = None,
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Columns of `Events` with one row per event, and the names and units of their `Schema`.

    Parameters are those of `PerEvent`; ``rows`` is the number of events.
    """
    codes, names = _labels(label, classes, rows)
    numbers = _identity(identity, rows)
    columns: dict[str, Any] = {
        "label": codes,
        "weight": np.ones(rows) if weight is None else one_each(weight, "weight", rows).astype(np.float64),
        "globals": _table(globals or {}, "globals", rows),
        "targets": _table(targets or {}, "targets", rows, missing=True),
        "observers": {k: _observer(v, f"observers: {k}", rows) for k, v in (observers or {}).items()},
        **numbers,
        "file": np.zeros(rows, dtype=np.int64),
        "entry": np.arange(rows),
        "split": _split(split, numbers if identity else numbers | {"run": np.full(rows, MEMORY_HASH)}, rows),
        "files": (MEMORY,),
        "file_entries": (rows,),
    }
    of = units or {}
    schema: dict[str, tuple[Any, ...]] = {"classes": names, "globals": tuple(globals or ())}
    schema |= {"targets": tuple(targets or ()), "resolutions": as_resolutions(resolutions or {})}
    schema["global_units"] = tuple(of.get(n, "") for n in schema["globals"])
    schema["target_units"] = tuple(of.get(n, "") for n in schema["targets"])
    return columns, schema


MEMORY_HASH = text_hash(MEMORY)


# --- arrays of any library --------------------------------------------------------------------------------


def refuse_delayed(values: Any, what: str) -> None:
    """Refuse arrays of dask, which hold no values yet."""
    if hasattr(values, "compute") and hasattr(values, "dask"):
        raise TypeError(f"{what} is a delayed array, without values so far; call .compute() first")


def plain(values: Any, what: str) -> NDArray[Any]:
    """Array of numpy from one of any library, with numbers or texts."""
    refuse_delayed(values, what)
    try:
        array = (
            ak.to_numpy(values, allow_missing=False) if isinstance(values, ak.Array) else np.asarray(values)
        )
    except ValueError as problem:
        raise ValueError(
            f"{what} is no regular array of numbers; fill missing values, as in ak.fill_none(x, 0), and give "
            "all events the same number of values"
        ) from problem
    return array


def numeric(values: Any, what: str) -> NDArray[Any]:
    """Array of numbers.

    Raises
    ------
    TypeError
        If it holds something else.
    """
    array = plain(values, what)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what}: expected numbers, got {array.dtype}; convert it, as in x.astype(float)")
    return array


def one_each(values: Any, what: str, rows: int) -> NDArray[Any]:
    """One number for each event, ``[E]``."""
    array = numeric(values, what)
    if array.shape != (rows,):
        raise ValueError(f"{what} has shape {array.shape} for {rows} events; give one number for each event")
    return array


# --- columns --------------------------------------------------------------------------------------------


def _labels(label: Any, classes: Sequence[str] | None, rows: int) -> tuple[IntArray, tuple[str, ...]]:
    if isinstance(classes, str):
        raise TypeError(
            f"classes={classes!r} is a text; write a tuple of names, as in classes=({classes!r},)"
        )
    names = tuple(classes or ())
    if label is None:
        if len(names) > 1:
            raise ValueError(
                f"{len(names)} classes ({', '.join(names)}) and no labels; give label, or one class"
            )
        return np.zeros(rows, dtype=np.int64), names or ("events",)
    if np.ndim(label) == 2:
        raise ValueError(f"label has shape {np.shape(label)}; of a one-hot array take label.argmax(axis=1)")
    codes = _codes(label, "label", names, "classes=('background', 'signal')")
    if codes.shape != (rows,):
        raise ValueError(f"label has shape {codes.shape} for {rows} events; give one label for each event")
    return codes, names or _default_classes(int(codes.max(initial=0)) + 1)


def _default_classes(number: int) -> tuple[str, ...]:
    return ("background", "signal") if number <= 2 else tuple(f"class_{i}" for i in range(number))


def _codes(values: Any, what: str, names: Sequence[str], remedy: str) -> IntArray:
    """Whole numbers, or places of texts in ``names``."""
    array = plain(values, what)
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    if array.dtype.kind not in "UTO" or not all(isinstance(v, str) for v in array.ravel()[:1].tolist()):
        raise TypeError(
            f"{what}: expected whole numbers or names, got {array.dtype}; convert it, as in x.astype(int)"
        )
    if not names:
        raise ValueError(f"{what} holds names, and their order is not known; write it, as in {remedy}")
    texts = array.astype(str)
    if (odd := ~np.isin(texts, names)).any():
        raise ValueError(
            f"{what} holds {str(texts[odd][0])!r} ({odd.sum()} such); the names are {', '.join(names)}"
        )
    codes = np.zeros(texts.shape, dtype=np.int64)
    for code, name in enumerate(names):
        codes[texts == name] = code
    return codes


def type_codes(values: Any, types: Sequence[str]) -> IntArray:
    """Numbers of particle types, from numbers or names."""
    return _codes(values, "type", types, "types=('electron', 'muon')")


def _table(columns: Mapping[str, Any], what: str, rows: int, *, missing: bool = False) -> NDArray[np.float32]:
    """Columns side by side; values that are not finite are refused, NaN in targets means missing."""
    table = np.zeros((rows, len(columns)), dtype=np.float32)
    for i, (name, values) in enumerate(columns.items()):
        array = one_each(values, f"{what}: {name}", rows)
        with np.errstate(over="ignore"):
            table[:, i] = array
        bad = np.flatnonzero(~np.isfinite(table[:, i]) & ~(missing & np.isnan(table[:, i])))
        if bad.size:
            raise ValueError(
                f"{what}: {name} is {array[bad[0]]} in event {bad[0]} ({bad.size} such); put a number in its "
                "place, as in np.nan_to_num(x, posinf=0, neginf=0), or leave such events out"
            )
    return table


def _observer(values: Any, what: str, rows: int) -> NDArray[Any]:
    array = one_each(values, what, rows)
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)


def _identity(identity: Mapping[str, Any] | None, rows: int) -> dict[str, IntArray]:
    numbers = dict.fromkeys(IDENTITY, np.zeros(rows, dtype=np.int64)) | {"event": np.arange(rows)}
    for name, values in (identity or {}).items():
        if name not in IDENTITY:
            raise ValueError(f"identity has no {name!r}; it takes {', '.join(IDENTITY)}")
        array = one_each(values, f"identity: {name}", rows)
        if array.dtype.kind not in "iu":
            raise TypeError(f"identity: {name}: expected whole numbers, got {array.dtype}")
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"identity: {name} is {array.max()}; write numbers below 2^63, as in x % 2**62")
        numbers[name] = array.astype(np.int64)
    if identity is not None and "event" not in identity:
        raise ValueError("identity without event; give at least identity={'event': numbers}")
    return numbers


def _split(split: Any, numbers: Mapping[str, IntArray], rows: int) -> IntArray:
    if split is None or isinstance(split, Split):
        return assign_split(split or Split(), *(numbers[n] for n in IDENTITY))
    codes = _codes([split] * rows if isinstance(split, str) else split, "split", SPLITS, "split='test'")
    if codes.shape != (rows,):
        raise ValueError(f"split has shape {codes.shape} for {rows} events; give a name for all, or one each")
    return codes
