"""Attributions as HDF5, in the layout of the file that the events were read from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.result import CHANNEL_PIXELS, PIXELS
from hepxai.core.extras import import_extra
from hepxai.core.files import replacing
from hepxai.core.jagged import IntArray, parents

BLOCK = 1000
"""Rows of the file that are written at a time."""


def write_h5(
    path: str | Path,
    attributions: Mapping[str, Attribution],
    *,
    longest: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one dataset for each attribution, with the rows and the order of the file of the events.

    A particle axis gives ``[rows, M]``, a pair axis ``[rows, M, M]`` (receiver, sender), an event axis
    ``[rows]``.
    A feature axis becomes the fields of a structured type; other axes follow as dimensions. NaN stands at
    rows that were not explained, at padding, and at pairs or particles without a value. Attributes give axes,
    method, target, unit, settings, checks and concerns.

    Parameters
    ----------
    path : path
    attributions : mapping of str to Attribution
        By the names of their datasets. All explain events of one file.
    longest : int, optional
        Number M of places for particles in a row. By default that of the dataset that was read.
    overwrite : bool
        Replace an earlier file.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is false.
    ValueError
        If events come from several files, or M is too small or not known.
    """
    h5py = import_extra("h5py", "an HDF5 file", "files")
    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; choose another name or overwrite=True")
    if not attributions:
        raise ValueError(
            "there are no attributions to write; give at least one, as in {'node_ig': attribution}"
        )
    for attribution in attributions.values():
        _need_one_file(path, attribution)
    with replacing(path) as part, h5py.File(part, "w", locking=False) as file:  # locked already
        for name, attribution in attributions.items():
            places = _places(attribution, longest, h5py)
            _write(file, name, attribution, places)
    return Path(path)


def _need_one_file(path: str | Path, attribution: Attribution) -> None:
    files = attribution.events.files
    if len(files) != 1:
        raise ValueError(
            f"{attribution.method} explains events of {len(files)} files; write one file for each"
        )
    if Path(path).resolve() == Path(files[0].rpartition(":")[0]).resolve():
        raise ValueError(f"{path} is the file of the events; write attributions beside it")


def _places(attribution: Attribution, longest: int | None, h5py: Any) -> int:
    """Number of places for particles in a row of the file."""
    if attribution.axes[0] == "event":
        return 0
    needed = int(attribution.events.index.max(initial=-1)) + 1
    if (attribution.events.index < 0).any():
        raise ValueError("some particles have no place in a row (missing momentum); select the others first")
    source, _, name = attribution.events.files[0].rpartition(":")
    if longest is None and Path(source).is_file() and h5py.is_hdf5(source):
        with h5py.File(source) as file:
            longest = file[name].shape[1] if name in file else None
    if longest is None:
        raise ValueError(
            f"the number of places in a row of {source or 'memory'} is not known; give longest={needed}"
        )
    if longest < needed:
        raise ValueError(f"longest={longest}, but a particle is at place {needed} of its row")
    return longest


def _write(file: Any, name: str, attribution: Attribution, longest: int) -> None:
    events, values, kind = attribution.events, attribution.values, _type(attribution)
    regular = values.shape[1:-1] if kind.names else values.shape[1:]
    jagged = {"event": 0, "pair": 2}.get(attribution.axes[0], 1)
    shape = (*(longest,) * jagged, *regular)
    data = file.create_dataset(
        name,
        (events.file_entries[0], *shape),
        kind,
        chunks=(min(BLOCK, max(events.file_entries[0], 1)), *shape) if 0 not in shape else None,
        fillvalue=_empty(kind),
        compression="gzip" if 0 not in shape else None,
    )
    data.attrs.update(_attributes(attribution))
    row = events.entry[parents(attribution.offsets)]
    places = [events.index[end] for end in _ends(attribution)[:jagged]]
    for start in range(0, len(data), BLOCK):
        inside = (row >= start) & (row < start + BLOCK)
        if inside.any():
            block = np.full((min(BLOCK, len(data) - start), *shape), _empty(kind), dtype=kind)
            block[(row[inside] - start, *(p[inside] for p in places))] = _as_fields(values[inside], kind)
            data[start : start + len(block)] = block


def _ends(attribution: Attribution) -> tuple[IntArray, IntArray]:
    """Particles of each row of the values: receiver and sender of a pair."""
    if attribution.pairs is not None:
        return attribution.pairs.dst, attribution.pairs.src
    particles = np.arange(attribution.events.n_particles)
    return particles, particles


def _type(attribution: Attribution) -> np.dtype[Any]:
    if attribution.axes[-1] != "feature" or attribution.axes in (PIXELS, CHANNEL_PIXELS):
        return np.dtype(np.float32)
    return np.dtype([(label, np.float32) for label in attribution.labels["feature"]])


def _empty(kind: np.dtype[Any]) -> Any:
    return np.array((np.nan,) * len(kind.names), dtype=kind) if kind.names else np.float32(np.nan)


def _as_fields(values: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    if not kind.names:
        return values.astype(np.float32)
    table = np.empty(values.shape[:-1], dtype=kind)
    for i, field in enumerate(kind.names):
        table[field] = values[..., i]
    return table


def _attributes(attribution: Attribution) -> dict[str, str]:
    texts = {n: str(getattr(attribution, n)) for n in ("method", "target", "unit", "title")}
    stored = {n: json.dumps(dict(getattr(attribution, n))) for n in ("settings", "checks")}
    labels = {a: list(v) for a, v in attribution.labels.items()}
    lists = {"axes": ", ".join(attribution.axes), "labels": json.dumps(labels)}
    return texts | stored | lists | {"caution": attribution.caveat or ""}
