"""Concepts of networks on images of many classes, predictions epoch by epoch, and maps of detected boxes.

ICE concepts with their typical events, TCAV scores with the band of random directions, the flow of the events
between classes during the training; boxes of a detector in the full run, or if its folder is given. See
``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from image_networks import JETS, MUONS, networks_and_events, training_sample

from hepxai import DatasetCard, Events, ModelCard, fit, read
from hepxai.concepts.figures import tcav_bars, typical_events
from hepxai.concepts.ice import ice
from hepxai.concepts.result import Concepts
from hepxai.concepts.tcav import tcav
from hepxai.metrics.detection import Detection
from hepxai.report.study import StudyPage, stored, study_options
from hepxai.studies.detection import box_maps, box_share, explain_boxes, map_similarity
from hepxai.studies.instance_flow.figures import flow_diagram, kinds_of_events
from hepxai.studies.instance_flow.numbers import KINDS, InstanceFlow

NUMBER, LEVEL = 10, 0.05
"""Concepts; corrected p-value below which a score counts."""
FLOW_CLASS = {MUONS: "busy", JETS: "b"}
"""Class whose flow is drawn."""
BOXES = {True: 2, False: 8}
"""Events whose boxes are explained."""
BOX_METHODS: Mapping[str, Mapping[str, Any]] = {
    "Eigen-CAM": {"method": "eigen_cam"},
    "Ablation-CAM, 10 %": {"method": "ablation_cam", "ratio_channels_to_ablate": 0.1},
    "Ablation-CAM, all": {"method": "ablation_cam", "ratio_channels_to_ablate": 1.0},
    "saliency": {"method": "saliency"},
}
DETECTOR = {"--detector": {"type": Path, "help": "folder of a trained muon_detector; a full run trains one"}}


def main() -> None:
    """Train a network of each data set; write ``image_concepts.md``."""
    quick = "small networks, few events, no detector unless given"
    options = study_options(__file__, __doc__, dataset=MUONS, quick=quick, options=DETECTOR)
    page = StudyPage(options.out, "image_concepts")
    events, models = networks_and_events(page, options.quick, trainings=1)
    learned(page, events, {name: m[0] for name, m in models.items()}, options.quick)
    boxes(page, options.detector, options.quick)
    print(page.write("# Concepts, flow and boxes"))


def learned(page: StudyPage, events: Mapping[str, Events], models: Mapping[str, Any], quick: bool) -> None:
    """Concepts of the jets' network, and the flow of both trainings."""
    concept_section(page, events[JETS], models[JETS], quick)
    for dataset, name in FLOW_CLASS.items():
        flow_section(page, dataset, name)


def concept_section(page: StudyPage, events: Events, model: Any, quick: bool) -> None:
    """Typical events and TCAV scores."""
    page.heading("Concepts")
    train, test = training_sample(events, 300 if quick else 1500), events.where("test")
    concepts = stored(
        page.folder / "concepts" / "ice.safetensors",
        {"concepts": NUMBER},
        model,
        train,
        test,
        make=lambda unfinished: ice(model, train, test=test, concepts=NUMBER, progress=True),
        load=lambda path: Concepts.load(path, model),
        save=Concepts.save,
    )
    page.number("reconstruction error of the concepts", concepts.reconstruction)
    caption = (
        f"Three most typical test jets of each of {NUMBER} concepts of layer {concepts.layer}, scores in red."
    )
    page.figure("concepts", typical_events(concepts, test, number=3), caption)
    scores = tcav(model, concepts, test, classes=events.schema.classes, progress=True)
    counts = {s: int(scores.significant(LEVEL, s).sum()) for s in ("score", "derivative")}
    tested = scores.score.value.size
    page.facts |= {f"TCAV, {s}, significant": f"{n} of {tested}" for s, n in counts.items()}
    at_end = np.mean((scores.score.band[0] <= 0) | (scores.score.band[1] >= 1))
    page.figure(
        "tcav", tcav_bars(scores), "TCAV scores of all concepts and classes; bands of random directions."
    )
    caption = "The same for the mean derivative of the target along the concept."
    page.figure("tcav_derivative", tcav_bars(scores, statistic="derivative"), caption)
    alike, decisions = "", concepts.fidelity["decisions"]
    if float(decisions.error) > 0:
        alike = f", and keep {page.number('decisions kept by the concepts', decisions)} of the decisions"
    page.text(
        f"{NUMBER} concepts reproduce layer {concepts.layer} with a relative error of "
        f"{concepts.reconstruction}{alike}. Of {tested} pairs of concept and class, {counts['score']} "
        f"fractions and {counts['derivative']} mean derivatives differ from those of random directions at a "
        f"level of {100 * LEVEL:g} %, corrected for all {tested}. In {100 * at_end:.0f} % of the pairs the "
        "band of random directions includes 0 or 1: a fraction at that end is not told apart from them."
    )


def flow_section(page: StudyPage, dataset: str, name: str) -> None:
    """Flow of one class, and kinds of events of all classes."""
    page.heading(f"Predictions epoch by epoch: {dataset}")
    flow = InstanceFlow.read(page.folder / f"{dataset}_1").where("valid")
    caption = f"Validation images of class `{name}`: predicted class epoch by epoch."
    with page.axes(f"flow_{dataset}", caption, (9, 6)) as ax:
        flow_diagram(flow, name, ax=ax)
    with page.axes(
        f"kinds_{dataset}", "Kinds of validation images by class.", (8, 2 + 0.5 * len(flow.classes))
    ) as ax:
        kinds_of_events(flow, ax=ax)
    rows = []
    for class_name, shares in flow.shares().items():
        cells = [page.number(f"{kind}, {class_name}, {dataset}", share) for kind, share in shares.items()]
        rows.append([class_name, str(int((flow.label == flow.classes.index(class_name)).sum())), *cells])
    meaning = "; ".join(f"{kind}: {text}" for kind, text in KINDS.items())
    page.table(
        ("class", "images", *KINDS),
        rows,
        f"Shares of the validation images in one training. {meaning.capitalize()}.",
    )


def boxes(page: StudyPage, folder: Path | None, quick: bool) -> None:
    """Boxes of a detector of muons, with one map for each."""
    if folder is None and quick:
        return
    page.heading("One map for each detected box")
    events = read(DatasetCard.find("muon_detection"), progress=True).events
    detector, _ = fit(
        ModelCard.find("muon_detector"), events, folder=folder or page.folder / "detector", progress=True
    )
    test = events.where("test")
    found = Detection.of(detector.detect(test, score=0.05), detector.true_boxes(test), test.weight)
    figures = {"recall": found.recall(0.5), "precision": found.precision(0.5)}
    page.text(
        ", ".join(f"{n} {page.number(f'{n} of the detector', e)}" for n, e in figures.items())
        + " at a score of 0.5."
    )
    counts = np.diff(detector.detect(test[:200]).offsets)
    some = test[np.flatnonzero(counts >= 2)[: BOXES[quick]]]
    rows = []
    for name, settings in BOX_METHODS.items():
        options = dict(settings)
        maps = explain_boxes(detector, some, options.pop("method"), progress=True, **options)
        share, likeness = box_share(maps), map_similarity(maps)
        numbers = {"inside": share.inside, "by area": share.by_area, "likeness": likeness.correlation}
        rows.append([name, *map(str, numbers.values()), f"{100 * likeness.identical:.0f} %"])
        page.numbers |= {f"{k}, boxes, {name}": e for k, e in numbers.items() if float(e.error) > 0}
        figure = box_maps(maps, some, 0, true=detector.true_boxes(some))
        page.figure(
            f"boxes_{name.split(',')[0].lower()}_{len(rows)}", figure, f"{name} of the boxes of one event."
        )
    page.table(
        ("method", "share inside the box", "by area", "correlation of two boxes' maps", "identical"),
        rows,
        f"{len(maps.boxes)} boxes of the first {len(some)} test events with two boxes or more, one training.",
    )


if __name__ == "__main__":
    main()
