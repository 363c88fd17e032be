"""Uploaded files of one session, and the events and models that they hold."""

from __future__ import annotations

import dataclasses
import re
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from zipfile import ZipFile

import yaml
from numpy.lib import format as npy

from hepxai.app.contents import EVENT_KINDS, MODEL_KINDS, archive_names, check_size, kind_of
from hepxai.app.limits import CARD_CHARACTERS, DAMAGED, FILES, SESSION_BYTES, UNPACKED_BYTES, RefusedError
from hepxai.app.sources import EventFiles, ModelFile
from hepxai.app.unpack import unpack_run
from hepxai.cards import CardError
from hepxai.cards.text import CardDumper, CardReader
from hepxai.core.extras import import_extra
from hepxai.core.files import write_text
from hepxai.datasets import DatasetCard, ReadError, draft_card, inspect_file

CARD = "card.yaml"


class Session:
    """Folder of the uploads of one session, removed with it, and at the end of the process.

    Attributes
    ----------
    path : Path
    count : int
        Folders inside.
    """

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="hepxai-session-"))  # for its owner alone
        self.count = 0
        self._stored: dict[tuple[str, ...], tuple[Path, Any]] = {}
        self._refused: dict[tuple[str, ...], str] = {}
        self._latest: dict[str, tuple[str, ...]] = {}
        self._in_use: tuple[tuple[str, ...], ...] = ()
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def new_folder(self) -> Path:
        """Empty folder for a set of files that belong together."""
        self.count += 1
        folder = self.path / str(self.count)
        folder.mkdir()
        return folder

    def once(self, field: str, files: Sequence[Any], write: Callable[[Path, Sequence[Any]], Any]) -> Any:
        """What ``write`` returns for the files of a field: written once; a refusal is remembered.

        Parameters
        ----------
        field : str
        files : sequence of uploads
            With ``file_id``, ``name``, ``size`` and ``getvalue()``.
        write : callable
            Of an empty folder and the files.

        Raises
        ------
        RefusedError
            If they are refused, without a second look at the same files, or too many bytes in all.
        """
        key = (field, *(f.file_id for f in files))
        if key in self._refused:
            raise RefusedError(self._refused[key])
        if key not in self._stored:
            self._check_room(sum(f.size for f in files))
            folder = self.new_folder()
            try:
                self._stored[key] = folder, write(folder, files)
            except BaseException as problem:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(problem, RefusedError):
                    self._refused[key] = str(problem)
                raise
        self._latest[field] = key
        self._delete_superseded()
        return self._stored[key][1]

    def use_latest(self) -> None:
        """Keep the latest files of each field until the next call, also when others take their place."""
        self._in_use = tuple(self._latest.values())
        self._delete_superseded()

    def _delete_superseded(self) -> None:
        for key in self._stored.keys() - {*self._latest.values(), *self._in_use}:
            shutil.rmtree(self._stored.pop(key)[0], ignore_errors=True)

    def _check_room(self, wanted: int) -> None:
        used = sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())
        if used + wanted > SESSION_BYTES:
            raise RefusedError(
                f"the uploads of this session would be {(used + wanted) / 2**20:,.0f} MB, more than "
                f"{SESSION_BYTES // 2**20:,} MB; reload the page, which begins a new session"
            )


def save(folder: Path, name: str, data: bytes, kinds: Sequence[str]) -> tuple[Path, str]:
    """Write an upload and return its path and kind; it stays only if its content is of one of the kinds.

    Raises
    ------
    RefusedError
        If it is too large, or of another kind; see `hepxai.app.contents.kind_of`.
    """
    path = folder / plain_name(name)
    if path.exists():
        raise RefusedError(f"two files are called {path.name}; rename one")
    check_size(path.name, len(data), kinds)
    path.write_bytes(data)
    try:
        kind = kind_of(path)
        if kind not in kinds:
            wanted = "events: ROOT, Parquet, npz or PNG" if "root" in kinds else "a model"
            raise RefusedError(
                f"{path.name} holds {_NAMES[kind]}; this field is for {wanted}; use the other field"
            )
    except RefusedError:
        path.unlink()
        raise
    return path, kind


_NAMES = {
    **dict.fromkeys(MODEL_KINDS, "a model"),
    **dict.fromkeys(EVENT_KINDS, "events"),
}


def plain_name(name: str) -> str:
    """File name of letters, digits, dot, dash and underscore."""
    last = re.split(r"[\\/]", name)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last).lstrip(".-")[-80:] or "file"


def store_model(folder: Path, files: Sequence[Any]) -> ModelFile:
    """Model of an upload, checked and written to a folder."""
    return model_file(*save(folder, files[0].name, files[0].getvalue(), MODEL_KINDS))


def store_events(folder: Path, files: Sequence[Any]) -> tuple[Path, list[Path], str]:
    """Folder, paths and kind of uploaded events, checked and written.

    Raises
    ------
    RefusedError
        If there are too many, of several kinds, or several of a kind of which one is read.
    """
    if len(files) > FILES:
        raise RefusedError(
            f"{len(files):,} files, more than {FILES:,}; upload fewer (ROOT files are merged by hadd)"
        )
    files_and_kinds = [save(folder, f.name, f.getvalue(), EVENT_KINDS) for f in files]
    kinds = {kind for _, kind in files_and_kinds}
    if len(kinds) > 1 or (len(files_and_kinds) > 1 and kinds & {"parquet", "npz", "events"}):
        raise RefusedError("several event files must be all ROOT or all PNG; upload one file of other kinds")
    return folder, [path for path, _ in files_and_kinds], kinds.pop()


# --- models ----------------------------------------------------------------------------------------------


def model_file(path: Path, kind: str) -> ModelFile:
    """Uploaded model; a run is unpacked beside its archive."""
    if kind != "run":
        return ModelFile(kind, path)
    target = path.with_suffix("")
    target = target.with_name(f"{target.name}_unpacked") if target == path else target
    return ModelFile("run", unpack_run(path, target))


def card_of_run(model: ModelFile | None) -> str:
    """Text of the data-set card of an uploaded run; empty for other models."""
    if model is None or model.kind != "run" or not (model.path / "dataset.yaml").is_file():
        return ""
    return (model.path / "dataset.yaml").read_text(encoding="utf-8", errors="replace")[:CARD_CHARACTERS]


# --- ROOT ------------------------------------------------------------------------------------------------


def classes_by_name(names: Sequence[str]) -> dict[str, str]:
    """Class of each file: its name without a number behind a separator; signal comes last."""
    classes = {name: re.sub(r"[-_.]+\d+$", "", Path(name).stem) for name in names}
    return dict(sorted(classes.items(), key=lambda item: "sig" in item[1].lower()))


def draft_text(paths: Sequence[Path]) -> tuple[str, str]:
    """Text of a card for ROOT files, drafted by the names of the branches of the first; and a sentence.

    The sentence is empty unless no branches look like particles: then the text lists them all.
    """
    report = dataclasses.replace(inspect_file(paths[0]), path=paths[0].name)
    classes = classes_by_name([p.name for p in paths])
    try:
        return draft_card(report, classes), ""
    except ReadError as problem:
        trees = "".join(
            f"# Branches of {t.name}: {', '.join(b.name for b in t.branches)}\n" for t in report.trees
        )
        labels = yaml.safe_dump(list(dict.fromkeys(classes.values())), default_flow_style=True)
        tree = f"tree: {report.trees[0].name}\n" if report.trees else ""
        return f"{trees}name: draft\n{tree}labels: {labels}", str(problem)


def classes_of(text: str) -> tuple[str, ...]:
    """Classes on a card whose samples say which class they are of; empty otherwise."""
    labels = _content(text).get("labels")
    if isinstance(labels, Mapping):
        return () if any(v is not None for v in labels.values()) else tuple(map(str, labels))
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def root_events(folder: Path, text: str, files: Mapping[str, str | None]) -> EventFiles:
    """Events of ROOT files in a folder, with a card that reads these files and no others.

    Parameters
    ----------
    folder : Path
    text : str
        Of a card; its samples are replaced. Data, variations and yields are left out.
    files : mapping of str to str or None
        Class of each file; None where conditions on the card say it.

    Raises
    ------
    CardError, RefusedError
        If the card is wrong.
    """
    content = _content(text)
    for key in ("data", "variations", "variation", "yields", "folder", "samples", "simulation_only"):
        content.pop(key, None)
    samples = [
        {"name": Path(name).stem, "files": [name]} | ({"class": c} if c is not None else {})
        for name, c in files.items()
    ]
    content["samples"] = samples
    if any(c is not None for c in files.values()):
        used = set(files.values())
        content["labels"] = [name for name in classes_of(text) if name in used]
    write_text(folder / CARD, yaml.dump(content, Dumper=CardDumper, sort_keys=False, allow_unicode=True))
    DatasetCard.find(str(folder / CARD))
    return EventFiles("card", (folder / CARD,))


def _content(text: str) -> dict[str, Any]:
    if len(text) > CARD_CHARACTERS:
        raise RefusedError(
            f"the card has {len(text):,} characters, more than {CARD_CHARACTERS:,}; shorten it"
        )
    try:
        content = CardReader(CARD, text).read()
    except yaml.YAMLError as problem:
        raise CardError(f"{CARD} is no YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(content, dict):
        raise CardError(f"{CARD} holds no card; it should be a mapping, `key: value`")
    return content


# --- arrays ----------------------------------------------------------------------------------------------


def arrays_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays of a NumPy archive, whose content is not loaded.

    Raises
    ------
    RefusedError
        If one holds Python objects, which are pickles.
    """
    archive_names(path)
    shapes = {}
    with ZipFile(path) as archive:
        for member in archive.namelist():
            try:
                with archive.open(member) as file:
                    version = npy.read_magic(file)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, kind = read(file)
            except (ValueError, *DAMAGED) as problem:
                raise RefusedError(f"{path.name}: {member} is damaged ({problem}); save it again") from None
            if kind.hasobject:
                raise RefusedError(
                    f"{path.name}: {member} holds Python objects, which are pickles and are never read; save "
                    "plain numbers, as in np.savez(path, x=x.astype('float32'))"
                )
            shapes[member.removesuffix(".npy")] = shape
    return shapes


def columns_in(path: Path) -> tuple[bool, list[str], list[str]]:
    """Of a Parquet file: True if it was written by `Events.save`; list columns, and others.

    Raises
    ------
    RefusedError
        If it is damaged or too large.
    """
    parquet = import_extra("pyarrow.parquet", "a Parquet file", "files")
    try:
        with parquet.ParquetFile(path) as file:
            size = sum(
                file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)
            )
            schema, metadata = file.schema_arrow, file.schema_arrow.metadata or {}
    except (OSError, ValueError) as problem:
        raise RefusedError(f"{path.name} is truncated or damaged ({problem}); write it again") from None
    if size > UNPACKED_BYTES:
        raise RefusedError(f"{path.name} holds {size / 2**20:,.0f} MB of numbers; write fewer events")
    lists = [f.name for f in schema if str(f.type).startswith(("list", "large_list", "fixed_size_list"))]
    return b"hepxai.events" in metadata, lists, [f.name for f in schema if f.name not in lists]
