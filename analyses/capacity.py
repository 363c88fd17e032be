"""Capacity of a model: overfitting seen in the importances, and width chosen by conductance.

For a data-set card with `globals`: boosted trees over a grid of settings, and dense networks of several
widths, trained again with the neurons that carry their conductance. Writes a page, figures and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from string import ascii_lowercase

import numpy as np

from hepxai import DatasetCard, Events, ModelCard, Run, Scan, read
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import general
from hepxai.importance.permutation import permutation_importance
from hepxai.metrics.averages import spread_mean
from hepxai.report.study import StudyPage, study_options
from hepxai.scan import advice, write_scan
from hepxai.studies.capacity.figures import accuracy_by_width, neurons_by_width
from hepxai.studies.capacity.networks import choose_width
from hepxai.studies.capacity.numbers import WidthPoint
from hepxai.studies.overfitting.figures import distance_against_gap, importance_shift
from hepxai.studies.overfitting.numbers import ImportanceShift

GRID = {"depth": [2, 4, 8], "training.trees": [50, 200, 500], "training.learning_rate": [0.05, 0.2]}
QUICK_GRID = {"depth": [2, 6], "training.trees": [10, 60]}
ALL_TREES = ["leaves=null", "training.step=1000", "training.early_stopping=null"]
"""All trees of the grid, not the best number of them."""
GAP, DISTANCE = "train_gap", "importance_distance"
METRICS = (GAP, DISTANCE, "valid_auc", "test_auc")
CROWDED = 0.025
"""Gap of accuracy below which points have no room for a letter."""
WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)


def main() -> None:
    """Scan, train, write ``capacity.md``."""
    options = study_options(__file__, __doc__, dataset="charged_higgs", quick="small grid, few epochs")
    page = StudyPage(options.out, "capacity")
    overfitting(page, options.dataset, workers=options.workers, quick=options.quick)
    widths(page, read(options.dataset, progress=True).events, quick=options.quick)
    print(page.write(f"# Capacity of models of {options.dataset.name}"))


def overfitting(page: StudyPage, dataset: DatasetCard, *, workers: int, quick: bool) -> None:
    """Distance of the importances in training and validation, over a grid of boosted trees."""
    page.heading("Overfitting, seen in the importances")
    card, grid = ModelCard.find("boosted_trees", ALL_TREES), QUICK_GRID if quick else GRID
    scan = Scan.start(page.folder / "scan", dataset, card, grid, objectives=[DISTANCE, "valid_auc"])
    table = scan.run(workers=workers)
    write_scan(scan)
    points = sorted(table.points, key=lambda p: float(p.trials[0].metrics[GAP].value))
    metrics, rows = [point.trials[0].metrics for point in points], []
    for letter, point, figures in zip(ascii_lowercase, points, metrics, strict=False):
        settings = {k.rpartition(".")[2]: f"{v:g}" for k, v in point.point.items()}
        key = ", ".join(f"{k} {v}" for k, v in settings.items())
        rows.append([letter, *settings.values(), *page.cells({f"{m}, {key}": figures[m] for m in METRICS})])
    names = [k.rpartition(".")[2].replace("_", " ") for k in grid]
    page.table(
        ("", *names, "accuracy, train − valid", "distance of importances", "AUC (valid)", "AUC (test)"),
        rows,
        "Boosted trees, each setting trained once. Distance: length of the difference between the "
        "permutation importances (AUC lost) in training and validation events; errors are those of the "
        "events. A length is never negative, and errors alone make one: 0 is not its expectation.",
    )
    page.text(beyond_errors(metrics))
    caption = f"Distance of importances against gap of accuracy; letters as above, from a gap of {CROWDED:g}."
    gaps, distances = ([figures[m] for figures in metrics] for m in (GAP, DISTANCE))
    letters = [k if g.value > CROWDED else "" for k, g in zip(ascii_lowercase, gaps, strict=False)]
    with page.axes("distance_against_gap", caption) as ax:
        distance_against_gap(gaps, distances, letters, ax=ax)
    for name, sentences in advice(table, dataset).items():
        page.text(f"**{name}.** {' '.join(sentences)}")
    for extreme, point in {"least": points[0], "most": points[-1]}.items():
        shift(page, Run.open(scan.trial_folder(point.trials[0])), extreme)


def beyond_errors(metrics: Sequence[Mapping[str, Estimate]]) -> str:
    """Settings with a larger distance than those without a gap of accuracy; metrics by rising gap."""
    gaps, distances = ([figures[m] for figures in metrics] for m in (GAP, DISTANCE))
    null = [float(d.value) for g, d in zip(gaps, distances, strict=True) if g.value <= 2 * g.error]
    if not null:
        return "All settings have a gap of accuracy of more than two errors: no scale of errors alone."
    lowest = [float(d.value - 2 * d.error) for d in distances]
    beyond = [k for k, low in zip(ascii_lowercase, lowest, strict=False) if low > max(null)]
    return (
        f"{len(null)} of {len(gaps)} settings have a gap of accuracy within two errors of 0. Their "
        f"distances, {min(null):.4f} to {max(null):.4f}, are the scale of errors alone. Larger than it by "
        f"more than two of their own errors: {', '.join(beyond) or 'none'}."
    )


def shift(page: StudyPage, run: Run, extreme: str) -> None:
    """Importances in training and validation of the least or the most overtrained model of the grid."""
    samples = (run.events.where(split) for split in ("train", "valid"))
    samples = (events[evenly_spread(len(events), 20_000)] for events in samples)
    result = ImportanceShift(*(permutation_importance(run.model, events) for events in samples))
    page.number(f"distance of importances, {extreme} overtrained", result.distance)
    page.number(f"1 - rank correlation of importances, {extreme} overtrained", result.rank_distance())
    floor = page.facts[f"distance of importances by errors alone, {extreme} overtrained"] = (
        f"{result.floor:.2g}"
    )
    caption = f"The {extreme} overtrained model of the grid; distance expected from errors alone: {floor}."
    with page.axes(f"shift_{extreme}", caption, (8, 10)) as ax:
        importance_shift(result, title=f"depth {run.card.depth}, {run.card.training.trees} trees", ax=ax)


def seeds(*, quick: bool) -> range:
    """Seeds of models that are trained several times."""
    return range(1, 3 if quick else 6)


def network_card(quick: bool, *entries: str) -> ModelCard:
    """Card of one training of the dense network."""
    return ModelCard.find("dense", [*entries, *(["training.epochs=3"] if quick else [])])


def widths(page: StudyPage, events: Events, *, quick: bool) -> None:
    """Accuracy and active neurons over a range of widths, before and after shrinking."""
    page.heading("Width, chosen by conductance")
    card = network_card(quick)
    tried, number = WIDTHS[1:6:2] if quick else WIDTHS, len(seeds(quick=quick))
    study = choose_width(events, card, tried, folder=page.folder / "widths", seeds=number, progress=True)
    page.table(
        ("width", "train", "valid", "active neurons", "shrunk: train", "shrunk: valid", "change"),
        [width_row(page, point) for point in study.points],
        f"Accuracy: mean over {number} seeds ± its standard error; all share events, whose number makes "
        f"an error of {study.best.statistical('valid'):.1g} of accuracy (valid). Active: the most of any "
        f"seed, by layer; the others carry together at most {study.spare:.0%} of a layer's "
        "conductance. Change: accuracy (valid) after shrinking less that before, seed by seed.",
    )
    with page.axes("accuracy_by_width", "Before and after layers were shrunk to active neurons.") as ax:
        accuracy_by_width(study, ax=ax)
    with page.axes("neurons_by_width", "Active neurons of each layer.") as ax:
        neurons_by_width(study, ax=ax)
    page.text(" ".join(study.reasons()))
    page.facts["recommended widths"] = ", ".join(map(str, study.widths))


def width_row(page: StudyPage, point: WidthPoint) -> list[str]:
    """Accuracies of one width before and after shrinking, and the change."""
    accuracies = []
    for shrunk, split in product((False, True), ("train", "valid")):
        estimate = point.mean(split, after=shrunk)
        key = f"accuracy of width {point.width}{', shrunk' if shrunk else ''}, {split}"
        has_error = np.isfinite(estimate.value) and estimate.error > 0
        accuracies.append(page.number(key, estimate) if has_error else general(float(estimate.value)))
    change = "–"
    if point.after:
        before, after = (
            np.array([float(t.figures["valid"]["balanced_accuracy"].value) for t in trainings])
            for trainings in (point.before, point.after)
        )
        key = f"change of accuracy of width {point.width} by shrinking"
        change = page.number(key, spread_mean(after - before))
    return [str(point.width), *accuracies[:2], " + ".join(map(str, point.shrunk)), *accuracies[2:], change]


if __name__ == "__main__":
    main()
