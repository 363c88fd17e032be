"""Which training images made a network say what it says about others: TracIn on detector images.

For a model that kept checkpoints of its training: proponents and opponents, as they are and normalised,
whether the same few top every list, whether proponents are like the event, and which training images weigh
most on themselves. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pixel_maps import small, tracks

import hepxai
from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.core.fingerprint import fingerprint
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.influence.figures import influence_captions, influence_images
from hepxai.influence.result import SIDES, Influence
from hepxai.influence.tracin import self_influence, tracin
from hepxai.influence.training_gradients import Checkpoints
from hepxai.models import ModelCard
from hepxai.report.study import StudyPage
from hepxai.training import kept_checkpoints

K = 3
"""Proponents and opponents of each event, as in the first study."""
STRONGEST = 0.01
"""Share of the training images whose self-influence is called large."""


def main() -> None:
    """Train with checkpoints (or take what is there), ask, write ``training_influence.md``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="muon_patterns", help="data-set card with an image and targets")
    parser.add_argument("--out", type=Path, default=Path("training-influence"), help="folder of everything")
    parser.add_argument("--quick", action="store_true", help="a small network, few images")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    entries = [*small(), "training.keep_checkpoints=[1, 2]"] if chosen.quick else []
    events = hepxai.read(DatasetCard.find(chosen.dataset), progress=True).events
    card = ModelCard.find("muon_cnn_linear", entries)
    hepxai.fit(card, events, folder=chosen.out / "model", progress=True)
    page = StudyPage(chosen.out, "training_influence")
    asked = tracks(events.where("test"), 10 if chosen.quick else 100)
    found = influence(page, kept_checkpoints(chosen.out / "model"), learned(events), asked)
    draw(page, found["as it is"], 0, "first", "the first event")
    print(page.write(f"# Influence of training images of {chosen.dataset}"))


def learned(events: Events, most: int | None = None) -> Events:
    """Training events with a target, evenly taken if there are more than ``most``."""
    rows = np.flatnonzero((events.split == 0) & np.isfinite(events.targets).all(1))
    step = 1 if most is None else max(len(rows) // most, 1)
    return events[rows[::step][:most]]


def influence(
    page: StudyPage, checkpoints: Checkpoints, train: Events, asked: Events
) -> dict[str, Influence]:
    """Proponents and opponents of events, and numbers that say whether they mean something."""
    page.heading("Which training images speak for an event?")
    page.facts["training images asked for their influence"] = f"{len(train):,}"
    page.facts["checkpoints"] = ", ".join(f"learning rate {rate:.2g}" for _, rate in checkpoints)
    folder = page.folder / "influence"
    found = {
        "as it is": kept(folder, checkpoints, train, asked, normalise=False),
        "normalised": kept(folder, checkpoints, train, asked, normalise=True),
    }
    like_the_event(page, found)
    weighing_most(page, checkpoints, train)
    return found


def kept(
    folder: Path, checkpoints: Checkpoints, train: Events, asked: Events, *, normalise: bool
) -> Influence:
    """Influence, from its file where checkpoints, events and settings are those of the file."""
    path = folder / f"tracin-{_key(checkpoints, [train, asked], normalise)}.safetensors"
    if path.exists():
        return Influence.load(path, asked, train)
    state = path.with_suffix(".unfinished")
    found = tracin(checkpoints, train, asked, k=K, normalise=normalise, unfinished=state, progress=True)
    found.save(path)
    return found


def kept_self(folder: Path, checkpoints: Checkpoints, train: Events) -> Attribution:
    """Self-influence, from its file in the same way."""
    path = folder / f"self-{_key(checkpoints, [train], normalise=False)}.safetensors"
    if path.exists():
        return Attribution.load(path, train)
    found = self_influence(checkpoints, train, unfinished=path.with_suffix(".unfinished"), progress=True)
    found.save(path)
    return found


def _key(checkpoints: Checkpoints, populations: list[Events], normalise: bool) -> str:
    settings = {"rates": [rate for _, rate in checkpoints], "k": K, "normalise": normalise}
    return fingerprint(settings, *(model for model, _ in checkpoints), *populations)[:16]


def like_the_event(page: StudyPage, found: dict[str, Influence]) -> None:
    """How far proponents and opponents are from the event in each target, beside images taken by chance."""
    schema = next(iter(found.values())).events.schema
    rows = []
    for name, one in found.items():
        for i, side in enumerate(SIDES):
            gaps = distances(one, one.rows[:, i])
            cells = [page.number(f"{side}s, {name}, distance in {t}", e) for t, e in gaps.items()]
            rows.append([f"{side}s, {name}", *cells, f"{100 * one.checks[f'distinct_{side}s']:.0f} %"])
    gaps = distances(one, np.random.default_rng(0).integers(len(one.train), size=(len(one.events), 100)))
    cells = [page.number(f"by chance, distance in {t}", e) for t, e in gaps.items()]
    rows.append(["taken by chance", *cells, "–"])
    units = [f"{n} [{u}]" if u else n for n, u in zip(schema.targets, schema.target_units, strict=True)]
    page.table(
        ("training images", *(f"distance in {name}" for name in units), "different ones"),
        rows,
        f"Mean |difference of the true targets| between {(one.events.label == 1).sum()} muons and the {K} "
        "strongest of each side; how many of the images in all lists are different ones. Errors: of another "
        "choice of events and of training images, so that an image that stands in many lists counts once.",
    )


def distances(found: Influence, rows: NDArray[np.int64]) -> dict[str, Estimate]:
    """Mean distance of the events with a muon from training rows ``[E, k]``, by target."""
    own = found.events.label == 1
    gap = np.abs(found.train.targets[rows[own]] - found.events.targets[own, None]).astype(np.float64)
    return {name: mean_of_lists(gap[..., i], rows[own]) for i, name in enumerate(found.events.schema.targets)}


def mean_of_lists(values: NDArray[np.float64], rows: NDArray[np.int64]) -> Estimate:
    """Mean of a quantity of event and training image ``[E, k]``, with the error of two-way clusters.

    Entries of one event are not independent, nor are those of one image that stands in many lists: the
    variance is that between events plus that between images less that between entries [Cameron, Gelbach and
    Miller, J. Bus. Econ. Stat. 29 (2011) 238], and never below either of the first two.
    """
    event = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    owners = (event.ravel(), rows.ravel(), np.arange(rows.size))
    means = [_clustered(values.ravel(), owner) for owner in owners]
    between_events, between_images, between_entries = (float(m.error) ** 2 for m in means)
    both = between_events + between_images - between_entries
    return Estimate(means[0].value, np.sqrt(np.max([both, between_events, between_images])), means[1].n_eff)


def _clustered(values: NDArray[np.float64], owner: NDArray[np.int64]) -> Estimate:
    total, size = np.bincount(owner, values), np.bincount(owner)
    return ratio_mean(total, size, np.ones(len(size)))


def weighing_most(page: StudyPage, checkpoints: Checkpoints, train: Events) -> None:
    """What the training images with the largest self-influence are."""
    found = kept_self(page.folder / "influence", checkpoints, train)
    columns = {
        "hits": np.diff(train.offsets),
        **dict(zip(train.schema.targets, train.targets.T, strict=True)),
    }
    kinds = {
        f"strongest {100 * STRONGEST:g} %": found.values >= np.quantile(found.values, 1 - STRONGEST),
        "all": np.ones(len(train), dtype=bool),
    }
    rows = []
    for name, own in kinds.items():
        means = {
            k: ratio_mean(v[own].astype(np.float64), *np.ones((2, own.sum()))) for k, v in columns.items()
        }
        cells = [page.number(f"mean {k}, {name} by self-influence", m) for k, m in means.items()]
        rows.append([name, f"{own.sum():,}", *cells])
    page.table(
        ("training images", "number", *columns),
        rows,
        "Means of the training images with the largest self-influence, and of all. Under the mean absolute "
        "error the slope of the loss has the same size for every event: self-influence then tells images "
        "with strong activations, not wrong targets (for those ask a model that was trained with the squared "
        "error).",
    )


def draw(page: StudyPage, found: Influence, event: int, key: str, name: str) -> None:
    """Proponents and opponents of one event."""
    train = found.train
    layout = found.events.image_layout()
    images = [train[found.rows[event, side]].image().max(1) for side in range(2)]
    own = found.events[[event]].image()[0].max(0)
    labels = (layout.rows.feature, layout.columns.feature)
    captions = influence_captions(found, event)
    if found.events.label[event] == 0:
        captions[0][:] = [f"no muon, asked about as if it were {captions[0][0]}"]
    figure = influence_images(own, *images, captions=captions, labels=labels)
    page.figure(
        f"tracin_{key}",
        figure,
        f"Training images that lowered and raised the loss of {name} most, with TracIn.",
    )


if __name__ == "__main__":
    main()
