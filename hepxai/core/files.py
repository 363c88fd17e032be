"""Atomic writing of files (temporary name, flush, rename), and locks of folders."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

_PART = re.compile(r"\.\d+\.part$")
_DTYPES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
}
"""Names of numpy's types in safetensors."""


class DiskFullError(OSError):
    """Full disk or quota; the incomplete file was removed."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it on success, remove it on failure.

    The temporary file exists already, with the mode of the umask. Those of killed processes are removed.

    Raises
    ------
    DiskFullError
        If the disk or the quota is full.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(final.parent, f"{glob.escape(final.name)}.*")
    part = part_of(final)
    try:
        with held(part):
            try:
                yield part
                with part.open("rb") as written:
                    os.fsync(written.fileno())
                part.replace(final)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        if isinstance(error, DiskFullError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise  # the innermost file is the one to name
        raise DiskFullError(errno.ENOSPC, "disk full, nothing was written", str(final)) from error


# --- files of processes that died ----------------------------------------------------------------


def part_of(path: Path) -> Path:
    """Name under which this process writes a file; see `remove_leftovers`."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock a file, created if missing. The writer of a ``.part`` file without a lock is dead."""
    descriptor = _open_locked(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # removed as a leftover between the two lines above
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def remove_leftovers(folder: Path, pattern: str = "*") -> None:
    """Remove each ``NAME.PID.part`` that no living process is writing.

    Parameters
    ----------
    folder : Path
    pattern : str
        Pattern of ``NAME.PID``, as for `pathlib.Path.glob`; ``**/*`` includes subfolders.
    """
    for path in folder.glob(f"{pattern}.part"):
        if _PART.search(path.name):
            with (
                suppress(OSError),
                path.open("rb+") as opened,
            ):  # locked by its writer, or not for us to remove
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def holds_only(folder: Path, texts: Mapping[str, str], others: Collection[str]) -> bool:
    """True if a folder has only files with these texts or with other given names, complete or partial."""
    names = {_PART.sub("", path.name) for path in folder.iterdir()} if folder.is_dir() else set()
    files = {folder / name: text for name, text in texts.items()}
    same = all(file.read_text(encoding="utf-8") == text for file, text in files.items() if file.exists())
    return same and names <= {*texts, *others}


# --- folders -------------------------------------------------------------------------------------


@contextmanager
def locked(folder: Path, error: type[Exception]) -> Iterator[None]:
    """Lock a folder against other processes.

    Raises
    ------
    Exception
        Of the given type, if another process holds the lock.
    """
    refuse_links(folder, ".lock")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise error(f"another process works on {folder}; wait for it, or use another folder") from None
    try:
        yield
    finally:
        lock.release()


def refuse_links(folder: Path, *patterns: str) -> None:
    """Refuse links that lead out of a folder: writing through them would replace files elsewhere.

    Parameters
    ----------
    folder : Path
    *patterns : str
        Patterns of the paths to check, as for `pathlib.Path.glob`.

    Raises
    ------
    ValueError
        If there is such a link.
    """
    inside = folder.resolve()
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if path.is_symlink() and not (target := path.resolve()).is_relative_to(inside):
            raise ValueError(
                f"{path} is a link to {target}, outside of {folder}, and nothing is written through it; "
                f"remove the link, or take a copy without links: `cp -rL {folder} {folder}-copy`"
            )


# --- content -------------------------------------------------------------------------------------


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, complete or not at all; NaN and infinity become null (JSON has none)."""
    write_text(path, json.dumps(_plain(value), indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Content of a JSON file; null becomes NaN, see `write_json`."""
    return _numbers(json.loads(Path(path).read_text(encoding="utf-8")))


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return math.nan if value is None else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_tensors(path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, complete or not at all. Equal content gives equal bytes.

    The writer of safetensors itself stores the metadata in random order, in files that only their owner can
    read.
    """
    solid = {name: _little_endian(values) for name, values in tensors.items()}
    order = sorted(solid, key=lambda name: (-solid[name].itemsize, name))  # so that all are aligned
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        start, end = end, end + solid[name].nbytes
        entry = {"dtype": _DTYPES[solid[name].dtype.name], "shape": solid[name].shape}
        header[name] = entry | {"data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as part, part.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            opened.write(solid[name].data if solid[name].size else b"")


def _little_endian(values: NDArray[Any]) -> NDArray[Any]:
    solid = np.ascontiguousarray(values)
    return solid.astype(solid.dtype.newbyteorder("<"), copy=False)


def read_tensors(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises
    ------
    ValueError
        If the file is truncated or is not a safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as opened:
            return {k: opened.get_tensor(k) for k in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from error


def sha256(path: str | Path) -> str:
    """Hash of a file's content."""
    with Path(path).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
