"""Content of a ROOT file: trees, branches, types, ranges, and values that look like "missing"."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hepxai.cards import nearest
from hepxai.datasets.branches import Column, Names, misread, one_line_error, read_error
from hepxai.datasets.columns import Array, ReadError, flatten
from hepxai.datasets.sources import open_root, readable, trees_of

Shape = Literal["per event", "per particle", "text", "other"]
#: Numbers that stand for "missing" in files of the field, whatever else a branch holds.
SENTINELS = (-99999.0, -9999.0, -3000.0, -1000.0, -999.0, -99.0, 999.0, 9999.0, 99999.0)
#: Most entries, and most values of all branches together, that are read in some seconds.
_ENTRIES, _VALUES = 10_000, 1_000_000
_Columns = tuple[Column, ...]
_HIDDEN = "hidden by another branch of its name, or of that of what holds it; rename one in the file"


@dataclass(frozen=True)
class BranchReport:
    """One branch.

    Attributes
    ----------
    count : int
        Number of values read.
    low, high, median : float
        Of the finite values that are not suspicious; NaN if there are none.
    sentinels : tuple of (float, int)
        Suspicious values and their numbers.
    size : int
        Values per event of a fixed array such as ``Jet_pt[5]/F``; 0 for other branches.
    problem : str
        Reason why it cannot be read; empty if it can.
    """

    name: str
    type: str
    shape: Shape
    count: int = 0
    low: float = float("nan")
    high: float = float("nan")
    median: float = float("nan")
    nan: int = 0
    inf: int = 0
    sentinels: tuple[tuple[float, int], ...] = ()
    size: int = 0
    problem: str = ""


@dataclass(frozen=True)
class TreeReport:
    """One TTree or RNTuple."""

    name: str
    kind: str
    entries: int
    branches: tuple[BranchReport, ...]

    def names(self, shape: Shape) -> list[str]:
        """Branches of a shape."""
        return [b.name for b in self.branches if b.shape == shape]

    def branch(self, name: str) -> BranchReport:
        """Report of one branch."""
        return next(b for b in self.branches if b.name == name)

    def __rich__(self) -> Table:
        title = Text(f"{self.name} ({self.kind}, {self.entries:,} entries)")
        # In narrow terminals names are wrapped, never cut, and numbers stay whole.
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column, width in (("branch", 14), ("type", 7)):
            table.add_column(column, overflow="fold", min_width=width)
        for column in ("values", "lowest", "median", "highest"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("look out for", overflow="fold", min_width=8)
        for b in self.branches:
            numbers = ["" if np.isnan(v) else f"{v:.4g}" for v in (b.low, b.median, b.high)]
            table.add_row(Text(b.name), Text(b.type), f"{b.count:,}", *numbers, _warning(b))
        return table


@dataclass(frozen=True)
class FileReport:
    """Trees of a ROOT file, those with most entries first; ranges are of the first ``looked_at`` entries."""

    path: str
    looked_at: int
    trees: tuple[TreeReport, ...]

    def __rich__(self) -> Group:
        if not self.trees:
            return Group(Text(f"{self.path} has no TTree and no RNTuple"))
        return Group(Text(f"{self.path}: first {self.looked_at:,} entries"), *self.trees)


def inspect_file(path: str | Path, *, match: str | None = None, entries: int | None = None) -> FileReport:
    """Types and ranges of the branches of every tree of a file; unreadable ones are listed with the reason.

    Parameters
    ----------
    path : path or URL
    match : str, optional
        Pattern of names such as ``Muon_*``; other branches are not read, trees without any left out.
    entries : int, optional
        Entries to read; by default as many as some seconds allow, at most 10,000.

    Raises
    ------
    ReadError
        If the file is missing, truncated or not ROOT, or no branch matches.
    """
    where = str(path)
    with open_root(where) as file:
        with readable(where):
            trees = {name: file[name] for name in trees_of(file)}
            columns = {name: Names(tree, where).columns for name, tree in trees.items()}
        if match is not None:
            columns = _matching(columns, match, where)
        kinds = trees_of(file)
        total = sum(map(len, columns.values()))
        stop = entries or min(_ENTRIES, max(1, _VALUES // max(1, total)))
        reports = [_tree(trees[name], name, kinds[name], columns[name], stop) for name in columns]
    return FileReport(where, stop, tuple(sorted(reports, key=lambda t: -t.entries)))


def _matching(columns: dict[str, _Columns], pattern: str, where: str) -> dict[str, _Columns]:
    matches = {
        n: some
        for n, every in columns.items()
        if (some := tuple(c for c in every if fnmatchcase(c.name, pattern)))
    }
    if not matches:
        names = [c.name for every in columns.values() for c in every]
        raise ReadError(
            f"{where}: no branch matches {pattern!r}{nearest(pattern, names)}; "
            f"there are {len(names):,}, e.g. {', '.join(names[:5])}"
        )
    return matches


def _tree(tree: Any, name: str, kind: str, columns: _Columns, entries: int) -> TreeReport:
    total = int(tree.num_entries)
    stop = min(entries, total)
    arrays = _read(tree, tuple(dict.fromkeys(c.branch for c in columns if not c.hidden)), stop)
    reports = tuple(_report(tree, c, _HIDDEN if c.hidden else arrays[c.branch]) for c in columns)
    return TreeReport(name, kind, total, reports)


def _read(tree: Any, branches: tuple[str, ...], stop: int) -> dict[str, ak.Array | str]:
    """Values of each branch, or why there are none."""
    unread = {b: text for b in branches if (text := _unread(tree[b])) is not None}
    some = [b for b in branches if b not in unread]
    try:
        arrays = tree.arrays(some, entry_stop=stop)
        return unread | {b: Column(b, b).of(arrays) for b in some}
    except MemoryError:
        raise
    except Exception:  # some of them cannot be read: find out which
        return unread | {b: _one(tree[b], stop) for b in some}


def _unread(branch: Any) -> ak.Array | str | None:
    """Empty array, or a reason, for a branch of a TTree that is not read; None for others.

    Text and nested lists have no range. uproot decodes some objects to wrong numbers, and may then ask for
    gigabytes: only those of numbers are safe.
    """
    if not hasattr(branch, "interpretation"):
        return None
    try:
        form = branch.interpretation.awkward_form(branch.file)
    except MemoryError:
        raise
    except Exception as problem:  # uproot says in many ways that a C++ type has no columns
        return f"uproot has no columns for it ({one_line_error(problem)})"
    if not _of_numbers(form):
        return ak.Array(form.length_zero_array())
    return "whole objects, whose bytes uproot misreads" if misread(branch) else None


def _of_numbers(form: Any, lists: int = 0) -> bool:
    if isinstance(form, ak.forms.RecordForm):
        return all(_of_numbers(c, lists) for c in form.contents)
    if isinstance(form, ak.forms.ListOffsetForm | ak.forms.RegularForm):
        return not lists and "__array__" not in form.parameters and _of_numbers(form.content, 1)
    return isinstance(form, ak.forms.NumpyForm)


def _one(branch: Any, stop: int) -> ak.Array | str:
    try:
        return branch.array(entry_stop=stop)
    except MemoryError:
        raise
    except Exception as problem:
        broken = read_error(branch, 0, stop)
        kind = "truncated or damaged" if broken else "unreadable"
        return f"{kind} ({one_line_error(broken or problem)})"


def _report(tree: Any, column: Column, values: ak.Array | str) -> BranchReport:
    if isinstance(values, str):
        return BranchReport(column.name, column.type(tree), "other", problem=values)
    array = values[column.fields] if column.fields else values
    type_ = str(array.type.content) if column.fields else column.type(tree)
    shape = _shape(array)
    size = getattr(array.type.content, "size", 0) if shape == "per particle" else 0
    if shape in ("text", "other") or not len(array):
        return BranchReport(column.name, type_, shape, len(array), size=size)
    numbers = flatten(array)[0] if shape == "per particle" else ak.to_numpy(array)
    finite = numbers[np.isfinite(numbers)]
    sentinels = suspicious(finite)
    clean = finite[~np.isin(finite, [v for v, _ in sentinels])]
    statistics = (clean.min(), clean.max(), np.median(clean)) if len(clean) else (np.nan,) * 3
    nan = int(np.isnan(numbers).sum())
    inf = len(numbers) - len(finite) - nan
    low, high, median = map(float, statistics)
    return BranchReport(column.name, type_, shape, len(numbers), low, high, median, nan, inf, sentinels, size)


def _shape(array: ak.Array) -> Shape:
    kind, lists = array.type.content, 0
    while isinstance(kind, ak.types.ListType | ak.types.RegularType):
        if "__array__" in kind.parameters:
            return "text"
        kind, lists = kind.content, lists + 1
    if not isinstance(kind, ak.types.NumpyType) or np.dtype(kind.primitive).kind not in "biuf":
        return "other"
    return "per event" if lists == 0 else "per particle" if lists == 1 else "other"


def suspicious(values: Array) -> tuple[tuple[float, int], ...]:
    """Values that look like "missing", with their numbers.

    Common sentinels (of whole numbers the negative ones), and one frequent negative whole number below
    values that are never negative.
    """
    if values.dtype.kind == "b" or not len(values):
        return ()
    is_float, low = values.dtype.kind == "f", float(values.min())
    candidates = [v for v in SENTINELS if is_float or v < 0]
    if is_float and low not in candidates and _is_pile(values, low):
        candidates.append(low)
    counts = [(v, int(np.count_nonzero(values == v))) for v in candidates]
    return tuple((v, n) for v, n in counts if n)


def _is_pile(values: Array, low: float) -> bool:
    rest = values[values != low]
    if low >= 0 or low != round(low) or len(rest) == 0 or rest.min() < 0:
        return False
    return len(values) - len(rest) >= 2 and len(np.unique(rest)) > 2


def _warning(branch: BranchReport) -> str:
    parts = [f"{n} {kind}" for n, kind in ((branch.nan, "NaN"), (branch.inf, "infinite")) if n]
    return ", ".join(parts + [f"{n} × {v:g}" for v, n in branch.sentinels]) or branch.problem
