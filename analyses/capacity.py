"""How large may a model be: overfitting seen in the importances, and width chosen by conductance.

For a data-set card with `globals`: boosted trees over a grid of depth, number of trees and learning rate,
with the distance between their permutation importances in training and validation events; and a dense
network over a range of widths, its layers shrunk to the neurons that carry its conductance, and trained
again. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch

from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import measured
from hepxai.datasets import DatasetCard, read
from hepxai.events import Events
from hepxai.importance.permutation import permutation_importance
from hepxai.models import ModelCard
from hepxai.report.study import StudyPage
from hepxai.run import Run
from hepxai.scan import Scan
from hepxai.scan.advice import advice
from hepxai.scan.page import write_scan
from hepxai.scan.table import spread_mean
from hepxai.studies.capacity.figures import accuracy_by_width, neurons_by_width
from hepxai.studies.capacity.networks import choose_width
from hepxai.studies.capacity.numbers import WidthPoint
from hepxai.studies.overfitting.figures import distance_against_gap, importance_shift
from hepxai.studies.overfitting.numbers import ImportanceShift

GRID = {"depth": [2, 4, 8], "training.trees": [50, 200, 500], "training.learning_rate": [0.05, 0.2]}
FEW = {"depth": [2, 6], "training.trees": [10, 60]}
KEEP_ALL = ["leaves=null", "training.step=1000", "training.early_stopping=null"]
"""All trees that the grid says are kept, not the best number of them."""
MEASURES = ("train_gap", "importance_distance", "valid_auc", "test_auc")
NEAR = 0.025
"""Gap of accuracy below which points have no room for a letter."""
WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)


def main() -> None:
    """Scan, train, write ``capacity.md``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="charged_higgs", help="data-set card with globals, name or path")
    parser.add_argument("--out", type=Path, default=Path("capacity"), help="folder for everything")
    parser.add_argument("--workers", type=int, default=1, help="processes that train")
    parser.add_argument("--quick", action="store_true", help="small grid, few epochs")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    dataset = DatasetCard.find(chosen.dataset)
    page = StudyPage(chosen.out, "capacity")
    overfitting(page, dataset, workers=chosen.workers, quick=chosen.quick)
    widths(page, read(dataset, progress=True).events, quick=chosen.quick)
    print(page.write(f"# How large a model of {dataset.name} may be"))


# --- overfitting ---------------------------------------------------------------------------------


def overfitting(page: StudyPage, dataset: DatasetCard, *, workers: int, quick: bool) -> None:
    """Distance of the importances in training and validation, over a grid of boosted trees."""
    page.heading("Overfitting, seen in the importances")
    card = ModelCard.find("boosted_trees", KEEP_ALL)
    grid: dict[str, Any] = FEW if quick else GRID
    goals = ["importance_distance", "valid_auc"]
    scan = Scan.start(page.folder / "scan", dataset, card, grid, objectives=goals)
    table = scan.run(workers=workers)
    write_scan(scan)
    rows = []
    for point in table.points:
        settings = {k.rpartition(".")[2]: f"{v:g}" for k, v in point.point.items()}
        key = ", ".join(f"{k} {v}" for k, v in settings.items())
        found = {m: point.trials[0].metrics[m] for m in MEASURES}
        texts = [page.number(f"{m}, {key}", e) for m, e in found.items()]
        rows.append((float(found["train_gap"].value), [*settings.values(), *texts], point))
    rows.sort(key=lambda row: row[0])
    names = [k.rpartition(".")[2].replace("_", " ") for k in grid]
    page.table(
        ("", *names, "accuracy, train − valid", "distance of importances", "AUC (valid)", "AUC (test)"),
        [[letter, *row] for letter, (_, row, _) in zip(ascii_lowercase, rows, strict=False)],
        "Boosted trees, each setting trained once. Distance: length of the difference between the "
        "permutation importances (AUC lost) in training and validation events; errors are those of the "
        "events. A length is never negative, so errors alone make one: it is not to be compared with 0.",
    )
    figures = [point.trials[0].metrics for _, _, point in rows]
    page.text(beyond_errors(figures))
    caption = (
        "Distance of the importances against the gap of accuracy; letters as in the table, but for those "
    )
    caption += "of little gap, which lie together."
    letters = [k if g > NEAR else "" for k, (g, *_) in zip(ascii_lowercase, rows, strict=False)]
    with page.axes("distance_against_gap", caption) as ax:
        gaps, distances = ([f[m] for f in figures] for m in MEASURES[:2])
        distance_against_gap(gaps, distances, letters, ax=ax)
    for name, sentences in advice(table, dataset).items():
        page.text(f"**{name}.** {' '.join(sentences)}")
    for which, (_, _, point) in {"least": rows[0], "most": rows[-1]}.items():
        shift(page, Run.open(scan.trial_folder(point.trials[0])), which)


def beyond_errors(figures: Sequence[Mapping[str, Estimate]]) -> str:
    """Settings whose importances differ by more than in those without a gap; figures by rising gap."""
    gaps, distances = ([f[m] for f in figures] for m in MEASURES[:2])
    null = [float(d.value) for g, d in zip(gaps, distances, strict=True) if g.value <= 2 * g.error]
    if not null:
        return "All settings have a gap of accuracy of more than two errors, so none shows what errors make."
    lowest = [float(d.value - 2 * d.error) for d in distances]
    beyond = [k for k, low in zip(ascii_lowercase, lowest, strict=False) if low > max(null)]
    return (
        f"{len(null)} of {len(gaps)} settings have a gap of accuracy within two errors of 0. Their "
        f"distances, {min(null):.4f} to {max(null):.4f}, are the scale of what errors make. Beyond it by "
        f"more than two of their own errors are {', '.join(beyond) or 'none'}."
    )


def shift(page: StudyPage, run: Run, which: str) -> None:
    """Importances in training and validation of one model of the grid."""
    found = ImportanceShift(
        *(permutation_importance(run.model, evenly(run.events.where(s), 20_000)) for s in ("train", "valid"))
    )
    page.number(f"distance of importances, {which} overtrained", found.distance)
    page.number(f"1 - rank correlation of importances, {which} overtrained", found.rank_distance())
    settings = f"depth {run.card.depth}, {run.card.training.trees} trees"
    page.facts[f"distance of importances by errors alone, {which} overtrained"] = f"{found.floor:.2g}"
    caption = (
        f"Importances in training and validation events, the {which} overtrained of the grid; errors alone "
        f"would make a distance of about {found.floor:.2g}."
    )
    with page.axes(f"shift_{which}", caption, (8, 10)) as ax:
        importance_shift(found, title=settings, ax=ax)


def evenly(events: Events, most: int) -> Events:
    """At most so many events, evenly spread."""
    return events[evenly_spread(len(events), most)]


def seeds(*, quick: bool) -> range:
    """Seeds of models that are trained several times."""
    return range(1, 3 if quick else 4)


# --- width ---------------------------------------------------------------------------------------


def widths(page: StudyPage, events: Events, *, quick: bool) -> None:
    """Accuracy and active neurons over a range of widths, before and after shrinking."""
    page.heading("Width, chosen by conductance")
    card = ModelCard.find("dense", ["training.epochs=3"] if quick else [])
    tried = WIDTHS[1:6:2] if quick else WIDTHS
    number = len(seeds(quick=quick))
    study = choose_width(events, card, tried, folder=page.folder / "widths", seeds=number, progress=True)
    page.table(
        WIDTH_COLUMNS,
        [_row(page, point) for point in study.points],
        f"Mean over {number} seeds ± its standard error; all share their events, whose number makes "
        f"an error of {study.best.statistical('valid'):.1g} of accuracy (valid). Active: the most that any "
        f"seed found, by layer; the others carry together at most {study.spare:.0%} of a layer's "
        "conductance. Change: accuracy (valid) after shrinking less that before, seed by seed.",
    )
    with page.axes("accuracy_by_width", "Before and after layers were shrunk to active neurons.") as ax:
        accuracy_by_width(study, ax=ax)
    with page.axes("neurons_by_width", "Active neurons of each layer.") as ax:
        neurons_by_width(study, ax=ax)
    page.text(" ".join(study.reasons()))
    page.facts["recommended widths"] = ", ".join(map(str, study.widths))


WIDTH_COLUMNS = (
    "width",
    "accuracy (train)",
    "accuracy (valid)",
    "active neurons",
    "shrunk: train",
    "shrunk: valid",
    "change",
)


def _row(page: StudyPage, point: WidthPoint) -> list[str]:
    texts = {
        (after, split): _accuracy(page, point, split, after=after)
        for after in (False, True)
        for split in ("train", "valid")
    }
    active = " + ".join(map(str, point.shrunk))
    before, shrunk = ([texts[after, s] for s in ("train", "valid")] for after in (False, True))
    return [str(point.width), *before, active, *shrunk, _change(page, point)]


def _change(page: StudyPage, point: WidthPoint) -> str:
    if not point.after:
        return "–"
    before, after = (
        np.array([float(t.figures["valid"]["balanced_accuracy"].value) for t in trained])
        for trained in (point.before, point.after)
    )
    return page.number(f"change of accuracy of width {point.width} by shrinking", spread_mean(after - before))


def _accuracy(page: StudyPage, point: WidthPoint, split: str, *, after: bool) -> str:
    found: Estimate = point.mean(split, after=after)
    if not np.isfinite(found.value):
        return "–"
    key = f"accuracy of width {point.width}{', shrunk' if after else ''}, {split}"
    return page.number(key, found) if found.error > 0 else measured(float(found.value))


if __name__ == "__main__":
    main()
