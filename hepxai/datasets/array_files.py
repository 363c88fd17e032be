"""Array files as `Events`: structured HDF5 of puma and salt, Parquet with lists, padded arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest
from hepxai.core.extras import import_extra
from hepxai.core.jagged import IntArray, offsets_from_counts
from hepxai.datasets.columns import ReadError
from hepxai.events import P4, Events
from hepxai.events.momenta import NO_MOMENTA, Momenta
from hepxai.events.records import flat_content
from hepxai.events.splits import text_hash

EXTRA = "files"


class FileOptions(TypedDict, total=False):
    """Columns of an array file, beside the features; each is optional.

    Attributes
    ----------
    globals, observers : sequence of str
        Columns with one number per event.
    label : str or sequence of str
        Column of class numbers; or one column of 0 and 1 for each class.
    classes : mapping of str to int, or sequence of str
        Number of each class in the file, by its name; or names for 0, 1, …. For several label columns their
        names, without a prefix ``label_`` by default.
    weight : str
    truth : sequence of str
        Columns with one truth value per particle.
    p4 : str
        Pattern of the columns of the momenta, such as ``part_{}``; "none" if particles have none.
    split : str or Split
        As for `hepxai.events.per_event.PerEvent`; by default a hash of the file name and the row.
    units : mapping of str to str
    limit : int
        First events to read; all by default.
    type : str
        Name of the particle type; "particle" by default.
    """

    globals: Sequence[str]
    observers: Sequence[str]
    label: str | Sequence[str] | None
    classes: Mapping[str, int] | Sequence[str] | None
    weight: str | None
    truth: Sequence[str]
    p4: str
    split: Any
    units: Mapping[str, str] | None
    limit: int | None
    type: str


@dataclass(frozen=True)
class Source:
    """Columns of an array file, read on demand.

    Attributes
    ----------
    where : str
        ``path:dataset``, for messages and `Events.files`.
    entries : int
        Number of events in the file.
    offsets : ndarray, shape [E+1]
    index : ndarray, shape [N]
        Place of each particle in its row of the file.
    names : mapping of str to sequence of str
        Columns with a number per "event", and per "particle".
    read : mapping of str to callable
        Values of a column of each kind by its name, ``[E]`` or ``[N]``.
    """

    where: str
    entries: int
    offsets: IntArray
    index: IntArray
    names: Mapping[str, Sequence[str]]
    read: Mapping[str, Callable[[str], NDArray[Any]]]

    def column(self, kind: str, name: str) -> NDArray[Any]:
        """Values of a column, with similar names in the error if there is none."""
        names = self.names[kind]
        if name not in names:
            there = ", ".join(names[:9]) + (", …" if len(names) > 9 else "")
            raise ReadError(
                f"{self.where} has no {kind} column {name!r}{nearest(name, names)}; there are {there}"
            )
        return self.read[kind](name)

    def columns(self, kind: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Values of several columns."""
        return {name: self.column(kind, name) for name in names}


# --- readers ----------------------------------------------------------------------------------------------


def read_h5(
    path: str | Path,
    features: Sequence[str],
    *,
    events: str = "jets",
    particles: str = "tracks",
    valid: str = "valid",
    **options: Unpack[FileOptions],
) -> Events:
    """Read the structured HDF5 files of puma and salt.

    Parameters
    ----------
    path : path
    features : sequence of str
        Fields of the particles that the model reads.
    events, particles : str
        Datasets with one row per event ``[E]``, and with one row of particles per event ``[E, M]``.
    valid : str
        Field that is true for real particles.
    **options
        Labels, weights and more; see `FileOptions`. Particles have no momenta unless ``p4`` is given.

    Raises
    ------
    ReadError
        If the file, a dataset or a field is missing, or labels or numbers cannot be used.
    """
    h5py = import_extra("h5py", "an HDF5 file", EXTRA)
    with _opened(path, h5py.File) as file:
        jets, tracks = (_structured(file, path, name) for name in (events, particles))
        if tracks.ndim != 2 or len(tracks) != len(jets):
            raise ReadError(f"{path}: {particles} has shape {tracks.shape} for {len(jets)} {events}")
        rows = _rows(options.get("limit"), len(jets))
        if valid not in tracks.dtype.names:
            raise ReadError(
                f"{path}: {particles} has no field {valid!r} for real particles; name it by valid="
            )
        real = tracks.fields(valid)[:rows].astype(np.bool_)
        source = Source(
            f"{path}:{particles}",
            len(jets),
            offsets_from_counts(real.sum(axis=1)),
            np.nonzero(real)[1],
            {"event": jets.dtype.names, "particle": tracks.dtype.names},
            {"event": lambda n: jets.fields(n)[:rows], "particle": lambda n: tracks.fields(n)[:rows][real]},
        )
        return _events(source, features, {"p4": NO_MOMENTA, "type": particles.removesuffix("s"), **options})


def read_parquet(path: str | Path, features: Sequence[str], **options: Unpack[FileOptions]) -> Events:
    """Read a Parquet file with one row per event and lists for the particles, as JetClass may be stored.

    Parameters
    ----------
    path : path
    features : sequence of str
        List columns that the model reads.
    **options
        Labels, weights and more; see `FileOptions`. ``p4`` is ``part_{}`` by default.

    Raises
    ------
    ReadError
        If the file or a column is missing, lists have other lengths, or labels or numbers cannot be used.
    """
    parquet = import_extra("pyarrow.parquet", "a Parquet file", EXTRA)
    with _opened(path, parquet.ParquetFile) as file:
        table, entries = file.schema_arrow, file.metadata.num_rows
        lists = [f.name for f in table if str(f.type).startswith(("list", "large_list", "fixed_size_list"))]
        others = [f.name for f in table if f.name not in lists]
        if features and features[0] not in lists:
            raise ReadError(
                f"{path} has no list column {features[0]!r}{nearest(features[0], lists)}; there are "
                f"{', '.join(lists[:9]) or 'none'}"
            )
        rows = _rows(options.get("limit"), entries)

        def content(name: str) -> tuple[NDArray[Any], IntArray]:
            return flat_content(ak.from_arrow(file.read([name]))[name][:rows], f"{path}: {name}")

        offsets = content(features[0])[1] if features else np.zeros(rows + 1, dtype=np.int64)

        def particle(name: str) -> NDArray[Any]:
            values, ends = content(name)
            if not np.array_equal(ends, offsets):
                row = int(np.argmax(np.diff(ends) != np.diff(offsets)))
                raise ReadError(
                    f"{path}: {name} and {features[0]} have other numbers of values in event {row}"
                )
            return values

        index = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
        names = {"event": others, "particle": lists}
        source = Source(
            f"{path}:rows",
            entries,
            offsets,
            index,
            names,
            {"event": lambda n: content(n)[0], "particle": particle},
        )
        return _events(source, features, {"p4": "part_{}", **options})


def read_padded(
    path: str | Path,
    features: Sequence[str],
    *,
    x: str = "x",
    mask: str | None = "mask",
    **options: Unpack[FileOptions],
) -> Events:
    """Read padded arrays from an HDF5 file or a NumPy archive (``.npz``).

    Parameters
    ----------
    path : path
    features : sequence of str, length F
        Names of the last axis of ``x``.
    x : str
        Array ``[E, M, F]``.
    mask : str, optional
        Array ``[E, M]``, true for real particles; None if particles with only zeros are padding.
    **options
        Labels, weights and more; see `FileOptions`. ``p4`` is ``{}`` by default.

    Raises
    ------
    ReadError
        If the file or an array is missing, shapes differ, or labels or numbers cannot be used.
    """
    is_archive = Path(path).suffix == ".npz"
    opener = np.load if is_archive else import_extra("h5py", "an HDF5 file", EXTRA).File
    with _opened(path, opener) as file:
        names = list(file)
        for name in (x, *([mask] if mask else [])):
            if name not in names:
                raise ReadError(
                    f"{path} has no array {name!r}{nearest(name, names)}; there are {', '.join(names)}"
                )
        entries = len(file[x])
        rows = _rows(options.get("limit"), entries)
        values = np.asarray(file[x][:rows])
        if values.ndim != 3 or values.shape[2] != len(features):
            raise ReadError(
                f"{path}: {x} has shape {values.shape} for {len(features)} features; name each column"
            )
        real = np.asarray(file[mask][:rows]).astype(np.bool_) if mask else values.any(axis=-1)
        real = real.reshape(real.shape[:2])
        if real.shape != values.shape[:2]:
            raise ReadError(f"{path}: {mask} has shape {real.shape} for {x} of shape {values.shape}")
        source = Source(
            f"{path}:{x}",
            entries,
            offsets_from_counts(real.sum(axis=1)),
            np.nonzero(real)[1],
            {"event": names, "particle": list(features)},
            {
                "event": lambda n: np.asarray(file[n][:rows]),
                "particle": lambda n: values[..., list(features).index(n)][real],
            },
        )
        return _events(source, features, {"p4": "{}", **options})


# --- common part ------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: str | Path, opener: Callable[..., Any]) -> Iterator[Any]:
    """Open file, with one line about one that is missing or damaged."""
    if not Path(path).is_file():
        raise ReadError(f"no file {path}; check the path")
    try:
        file = opener(path)
    except Exception as problem:  # each library has errors of its own
        text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise ReadError(f"{path} is damaged, or of another format: {text}") from problem
    with file:
        try:
            yield file
        except (TypeError, ValueError) as problem:
            if isinstance(problem, ReadError):
                raise
            raise ReadError(f"{path}: {problem}") from problem


def _structured(file: Any, path: str | Path, name: str) -> Any:
    if name not in file:
        raise ReadError(f"{path} has no dataset {name!r}; there are {', '.join(file)}")
    if not file[name].dtype.names:
        raise ReadError(f"{path}: {name} has no fields; read_padded reads plain arrays")
    return file[name]


def _rows(limit: int | None, entries: int) -> int:
    if limit is not None and limit < 1:
        raise ReadError(f"limit is {limit}; it should be at least 1, or None for all events")
    return entries if limit is None else min(limit, entries)


def _events(source: Source, features: Sequence[str], options: FileOptions) -> Events:
    """Events from the columns of a file."""
    rows, truth = len(source.offsets) - 1, options.get("truth") or ()
    label, classes = _labels(source, options.get("label"), options.get("classes"))
    weight = options.get("weight")
    columns = source.columns("particle", features)
    name = text_hash(Path(source.where.rpartition(":")[0]).name) >> 32  # the same wherever the file lies
    events = Events.from_arrays(
        np.stack([*columns.values()], axis=1) if columns else np.zeros((source.offsets[-1], 0)),
        list(features),
        offsets=source.offsets,
        types=(options.get("type") or "particle",),
        p4=_p4(source, options["p4"]),
        truth=source.columns("particle", truth),
        label=label,
        classes=classes,
        weight=None if weight is None else source.column("event", weight),
        globals=source.columns("event", options.get("globals") or ()),
        observers=source.columns("event", options.get("observers") or ()),
        identity={"run": np.full(rows, name), "event": np.arange(rows)},
        split=options.get("split"),
        units=options.get("units"),
    )
    return events.replace(index=source.index, files=(source.where,), file_entries=(source.entries,))


def _p4(source: Source, pattern: str) -> Any:
    if pattern == NO_MOMENTA:
        return NO_MOMENTA
    names, what = source.names["particle"], f"{source.where} with the pattern {pattern}"
    try:
        momenta = Momenta.by_pattern(names, lambda n: source.column("particle", n), pattern, what)
    except ReadError:
        raise
    except ValueError as problem:
        raise ReadError(
            f"{problem}; p4 takes a pattern, as in p4='part_{{}}', or p4={NO_MOMENTA!r} if particles have no "
            "momenta"
        ) from None
    return np.stack([momenta[c] for c in P4], axis=1)


def _labels(
    source: Source, label: str | Sequence[str] | None, classes: Mapping[str, int] | Sequence[str] | None
) -> tuple[IntArray | None, Sequence[str] | None]:
    """Class numbers from 0, and class names."""
    if label is None:
        return None, tuple(classes) if classes else None
    if not isinstance(label, str):
        return _one_hot(source, label), tuple(classes or (n.removeprefix("label_") for n in label))
    values = source.column("event", label)
    if not isinstance(classes, Mapping):
        return values, classes
    codes = np.full(len(values), -1)
    for code, number in enumerate(classes.values()):
        codes[values == number] = code
    if (odd := values[codes < 0]).size:
        raise ReadError(
            f"{source.where}: {label} is {odd[0]} in {odd.size} events, which no class has; add it to "
            f"classes, beside {', '.join(f'{n}: {v}' for n, v in classes.items())}"
        )
    return codes, tuple(classes)


def _one_hot(source: Source, names: Sequence[str]) -> IntArray:
    flags = np.stack([source.column("event", n) for n in names]).astype(np.int64)
    if (wrong := np.flatnonzero(flags.sum(axis=0) != 1)).size:
        raise ReadError(
            f"{source.where}: {wrong.size} events, the first {wrong[0]}, have not one label among "
            f"{', '.join(names)}; name the label columns of all classes in the file"
        )
    return np.asarray(flags.argmax(axis=0))
