"""Influence of training images on predictions for other images: TracIn on detector images.

For a model with checkpoints of its training: proponents and opponents, their diversity and their distance
from the event, and self-influence. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from pixel_maps import SMALL, tracks

from hepxai import Attribution, Events, ModelCard, fit, read
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate
from hepxai.influence.figures import influence_captions, influence_images
from hepxai.influence.result import SIDES, Influence
from hepxai.influence.tracin import self_influence, tracin
from hepxai.influence.training_gradients import Checkpoints
from hepxai.metrics.averages import mean, two_way_mean
from hepxai.report.study import StudyPage, stored, study_options
from hepxai.training import kept_checkpoints

K = 3
"""Proponents and opponents of each event, as in the first study."""
STRONGEST = 0.01
"""Share of the training images whose self-influence is called large."""


def main() -> None:
    """Train with checkpoints (or load the model), trace, write ``training_influence.md``."""
    quick = "a small network, few images"
    options = study_options(__file__, __doc__, dataset="muon_patterns", quick=quick)
    entries = [*SMALL, "training.keep_checkpoints=[1, 2]"] if options.quick else []
    events = read(options.dataset, progress=True).events
    card = ModelCard.find("muon_cnn_linear", entries)
    fit(card, events, folder=options.out / "model", progress=True)
    page = StudyPage(options.out, "training_influence")
    test = tracks(events.where("test"), 10 if options.quick else 100)
    results = influence(page, kept_checkpoints(options.out / "model"), training_images(events), test)
    draw(page, results["as it is"], 0, "first", "the first event")
    print(page.write(f"# Influence of training images of {options.dataset.name}"))


def training_images(events: Events, maximum: int | None = None) -> Events:
    """Training events with a target, at most so many, evenly spread."""
    rows = np.flatnonzero((events.split == 0) & np.isfinite(events.targets).all(1))
    return events[rows[evenly_spread(len(rows), maximum or len(rows))]]


def influence(page: StudyPage, checkpoints: Checkpoints, train: Events, test: Events) -> dict[str, Influence]:
    """Proponents and opponents of events, and numbers that test their meaning."""
    page.heading("Which training images speak for an event?")
    page.facts["training images asked for their influence"] = f"{len(train):,}"
    page.facts["checkpoints"] = ", ".join(f"learning rate {rate:.2g}" for _, rate in checkpoints)
    (models, rates), folder, results = zip(*checkpoints, strict=True), page.folder / "influence", {}
    for name, normalise in (("as it is", False), ("normalised", True)):
        results[name] = stored(
            folder / "tracin.safetensors",
            {"rates": rates, "k": K, "normalise": normalise},
            *models,
            train,
            test,
            make=partial(tracin, checkpoints, train, test, k=K, normalise=normalise, progress=True),
            load=lambda path: Influence.load(path, test, train),
            save=Influence.save,
        )
    distance_table(page, results)
    self_influences = stored(
        folder / "self.safetensors",
        {"rates": rates},
        *models,
        train,
        make=partial(self_influence, checkpoints, train, progress=True),
        load=lambda path: Attribution.load(path, train),
        save=Attribution.save,
    )
    self_influence_table(page, self_influences)
    return results


def distance_table(page: StudyPage, results: dict[str, Influence]) -> None:
    """Distance of proponents and opponents from the event in each target, beside random images."""
    rows = []
    for name, result in results.items():
        for i, side in enumerate(SIDES):
            gaps = distances(result, result.rows[:, i])
            cells = page.cells({f"{side}s, {name}, distance in {t}": gap for t, gap in gaps.items()})
            rows.append([f"{side}s, {name}", *cells, f"{100 * result.checks[f'distinct_{side}s']:.0f} %"])
    schema, size = result.events.schema, (len(result.events), 100)
    random = distances(result, np.random.default_rng(0).integers(len(result.train), size=size))
    cells = page.cells({f"by chance, distance in {t}": gap for t, gap in random.items()})
    rows.append(["taken by chance", *cells, "–"])
    units = [f"{n} [{u}]" if u else n for n, u in zip(schema.targets, schema.target_units, strict=True)]
    page.table(
        ("training images", *(f"distance in {name}" for name in units), "different ones"),
        rows,
        f"Mean |difference of the true targets| between {(result.events.label == 1).sum()} muons and the {K} "
        "strongest of each side; share of different images in all lists. Errors: of another choice of events "
        "and of training images, so that an image in several lists counts once.",
    )


def distances(influence: Influence, rows: NDArray[np.int64]) -> dict[str, Estimate]:
    """Mean distance of the events with a muon from training rows ``[E, k]``, by target."""
    events, train = influence.events, influence.train
    muon = events.label == 1
    gap = np.abs(train.targets[rows[muon]] - events.targets[muon, None]).astype(np.float64)
    return {name: two_way_mean(gap[..., i], rows[muon]) for i, name in enumerate(events.schema.targets)}


def self_influence_table(page: StudyPage, attribution: Attribution) -> None:
    """Properties of the training images with the largest self-influence."""
    train, values = attribution.events, attribution.values
    columns = {"hits": np.diff(train.offsets)}
    columns |= zip(train.schema.targets, train.targets.T, strict=True)
    kinds = {
        f"strongest {100 * STRONGEST:g} %": values >= np.quantile(values, 1 - STRONGEST),
        "all": np.ones(len(train), dtype=bool),
    }
    rows = []
    for name, mask in kinds.items():
        cells = {f"mean {k}, {name} by self-influence": mean(v[mask]) for k, v in columns.items()}
        rows.append([name, f"{mask.sum():,}", *page.cells(cells)])
    page.table(
        ("training images", "number", *columns),
        rows,
        "Means of the training images with the largest self-influence, and of all. Under the mean absolute "
        "error the slope of the loss has the same size for every event: self-influence then marks images "
        "with strong activations, not wrong targets (those need a model trained with the squared error).",
    )


def draw(page: StudyPage, influence: Influence, event: int, key: str, name: str) -> None:
    """Proponents and opponents of one event."""
    events, layout = influence.events, influence.events.image_layout()
    images = [influence.train[influence.rows[event, side]].image().max(1) for side in range(2)]
    captions = influence_captions(influence, event)
    if events.label[event] == 0:
        captions[0][:] = [f"no muon, traced as if it were {captions[0][0]}"]
    labels = (layout.rows.feature, layout.columns.feature)
    figure = influence_images(events[[event]].image()[0].max(0), *images, captions=captions, labels=labels)
    caption = f"Training images that lowered and raised the loss of {name} most, with TracIn."
    page.figure(f"tracin_{key}", figure, caption)


if __name__ == "__main__":
    main()
