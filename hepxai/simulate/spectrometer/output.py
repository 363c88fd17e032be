"""The ROOT file of one sample of muon patterns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from hepxai.core.files import replacing
from hepxai.simulate.output import TREE
from hepxai.simulate.spectrometer.chunk import COLLECTIONS, EVENT_COLUMNS, Columns


def write_patterns(path: Path, chunks: Iterable[Columns], provenance: dict[str, Any]) -> None:
    """Write the events of chunks as NanoAOD-style TTree ``Events``, with the provenance as JSON.

    Parameters
    ----------
    path : Path
        Written under another name and renamed when complete.
    chunks : iterable of dict of ndarray
        See `make_chunk`; read one after the other, memory holds one.
    provenance : dict
    """
    with replacing(path) as part, uproot.recreate(part, compression=uproot.ZLIB(6)) as file:
        tree = file.mktree(TREE, _types(), title=f"{path.stem} events")
        for columns in chunks:
            tree.extend(_branches(columns))
        file["provenance"] = json.dumps(provenance, indent=1)


def _types() -> dict[str, Any]:
    empty = {k: np.zeros(0, kind) for k, kind in EVENT_COLUMNS.items()}
    for name, fields in COLLECTIONS.items():
        empty |= {f"{name}.{key}": np.zeros(1, kind) for key, kind in fields.items()}
        empty[f"{name}.counts"] = np.ones(1, np.int64)
    branches = _branches(empty)
    records = {name: branches[name].type.content for name in COLLECTIONS}
    return {**{k: np.dtype(kind) for k, kind in EVENT_COLUMNS.items()}, **records}


def _branches(columns: Columns) -> dict[str, Any]:
    branches: dict[str, Any] = {name: columns[name] for name in EVENT_COLUMNS}
    for name, fields in COLLECTIONS.items():
        flat = ak.zip({key: columns[f"{name}.{key}"] for key in fields})
        branches[name] = ak.unflatten(flat, columns[f"{name}.counts"])
    return branches
