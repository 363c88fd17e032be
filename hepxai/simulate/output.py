"""ROOT file of a sample: events, cut flow, provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import awkward as ak
import hist
import numpy as np
import uproot

from hepxai.core.files import replacing
from hepxai.simulate.chunk import Chunk, CutFlow, Layout

TREE = "Events"
# Events per basket: uproot buffers about 100 kB a branch at every extend.
_EXTEND_EVENTS = 20_000


def write_sample(
    path: Path, chunks: Iterable[Chunk], provenance: dict[str, Any], layout: Layout
) -> dict[str, Any]:
    """Write the events of chunks as NanoAOD-style TTree ``Events``, with cut flow and provenance.

    Parameters
    ----------
    path : Path
        Written under another name and renamed when complete.
    chunks : iterable of Chunk
        Read one after the other; memory holds one basket.
    provenance : dict
        Stored as JSON in the string object ``provenance``, with the cut flow.
    layout : Layout
        Columns to write.

    Returns
    -------
    dict
        The provenance as stored.
    """
    flows: list[CutFlow] = []
    failures = 0
    with replacing(path) as part, uproot.recreate(part, compression=uproot.ZLIB(6)) as file:
        tree = file.mktree(TREE, _types(layout), title=f"{path.stem} events")
        for group in _groups(chunks):
            tree.extend(_branches(group, layout))
            flows += [c.cutflow for c in group]
            failures += sum(int(c.numbers.get("failures", 0)) for c in group)
        total = reduce(add, flows)
        for name, histogram in _histograms(total).items():
            file[name] = histogram
        stored = provenance | _summary(total) | {"generator_failures": failures}
        file["provenance"] = json.dumps(stored, indent=1)
    return stored


def _types(layout: Layout) -> dict[str, Any]:
    records = {
        name: ak.unflatten(ak.zip({k: np.zeros(1, kind) for k, kind in types.items()}), [1]).type.content
        for name, types in layout.collections.items()
    }
    return {**{k: np.dtype(kind) for k, kind in layout.events.items()}, **records}


def _groups(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    group: list[Chunk] = []
    for chunk in chunks:
        group.append(chunk)
        if sum(c.selected for c in group) >= _EXTEND_EVENTS:
            yield group
            group = []
    if group:
        yield group


def _branches(group: list[Chunk], layout: Layout) -> dict[str, Any]:
    def joined(key: str) -> Any:
        return np.concatenate([c.columns[key] for c in group])

    branches: dict[str, Any] = {name: joined(name) for name in layout.events}
    for name, types in layout.collections.items():
        flat = ak.zip({key: joined(f"{name}.{key}") for key in types})
        branches[name] = ak.unflatten(flat, joined(f"{name}.counts"))
    return branches


def _histograms(flow: CutFlow) -> dict[str, Any]:
    axis = hist.axis.StrCategory(list(flow.steps), name="step", label="selection step")
    counted = hist.Hist(axis, name="cutflow", label="events")
    counted.view()[...] = flow.counts
    weighted = hist.Hist(axis, storage=hist.storage.Weight(), name="cutflow_weighted", label="sum of weights")
    weighted.view().value[...] = flow.sum_weights
    weighted.view().variance[...] = flow.sum_weights2
    return {"cutflow": counted, "cutflow_weighted": weighted}


def _summary(flow: CutFlow) -> dict[str, Any]:
    return {
        "generated": int(flow.counts[0]),
        "selected": int(flow.counts[-1]),
        "cutflow": dict(zip(flow.steps, flow.counts.tolist(), strict=True)),
        "cutflow_weighted": dict(zip(flow.steps, flow.sum_weights.tolist(), strict=True)),
    }


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Provenance of a simulated sample: settings, seeds, versions, cut flow.

    Raises
    ------
    ValueError
        If the file is not a sample that this package made.
    """
    try:
        with uproot.open(path) as file:
            return dict(json.loads(str(file["provenance"])))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a simulated sample with provenance ({error})") from None
