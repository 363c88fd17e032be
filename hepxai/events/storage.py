"""Events as safetensors or Parquet files: columns, and the schema as text. Nothing in a file is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.extras import import_extra
from hepxai.core.files import read_tensors, replacing, write_tensors
from hepxai.core.jagged import offsets_from_counts
from hepxai.events.schema import P4, Schema

KEY = "hepxai.events"
"""Metadata that marks a file of events."""
_INTEGERS = (
    "run",
    "luminosity_block",
    "event",
    "file",
    "entry",
    "split",
    "label",
    "type",
    "index",
    "offsets",
)
_TABLES = ("particles", "p4", "globals", "targets")
_DTYPES = (
    dict.fromkeys(_INTEGERS, ("int64",)) | dict.fromkeys(_TABLES, ("float32",)) | {"weight": ("float64",)}
)
_GROUPS = {"observers": ("float64", "int64"), "truth": ("bool",)}
_PER_PARTICLE = ("particles", "p4", "type", "index", "truth")

Columns = Mapping[str, NDArray[Any]]


def write(path: str | Path, schema: Schema, columns: Columns, about: Mapping[str, tuple[Any, ...]]) -> None:
    """Write the columns of events, and what is known ``about`` their files; see `Events.save`."""
    head = json.dumps({"schema": schema.to_json(), **about})
    if _is_parquet(path):
        _write_parquet(path, schema, columns, head)
    else:
        write_tensors(path, columns, {KEY: head})


def read(path: str | Path) -> dict[str, Any]:
    """Arguments of `Events` from a file; see `Events.load`."""
    columns, head = (_read_parquet if _is_parquet(path) else _read_tensors)(path)
    try:
        content = json.loads(head)
        schema = Schema.from_json(content["schema"])
        others = {n: tuple(content[n]) for n in ("files", "file_entries")}
        others["samples"] = tuple(content.get("samples", ()))  # files of earlier versions name none
    except (ValueError, TypeError, KeyError) as problem:
        raise ValueError(f"{path}: the schema is damaged ({problem}); write the file again") from None
    columns = dict(columns) if not _is_parquet(path) else _from_parquet(path, columns, schema)
    _check_columns(path, columns)
    return {"schema": schema, **others, **grouped(columns)}


def _is_parquet(path: str | Path) -> bool:
    ending = Path(path).suffix
    if ending not in (".safetensors", ".parquet", ".pq"):
        raise ValueError(f"{path}: events are kept in .safetensors or .parquet files, not in {ending!r}")
    return ending != ".safetensors"


def grouped(columns: Columns) -> dict[str, Any]:
    """Attributes of events from flat columns: ``observers.NAME`` and ``truth.NAME`` become mappings."""
    attributes: dict[str, Any] = {n: c for n, c in columns.items() if "." not in n}
    for group in _GROUPS:
        prefix = f"{group}."
        attributes[group] = {n.removeprefix(prefix): c for n, c in columns.items() if n.startswith(prefix)}
    return attributes


def _check_columns(path: str | Path, columns: Columns) -> None:
    if missing := [n for n in _DTYPES if n not in columns]:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; it was not written by Events.save, or is damaged"
        )
    for name, column in columns.items():
        allowed = _DTYPES.get(name) or _GROUPS.get(name.partition(".")[0] if "." in name else "")
        if allowed is None:
            raise ValueError(
                f"{path} has a column {name!r}, which events do not have; write it by Events.save"
            )
        if column.dtype.name not in allowed:
            raise ValueError(
                f"{path}: {name} holds {column.dtype}, not {' or '.join(allowed)}; write it again"
            )
    if columns["offsets"].ndim != 1 or not len(columns["offsets"]):
        raise ValueError(f"{path}: offsets have shape {columns['offsets'].shape}; write it again")


def _read_tensors(path: str | Path) -> tuple[Columns, str]:
    tensors, metadata = read_tensors(path)
    if KEY not in metadata:
        raise ValueError(f"{path} holds no events; Events.save writes them")
    return tensors, metadata[KEY]


# --- Parquet: one row per event, lists for particles --------------------------------------------------------


def _write_parquet(path: str | Path, schema: Schema, columns: Columns, head: str) -> None:
    pyarrow = import_extra("pyarrow", "a Parquet file", "files")
    parquet = import_extra("pyarrow.parquet", "a Parquet file", "files")
    ends = columns["offsets"]
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError(
            f"{ends[-1]:,} particles are too many for one Parquet list; save parts of the events"
        )
    flat = {name: pyarrow.array(c) for name, c in _split_tables(schema, columns).items()}
    lists = {
        name: pyarrow.ListArray.from_arrays(pyarrow.array(ends.astype(np.int32)), values)
        if name.partition(".")[0] in _PER_PARTICLE
        else values
        for name, values in flat.items()
    }
    table = pyarrow.table(lists).replace_schema_metadata({KEY: head})
    with replacing(path) as part:
        parquet.write_table(table, part, use_dictionary=False)  # floats repeat seldom


def _split_tables(schema: Schema, columns: Columns) -> dict[str, NDArray[Any]]:
    """Columns without offsets; tables become one column ``table.NAME`` for each of theirs."""
    single = {n: c for n, c in columns.items() if n not in (*_TABLES, "offsets")}
    for table in _TABLES:
        for i, name in enumerate(_names(schema)[table]):
            single[f"{table}.{name}"] = np.ascontiguousarray(columns[table][:, i])
    return single


def _names(schema: Schema) -> dict[str, tuple[str, ...]]:
    return {"particles": schema.features, "p4": P4, "globals": schema.globals, "targets": schema.targets}


def _read_parquet(path: str | Path) -> tuple[Columns, str]:
    parquet = import_extra("pyarrow.parquet", "a Parquet file", "files")
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as problem:
        if not Path(path).exists():
            raise
        raise ValueError(f"{path} is truncated or no Parquet file: {problem}") from None
    metadata = table.schema.metadata or {}
    if KEY.encode() not in metadata:
        raise ValueError(
            f"{path} holds no events of Events.save; hepxai.datasets.read_parquet reads other files"
        )
    return {n: table[n].combine_chunks() for n in table.column_names}, metadata[KEY.encode()].decode()


def _from_parquet(path: str | Path, columns: Mapping[str, Any], schema: Schema) -> dict[str, NDArray[Any]]:
    if "type" not in columns or "label" not in columns:
        raise ValueError(f"{path} has no column 'type'; it was not written by Events.save, or is damaged")
    offsets = _offsets(columns["type"])
    flat: dict[str, NDArray[Any]] = {"offsets": offsets}
    for name, column in columns.items():
        if name.partition(".")[0] in _PER_PARTICLE:
            if not np.array_equal(_offsets(column), offsets):
                raise ValueError(f"{path}: {name} and type have other numbers of particles; write it again")
            column = column.flatten()
        flat[name] = column.to_numpy(zero_copy_only=False)
    for table, names in _names(schema).items():
        rows = offsets[-1] if table in _PER_PARTICLE else len(offsets) - 1
        if missing := [n for n in names if f"{table}.{n}" not in flat]:
            raise ValueError(f"{path} has no column '{table}.{missing[0]}'; it is damaged, write it again")
        parts = [flat.pop(f"{table}.{n}") for n in names]
        flat[table] = np.stack(parts, axis=1) if parts else np.zeros((rows, 0), dtype=np.float32)
    return flat


def _offsets(column: Any) -> NDArray[np.int64]:
    counts = column.value_lengths().to_numpy(zero_copy_only=False)
    return offsets_from_counts(counts.astype(np.int64))
