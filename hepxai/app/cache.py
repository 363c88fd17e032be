"""Results by the hash of everything that they depend on."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from hepxai.app.limits import CACHE_BYTES


class Cache:
    """Values by key, the least recently used of which go first.

    Two sessions share a value only if they have the same model, events and settings.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self._values: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        """Value, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: str, value: Any) -> None:
        """Store a value; one larger than the limit stays until the next one."""
        with self._lock:
            self._values[key] = (value, size_of(value))
            self._values.move_to_end(key)
            while sum(s for _, s in self._values.values()) > self.limit and len(self._values) > 1:
                self._values.popitem(last=False)


def size_of(value: Any) -> int:
    """Bytes of the arrays in a value, about."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(size_of, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(size_of(getattr(value, f.name)) for f in dataclasses.fields(value))
    return 64


RESULTS = Cache()
"""Results of this process."""
