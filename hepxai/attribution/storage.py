"""An attribution as awkward array, as PyG explanation and as a safetensors file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from hepxai.attribution.pairs import Pairs
from hepxai.core.files import read_tensors, write_tensors
from hepxai.core.jagged import parents
from hepxai.events import Events

if TYPE_CHECKING:
    from torch_geometric.explain import Explanation

    from hepxai.attribution.result import Attribution

ENDS = ("src", "dst", "offsets")
COLUMNS = ("values", "self_values", "residual", "output_change", "error")
TEXTS = ("axes", "method", "target", "concerns", "title", "short_title", "unit")


def awkward(attribution: Attribution) -> ak.Array:
    """See `Attribution.to_awkward`."""
    value = ak.from_numpy(np.ascontiguousarray(attribution.values))
    if attribution.axes[0] == "event":
        return ak.zip({"value": value}, depth_limit=1)
    columns = {"value": value}
    if attribution.error is not None:
        columns["error"] = ak.from_numpy(np.ascontiguousarray(attribution.error))
    if attribution.axes[0] == "pair":
        first = attribution.events.offsets[parents(attribution.offsets)]
        src, dst = attribution._ends()
        columns |= {"src": src - first, "dst": dst - first}
    return ak.unflatten(ak.zip(columns, depth_limit=1), np.diff(attribution.offsets))


def pyg(attribution: Attribution, event: int) -> Explanation:
    """See `Attribution.to_pyg`."""
    import torch
    from torch_geometric.explain import Explanation

    if attribution.axes not in (("pair",), ("particle",), ("particle", "feature")):
        raise ValueError(f"PyG has no mask for the axes {', '.join(attribution.axes)}")
    one = attribution[np.array([event])]
    graph, (src, dst) = one.events.graph(), one._ends()
    kept: dict[str, Any] = {"x": graph.x, "edge_index": graph.edge_index, "target": graph.y}
    if one.axes[0] == "pair":
        kept |= {
            "edge_index": torch.as_tensor(np.stack([src, dst])),
            "edge_mask": torch.as_tensor(one.values),
        }
    else:
        table = one.values if one.values.ndim > 1 else one.values[:, None]
        mask = np.zeros((one.events.n_particles, table.shape[1]), dtype=table.dtype)
        mask[src] = table
        kept["node_mask"] = torch.as_tensor(mask)
    return Explanation(**kept)


def save(attribution: Attribution, path: str | Path) -> None:
    """See `Attribution.save`."""
    tensors = {
        name: getattr(attribution, name)
        for name in ("values", "self_values", "residual", "output_change", "error")
    }
    if attribution.pairs is not None:
        tensors |= {f"pairs.{end}": getattr(attribution.pairs, end) for end in ENDS}
    kept = {name: getattr(attribution, name) for name in TEXTS}
    kept |= {name: dict(getattr(attribution, name)) for name in ("labels", "settings", "checks")}
    kept["events"] = fingerprint(attribution.events)
    known = {k: v for k, v in tensors.items() if v is not None}
    write_tensors(path, known, {"attribution": json.dumps(kept)})


def read(path: str | Path, events: Events) -> dict[str, Any]:
    """Attributes of what `save` wrote, all but the events; see `Attribution.load`."""
    stored, metadata = read_tensors(path)
    if "attribution" not in metadata or "values" not in stored:
        raise ValueError(f"{path} holds no attribution")
    tensors: dict[str, Any] = dict(stored)
    kept: dict[str, Any] = json.loads(metadata["attribution"])
    if kept.pop("events") != fingerprint(events):
        raise ValueError(f"{path} explains other events than the {len(events)} given")
    if "pairs.src" in tensors:
        tensors["pairs"] = Pairs(*(tensors.pop(f"pairs.{end}") for end in ENDS))
    kept["axes"], kept["concerns"] = tuple(kept["axes"]), tuple(kept.get("concerns", ()))
    kept["labels"] = {k: tuple(v) for k, v in kept["labels"].items()}
    return tensors | kept


def fingerprint(events: Events) -> str:
    """Hash of which events these are and how many particles each has."""
    columns = (events.file, events.entry, events.run, events.event, events.offsets)
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(c, dtype=np.int64).tobytes() for c in columns)
    ).hexdigest()
