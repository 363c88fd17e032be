"""Muon patterns in a detector: explanations of convolutional networks and soft trees.

After L. Nicoletti and L. Maglianella, "Convergent approaches to AI Explainability for HEP muonic particles
pattern recognition": networks find the transverse momentum of a muon among noise; activation maps, Integrated
Gradients, SmoothGrad, the paths of a soft decision tree, and influential training images are put side by side
on the same event. Beyond it: errors on every number, the check of each map, its share on the true hits.

``--quick`` takes the shipped sample and small networks. The full study needs more events, see
docs/simulation.md; an interrupted study resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detector_images import TRUTH, images, true_hits
from numpy.typing import NDArray
from pixel_maps import SMALL, agreement, all_methods, choose_smoothgrad, completeness, stored_map, tracks
from training_influence import draw, influence, training_images
from trigger import figures_of_merit

from hepxai import Attribution, Events, ModelCard, fit, plots, read
from hepxai.core.files import read_tensors, write_tensors
from hepxai.explainers.image.soft_tree import path_masks, tree_paths
from hepxai.influence.result import Influence
from hepxai.metrics.averages import mean
from hepxai.report.study import StudyPage, stored, study_options
from hepxai.studies.comparison.figures import convergence_figure
from hepxai.studies.soft_tree.figures import tree_and_masks
from hepxai.training import kept_checkpoints

Array = NDArray[np.float64]
Models = Mapping[str, Any]

CNN, LINEAR, TREE, DISTILLED = "CNN", "CNN, linear readout", "soft tree", "soft tree, distilled"
FOLDERS = {CNN: "cnn", LINEAR: "linear", TREE: "tree", DISTILLED: "distilled"}
CARDS = {CNN: "muon_cnn", LINEAR: "muon_cnn_linear", TREE: "muon_soft_tree", DISTILLED: "muon_soft_tree"}
SPLIT = ["split.train=8", "split.valid=0.15", "split.test=1.2"]
LENGTH = {CNN: (10_000, 40), LINEAR: (10_000, 24), TREE: (25_000, 24), DISTILLED: (25_000, 24)}
"""Images between two validations, and number of such parts."""
DISTILLATION, MUONS, INFLUENTIAL = 200_000, 20_000, 10_000
"""Training images of the distilled tree; muons in the figures of merit; training images for TracIn."""
EXAMPLES = {
    "both networks right": "Of the muons of 7 to 13 GeV with six true hits or more, that with the smallest "
    "relative error of CNN and soft tree.",
    "CNN wrong, tree right": "Of the muons of 7 to 20 GeV with six true hits or more and a prediction of the "
    "soft tree within 10 %, that with the largest relative error of the CNN: an extreme of many.",
    "noise alone": "Of all images of noise, that with the highest prediction of the CNN: an extreme of many.",
}
"""Selection of the examples from the events of the figures of merit."""


def main() -> None:
    """Run the study."""
    quick = "shipped sample, small networks, few images"
    options = study_options(__file__, __doc__, dataset="muon_patterns", quick=quick, overrides=SPLIT)
    page, folder = StudyPage(options.out, "muon_patterns"), options.out / "maps"
    events = read(options.dataset, progress=True).events
    images(page, events)
    models = trained_models(page, events, options.quick)
    sample = merit_sample(events.where("test"))
    predictions = {n: outputs(page, model, sample, FOLDERS[n]) for n, model in models.items()}
    figures_of_merit(page, sample, predictions)
    test = tracks(events.where("test"), 20 if options.quick else 250)
    smoothgrad = choose_smoothgrad(page, models[CNN], test, options.quick)
    maps = all_methods(models[CNN], test, folder, smoothgrad) | other_maps(models, test, folder)
    completeness(page, maps)
    agreement(page, maps)
    soft_trees(page, models, sample, predictions)
    # Noise has no target: its influence is that on the loss of a prediction of pT = 0.
    rows = example_rows(sample, predictions)
    examples = sample[rows]
    traced = Events.concatenate([examples.replace(targets=np.nan_to_num(examples.targets)), test[:100]])
    train, checkpoints = training_images(events, INFLUENTIAL), kept_checkpoints(options.out / FOLDERS[LINEAR])
    influences = influence(page, checkpoints, train, traced)["normalised"]
    example_figures(
        page, models, examples, {n: p[rows] for n, p in predictions.items()}, smoothgrad, influences
    )
    page.sample_facts(events)
    print(page.write_with(__file__))


def trained_models(page: StudyPage, events: Events, quick: bool) -> Models:
    """Trained networks; the targets of the distilled tree are the predictions of the CNN."""
    models: dict[str, Any] = {}
    histories = {}
    for name, card in CARDS.items():
        sample, targets = events, None
        if name == DISTILLED:
            train, valid = (np.flatnonzero(events.split == code) for code in (0, 1))
            sample = events[np.concatenate([train[:DISTILLATION], valid])]
            targets = outputs(page, models[CNN], sample, "teacher")
        options: dict[str, Any] = {"folder": page.folder / FOLDERS[name], "targets": targets}
        model_card = ModelCard.find(card, overrides(name, quick))
        models[name], histories[name] = fit(model_card, sample, **options, progress=True)
        part = 1_000 if quick else LENGTH[name][0]
        page.facts[f"image passes, {name}"] = f"{part * len(histories[name]):,}"
    page.heading("Four networks")
    passes = "; ".join(f"{name} {page.facts[f'image passes, {name}']}" for name in models)
    page.text(f"Image passes in training: {passes}.")
    caption = "Loss, in units of the targets' spread; an epoch is a part of the images, see above."
    with page.panels("training", caption, 2, 2, (7.5, 5.5)) as frames:
        for ax, (name, history) in zip(frames, histories.items(), strict=True):
            plots.training_curve(history, ax=ax)
            ax.set_title(name, fontsize="small", pad=36)
    return models


def overrides(name: str, quick: bool) -> list[str]:
    """Entries of the model card: length of the training, and a small network in a quick run."""
    part, parts = (1_000, 2) if quick else LENGTH[name]
    entries = [f"training.epoch_events={part}", f"training.epochs={parts}"]
    entries += [f"training.schedule={{kind: cyclic, lowest: .05, period: {parts}}}"]
    if name == LINEAR:
        entries += [f"training.keep_checkpoints={[1, 2] if quick else [8, 16, 24]}"]
    return [*entries, "channels=[8, 8, 8]" if "tree" in name else SMALL[0]] if quick else entries


def outputs(page: StudyPage, model: Any, events: Events, name: str) -> Array:
    """Outputs of a network ``[E, T]`` from their file, or computed and saved."""
    return stored(
        page.folder / "outputs" / f"{name}.safetensors",
        model,
        events,
        make=lambda unfinished: model.logits(events).astype(np.float64),
        load=lambda path: read_tensors(path)[0]["outputs"],
        save=lambda values, path: write_tensors(path, {"outputs": values}, {}),
    )


def merit_sample(test: Events) -> Events:
    """Test events of the figures of merit: muons, then all noise."""
    muon, noise = (np.flatnonzero(test.label == code) for code in (1, 0))
    return test[np.concatenate([muon[:MUONS], noise])]


def soft_trees(page: StudyPage, models: Models, sample: Events, predictions: Mapping[str, Array]) -> None:
    """Probability of the best path, leaves in use, and distance from the teacher."""
    page.heading("Soft trees")
    events, rows = sample[sample.label == 1][:2_000], []
    for name in (TREE, DISTILLED):
        tree = tree_paths(models[name], events)
        entropy = -(tree.paths * np.log(np.clip(tree.paths, 1e-12, None))).sum(1)
        columns = {
            "best path": tree.paths.max(1),
            "leaves in use": np.exp(entropy),
            "MAE of the best leaf": np.abs(tree.leaves[tree.best, 0] - events.targets[:, 0]),
            "from the CNN": np.abs(predictions[name] - predictions[CNN])[:, 0],
        }
        rows.append([name, *page.cells({f"{key}, {name}": mean(v) for key, v in columns.items()})])
    page.table(
        ("tree", "probability of the best path", "leaves in use", "best leaf alone: MAE", "|pT − CNN's pT|"),
        rows,
        f"Means over {len(events):,} muons, GeV; each tree was trained once. Leaves in use: exp of the "
        "entropy of the paths of an event. Best leaf alone: prediction of the leaf at the end of the most "
        "probable path. Last: of all muons and noise of the table above.",
    )


def other_maps(models: Models, events: Events, folder: Path) -> dict[str, Attribution]:
    """Maps of the CNN with a linear readout and of the tree."""
    return {
        "RAM, linear readout": stored_map(folder, models[LINEAR], events, "ram"),
        "IG, tree": stored_map(folder, models[TREE], events, "image_ig"),
        "path of the tree": stored_map(folder, models[TREE], events, "soft_tree", upsampling="gradient"),
    }


def example_rows(events: Events, predictions: Mapping[str, Array]) -> NDArray[np.int64]:
    """Rows of `EXAMPLES`: both right, CNN most wrong with the tree right, highest fake of the CNN."""
    pt, cnn, tree = events.targets[:, 0], predictions[CNN][:, 0], predictions[TREE][:, 0]
    cnn_error, tree_error = np.abs(cnn / pt - 1), np.abs(tree / pt - 1)
    clear = (true_hits(events) >= 6) & (pt > 7) & (pt < 20)
    both = np.where(clear & (pt < 13), np.maximum(cnn_error, tree_error), np.inf)
    wrong = np.where(clear & (tree_error < 0.1), cnn_error, -np.inf)
    fake = np.where(np.isnan(pt), cnn, -np.inf)
    return np.array([both.argmin(), wrong.argmax(), fake.argmax()])


def example_figures(
    page: StudyPage,
    models: Models,
    events: Events,
    predictions: Mapping[str, Array],
    smoothgrad: Mapping[str, Any],
    influences: Influence,
) -> None:
    """All methods side by side on the three `EXAMPLES`."""
    folder = page.folder / "maps"
    salt = {"base": "image_ig", "noise": "salt", "level": 0.02, "samples": 25, "steps": 8}
    of_cnn = all_methods(models[CNN], events, folder, smoothgrad)
    of_cnn["SmoothGrad of IG, salt"] = stored_map(folder, models[CNN], events, "smoothgrad", **salt)
    of_others = other_maps(models, events, folder)
    of_others["RAM, linear readout, eta"] = stored_map(folder, models[LINEAR], events, "ram", "eta")
    of_others["IG, tree, eta"] = stored_map(folder, models[TREE], events, "image_ig", "eta")
    paths, masks = tree_paths(models[TREE], events), path_masks(models[TREE], events)
    for i, (name, selection) in enumerate(EXAMPLES.items()):
        key = ("good_good", "bad_good", "noise")[i]
        pt, eta = events.targets[i]
        truth = f"True pT {pt:.2f} GeV, η = {eta:.2f}" if np.isfinite(pt) else "No muon"
        texts = (f"{n} {p[i, 0]:.2f} GeV, η = {p[i, 1]:.2f}" for n, p in predictions.items())
        page.heading(f"One event: {name}")
        page.text(f"{selection} {truth}. Predicted: {'; '.join(texts)}.")
        for part, maps, networks in (
            ("cnn", of_cnn, "the CNN"),
            ("others", of_others, "the CNN with a linear readout and the soft tree"),
        ):
            model_names = {n: CNN if maps is of_cnn else LINEAR if "linear" in n else TREE for n in maps}
            outputs = {n: events.schema.targets.index(a.target) for n, a in maps.items()}
            predicted = {n: float(predictions[model_names[n]][i, output]) for n, output in outputs.items()}
            figure = convergence_figure(maps, i, truth=TRUTH, predicted=predicted)
            caption = f"Maps of {networks}; framed in black: hits of the muon, in grey: others."
            page.figure(f"{key}_{part}", figure, caption)
        tree = tree_and_masks(paths, i, unit="GeV", labels=("layer", "strip"), masks=masks[i])
        page.figure(
            f"{key}_tree",
            tree,
            f"Path of the event through the soft tree ({name}). Masks on the hits are gradient times input: "
            "they do not contain the biases of the convolutions, and do not add up to the decisions.",
        )
        draw(page, influences, i, key, f"the event ({name})")


if __name__ == "__main__":
    main()
