"""Files of a card: search and opening, with errors that name them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import uproot

from hepxai.cards import Place, nearest
from hepxai.core.files import sha256
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.columns import ReadError

_WITH_TREE = re.compile(r"^(?P<path>.+\.root):(?P<tree>[^:]+)$")


class NoTreeError(ReadError):
    """A tree that is not in its file."""


class Listed(NamedTuple):
    """A file that a card lists, and the entries of the card that name it and its tree."""

    path: str
    tree: str
    sample: str
    place: Place
    tree_place: Place


@dataclass(frozen=True)
class FileInfo:
    """One tree of one file.

    Attributes
    ----------
    path, tree, sample : str
    entries : int
    size : int or None
        Bytes; None for remote files.
    """

    path: str
    tree: str
    sample: str
    entries: int
    size: int | None

    def __str__(self) -> str:
        return f"{self.path}:{self.tree}"

    def sha256(self) -> str | None:
        """Hash of the content; None for remote files, which are not fetched."""
        return sha256(self.path) if self.size is not None else None


def is_remote(path: str) -> bool:
    """True if a path is a URL."""
    return "://" in path


def find_files(card: DatasetCard) -> list[Listed]:
    """Every file of the samples, in the order of the card and sorted inside a glob.

    Raises
    ------
    CardError
        If nothing matches, or a file is listed twice; data count, too, so that none is in the simulation.
    """
    files: dict[tuple[str, str], Listed] = {}
    for listed in _listed(card):
        if (before := files.get(listed[:2])) is not None:
            raise card.error(
                listed.place,
                f"{listed.path}:{listed.tree} is listed twice (also in sample {before.sample!r}); "
                "list it once",
            )
        files[listed[:2]] = listed
    return [listed for listed in files.values() if listed.place[0] == "samples"]


def _listed(card: DatasetCard) -> Iterator[Listed]:
    """Files of the samples, then those of the data that are there."""
    samples = [("samples", i, s.name, s.files) for i, s in enumerate(card.samples)]
    data = [("data", i, s.name, s.files) for i, s in enumerate(card.data)]
    for key, i, name, files in samples + data:
        for j, text in enumerate(files):
            place: Place = (key, i, "files", j)
            with_tree = _WITH_TREE.match(text)
            pattern, tree = with_tree.groups() if with_tree else (text, card.tree)
            for path in _matches(card, pattern, place):
                yield Listed(path, tree, name, place, ("tree",) if pattern == text else place)


def _matches(card: DatasetCard, pattern: str, place: Place) -> list[str]:
    path = pattern if is_remote(pattern) else str(Path(card.folder) / Path(pattern).expanduser())
    if not any(c in pattern for c in "*?[") or Path(path).is_file():
        return [path]
    if is_remote(path):
        filesystem, remote = fsspec.core.url_to_fs(path)
        matches = [filesystem.unstrip_protocol(f) for f in sorted(filesystem.glob(remote))]
    else:
        anchor = Path(path).anchor
        matches = [str(p) for p in sorted(Path(anchor).glob(str(Path(path).relative_to(anchor))))]
    if not matches and place[0] == "samples":  # data are not needed for a training
        raise card.error(place, f"no file matches {path}; check the folder and the pattern")
    return matches


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turn any error of uproot on broken data into a `ReadError` that names the file."""
    try:
        yield
    except (ReadError, MemoryError):  # too little memory is not the file's fault
        raise
    except Exception as problem:  # zlib, struct, assertions ...: a broken file can fail anywhere
        reason = " ".join(str(problem).split())[:200]
        damaged = "the file is truncated or damaged, copy it again or take it off the card"
        remedy = "check the address and the network" if is_remote(where) else damaged
        raise ReadError(
            f"{where}: cannot be read ({type(problem).__name__}: {reason}); {remedy}"
        ) from problem


@contextmanager
def opened(path: str, tree: str) -> Iterator[Any]:
    """A tree (TTree or RNTuple), open.

    Raises
    ------
    ReadError
        If the file is missing, truncated or not ROOT, or the tree is not in it.
    """
    with open_root(path) as file:
        with readable(path):
            trees = trees_of(file)
        if tree not in trees:
            have = ", ".join(trees) or "none"
            raise NoTreeError(f"{path}: no tree {tree!r}{nearest(tree, trees)}; it has {have}")
        with readable(f"{path}:{tree}"):
            content = file[tree]
        yield content


@contextmanager
def open_root(path: str) -> Iterator[Any]:
    """A ROOT file, open."""
    if not is_remote(path):
        _require_root(path)
    with readable(path):
        file = uproot.open(path)
        if not is_remote(path) and (size := Path(path).stat().st_size) < file.file.fEND:
            raise OSError(f"{size:,} of {file.file.fEND:,} bytes are there")
    with file:
        yield file


def _require_root(path: str) -> None:
    local = Path(path)
    if local.is_dir():
        raise ReadError(f"{path}: is a folder; give the path of a ROOT file")
    if not local.is_file():
        names = [p.name for p in local.parent.iterdir()] if local.parent.is_dir() else []
        raise ReadError(f"{path}: does not exist{nearest(local.name, names)}; give the path of a ROOT file")
    with local.open("rb") as file:
        magic = file.read(4)
    if magic != b"root":
        what = f"starts with {magic!r}" if magic else "is empty"
        raise ReadError(f"{path}: not a ROOT file ({what}); give a file made by ROOT or uproot")


def trees_of(file: Any) -> dict[str, str]:
    """Name and kind (TTree or RNTuple) of every tree of a file, in folders too."""
    kinds = {"TTree": "TTree", "TNtuple": "TTree", "TNtupleD": "TTree", "ROOT::RNTuple": "RNTuple"}
    return {k: kinds[c] for k, c in file.classnames(cycle=False).items() if c in kinds}
