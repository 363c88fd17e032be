"""Hashes of values, arrays and models, to tell whether a stored result belongs to what is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def fingerprint(*parts: Any) -> str:
    """SHA-256 of several parts, in hexadecimal.

    Parameters
    ----------
    *parts
        Arrays (hashed with type and shape), torch modules (names and values of their parameters and buffers),
        bytes, or anything that JSON can hold; the order of keys does not matter.
    """
    digest = hashlib.sha256()
    for part in parts:
        _update(digest, part)
    return digest.hexdigest()


def _update(digest: Any, part: Any) -> None:
    if hasattr(part, "state_dict"):
        part = {name: value.detach().cpu().numpy() for name, value in part.state_dict().items()}
    if isinstance(part, np.ndarray):
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data if part.size else b"")
    elif isinstance(part, bytes):
        digest.update(f"{len(part)} bytes".encode() + part)
    elif isinstance(part, Mapping) and any(isinstance(v, np.ndarray) for v in part.values()):
        for name, value in part.items():
            _update(digest, name)
            _update(digest, value)
    else:
        digest.update(json.dumps(part, sort_keys=True).encode())
