"""One look at every file before the first event is read: entries, and which branches the card needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from hepxai.cards import nearest
from hepxai.datasets.branches import Column, Names, misread
from hepxai.datasets.card import NANOAOD, DatasetCard
from hepxai.datasets.columns import Array, Branches, ReadError, whole_numbers
from hepxai.datasets.cutflow import CutFlow
from hepxai.datasets.expressions import ExpressionError
from hepxai.datasets.scope import ExpressionContext
from hepxai.datasets.selecting import EventBuilder
from hepxai.datasets.sources import (
    FileInfo,
    Listed,
    NoTreeError,
    find_files,
    is_remote,
    opened,
    readable,
)


@dataclass(frozen=True)
class FilePlan:
    """One file, and what the card needs from it.

    Attributes
    ----------
    info : FileInfo
    names : Names
        Columns of the tree.
    needed : frozenset of str
        Branches to read.
    identity : mapping of str to str
        Branches of run, luminosity_block and event; empty where there are none.
    """

    info: FileInfo
    names: Names
    needed: frozenset[str]
    identity: Mapping[str, str]

    def scope(self, card: DatasetCard, arrays: Any, start: int) -> ExpressionContext:
        """Names of the card's expressions, for a chunk."""
        branches = _branches(card, self, lambda column: column.of(arrays), start)
        return ExpressionContext(card, branches, len(arrays))

    @property
    def notes(self) -> list[str]:
        """What a reader of the result should know."""
        if not self.info.entries:
            return [f"{self.info} has no entries"]
        if self.identity:
            return []
        return [
            f"{self.info} has no event numbers: events are numbered by file and entry, and the split changes "
            "if entries move (identity: on the card names the branches)"
        ]


def plan_files(card: DatasetCard) -> list[FilePlan]:
    """Plans of all files of a card, checked against it.

    Raises
    ------
    CardError, ReadError
        What is wrong with any file, or a sample without entries.
    """
    probed: dict[Any, frozenset[str]] = {}
    plans = [_plan_file(card, probed, listed) for listed in find_files(card)]
    for sample in card.samples:
        ours = [p.info for p in plans if p.info.sample == sample.name]
        if not any(info.entries for info in ours):
            raise ReadError(
                f"sample {sample.name!r} has no entries ({', '.join(map(str, ours))}); "
                "take it off the card or give other files"
            )
    return plans


def _plan_file(card: DatasetCard, probed: dict[Any, frozenset[str]], listed: Listed) -> FilePlan:
    path, tree, sample = listed[:3]
    with _opened(card, listed) as found:
        with readable(f"{path}:{tree}"):
            size = None if is_remote(path) else Path(path).stat().st_size
            info = FileInfo(path, tree, sample, int(found.num_entries), size)
            names = Names(found, str(info))
        known = names.all_names
        plan = FilePlan(info, names, frozenset(), _identity(card, known))
        if not info.entries:
            return plan
        _refuse_names(card, info, known)
        key = (next(s.weight for s in card.samples if s.name == sample), known)
        needed = probed.get(key)
        if needed is None or _types(found, needed) not in probed:
            needed = _probe(card, plan, found)
            probed[key] = probed[_types(found, needed)] = needed
        _refuse_misread(found, info, needed)
    return replace(plan, needed=needed)


@contextmanager
def _opened(card: DatasetCard, listed: Listed) -> Iterator[Any]:
    """A tree that the card lists, open; where that fails, the error has the line of the card."""
    with ExitStack() as stack:
        try:
            tree = stack.enter_context(opened(listed.path, listed.tree))
        except ReadError as problem:
            place = listed.tree_place if isinstance(problem, NoTreeError) else listed.place
            raise type(problem)(str(card.error(place, str(problem)))) from problem
        yield tree


def _refuse_names(card: DatasetCard, info: FileInfo, known: frozenset[str]) -> None:
    for name in card.missing.keys() - known:
        raise card.error(("missing", name), f"no branch {name!r} in {info}{nearest(name, known)}")
    for name in card.new_variables.keys() & known:
        raise card.error(("new_variables", name), f"{name!r} is a branch of {info}; choose another name")


def _refuse_misread(tree: Any, info: FileInfo, needed: frozenset[str]) -> None:
    for branch in sorted(needed):
        if misread(tree[branch]):
            raise ReadError(
                f"{info}: branch {branch} holds whole objects, whose bytes uproot takes apart in the wrong "
                "way; write it with a split level (the default of TTree::Branch), or as numbers"
            )


def _types(tree: Any, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    return tuple((n, str(tree[n].typename)) for n in sorted(names))


def _identity(card: DatasetCard, known: frozenset[str]) -> dict[str, str]:
    given = card.identity.model_dump(exclude_none=True)
    if given:
        return given
    return {k: n for k, n in NANOAOD.items() if n in known} if NANOAOD["event"] in known else {}


def _probe(card: DatasetCard, plan: FilePlan, tree: Any) -> frozenset[str]:
    """Branches that the card asks for, found by evaluating it on none of the entries."""

    def load(column: Column) -> ak.Array:
        try:
            return column.of(ak.Array(column.form(tree).length_zero_array()))
        except MemoryError:
            raise
        except Exception as problem:  # uproot says in many ways that a C++ type has no columns
            kind = column.type(tree)
            raise ExpressionError(
                f"branch {column.name} of {plan.info} has type {kind}, not numbers"
            ) from problem

    branches = _branches(card, plan, load, 0)
    EventBuilder(card, (plan.info,), CutFlow()).events(ExpressionContext(card, branches, 0), 0, plan.identity)
    return frozenset(column.branch for column in branches.used)


def _branches(card: DatasetCard, plan: FilePlan, load: Callable[[Column], ak.Array], start: int) -> Branches:
    where = str(plan.info)
    replaced = {plan.names[name].name: partial(_replaced, card, name, where) for name in card.missing}
    return Branches(load, names=plan.names, replace=replaced, where=where, start=start)


def _replaced(card: DatasetCard, name: str, where: str, content: Array) -> Array:
    """Content with the values that mean "missing" replaced; NaN means NaN.

    Values are compared as the branch holds them: -999.9 of a card is the float32 nearest to it.
    """
    missing = card.missing[name]
    _refuse_unfit(card, name, where, content.dtype)
    if content.dtype.kind == "f":
        values = np.array(missing.values, dtype=np.float64).astype(content.dtype)
        marked = np.isin(content, values)
        if np.isnan(values).any():
            marked |= np.isnan(content)
        return np.where(marked, np.float64(missing.replace).astype(content.dtype), content)
    limits = np.iinfo(np.uint8 if content.dtype.kind == "b" else content.dtype)
    whole = [int(v) for v in missing.values if limits.min <= v <= limits.max]
    marked = np.isin(content, np.array(whole, dtype=content.dtype))
    rest = whole_numbers(np.where(marked, content.dtype.type(0), content))
    if rest.dtype == np.uint64:
        raise card.error(
            ("missing", name, "values"),
            f"{name} of {where} holds {rest.max()}, too, which does not fit into a signed 64-bit integer; "
            "list it here if it means missing",
        )
    return np.where(marked, rest.dtype.type(missing.replace), rest)


def _refuse_unfit(card: DatasetCard, name: str, where: str, dtype: np.dtype[Any]) -> None:
    """Refuse numbers that the branch cannot hold: they would be missed, or written as others."""
    missing = card.missing[name]
    numbers = [(("values", i), v) for i, v in enumerate(missing.values)]
    for place, number in [*numbers, (("replace",), missing.replace)]:
        if not _fits(number, dtype) or (place == ("replace",) and dtype.kind in "iu" and number >= 2**63):
            kinds = {"f": f"{dtype.name} numbers", "b": "true and false (1 and 0)"}
            holds = kinds.get(dtype.kind, "whole numbers of 64 bits")
            raise card.error(
                ("missing", name, *place),
                f"{number} does not fit: {name} of {where} holds {holds}; write one that it can hold",
            )


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a branch of a type can hold a number."""
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    if dtype.kind == "b":
        return value in (0, 1)
    return math.isfinite(value) and value == int(value) and -(2**63) <= value < 2**64
