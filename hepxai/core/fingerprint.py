"""Hashes of values, arrays and models, to check that a stored result belongs to a request."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np


def fingerprint(*parts: Any) -> str:
    """SHA-256 of several parts, in hexadecimal.

    Parameters
    ----------
    *parts
        Arrays (hashed with type and shape), torch modules or models with a ``module`` (names and values of
        its parameters and buffers), `Events` (all that a model may read), or anything that JSON can hold; the
        order of its keys does not matter.
    """
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        digest.update(b"\0" if number else b"")  # (1, 23) is not (12, 3)
        _update(digest, part)
    return digest.hexdigest()


def _update(digest: Any, part: Any) -> None:
    if hasattr(part, "module"):
        part = part.module
    if hasattr(part, "state_dict"):
        for name, value in part.state_dict().items():
            _update(digest, name)
            _update(digest, value.detach().cpu().numpy())
    elif isinstance(part, np.ndarray):
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data if part.size else b"")
    elif hasattr(part, "fingerprint"):
        digest.update(part.fingerprint(values=True).encode())
    else:
        digest.update(json.dumps(part, sort_keys=True).encode())
