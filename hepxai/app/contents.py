"""Kinds of uploaded files, by their content: a name proves nothing."""

from __future__ import annotations

import pickletools
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

from hepxai.app.limits import DAMAGED, EVENT_BYTES, MODEL_BYTES, RATIO, UNPACKED_BYTES, RefusedError

EVENT_KINDS = ("root", "parquet", "npz", "png", "events")
MODEL_KINDS = ("run", "onnx", "xgboost", "lightgbm", "skops")
NO_PICKLE = (
    "a pickle, which could execute anything when it is read, so it is never opened; save the model as ONNX, "
    "as an XGBoost JSON (save_model), by skops, or zip the folder of a hepxai run"
)
NO_PYTHON = (
    "Python source, which the page never executes; save the model as ONNX, or use `hepxai run --model "
    "FILE.py:FUNCTION` on your own machine"
)
_MAGIC = {
    b"root": "root",
    b"PAR1": "parquet",
    b"\x89PNG\r\n\x1a\n": "png",
    b"{": "xgboost",
    b"tree\n": "lightgbm",
}
_START, MANY_STEPS = 4096, 50
_PYTHON = re.compile(rb"^\s*(#!.*python|import \w|from [\w.]+ import |def \w+\(|class \w+[(:])", re.MULTILINE)
_SECONDS_OF_PACKING = {b"\x1f\x8b": 31, b"\x78\x01": 15, b"\x78\x9c": 15, b"\x78\xda": 15}
"""First bytes of gzip and zlib, and the window size with which zlib reads them."""


def kind_of(path: Path) -> str:
    """Kind of a file, one of `EVENT_KINDS` or `MODEL_KINDS`.

    Raises
    ------
    RefusedError
        If it is a pickle, also inside an archive, or Python, a program, damaged, or none of these kinds.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    if not start:
        raise RefusedError(f"{path.name} is empty; choose the file again")
    _refuse_code(path.name, start)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    if start[:2] == b"PK":
        return _kind_of_archive(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < MODEL_BYTES:
        if b'"hepxai.events"' in start:
            return "events"
        raise RefusedError(
            f"{path.name} is a safetensors file alone; zip the whole folder of the run, with its cards"
        )
    if start[:1] == b"\x08":  # the first field of a model in ONNX is its version
        return "onnx"
    raise RefusedError(
        f"{path.name} is of no kind that the page reads; events: ROOT, Parquet, npz or PNG; models: the zip "
        "of a run folder, ONNX, XGBoost JSON or skops"
    )


def _refuse_code(name: str, start: bytes) -> None:
    packed = _SECONDS_OF_PACKING.get(start[:2])
    if packed is not None:
        try:
            start = zlib.decompressobj(packed).decompress(start, _START)
        except zlib.error:
            raise RefusedError(f"{name} is damaged, or compressed in an unknown way; unpack it") from None
    if (start[:1] == b"\x80" and start[1:2] <= b"\x06") or _is_old_pickle(start):
        raise RefusedError(f"{name} is {NO_PICKLE}")
    if start[:4] == b"\x7fELF" or start[:2] == b"MZ":
        raise RefusedError(f"{name} is a program; the page executes nothing that is uploaded")
    if start[:1] not in (b"{", b"t") and b"\0" not in start and _PYTHON.search(start):
        raise RefusedError(f"{name} is {NO_PYTHON}")
    if packed is not None:
        raise RefusedError(f"{name} is compressed; unpack it and upload the file inside")


def _is_old_pickle(start: bytes) -> bool:
    """True for the first two protocols, which have no magic number; nothing is loaded."""
    if not start.isascii() and start[:1] not in b"(]})K":
        return False
    steps = 0
    try:
        for _ in pickletools.genops(start):
            steps += 1
    except (ValueError, IndexError, UnicodeError):
        return len(start) == _START and steps > MANY_STEPS
    return True


def _kind_of_archive(path: Path) -> str:
    names = archive_names(path)
    last = {name.rpartition("/")[2] for name in names}
    if any(n.endswith((".pkl", ".pickle", ".pt", ".pth", ".joblib")) for n in last):  # torch.save, above all
        raise RefusedError(f"{path.name} holds {NO_PICKLE}")
    if "schema.json" in names:
        return "skops"
    if "manifest.json" in last:
        return "run"
    if names and all(n.endswith(".npy") for n in names):
        return "npz"
    raise RefusedError(
        f"{path.name} is an archive without a run (manifest.json), arrays (.npy) or a skops model; zip the "
        "whole folder of a run, as in `zip -r run.zip my_run`"
    )


def archive_names(path: Path) -> list[str]:
    """Names in a zip archive.

    Raises
    ------
    RefusedError
        If it is damaged, or would be too large when it is unpacked.
    """
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
    except (*DAMAGED, OSError, ValueError) as problem:
        raise RefusedError(
            f"{path.name} is truncated or damaged ({problem}); make the archive again"
        ) from None
    whole, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if whole > UNPACKED_BYTES or whole > RATIO * max(packed, 1000):
        raise RefusedError(
            f"{path.name} would become {whole / 2**20:,.0f} MB when it is unpacked; the page takes "
            f"{UNPACKED_BYTES // 2**20} MB, and at most {RATIO} times the packed size"
        )
    return [m.filename for m in members]


def check_size(name: str, size: int, kinds: Iterable[str]) -> None:
    """Refuse a file that is too large for its kind."""
    events = bool(set(kinds) & set(EVENT_KINDS))
    limit, fewer = (EVENT_BYTES, "give fewer events") if events else (MODEL_BYTES, "give a smaller model")
    if size > limit:
        raise RefusedError(
            f"{name} has {size / 2**20:,.0f} MB, more than {limit // 2**20} MB; {fewer}, or use the command "
            "line, which has no limit"
        )
