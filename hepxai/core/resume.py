"""State of a long pass in a file, so that an interrupted pass resumes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hepxai.core.console import track
from hepxai.core.files import read_tensors, write_tensors

SECONDS = 20.0
"""Between two states that are written."""


class ResumableState:
    """State of a pass in a file, written now and then, complete or not at all; none without a path.

    Attributes
    ----------
    path : Path, optional
    key : str
        Hash of everything that the result depends on.
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
