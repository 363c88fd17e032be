"""Columns of a tree by name: full paths, short names where they are unique, members of objects."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import awkward as ak
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.objects import AsObjects, AsStridedObjects

from hepxai.datasets.columns import ExpressionError

_NUMBERS = re.compile(
    r"^(std::)?vector<(unsigned )?(bool|char|short|int|long|long long|float|double|U?\w+_t)>$"
)
_BASIC = 60  # streamer types below it are numbers, and arrays of them
_MEMBERWISE = 1 << 14  # bit of the version that precedes a vector
_HEADER_BYTES = 10_000  # bytes that show how objects are stored


@dataclass(frozen=True)
class Column:
    """A column of a tree.

    Attributes
    ----------
    name : str
        Full path with dots, as ``TTree::Draw`` spells it.
    branch : str
        uproot's name of the branch.
    fields : tuple of str
        Path inside the objects of the branch; empty for a branch of numbers.
    hidden : bool
        Preceded in the tree by another branch with the same name, or with the name of its parent.
    """

    name: str
    branch: str
    fields: tuple[str, ...] = ()
    hidden: bool = False

    def of(self, arrays: ak.Array) -> ak.Array:
        """Values of the column from arrays of the tree."""
        path = self.branch if self.branch in arrays.fields else tuple(self.branch.split("."))
        return arrays[path][self.fields] if self.fields else arrays[path]

    def form(self, tree: Any) -> ak.forms.Form:
        """Awkward form of the branch as a record of one field; reads no values."""
        if is_rntuple(tree):
            return tree[self.branch].to_akform()[0]
        branch = tree[self.branch]
        return ak.forms.RecordForm([branch.interpretation.awkward_form(tree.file)], [self.branch])

    def type(self, tree: Any) -> str:
        """C++ type of a branch, or awkward type of a member of objects; "unknown" if uproot has none."""
        try:
            if not self.fields:
                return str(tree[self.branch].typename)
            return str(self.of(ak.Array(self.form(tree).length_zero_array())).type.content)
        except MemoryError:
            raise
        except Exception:  # uproot cannot parse every type name
            return "unknown"


class Names:
    """Columns of a tree by full path, with dots or slashes, and by the last part of it if that is unique."""

    def __init__(self, tree: Any, where: str) -> None:
        self.where = where
        self.columns = tuple(_columns(tree))
        paths, short = defaultdict(list), defaultdict(list)
        for column in self.columns:
            path = "/".join((column.branch, *column.fields))
            for name in {column.name, path, column.name.replace(".", "/", 1)}:
                paths[name].append(column)
            if not column.fields:
                short[path.rpartition("/")[2]].append(column)
        self._reached: Mapping[str, list[Column]] = short | paths

    @cached_property
    def all_names(self) -> frozenset[str]:
        """All names, including ambiguous ones."""
        return frozenset(self._reached)

    def __getitem__(self, name: str) -> Column:
        """Column of a name; refused if several columns have it, or the column cannot be reached."""
        first, *others = self._reached[name]
        if not others and first.hidden:
            raise ExpressionError(
                f"{name!r} of {self.where} is hidden by another branch with its name, or the name of its "
                "parent; rename one in the file"
            )
        if not others:
            return first
        paths = dict.fromkeys(c.name for c in (first, *others))
        remedy = f"write {' or '.join(paths)}" if len(paths) > 1 else "rename all but one in the file"
        raise ExpressionError(f"{len(others) + 1} branches of {self.where} are called {name!r}; {remedy}")

    def aliases(self, column: Column) -> list[str]:
        """All names of a column."""
        return [name for name, columns in self._reached.items() if columns == [column]]

    def empty(self, name: str, tree: Any) -> ak.Array:
        """Empty array with the type of a column; refused if uproot has no columns for the type."""
        column = self[name]
        try:
            return column.of(ak.Array(column.form(tree).length_zero_array()))
        except MemoryError:
            raise
        except Exception as problem:  # uproot says in many ways that a C++ type has no columns
            raise ExpressionError(
                f"branch {column.name} of {self.where} has type {column.type(tree)}, not numbers"
            ) from problem

    def resolve(self, names: Iterable[str]) -> dict[str, Column]:
        """Columns of several names."""
        return {name: self[name] for name in names}


def arrays_of(columns: Mapping[str, Column], arrays: ak.Array) -> dict[str, ak.Array]:
    """Values of several columns from arrays of the tree."""
    return {name: column.of(arrays) for name, column in columns.items()}


def is_rntuple(tree: Any) -> bool:
    """True for an RNTuple, False for a TTree."""
    return hasattr(tree, "to_akform")


def _columns(tree: Any) -> Iterator[Column]:
    """Columns with values, without fields such as ``_collection0`` of RNTuples, which repeat others."""
    if is_rntuple(tree):
        names = tree.keys()
        records = {n.rpartition(".")[0] for n in names}
        yield from (Column(n, n) for n in names if n not in records and not n.startswith("_"))
        return
    for path, branch in tree.iteritems(filter_branch=lambda b: not b.branches):
        name = _dotted(path)
        hidden = tree.get(path) is not branch
        for fields in _members(branch):
            yield Column(".".join((name, *fields)), path, fields, hidden)


def _dotted(path: str) -> str:
    """Path with dots, ``lep.fP.fX`` for ``lep/fP/fP.fX``: members often repeat the name of their parent."""
    parts = [p.rstrip(".") for p in re.sub(r"\[.*?\]", "", path).split("/")]
    return ".".join(p.removeprefix(f"{before}.") for before, p in zip(["", *parts], parts, strict=False))


def _members(branch: Any) -> list[tuple[str, ...]]:
    """Paths to the values inside the objects of a branch; one empty path for a branch of numbers."""
    if not _may_hold_objects(branch):
        return [()]
    try:
        return list(_fields(branch.interpretation.awkward_form(branch.file)))
    except MemoryError:
        raise
    except Exception:  # no columns: reading the branch reports the reason
        return [()]


def _may_hold_objects(branch: Any) -> bool:
    """False for branches of numbers; avoids uproot's types of the file, a millisecond per branch."""
    if not branch.has_member("fClassName"):
        return len(branch.member("fLeaves")) > 1
    if branch.has_member("fStreamerType") and 0 <= branch.member("fStreamerType") < _BASIC:
        return False  # a member of a split object
    return not _NUMBERS.match(branch.member("fClassName"))


def _fields(form: Any) -> Iterator[tuple[str, ...]]:
    while isinstance(form, ak.forms.ListOffsetForm | ak.forms.RegularForm):
        form = form.content
    record = isinstance(form, ak.forms.RecordForm) and not form.is_tuple
    members = {n: form.content(n) for n in form.fields if n[:1] != "@"} if record else {}  # @: uproot's own
    if not members:
        yield ()
    for name, content in members.items():
        yield from ((name, *rest) for rest in _fields(content))


# --- columns that cannot be read -------------------------------------------------------------------


def misread(branch: Any) -> bool:
    """True for unsplit objects that uproot would decode to wrong numbers.

    uproot ignores the checksum of a class without ``ClassDef``, and member-wise storage of vectors.
    """
    kind: Any = getattr(branch, "interpretation", None)
    in_vector = isinstance(kind, AsJagged) and isinstance(kind.content, AsStridedObjects)
    if not (in_vector or isinstance(kind, AsObjects | AsStridedObjects)) or not branch.num_baskets:
        return False
    start = bytes(branch.basket(0).data[:_HEADER_BYTES])
    memberwise = in_vector and kind.header_bytes and int.from_bytes(start[4:6]) & _MEMBERWISE
    streamers = (s for versions in branch.file.streamers.values() for s in versions.values())
    return bool(memberwise) or any(s.member("fCheckSum").to_bytes(4) in start for s in streamers)


def misread_branches(tree: Any, names: Iterable[str]) -> list[str]:
    """Names of the branches that uproot would decode to wrong numbers."""
    return [name for name in names if misread(tree[name])]


def read_error(branch: Any, start: int, stop: int) -> Exception | None:
    """Error on reading the raw bytes of some entries of a branch, without decoding them; None if readable."""
    for i in range(getattr(branch, "num_baskets", 0)):
        first, last = branch.basket_entry_start_stop(i)
        if first < stop and last > start:
            try:
                branch.basket(i)
            except MemoryError:
                raise
            except Exception as problem:  # zlib, struct, assertions ...: broken bytes can fail anywhere
                return problem
    return None


def one_line_error(problem: Exception) -> str:
    """One-line text of an error of uproot, without its file and object."""
    text = " ".join(str(problem).partition("\nin file ")[0].split())[:120]
    return f"{type(problem).__name__}: {text}"
