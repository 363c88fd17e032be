"""Attributions as safetensors files: arrays, and a header of JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepxai.attribution.pairs import Pairs
from hepxai.core.files import read_tensors, write_tensors
from hepxai.events import Events

ENDS = ("src", "dst", "offsets")
COLUMNS = ("values", "self_values", "residual", "output_change", "error")
EVENT = "event."
"""Prefix of the further numbers about each event."""
TEXTS = ("axes", "method", "target", "concerns", "title", "short_title", "unit", "sign")
MAPPINGS = ("labels", "settings", "checks")


def write(path: str | Path, tensors: Mapping[str, Any], header: Mapping[str, Any], events: Events) -> None:
    """Write arrays and JSON values of an attribution of these events; see `Attribution.save`."""
    text = json.dumps(dict(header) | {"events": events.fingerprint()})
    write_tensors(path, {k: v for k, v in tensors.items() if v is not None}, {"attribution": text})


def read(path: str | Path, events: Events) -> dict[str, Any]:
    """Attributes of a stored attribution of these events; see `Attribution.load`."""
    stored, metadata = read_tensors(path)
    if "attribution" not in metadata or "values" not in stored:
        raise ValueError(f"{path} holds no attribution")
    tensors: dict[str, Any] = dict(stored)
    header: dict[str, Any] = json.loads(metadata["attribution"])
    if header.pop("events") != events.fingerprint():
        raise ValueError(f"{path} explains other events than the {len(events)} given")
    if "pairs.src" in tensors:
        tensors["pairs"] = Pairs(*(tensors.pop(f"pairs.{end}") for end in ENDS))
    columns = {n: tensors.pop(n) for n in list(tensors) if n.startswith(EVENT)}
    header["event_columns"] = {n.removeprefix(EVENT): column for n, column in columns.items()}
    header["axes"], header["concerns"] = tuple(header["axes"]), tuple(header.get("concerns", ()))
    header["labels"] = {k: tuple(v) for k, v in header["labels"].items()}
    return tensors | header
