"""State of a long pass in a file, so that an interrupted pass resumes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from hepxai.core.console import track
from hepxai.core.files import read_tensors, write_tensors

SECONDS = 20.0
"""Time between two writes of a state."""
Arrays = Mapping[str, NDArray[Any]]


class StateFile:
    """File with the state of a pass, complete or absent; without a path nothing is stored.

    Attributes
    ----------
    path : Path, optional
    key : str
        Hash of everything that the result depends on; see `hepxai.core.fingerprint`.
    """

    def __init__(self, path: str | Path | None, key: str) -> None:
        self.path, self.key = None if path is None else Path(path), key
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """True if the last write is `SECONDS` ago."""
        return time.monotonic() - self._written >= SECONDS

    def read(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Arrays and other values of the stored state; None without one.

        Raises
        ------
        ValueError
            If the file is the state of another pass.
        """
        if self.path is None or not self.path.exists():
            return None
        arrays, metadata = read_tensors(self.path)
        values = json.loads(metadata.get("state", "{}"))
        if (key := values.pop("key", None)) != self.key:
            self.refuse(str(key))
        return arrays, values

    def refuse(self, key: str) -> NoReturn:
        """Refuse the state of another pass, which has this key."""
        raise ValueError(
            f"{self.path} is the state of something else (models, events, weights or settings "
            "differ); choose another file, or remove it to start afresh"
        )

    def write(self, arrays: Arrays, values: Mapping[str, Any]) -> None:
        """Write a state."""
        if self.path is not None:
            write_tensors(self.path, arrays, {"state": json.dumps({**values, "key": self.key})})
        self._written = time.monotonic()


class ResumableState(StateFile):
    """State of a pass over blocks, in arrays that the caller fills in place.

    Attributes
    ----------
    arrays : mapping of str to ndarray
    """

    def __init__(self, path: str | Path | None, key: str, arrays: Arrays) -> None:
        super().__init__(path, key)
        self.arrays = arrays

    def blocks(self, name: str, size: int, length: int, *, progress: bool) -> Iterator[slice]:
        """Remaining blocks, with a progress bar; the file is removed after the last.

        Raises
        ------
        ValueError
            If the file is the state of another pass.
        """
        done = 0
        if stored := self.read():
            done = int(stored[1]["done"])
            for key, array in self.arrays.items():
                array[...] = stored[0][key]
        with track(name, size, show=progress, done=done) as advance:
            while done < size:
                end = min(done + length, size)
                yield slice(done, end)
                advance(end - done)
                done = end
                if self.due:
                    self.write(self.arrays, {"done": done})
        if self.path is not None:
            self.path.unlink(missing_ok=True)
