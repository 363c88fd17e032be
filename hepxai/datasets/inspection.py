"""What is in a ROOT file: trees, branches, types, ranges, and values that look like "missing"."""

from __future__ import annotations

import dataclasses
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
from hepxai.datasets.columns import Array, ReadError, flatten
from hepxai.datasets.sources import branch_names, field_of, open_root, readable, trees_of

Shape = Literal["per event", "per particle", "text", "other"]
#: Numbers that stand for "missing" in files of the field, whatever else a branch holds.
SENTINELS = (-99999.0, -9999.0, -3000.0, -1000.0, -999.0, -99.0, 999.0, 9999.0, 99999.0)
_BATCH = 200


@dataclass(frozen=True)
class BranchReport:
    """One branch.

    Attributes
    ----------
    name, type : str
    shape : str
        One value "per event", a list of them "per particle", "text", or "other".
    count : int
        Values looked at.
    low, high, median : float
        Of the finite values that are not suspicious; NaN where there are none.
    nan, inf : int
    sentinels : mapping of float to int
        Suspicious values and how often they occur.
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
        # Where room is short, names go on in the next line: they are never cut, and numbers stay whole.
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column, width in (("branch", 14), ("type", 7)):
            table.add_column(column, overflow="fold", min_width=width)
        for column in ("values", "lowest", "median", "highest"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("look out for", overflow="fold", min_width=8)
        for b in self.branches:
            numbers = [_short(v) for v in (b.low, b.median, b.high)]
            table.add_row(Text(b.name), Text(b.type), f"{b.count:,}", *numbers, _warning(b))
        return table


@dataclass(frozen=True)
class FileReport:
    """What is in a ROOT file.

    Attributes
    ----------
    path : str
    looked_at : int
        Entries of each tree that ranges are from.
    trees : tuple of TreeReport
        Those with most entries first.
    """

    path: str
    looked_at: int
    trees: tuple[TreeReport, ...]

    def matching(self, pattern: str) -> FileReport:
        """Only the branches whose names match a pattern such as ``Muon_*``, and the trees that have any.

        Raises
        ------
        ReadError
            If no branch matches.
        """
        kept = (
            dataclasses.replace(t, branches=tuple(b for b in t.branches if fnmatchcase(b.name, pattern)))
            for t in self.trees
        )
        if trees := tuple(t for t in kept if t.branches):
            return dataclasses.replace(self, trees=trees)
        known = [b.name for t in self.trees for b in t.branches]
        raise ReadError(
            f"{self.path}: no branch matches {pattern!r}{nearest(pattern, known)}; "
            f"there are {len(known):,}, e.g. {', '.join(known[:5])}"
        )

    def __rich__(self) -> Group:
        if not self.trees:
            return Group(Text(f"{self.path} has no TTree and no RNTuple"))
        return Group(Text(f"{self.path}: first {self.looked_at:,} entries"), *self.trees)


def inspect_file(path: str | Path, *, entries: int = 10_000) -> FileReport:
    """Look at every branch of every tree of a file.

    Parameters
    ----------
    path : path or URL
    entries : int
        How many entries to look at.

    Raises
    ------
    ReadError
        If the file is missing, truncated or not ROOT.
    """
    with open_root(str(path)) as file, readable(str(path)):
        trees = [_tree(file[name], name, kind, entries) for name, kind in trees_of(file).items()]
    return FileReport(str(path), entries, tuple(sorted(trees, key=lambda t: -t.entries)))


def _tree(tree: Any, name: str, kind: str, entries: int) -> TreeReport:
    names = list(dict.fromkeys(branch_names(tree)))
    stop = min(entries, int(tree.num_entries))
    reports: list[BranchReport] = []
    for i in range(0, len(names), _BATCH):
        reports += _branches(tree, names[i : i + _BATCH], stop)
    return TreeReport(name, kind, int(tree.num_entries), tuple(reports))


def _branches(tree: Any, names: list[str], stop: int) -> list[BranchReport]:
    try:
        arrays = tree.arrays(names, entry_stop=stop)
        columns = {n: field_of(arrays, n) for n in names}
    except MemoryError:
        raise
    except Exception:  # some branch has a type that uproot cannot read: find out which
        columns = {n: _column(tree, n, stop) for n in names}
    return [_report(n, str(tree[n].typename), columns[n]) for n in names]


def _column(tree: Any, name: str, stop: int) -> ak.Array | None:
    try:
        return tree[name].array(entry_stop=stop)
    except MemoryError:
        raise
    except Exception:  # reported as "other", with its type
        return None


def _report(name: str, type_: str, array: ak.Array | None) -> BranchReport:
    shape = _shape(array)
    if array is None or shape in ("text", "other"):
        return BranchReport(name, type_, shape, 0 if array is None else len(array))
    values = flatten(array)[0] if shape == "per particle" else ak.to_numpy(array)
    finite = values[np.isfinite(values)]
    sentinels = suspicious(finite)
    clean = finite[~np.isin(finite, [v for v, _ in sentinels])]
    ends = (clean.min(), clean.max(), np.median(clean)) if len(clean) else (np.nan,) * 3
    low, high, median = (float(v) for v in ends)
    nan = int(np.isnan(values).sum())
    inf = len(values) - len(finite) - nan
    return BranchReport(name, type_, shape, len(values), low, high, median, nan, inf, sentinels)


def _shape(array: ak.Array | None) -> Shape:
    kind = "" if array is None else str(array.type.content)
    if array is None or "{" in kind or "?" in kind or kind.count("*") > 1 or "unknown" in kind:
        return "other"
    if "string" in kind or "char" in kind:
        return "text"
    return "per particle" if kind.startswith("var *") else "other" if "*" in kind else "per event"


def suspicious(values: Array) -> tuple[tuple[float, int], ...]:
    """Values that look like "missing", and how often they occur.

    Known sentinels, of whole numbers the negative ones; and a pile of one negative whole number under
    values that are never negative.
    """
    if values.dtype.kind == "b" or not len(values):
        return ()
    is_float, low = values.dtype.kind == "f", float(values.min())
    known = [v for v in SENTINELS if is_float or v < 0]
    if is_float and low not in known and _is_pile(values, low):
        known.append(low)
    counts = [(v, int(np.count_nonzero(values == v))) for v in known]
    return tuple((v, n) for v, n in counts if n)


def _is_pile(values: Array, low: float) -> bool:
    rest = values[values != low]
    if low >= 0 or low != round(low) or len(rest) == 0 or rest.min() < 0:
        return False
    return len(values) - len(rest) >= 2 and len(np.unique(rest)) > 2


def _short(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"


def _warning(branch: BranchReport) -> str:
    parts = [f"{n} NaN" for n in (branch.nan,) if n] + [f"{n} infinite" for n in (branch.inf,) if n]
    return ", ".join(parts + [f"{n} × {v:g}" for v, n in branch.sentinels])
