"""A long pass that goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hepxai.attribution.storage import fingerprint
from hepxai.core.console import track
from hepxai.core.files import read_tensors, write_tensors
from hepxai.events import Events

SECONDS = 20.0
"""Between two states that are written."""


class ResumableState:
    """State of a pass in a file, written now and then, complete or not at all; none without a path.

    Attributes
    ----------
    path : Path, optional
    key : str
        Of all that the result depends on; see `key_of`.
    arrays : mapping of str to ndarray
        The state; filled in place.
    """

    def __init__(self, path: str | Path | None, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.path = None if path is None else Path(path)
        self.key, self.arrays = key, arrays

    def blocks(self, name: str, size: int, length: int, *, progress: bool) -> Iterator[slice]:
        """Blocks that are left to do, with a progress bar; the file is removed behind the last.

        Raises
        ------
        ValueError
            If the file is the state of another pass.
        """
        done, written = self._resume(), time.monotonic()
        with track(name, size, show=progress, done=done) as advance:
            while done < size:
                end = min(done + length, size)
                yield slice(done, end)
                advance(end - done)
                done = end
                if time.monotonic() - written >= SECONDS:
                    self._write(done)
                    written = time.monotonic()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _resume(self) -> int:
        if self.path is None or not self.path.exists():
            return 0
        tensors, kept = read_tensors(self.path)
        state = json.loads(kept.get("unfinished", "{}"))
        if state.get("key") != self.key:
            raise ValueError(
                f"{self.path} is the state of something else (models, events, weights or settings "
                "differ); choose another file, or remove it to start afresh"
            )
        for name, array in self.arrays.items():
            array[...] = tensors[name]
        return int(state["done"])

    def _write(self, done: int) -> None:
        if self.path is not None:
            write_tensors(self.path, self.arrays, {"unfinished": json.dumps({"key": self.key, "done": done})})


@runtime_checkable
class HasModule(Protocol):
    """A model that can be told from others by its parameters."""

    @property
    def module(self) -> nn.Module:
        """Torch module that holds them."""
        ...


def key_of(
    models: Sequence[HasModule],
    populations: Sequence[Events],
    weight: NDArray[np.float64],
    settings: Mapping[str, Any],
) -> str:
    """Hash of the parameters of models, of events with what is read of them, of weights and settings."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for model in models:
        for value in model.module.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    for events in populations:
        digest.update(fingerprint(events).encode())
        of_events = (events.globals, events.label, events.targets)
        for column in (events.particles, events.p4, events.type, *of_events, *events.truth.values()):
            digest.update(np.ascontiguousarray(column).data)
    digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()
