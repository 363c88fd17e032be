"""Comparison of the maps of a run by their faithfulness, stored in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.core.chunks import evenly_spread
from hepxai.core.files import read_json, replacing, write_json, write_text
from hepxai.core.jagged import IntArray
from hepxai.events import SPLITS, Events
from hepxai.explainers.methods import default_methods, is_default_for, validated_settings
from hepxai.run.manifest import EXPLAINED, RunError
from hepxai.run.run import Run
from hepxai.studies.comparison.faithfulness_table import FaithfulnessTable, compare_maps
from hepxai.studies.comparison.figures import faithfulness_curves

FOLDER = "comparison"
MOST = 64
"""Events that are compared by default."""


def compare_run(
    run: Run,
    methods: Sequence[str] | None = None,
    *,
    target: str | None = None,
    split: str | None = None,
    maximum: int = MOST,
    entry: int | None = None,
    file: str = "",
    truth: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    progress: bool = True,
    **options: Any,
) -> tuple[FaithfulnessTable, Path]:
    """Compare maps of a run, and write the table, its numbers and the curves.

    Parameters
    ----------
    run : Run
        Of a model of images.
    methods : sequence of str, optional
        By default those whose maps the run holds. Maps of others are made here, of these events only, and not
        stored.
    target : str, optional
        By default that of the first stored map.
    split : str, optional
        Events; by default those that the run explains.
    maximum : int
        At most so many events, evenly spread.
    entry : int, optional
        A single event by its entry number in the input file.
    file : str
        Part of the name of that file, if several have this entry.
    truth : str, optional
        Truth mask of the hits.
    settings : mapping
        ``method → settings`` of maps that are made here.
    progress : bool
        Show progress.
    **options
        Of `hepxai.studies.comparison.faithfulness_table.compare_maps`.

    Returns
    -------
    table : FaithfulnessTable
    path : Path
        ``comparison/NAME.json`` in the run folder; ``.csv`` and ``.png`` are beside it.

    Raises
    ------
    RunError
        If the model takes no images, or there are no such events.
    """
    if run.card.view != "image":
        raise RunError(
            "faithfulness is measured by removing pixels of detector images, and the model of this run takes "
            f"the {run.card.view} view of the events; `hepxai report` compares its methods by their agreement"
        )
    chosen = validated_settings(methods, settings or {}, "image", split=split or "test", maximum=maximum)
    rows = _rows(run, split, maximum) if entry is None else _one_row(run.events, entry, file)
    stored = dict(_stored(run, rows))
    target = target or next((a.target for a in stored.values()), _first_target(run))
    stored = {a.method: a for a in stored.values() if a.target == target}
    names = methods or list(stored) or [m for m in default_methods()["image"] if is_default_for(m, run.model)]
    maps = {m: stored[m] if m in stored and not chosen.get(m) else chosen.get(m, {}) for m in names}
    table = compare_maps(run.model, run.events[rows], maps, target, truth=truth, progress=progress, **options)
    path = run.folder / FOLDER / f"{table.target.replace('-', '_')}.json"
    if entry is not None:
        source = run.events.files[run.events.file[rows[0]]].rpartition("/")[2].partition(".")[0]
        path = path.with_stem(f"{path.stem}_{source}_{entry}")
    _write(path, table, {"maps": _hashes(run), "entry": entry, "population": _population(run, rows)})
    return table, path


def stored_comparisons(run: Run) -> list[dict[str, Any]]:
    """Comparisons of the maps that the run holds now, of populations; others are out of date."""
    contents = [read_json(path) for path in sorted((run.folder / FOLDER).glob("*.json"))]
    now = _hashes(run) if contents else {}
    return [c for c in contents if c["maps"] == now and not isinstance(c["entry"], int)]


def _first_target(run: Run) -> str:
    outputs = run.outputs
    classes = run.events.schema.classes
    if len(outputs) == 2 and set(outputs) == set(classes):
        return "-".join(classes[::-1])
    several = len(outputs) > 2 and not run.card.training.regression
    return f"{outputs[-1]}-rest" if several else outputs[0]


def _one_row(events: Events, entry: int, file: str) -> IntArray:
    """Row of the event with an entry number, in the file with this in its name."""
    rows = np.flatnonzero(events.entry == entry)
    names = [events.files[f] for f in events.file[rows]]
    chosen = rows[[file in name for name in names]]
    if len(chosen) == 1:
        return chosen
    where = f" ({', '.join(names)}); choose one by `file`, --file" if names else ""
    raise RunError(f"{len(chosen)} events of the run are entry {entry} of a file{where}; one is needed")


def _rows(run: Run, split: str | None, maximum: int) -> IntArray:
    """Rows of the compared events."""
    events, explained = run.events, run.populations.rows()
    if split is None and explained is not None:
        return explained[evenly_spread(len(explained), maximum)]
    return run.populations.choose(events, split or "test", maximum)


def _stored(run: Run, rows: IntArray) -> Iterator[tuple[str, Attribution]]:
    """Stored maps over pixels, of these events; nothing if one of the events was not explained."""
    explained = run.populations.rows()
    if explained is None or not np.isin(rows, explained).all():
        return
    place = np.searchsorted(explained, rows)
    for name, attribution in run.maps().items():
        if attribution.axes in (PIXELS, CHANNEL_PIXELS):
            yield name, attribution[place]


def _hashes(run: Run) -> dict[str, str]:
    """Hash of every stored map."""
    return {n: h for n, h in run.manifest.names().items() if n.startswith(f"{EXPLAINED}/")}


def _population(run: Run, rows: IntArray) -> str:
    events: Events = run.events[rows]
    splits = " and ".join(SPLITS[s] for s in np.unique(events.split))
    return f"{len(rows):,} {splits} event{'s' if len(rows) != 1 else ''}"


def _write(path: Path, table: FaithfulnessTable, more: Mapping[str, Any]) -> None:
    write_json(path, table.to_json() | dict(more))
    rows, text = list(table.rows()), io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path.with_suffix(".csv"), text.getvalue())
    with replacing(path.with_suffix(".png")) as part:
        faithfulness_curves(table).savefig(part, format="png", dpi=110)
