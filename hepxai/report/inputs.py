"""Sections on the inputs of a run: samples, weights, cut flow, training, provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hepxai.attribution.spread import TRAINING
from hepxai.core.formatting import general, measured, percentage
from hepxai.datasets.cutflow import CutFlowRow
from hepxai.events import SPLITS, Events
from hepxai.plots.style import canvas, style
from hepxai.plots.training import counted, quantities, quantity_name, time_name, training_curve
from hepxai.report.section import CaptionedFigure, Section, Table, capital
from hepxai.report.view import RunView

SUMS = "Σw ± √Σw²"
OF_TREES = "Dashed: training sample; full: validation sample; both with all trees up to there."
OF_TARGETS = "Losses are in units of the spread of each target in the training sample."


def samples_section(view: RunView) -> Section:
    """Events, signed weight sums and negative fractions by class and split, and by file."""
    rows, files = list(_groups(view.events)), list(_files(view.events))
    cells = [[r["class"], r["split"], *_cells(r), f"{r['particles_per_event']:.2f}"] for r in rows]
    listed = [[r["file"], f"{r['entries']:,}", *_cells(r)] for r in files]
    columns = ["class", "split", "events", SUMS, "negative weights", "particles per event"]
    tables = [
        Table("Selected events by class and split. Weights are signed.", columns, cells, words=2),
        Table(
            f"Input files ({len(files)})",
            ["file", "entries", "selected", SUMS, "negative weights"],
            listed,
            folded=True,
        ),
    ]
    return Section(
        "samples", "Samples", tables=tables, numbers={"by_class_and_split": rows, "by_file": files}
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['events']:,}",
        measured(row["weighted"], row["error"]),
        percentage(row["negative_fraction"], least=1),
    ]


def _groups(events: Events) -> Iterator[dict[str, Any]]:
    for c, name in reversed(list(enumerate(events.schema.classes))):
        for s, split in enumerate((*SPLITS, "all")):
            mask = (events.label == c) & ((events.split == s) | (split == "all"))
            particles = float(events.counts[mask].mean()) if mask.any() else np.nan
            yield {"class": name, "split": split} | _sums(events, mask) | {"particles_per_event": particles}


def _files(events: Events) -> Iterator[dict[str, Any]]:
    for f, (name, entries) in enumerate(zip(events.files, events.file_entries, strict=True)):
        yield {"file": name, "entries": entries} | _sums(events, events.file == f)


def _sums(events: Events, mask: np.ndarray) -> dict[str, Any]:
    weight = events.weight[mask]
    return {
        "events": len(weight),
        "weighted": float(weight.sum()),
        "error": float(np.sqrt(np.sum(weight**2))),
        "negative_fraction": float(np.mean(weight < 0)) if len(weight) else np.nan,
    }


# --- cut flow --------------------------------------------------------------------------------


def cutflow_section(view: RunView) -> Section:
    """Events and weights that remain after each step of the selection, sample by sample."""
    rows = list(_with_efficiencies(view.run.reading.cutflow.rows))
    if not rows:
        text = ["The run recorded no cut flow. A data-set card with a selection records one."]
        return Section("cutflow", "Cut flow", text=text)
    cells = [
        [
            r["sample"],
            r["step"],
            f"{r['entries']:,}",
            measured(r["weighted"], r["error"]),
            *(_percentage(r[k], r[f"{k}_error"]) for k in ("of_previous", "of_first")),
        ]
        for r in rows
    ]
    header = ("sample", "step", "entries", SUMS, "of previous [%]", "of first [%]")
    caption = "Entries and signed weight sums after each step; the fractions are of the weight sums."
    idle = _idle(rows)
    table = Table(caption, header, cells, words=2, folded=bool(idle))
    return Section("cutflow", "Cut flow", text=idle, tables=[table], numbers=rows)


def _idle(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Note on a selection that removes nothing."""
    first = {r["sample"]: r["entries"] for r in reversed(rows)}
    if any(r["entries"] != first[r["sample"]] for r in rows):
        return []
    return [
        "No step removes an event: the input files hold only events that passed these cuts, or tighter ones, "
        "before. Acceptance and efficiency are not to be read off here."
    ]


def _percentage(value: float, error: float) -> str:
    return measured(100 * value, 100 * error) if error > 0 else general(100 * value)


def _with_efficiencies(cutflow: Sequence[CutFlowRow]) -> Iterator[dict[str, Any]]:
    first: dict[str, tuple[float, float]] = {}
    previous: dict[str, tuple[float, float]] = {}
    for row in cutflow:
        sums = (row.weight, row.error)
        whole = {
            "of_previous": previous.get(row.sample, sums),
            "of_first": first.setdefault(row.sample, sums),
        }
        entry = {"sample": row.sample, "step": row.step, "entries": row.entries, "error": row.error}
        entry["weighted"] = row.weight
        for name, of in whole.items():
            entry[name], entry[f"{name}_error"] = efficiency(sums, of)
        yield entry
        previous[row.sample] = sums


def efficiency(part: tuple[float, float], whole: tuple[float, float]) -> tuple[float, float]:
    """Share of a weight sum that passes a cut, and its error.

    With Σw and √Σw² of the events that pass and of all, the part that passes and the part that fails are
    independent: σ² = [(1 - ε)² Σ_pass w² + ε² Σ_fail w²] / (Σw)². Without weights it is the binomial error.
    """
    (passed, error), (total, error_of_total) = part, whole
    if total == 0:
        return float("nan"), float("nan")
    share = passed / total
    failed = max(error_of_total**2 - error**2, 0.0)
    return share, float(np.sqrt((1 - share) ** 2 * error**2 + share**2 * failed) / abs(total))


# --- training --------------------------------------------------------------------------------


def training_section(view: RunView) -> Section:
    """Every recorded quantity against the epoch."""
    recorded = [q for q in quantities(view.history) if q != "seconds"]
    if not recorded:
        text = ["There is no training history: the model was not trained in this run."]
        return Section("training", "Training", text=text)
    columns = list(dict.fromkeys(k for row in view.history for k in row))
    cells = [[general(row.get(k), 5) for k in columns] for row in view.history]
    best, time, number = view.best_epoch, time_name(view.history), len(view.histories)
    best_line = "" if best is None else f"Vertical line: what was kept, {counted(time, best)}. "
    if number > 1:
        best_line = f"One line for each of {number} trainings; the table is of the first. "
    how = OF_TREES if time == "trees" else _of_epochs(view)
    caption = (
        f"Training history, {len(view.history)} rows: {', '.join(map(quantity_name, recorded))}. {how} "
        f"{best_line}Weights are signed, no errors are drawn."
    )
    return Section(
        "training",
        "Training",
        tables=[Table(f"All numbers by {time}", columns, cells, folded=True)],
        figures=[_history_figure(view, recorded, caption)],
        numbers=[
            ({TRAINING: name} if name else {}) | dict(row)
            for name, history in view.histories.items()
            for row in history
        ],
    )


def _of_epochs(view: RunView) -> str:
    return (
        "Dashed: training sample, averaged over the epoch with the dropout and the symmetries of the card, "
        "if it has any; full: validation sample after the epoch, with both off: the two losses do not "
        "compare. "
        f"{OF_TARGETS if view.predictions else _uncalibrated(view)}"
    )


def _uncalibrated(view: RunView) -> str:
    """Note on a high validation loss, with the loss after the calibration."""
    text = (
        "Losses and accuracies are of logits that are not calibrated yet: dropout can make them too large, "
        "so that the validation loss may rise while the AUC improves"
    )
    loss = view.calibrated_loss
    return f"{text}." if loss is None else f"{text}; calibrated, it is {general(loss, 3)} for the kept epoch."


def _history_figure(view: RunView, recorded: list[str], caption: str) -> CaptionedFigure:
    columns = min(len(recorded), 2)
    lines = -(-len(recorded) // columns)
    with style():
        figure, axes = canvas(lines, columns, (5.6 * columns, 3.9 * lines))
        for ax, quantity in zip(axes.flat, recorded, strict=False):
            training_curve(*view.histories.values(), quantity=quantity, best=view.best_epoch, ax=ax)
        for ax in axes.flat[len(recorded) :]:
            ax.remove()
    return CaptionedFigure("training", figure, caption, wide=columns > 1)


# --- provenance ------------------------------------------------------------------------------


def provenance_section(view: RunView) -> Section:
    """Versions, seeds and inputs: one table, and one more for every list of records."""
    recorded = view.run.provenance()
    records = {k: v for k, v in recorded.items() if _is_records(v)}
    rows = [[str(k), _cell(v)] for k, v in recorded.items() if k not in records]
    tables = [Table("What this run was made with", ("", ""), rows, words=2)] if rows else []
    tables += [_records_table(capital(name), value) for name, value in records.items()]
    text = () if tables else ("None was recorded.",)
    return Section("provenance", "Provenance", text=text, tables=tables)


def _is_records(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _records_table(caption: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[_cell(row[c]) if c in row else "–" for c in columns] for row in rows]
    words = [any(isinstance(row.get(c), str) for row in rows) for c in columns]
    return Table(caption, columns, cells, words=words.index(False) if False in words else len(columns))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
