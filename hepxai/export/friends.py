"""ROOT friend trees: explanations entry by entry beside the input trees."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import uproot
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.files import held, part_of, replacing, write_text
from hepxai.core.jagged import IntArray
from hepxai.events import SPLITS, Events
from hepxai.export.branches import NONE, Branches, Jagged, entry_key, friend_branches
from hepxai.export.rootspec import TREE, friend_names, macro, specification

_CHUNK = 1_000_000  # rows, particles and pairs in one cluster of a tree: some 30 MB of memory


def write_friends(
    folder: str | Path,
    events: Events,
    attributions: Iterable[Attribution] = (),
    *,
    scores: NDArray[np.floating] | None = None,
    predictions: Mapping[str, NDArray[np.floating]] | None = None,
    score_spread: NDArray[np.floating] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write a friend tree per input file, and ``friends.json`` and ``friends.C`` that open them.

    The tree ``hepxai`` has as many entries as the input tree, in its order. At entries that are not
    in ``events``, ``hepxai_selected`` is false, the weight 0, other numbers -999, label, split, run,
    luminosity block and event number -1, lists empty.

    The macro refuses inputs that are missing, or have another number of entries or other events.

    Parameters
    ----------
    folder : path
        Created if missing. All files are written or, on any failure, none: earlier files stay.
    events : Events
    attributions : iterable of Attribution
        Each becomes branches ``hepxai_<method>…`` or, for particles, ``hepxai_particle_<method>…``; neurons
        one list ``hepxai_<method>_<layer>_value`` for each layer. For a map over pixels every particle gets
        the value of the pixel that it lights; values of empty pixels are not written. Of several trainings
        the mean is written, and beside it their standard deviation, ``…_training``. Edges
        from a particle to itself become ``hepxai_particle_<method>_self…``. It may explain a part of the
        events, or a selection of their particles or pairs.
    scores : ndarray, shape [E] or [E, K], optional
        Logits, of the signal or one per class; or predicted values where the schema has no classes.
    predictions : mapping of str to ndarray, shape [E], optional
        Prediction of each target of a regression: ``hepxai_predicted_<target>``.
    score_spread : ndarray, shape of ``scores``, optional
        Standard deviation over trainings: ``hepxai_score_training``.
    overwrite : bool
        Replace the files of an earlier call.

    Returns
    -------
    list of Path
        The friend files, one for each of ``events.files``.

    Raises
    ------
    FileExistsError
        If a file exists and ``overwrite`` is false.
    ValueError
        If events, attributions and scores do not correspond, or two would have the same branch.
    """
    folder, order = Path(folder), _in_entry_order(events)
    attributions = [part for a in attributions for part in _with_self_loops(a)]
    branches = friend_branches(events, attributions, scores, predictions or {}, score_spread)
    title = _title(events, attributions)
    outputs = [folder / name for name in friend_names(events.files)]
    texts = {
        folder / "friends.json": json.dumps(specification(folder, events.files), indent=1) + "\n",
        folder / "friends.C": macro(folder, events, branches),
    }
    if existing := [path for path in (*outputs, *texts) if path.exists() and not overwrite]:
        raise FileExistsError(f"{existing[0]} exists already; choose another folder or overwrite")
    with ExitStack() as all_or_none:
        for output in (*outputs, *texts):
            all_or_none.enter_context(_restoring(output))
        for number, output in enumerate(outputs):
            part = all_or_none.enter_context(replacing(output))
            _write_tree(part, [(branches, _stretches(events, branches, order, number))], title)
        for output, text in texts.items():
            all_or_none.enter_context(replacing(output)).write_text(text, encoding="utf-8")
    return outputs


@dataclass(frozen=True)
class FriendPart:
    """Some entries of one file, for its friend tree; see `write_friends`.

    Attributes
    ----------
    start, stop : int
        Entries.
    events : Events
        All selected events among them, and no others.
    attributions : sequence of Attribution
    scores : mapping
        ``scores``, ``score_spread`` or ``predictions`` of `write_friends`.
    classes : sequence of str
        Of the model.
    """

    start: int
    stop: int
    events: Events
    attributions: Sequence[Attribution]
    scores: Mapping[str, Any]
    classes: Sequence[str]

    def branches(self) -> Branches:
        """All branches of the friend tree."""
        parts = [part for a in self.attributions for part in _with_self_loops(a)]
        scores, spread = self.scores.get("scores"), self.scores.get("score_spread")
        predictions = self.scores.get("predictions", {})
        return friend_branches(self.events, parts, scores, predictions, spread, self.classes)

    def rows(self, branches: Branches) -> Iterator[IntArray]:
        """Events at the entries, -1 for none, stretch by stretch."""
        return _stretches(self.events, branches, _in_entry_order(self.events), 0, self.start, self.stop)


def write_friend(path: Path, parts: Iterable[FriendPart]) -> None:
    """Write the friend tree of one file, part after part by rising entries; complete or not at all.

    Only one part is in memory at a time.
    """
    parts = iter(parts)
    first = next(parts)
    every = (
        (branches, part.rows(branches)) for part in chain([first], parts) if (branches := part.branches())
    )
    with replacing(path) as unfinished:
        _write_tree(unfinished, every, _title(first.events, first.attributions))


def write_specification(folder: Path, names: Sequence[str], events: Events, branches: Branches) -> None:
    """Write ``friends.json`` and ``friends.C``, which open the friend trees of all files of the events.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        Of the friend tree of each file.
    events : Events
    branches : mapping
        Of any of the trees.
    """
    content = json.dumps(specification(folder, events.files, names), indent=1)
    write_text(folder / "friends.json", f"{content}\n")
    write_text(folder / "friends.C", macro(folder, events, branches, names))


def _with_self_loops(attribution: Attribution) -> Iterator[Attribution]:
    """Attribution, and values of edges from a particle to itself as particle values of ``<method>_self``."""
    yield attribution
    loops = attribution.self_loops
    if loops is not None:
        axes, method = ("particle", *loops.axes[1:]), f"{attribution.method}_self"
        yield loops.replace(axes=axes, method=method, concerns=())


@contextmanager
def _restoring(output: Path) -> Iterator[None]:
    """Restore the earlier file, or none, on failure: renames of many files may stop halfway."""
    before, existed = part_of(output.with_name(f"{output.name}.before")), output.exists()
    try:
        if not existed:
            yield
        else:
            try:
                before.hardlink_to(output)  # takes no room
            except OSError:  # a file system without hard links
                shutil.copy2(output, before)
            with held(before):
                yield
    except BaseException:
        if before.exists():
            before.replace(output)
        elif not existed:
            output.unlink(missing_ok=True)
        raise
    finally:
        before.unlink(missing_ok=True)


def _title(events: Events, attributions: Iterable[Attribution]) -> str:
    """Meaning of the integer codes, and caveats of methods, for ``TTree::GetTitle``."""
    codes = {"type": events.schema.types, "label": events.schema.classes, "split": SPLITS}
    parts = [f"{k} " + " ".join(f"{i}={n}" for i, n in enumerate(v)) for k, v in codes.items()]
    caveats = [f"{a.method}: {a.caveat}" for a in attributions if a.caveat]
    return "; ".join([*caveats, *parts])


def _write_tree(path: Path, parts: Iterable[tuple[Branches, Iterator[IntArray]]], title: str) -> None:
    """Write a tree whose parts have the same branches."""
    # ZSTD(1): three times as fast as the default ZLIB(1), and smaller. mktree: assignment makes an RNTuple.
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        tree = None
        for branches, stretches in parts:
            tree = tree or file.mktree(TREE, _types(branches), title=title)
            for rows in stretches:
                tree.extend({name: branch.at(rows) for name, branch in branches.items()})


def _types(branches: Branches) -> dict[str, Any]:
    nothing = np.zeros(0, dtype=np.int64)
    return {
        name: branch.at(nothing).type.content if isinstance(branch, Jagged) else branch.values.dtype
        for name, branch in branches.items()
    }


def _stretches(
    events: Events,
    branches: Branches,
    order: IntArray,
    number: int,
    begin: int = 0,
    end: int | None = None,
) -> Iterator[IntArray]:
    """Events at entries of one file, -1 for none, stretch by stretch."""
    rows_of_file = order[events.file[order] == number]
    entry = events.entry[rows_of_file] - begin
    n = (events.file_entries[number] if end is None else end) - begin
    for start, stop in itertools.pairwise(_cuts(entry, _sizes(branches, rows_of_file), n)):
        low, high = np.searchsorted(entry, [start, stop])
        rows = np.full(stop - start, NONE, dtype=np.int64)
        rows[entry[low:high] - start] = rows_of_file[low:high]
        yield rows


def _sizes(branches: Branches, rows: IntArray) -> IntArray:
    """Particles and pairs to write for each event."""
    total = np.zeros(len(rows), dtype=np.int64)
    for branch in branches.values():
        if isinstance(branch, Jagged):
            total += np.append(np.diff(branch.offsets), 0)[branch.row[rows]]
    return total


def _cuts(entry: IntArray, sizes: IntArray, n: int) -> IntArray:
    """Bounds in [0, n] of stretches with about _CHUNK entries, or particles and pairs."""
    filled = np.cumsum(sizes)
    full = np.arange(_CHUNK, filled[-1] if len(filled) else 0, _CHUNK)
    return np.unique(np.concatenate([np.arange(0, n, _CHUNK), entry[np.searchsorted(filled, full)], [0, n]]))


def _in_entry_order(events: Events) -> IntArray:
    """Events sorted by file and entry; refuses entries outside the files and entries of two events."""
    size = np.asarray(events.file_entries, dtype=np.int64)
    if len(size) != len(events.files):
        raise ValueError(f"{len(size)} numbers of entries for {len(events.files)} files")
    if np.any((events.file < 0) | (events.file >= len(size))):
        raise ValueError(f"some events are in none of the {len(size)} files")
    outside = (events.entry < 0) | (events.entry >= size[events.file])
    order = np.argsort(entry_key(events), kind="stable")
    twice = order[1:][np.diff(entry_key(events)[order]) == 0]
    for rows, wrong in ((np.flatnonzero(outside), "is outside"), (twice, "is claimed by two events of")):
        if len(rows):
            file = events.file[rows[0]]
            raise ValueError(
                f"entry {events.entry[rows[0]]} {wrong} {events.files[file]}, {size[file]} entries"
            )
    return order
