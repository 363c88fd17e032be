"""The list of a run's files with their hashes, and the lock that one process at a time holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from hepxai.files import sha256, write_json

NAME = "manifest.json"


class RunError(RuntimeError):
    """A run folder that cannot be used; the message says why and what to do."""


class Manifest:
    """Files of a folder that its owner relies on.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """Whether the folder has a manifest."""
        return (self.folder / NAME).is_file()

    def names(self) -> dict[str, str]:
        """``file → hash``; empty without a manifest."""
        found: dict[str, str] = json.loads((self.folder / NAME).read_text()) if self.exists() else {}
        return found

    def record(self, *names: str) -> None:
        """Enter files that are complete."""
        write_json(self.folder / NAME, self.names() | {n: sha256(self.folder / n) for n in names})

    def verify(self) -> None:
        """Check that every file is inside the folder, there, and as it was entered.

        Raises
        ------
        RunError
        """
        for name, digest in self.names().items():
            path = self.folder / name
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise RunError(f"{self.folder / NAME} lists {name!r}, which is not inside the run folder")
            if not path.is_file():
                raise RunError(f"{path} is missing; the run is not complete any more, start it afresh")
            if sha256(path) != digest:
                raise RunError(f"{path} was changed after the run wrote it; its results cannot be trusted")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the folder.

        Raises
        ------
        RunError
            If one is at it.
        """
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout:
            raise RunError(
                f"another process works on {self.folder}; wait for it, or use another folder"
            ) from None
