"""Files that are complete or absent: write to a temporary name, flush, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


class DiskFullError(OSError):
    """No room for a file; nothing of it was left behind."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it on success, remove it on failure.

    Raises
    ------
    DiskFullError
        Where the disk or the quota is full.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f"{final.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(final)
    except (OSError, SafetensorError) as error:
        if _is_full(error):
            raise DiskFullError(errno.ENOSPC, "disk full, nothing was written", str(final)) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _is_full(error: OSError | SafetensorError) -> bool:
    if isinstance(error, DiskFullError):  # names the right file already
        return False
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"os error {errno.ENOSPC}" in str(error)  # safetensors keeps the number only in its message


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, complete or not at all; NaN and infinity become null (JSON has none)."""
    write_text(path, json.dumps(_plain(value), indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Content of a JSON file; null, which stands for what JSON cannot write, is NaN."""
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
    """Write a safetensors file, complete or not at all."""
    solid = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    with replacing(path) as part:
        save_file(solid, part, metadata=dict(metadata))


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
