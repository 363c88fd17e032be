"""Methods for images side by side, on detector images of many classes: which can be trusted, and why.

The figures of three studies of explanations of image classifiers, remade on detector images: low-pass filter,
baselines, random masks, gradients of each class, Shapley values, learned selections, class activation maps,
concepts, predictions epoch by epoch, maps of detected boxes. Beyond them: faithfulness of every method with
its statistical error and its spread over trainings, beside maps without information.

``--quick`` takes small networks, few events and methods. An interrupted study resumes.
"""

from __future__ import annotations

from image_concepts import DETECTOR, boxes, learned
from image_examples import examples
from image_networks import MUONS, networks_and_events
from map_faithfulness import faithfulness

from hepxai.report.study import StudyPage, study_options


def main() -> None:
    """Run the study."""
    quick = "small networks, few events, methods and masks; no detector unless given"
    options = study_options(__file__, __doc__, dataset=MUONS, quick=quick, options=DETECTOR)
    page = StudyPage(options.out, "image_methods")
    events, models = networks_and_events(page, options.quick)
    faithfulness(page, events, models, options.quick)
    first = {name: several[0] for name, several in models.items()}
    examples(page, events, first, options.quick)
    learned(page, events, first, options.quick)
    boxes(page, options.detector, options.quick)
    for name, sample in events.items():
        sizes = (
            f"{(sample.split == i).sum():,} {split}" for i, split in enumerate(("train", "valid", "test"))
        )
        page.facts[f"split, {name}"] = ", ".join(sizes)
    print(page.write_with(__file__))


if __name__ == "__main__":
    main()
