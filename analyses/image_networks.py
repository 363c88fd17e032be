"""Networks of images of many classes, several trainings each; questions to them, and maps of many methods.

Trains on the two data sets with images of many classes, writes the accuracy. See ``--help``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pixel_maps import stored_map

from hepxai import Attribution, DatasetCard, Events, ModelCard, fit, metrics, plots, read
from hepxai.core.chunks import evenly_spread
from hepxai.explainers.base import CheckWarning
from hepxai.explainers.methods import configure
from hepxai.metrics.averages import over_seeds
from hepxai.report.study import StudyPage, stored, study_options

MUONS, JETS = "muon_classes", "jet_images"


@dataclass(frozen=True)
class Case:
    """A question to a network.

    Attributes
    ----------
    dataset, target, truth : str
    classes : tuple of str
        Classes of the events.
    """

    dataset: str
    classes: tuple[str, ...]
    target: str
    truth: str

    def events(self, events: Events, number: int) -> Events:
        """Test events of the classes, evenly spread."""
        test = events.where("test")
        rows = np.flatnonzero(np.isin(test.label, [events.schema.classes.index(c) for c in self.classes]))
        return test[rows[evenly_spread(len(rows), number)]]


CASES = {
    "shower": Case(MUONS, ("shower",), "shower-rest", "fromShower"),
    "top": Case(JETS, ("top",), "top-rest", "fromB"),
    "hot strips": Case(MUONS, ("hot_strips",), "hot_strips-rest", "fromFault"),
    "charge": Case(MUONS, ("high_minus", "high_plus"), "high_plus-high_minus", "fromMuon"),
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "saliency": {"method": "saliency"},
    "SmoothGrad": {"method": "smoothgrad", "samples": 20},
    "IG": {"method": "image_ig"},
    "IG, baseline 0.5": {"method": "image_ig", "baseline": 0.5},
    "IG, FORGrad": {"method": "forgrad", "base": "image_ig"},
    "GradientSHAP": {"method": "image_gradient_shap", "samples": 50},
    "PartitionSHAP": {"method": "image_partition_shap", "evaluations": 300},
    "LIME": {"method": "image_lime", "samples": 400},
    "occlusion": {"method": "occlusion"},
    "occlusion, FORGrad": {"method": "forgrad", "base": "occlusion"},
    "RISE": {"method": "rise", "samples": 500},
    "Grad-CAM": {"method": "grad_cam"},
    "Eigen-CAM": {"method": "eigen_cam"},
    "Ablation-CAM": {"method": "ablation_cam"},
    "deconvnet": {"method": "deconvnet"},
    "guided backpropagation": {"method": "guided_backprop"},
    "LRP": {"method": "lrp"},
    "L2X": {"method": "l2x", "epochs": 10, "training_events": 1500},
}
QUICK = ("saliency", "IG", "IG, baseline 0.5", "IG, FORGrad", "occlusion", "occlusion, FORGrad", "Grad-CAM")
REFERENCE = ("image_gradient_shap", "l2x")
"""Methods that need a population beside the explained events: training events of all classes."""
SMALL = ["blocks=[{channels: 6, pool: [1, 4]}, {channels: 12, pool: [2, 4]}]", "dense=[32]"]
SMALL += ["training.epoch_events=1000"]
EPOCHS, TRAININGS, EVENTS = {True: 4, False: 10}, {True: 2, False: 3}, {True: 6, False: 20}
"""Epochs, trainings of each network, and events of each case: quick and full."""


def main() -> None:
    """Train the networks, write ``image_networks.md``."""
    options = study_options(__file__, __doc__, dataset=MUONS, quick="small networks, short trainings")
    page = StudyPage(options.out, "image_networks")
    networks_and_events(page, options.quick)
    print(page.write("# Networks of images of many classes"))


def networks_and_events(
    page: StudyPage, quick: bool, trainings: int | None = None
) -> tuple[dict[str, Events], dict[str, list[Any]]]:
    """Events and trained networks of each data set."""
    events = {n: read(DatasetCard.find(n), progress=True).events for n in (MUONS, JETS)}
    page.heading("The networks")
    seeds = range(1, 1 + (trainings or TRAININGS[quick]))
    return events, {name: networks(page, name, e, seeds, quick) for name, e in events.items()}


def networks(page: StudyPage, name: str, events: Events, seeds: Sequence[int], quick: bool) -> list[Any]:
    """Networks of several trainings of one card, with their accuracy."""
    models, numbers, histories, epochs = [], [], {}, EPOCHS[quick]
    entries = [f"training.epochs={epochs}", f"training.schedule.period={epochs}", *(SMALL if quick else [])]
    for seed in seeds:
        card = ModelCard.find(
            "image_cnn", [*entries, f"training.seed={seed}", "training.record_predictions=true"]
        )
        model, history = fit(card, events, folder=page.folder / f"{name}_{seed}", progress=True)
        models.append(model)
        figures = metrics.classification_metrics(model.logits(events), events)["test"]
        numbers.append(figures["accuracy"])
        histories[f"seed {seed}"] = history
    page.number(f"accuracy, {name}", (accuracy := over_seeds(numbers)))
    page.facts[f"accuracy of each training, {name}"] = ", ".join(map(str, numbers))
    page.text(
        f"`{name}`, {len(events.schema.classes)} classes, {len(models)} trainings of {epochs} epochs: "
        f"accuracy {accuracy} on {(events.split == 2).sum()} test images; chance is "
        f"{1 / len(events.schema.classes):.3f}."
    )
    with page.panels(
        f"training_{name}", f"Loss of the trainings on `{name}`.", 1, len(models), (6, 5)
    ) as frames:
        for ax, (title, history) in zip(frames, histories.items(), strict=True):
            plots.training_curve(history, ax=ax)
            ax.set_title(title, fontsize="small", pad=36)
    return models


def training_sample(events: Events, number: int = 1500) -> Events:
    """Training events of all classes, evenly spread."""
    train = events.where("train")
    return train[evenly_spread(len(train), number)]


def made(model: Any, train: Events, events: Events, target: str, method: str, settings: Any) -> Attribution:
    """Map of a method that is prepared on training events."""
    prepared = configure(method, {**settings, "progress": True}).prepare(model, train, target)
    return prepared.checked(prepared.attribute(events))


def case_maps(
    folder: Path, model: Any, case: Case, events: Events, names: Sequence[str], quick: bool
) -> dict[str, Attribution]:
    """Maps of some of `METHODS` for the events of a case, from their files or made."""
    chosen, train, maps = case.events(events, EVENTS[quick]), training_sample(events), {}
    for name in names:
        settings = dict(METHODS[name])
        method = settings.pop("method")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CheckWarning)  # the table has the numbers of the checks
            if method in REFERENCE:
                maps[name] = stored(
                    folder / f"{method}.safetensors",
                    {"method": method, "target": case.target, **settings},
                    model,
                    chosen,
                    make=lambda unfinished, method=method, settings=settings: made(
                        model, train, chosen, case.target, method, settings
                    ),
                    load=lambda path: Attribution.load(path, chosen),
                    save=Attribution.save,
                )
            else:
                maps[name] = stored_map(folder, model, chosen, method, case.target, **settings)
    return maps


if __name__ == "__main__":
    main()
