"""Zip archives of run folders, unpacked where nothing can leave the folder."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from hepxai.app.contents import archive_names
from hepxai.app.limits import DAMAGED, FILES, UNPACKED_BYTES, RefusedError

CHUNK = 2**20
WANTED = (".safetensors", ".json", ".yaml", ".npz")
"""Files of a run that the page reads; others, such as figures, stay packed."""


def unpack_run(path: Path, folder: Path) -> Path:
    """Folder of the run in an archive.

    Raises
    ------
    RefusedError
        If a name leads out of the folder, something is a link, encrypted or damaged, or it is too large; if
        it holds no run.
    """
    if len(names := archive_names(path)) > FILES:
        raise RefusedError(f"{path.name} has {len(names):,} files, more than {FILES:,}; leave figures/ out")
    left = UNPACKED_BYTES
    try:
        with ZipFile(path) as archive:
            for member in _members(archive, path.name):
                left -= _write(archive, member, folder / member.filename, left, path.name)
    except (*DAMAGED, OSError, RuntimeError) as problem:
        raise RefusedError(
            f"{path.name} is truncated or damaged ({problem}); make the archive again"
        ) from None
    manifests = sorted(folder.rglob("manifest.json"), key=lambda p: len(p.parts))
    if not manifests:
        raise RefusedError(f"{path.name} holds no run; zip the whole folder, as in `zip -r run.zip my_run`")
    return manifests[0].parent


def _members(archive: ZipFile, name: str) -> Iterator[ZipInfo]:
    """Files to unpack, after a check of all."""
    seen = set()
    for member in archive.infolist():
        parts, mode = PurePosixPath(member.filename).parts, member.external_attr >> 16
        strange = "\\" in member.filename or ":" in member.filename or not member.filename.isprintable()
        if member.filename.startswith("/") or ".." in parts or strange or len(member.filename) > 300:
            raise RefusedError(f"{name} has a file that leads out of its folder; it is not a zipped run")
        if stat.S_ISLNK(mode) or (stat.S_IFMT(mode) and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)):
            raise RefusedError(f"{name} has a link; zip the folder without links, as `zip -r` does")
        if member.flag_bits & 1:
            raise RefusedError(f"{name} is encrypted; zip the folder without a password")
        if member.filename.lower() in seen:
            raise RefusedError(f"{name} has two files of one name; make the archive again")
        seen.add(member.filename.lower())
        if not member.is_dir() and member.filename.endswith(WANTED):
            yield member


def _write(archive: ZipFile, member: ZipInfo, target: Path, left: int, name: str) -> int:
    """Write a file and return its size; what the archive says of it is not believed."""
    size = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, target.open("xb") as written:
        while chunk := packed.read(CHUNK):
            size += len(chunk)
            if size > min(left, member.file_size):
                raise RefusedError(f"{name} becomes larger than it says; it is not a zipped run")
            written.write(chunk)
    return size
