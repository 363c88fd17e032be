"""File of a trained model of any kind: its arrays, with card and schema in the header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.files import read_tensors, write_tensors
from hepxai.events import Schema
from hepxai.models.card import KINDS, ModelCard, resolve

Arrays = Mapping[str, NDArray[Any]]


def save_model(path: str | Path, arrays: Arrays, card: ModelCard, schema: Schema) -> None:
    """Write a safetensors file, complete or not at all."""
    write_tensors(path, arrays, {"card": card.model_dump_json(), "schema": schema.to_json()})


def load_model(path: str | Path) -> Any:
    """Read a model that `hepxai.fit` trained, of the kind of its card. Executes nothing from the file.

    Returns
    -------
    model
        With ``outputs``, ``logits(events)`` and the abilities of its kind.

    Raises
    ------
    ValueError
        If it is no model of hepxai, or its content disagrees with its card.
    """
    arrays, header = read_tensors(path)
    if not {"card", "schema"} <= header.keys():
        raise ValueError(f"{path} has no hepxai model card in its header; it was not written by hepxai")
    card = ModelCard.model_validate_json(header["card"])
    return resolve(KINDS[card.kind].model).restored(arrays, card, Schema.from_json(header["schema"]))


def bytes_as_array(content: bytes) -> NDArray[np.uint8]:
    """Bytes as a tensor of the file."""
    return np.frombuffer(content, dtype=np.uint8)
