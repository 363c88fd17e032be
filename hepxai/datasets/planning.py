"""Plans of the files of a card: entries, and the columns that the card needs from each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from hepxai.cards import nearest
from hepxai.core.jagged import IntArray
from hepxai.datasets.branches import Column, Names, arrays_of, misread_branches
from hepxai.datasets.building import EventBuilder
from hepxai.datasets.card import NANOAOD, DatasetCard
from hepxai.datasets.columns import Array, Columns, ExpressionError, ReadError, whole_numbers
from hepxai.datasets.context import ExpressionContext
from hepxai.datasets.cutflow import CutFlow
from hepxai.datasets.kinematics import BranchMap
from hepxai.datasets.sources import FileInfo, Listed, NoTreeError, find_files, is_remote, opened, readable


@dataclass(frozen=True)
class FilePlan:
    """One file, and the columns that the card needs from it.

    Attributes
    ----------
    info : FileInfo
    names : Names
        Columns of the tree.
    maps : mapping of str to tuple of BranchMap
        Branches of each particle type.
    identity : mapping of str to str
        Branches of run, luminosity_block and event; empty where there are none.
    replace : mapping of str to callable
        Replacement of missing values, by the names of the columns.
    exchange : mapping of str to str
        Columns that a variation puts in the place of others, by the names of those.
    columns : mapping of str to Column
        Columns to read, by the names under which the card asks for them.
    """

    info: FileInfo
    names: Names
    maps: Mapping[str, tuple[BranchMap, ...]]
    identity: Mapping[str, str]
    replace: Mapping[str, Callable[[Array], Array]]
    exchange: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)

    @property
    def needed(self) -> frozenset[str]:
        """Branches to read."""
        return frozenset(column.branch for column in self.columns.values())

    def context(self, card: DatasetCard, arrays: ak.Array, start: int) -> ExpressionContext:
        """Context of the card's expressions for a chunk that begins at entry ``start``."""
        return self.named(card, arrays_of(self.columns, arrays), np.arange(start, start + len(arrays)))

    def named(
        self, card: DatasetCard, arrays: Mapping[str, ak.Array], entries: IntArray
    ) -> ExpressionContext:
        """Context of the card's expressions for arrays by column name."""
        columns = partial(
            Columns, arrays, all_names=self.names.all_names, replace=self.replace, entries=entries
        )
        nominal = ExpressionContext(card, self.maps, columns(where=str(self.info)))
        if card.variation is None:
            return nominal
        varied = columns(where=f"{self.info} (variation {card.variation})", exchange=self.exchange)
        return ExpressionContext(card, self.maps, varied, nominal)

    @property
    def notes(self) -> list[str]:
        """Notes for the reader of the result."""
        if not self.info.entries:
            return [f"{self.info} has no entries"]
        if self.identity:
            return []
        return [
            f"{self.info} has no event numbers: events are numbered by file and entry, and the split changes "
            "if entries move (name the branches under identity: on the card)"
        ]


def plan_files(card: DatasetCard) -> list[FilePlan]:
    """Plans of all files of a card, checked against it.

    Raises
    ------
    CardError, ReadError
        Problems of any file, or a sample without entries.
    """
    planner = _Planner(card)
    plans = [planner.plan(listed) for listed in find_files(card)]
    for sample in card.samples:
        infos = [p.info for p in plans if p.info.sample == sample.name]
        if not any(info.entries for info in infos):
            raise ReadError(
                f"sample {sample.name!r} has no entries ({', '.join(map(str, infos))}); "
                "take it off the card or give other files"
            )
    return plans


class _Planner:
    """Plans file after file; files with the same columns share the resolved names."""

    def __init__(self, card: DatasetCard) -> None:
        self.card = card
        self._maps: dict[frozenset[str], dict[str, tuple[BranchMap, ...]]] = {}
        self._probed: dict[Any, frozenset[str]] = {}

    def plan(self, listed: Listed) -> FilePlan:
        """Plan of one file."""
        path, tree, sample = listed[:3]
        with _opened(self.card, listed) as opened_tree:
            with readable(f"{path}:{tree}"):
                size = None if is_remote(path) else Path(path).stat().st_size
                info = FileInfo(path, tree, sample, int(opened_tree.num_entries), size)
                names = Names(opened_tree, str(info))
            all_names = names.all_names
            if not info.entries:
                return FilePlan(info, names, {}, _identity(self.card, all_names), {})
            _refuse_names(self.card, info, all_names)
            if all_names not in self._maps:
                types = self.card.particles.items()
                self._maps[all_names] = {
                    t: tuple(BranchMap(b, all_names) for b in p.branches) for t, p in types
                }
            replace_missing = {
                alias: partial(_replaced, self.card, name, str(info))
                for name in self.card.missing
                for alias in names.aliases(names[name])
            }
            plan = FilePlan(
                info,
                names,
                self._maps[all_names],
                _identity(self.card, all_names),
                replace_missing,
                dict(_exchanged(self.card, names, opened_tree)),
            )
            plan = replace(plan, columns=names.resolve(self._needed(plan, opened_tree)))
            if branches := misread_branches(opened_tree, sorted(plan.needed)):
                raise ReadError(
                    f"{info}: branch {branches[0]} holds whole objects, whose bytes uproot "
                    "misreads; write it with a split level (the default of TTree::Branch), or as numbers"
                )
        return plan

    def _needed(self, plan: FilePlan, tree: Any) -> frozenset[str]:
        """Names of the columns that the card asks for."""
        weight = next(s.weight for s in self.card.samples if s.name == plan.info.sample)
        key = (weight, plan.names.all_names)
        needed = self._probed.get(key)
        if needed is None or _types(tree, plan.names, needed) not in self._probed:
            probe = _Probe(plan.names, tree)
            context = plan.named(self.card, probe, np.arange(0))
            EventBuilder(self.card, (plan.info,), CutFlow()).events(context, 0, plan.identity)
            needed = frozenset(probe)
            self._probed[key] = self._probed[_types(tree, plan.names, needed)] = needed
        return needed


class _Probe(dict[str, ak.Array]):
    """Empty columns, created when an expression asks for them: the keys are the columns that a card needs."""

    def __init__(self, names: Names, tree: Any) -> None:
        super().__init__()
        self._names, self._tree = names, tree

    def __missing__(self, name: str) -> ak.Array:
        self[name] = self._names.empty(name, self._tree)
        return self[name]


@contextmanager
def _opened(card: DatasetCard, listed: Listed) -> Iterator[Any]:
    """Open a tree of the card; errors name the line of the card."""
    with ExitStack() as stack:
        try:
            tree = stack.enter_context(opened(listed.path, listed.tree))
        except ReadError as problem:
            place = listed.tree_place if isinstance(problem, NoTreeError) else listed.place
            raise type(problem)(str(card.error(place, str(problem)))) from problem
        yield tree


def _refuse_names(card: DatasetCard, info: FileInfo, all_names: frozenset[str]) -> None:
    for name in card.missing.keys() - all_names:
        raise card.error(("missing", name), f"no branch {name!r} in {info}{nearest(name, all_names)}")
    for name in card.new_variables.keys() & all_names:
        raise card.error(("new_variables", name), f"{name!r} is a branch of {info}; choose another name")


def _exchanged(card: DatasetCard, names: Names, tree: Any) -> Iterator[tuple[str, str]]:
    """Names of the columns that the card's variation exchanges, with those of their substitutes."""
    branches = card.shift.branches
    for name in sorted(branches, key=lambda n: "{}" not in n):  # single branches overrule patterns
        place = (*card.shift.place, "branches", name)
        with card.at(*place):
            for nominal, other in _partners(name, branches[name], names):
                kinds = [names.empty(n, tree).type.content for n in (nominal, other)]
                lists = [not isinstance(kind, ak.types.NumpyType) for kind in kinds]
                if lists[0] != lists[1]:
                    what = [f"{n} holds {k}" for n, k in zip((nominal, other), kinds, strict=True)]
                    raise ExpressionError(f"{' and '.join(what)} in {names.where}; both need the same form")
                yield from ((alias, other) for alias in names.aliases(names[nominal]))


def _partners(name: str, other: str, names: Names) -> list[tuple[str, str]]:
    """Branches of a file that fit to a name or pattern, each with its shifted partner."""
    if "{}" not in name:
        for branch in (name, other):
            if branch not in names.all_names:
                hint = nearest(branch, names.all_names)
                raise ExpressionError(f"no branch {branch!r} in {names.where}{hint}")
        return [(name, other)]
    before, after = name.split("{}")
    fitting = [n for n in names.all_names if n.startswith(before) and n.endswith(after)]
    middles = [n[len(before) : len(n) - len(after)] for n in fitting if len(n) > len(before) + len(after)]
    partners = [(name.replace("{}", m), other.replace("{}", m)) for m in sorted(middles)]
    if not (partners := [(n, o) for n, o in partners if o in names.all_names and o != n]):
        hint = nearest(other.replace("{}", "pt"), names.all_names)
        raise ExpressionError(f"no branch of {names.where} has the form {other}{hint} beside one of {name}")
    return partners


def _types(tree: Any, names: Names, needed: frozenset[str]) -> tuple[tuple[str, str], ...]:
    return tuple((n, str(tree[c.branch].typename)) for n, c in sorted(names.resolve(needed).items()))


def _identity(card: DatasetCard, all_names: frozenset[str]) -> dict[str, str]:
    if declared := card.identity.model_dump(exclude_none=True):
        return declared
    return {k: n for k, n in NANOAOD.items() if n in all_names} if NANOAOD["event"] in all_names else {}


def _replaced(card: DatasetCard, name: str, where: str, content: Array) -> Array:
    """Content with missing values replaced; compared in the type of the branch; NaN matches NaN."""
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
    """Refuse numbers that the branch cannot hold: they would never match, or be stored as other numbers."""
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
    """True if a branch of a type can hold a number."""
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    if dtype.kind == "b":
        return value in (0, 1)
    return math.isfinite(value) and value == int(value) and -(2**63) <= value < 2**64
