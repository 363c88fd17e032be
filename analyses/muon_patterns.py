"""Muon patterns in a detector: what convolutional networks and soft trees look at, and who taught them.

Follows L. Nicoletti and L. Maglianella, "Convergent approaches to AI Explainability for HEP muonic particles
pattern recognition": a convolutional network and a convolutional soft decision tree find the transverse
momentum of a muon among noise; activation maps, Integrated Gradients, SmoothGrad, the paths of the tree, and
the training images behind a prediction are put side by side on the same event. Beyond it: errors on every
number, the check of each map, and the share of it on the hits of the muon. Writes a page, figures, numbers.

``--quick`` takes the shipped sample and small networks. The full study wants more events, see
docs/simulation.md, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from detector_images import pictures
from numpy.typing import NDArray
from pixel_maps import TARGET, TRUTH, agreement, completeness, kept, of_model, smoothing, tracks
from training_influence import draw, influence, learned
from trigger import fakes, figures_of_merit

import hepxai
from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.core.files import read_tensors, write_tensors
from hepxai.core.fingerprint import fingerprint
from hepxai.core.formatting import measured
from hepxai.core.resume import ResumableState
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.explainers.image.soft_tree import TreePaths, path_masks, tree_paths
from hepxai.influence.result import Influence
from hepxai.metrics.momentum import MomentumMerit
from hepxai.models import ModelCard
from hepxai.plots import style
from hepxai.plots.training import training_curve
from hepxai.report.study import StudyPage
from hepxai.studies.comparison.figures import convergence_figure
from hepxai.studies.soft_tree.figures import tree_and_masks
from hepxai.training import History, fit, kept_checkpoints

Array = NDArray[np.float64]

CNN, LINEAR, TREE, DISTILLED = "cnn", "linear", "tree", "distilled"
CARDS = {CNN: "muon_cnn", LINEAR: "muon_cnn_linear", TREE: "muon_soft_tree", DISTILLED: "muon_soft_tree"}
NAMES = {CNN: "CNN", LINEAR: "CNN, linear readout", TREE: "soft tree", DISTILLED: "soft tree, distilled"}
SPLIT = ["split.train=8", "split.valid=0.15", "split.test=1.2"]
LENGTH = {CNN: (10_000, 40), LINEAR: (10_000, 24), TREE: (25_000, 24), DISTILLED: (25_000, 24)}
"""Images between two validations, and how many such parts."""
THERE = {
    CNN: "0.605, 1.123, 0.881",
    LINEAR: "0.731, 1.309, 0.837",
    TREE: "–, 1.050, 0.849",
    DISTILLED: "–, 1.269, 0.886",
}
"""The first study: MAE [GeV], spread [GeV], efficiency."""
TAUGHT, JUDGED, INFLUENTIAL = 200_000, 20_000, 10_000
"""Images that the distilled tree learns from; muons in the figures of merit; images that TracIn asks."""
CASES = {
    "good_good": "both networks right",
    "bad_good": "CNN wrong, tree right",
    "noise": "noise alone",
}
PICKED = {
    "good_good": "Of the muons of 7 to 13 GeV with six true hits or more, that with the smallest relative "
    "error of CNN and soft tree.",
    "bad_good": "Of the muons of 7 to 20 GeV with six true hits or more that the soft tree finds to 10 %, "
    "that with the largest relative error of the CNN: an extreme of many, not a typical event.",
    "noise": "Of all images of noise, that with the highest prediction of the CNN: an extreme of many.",
}
"""How the events were chosen from those of the figures of merit."""


@dataclass
class Study:
    """Where everything lies, and the page that grows.

    Attributes
    ----------
    out : Path
    dataset : DatasetCard
    quick : bool
    """

    out: Path
    dataset: DatasetCard
    quick: bool
    page: StudyPage = field(init=False)
    histories: dict[str, History] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.page = StudyPage(self.out, "muon_patterns")

    @cached_property
    def events(self) -> Events:
        """All selected events."""
        return hepxai.read(self.dataset, progress=True).events

    @cached_property
    def models(self) -> dict[str, Any]:
        """Trained networks; the distilled tree comes last, and learns what the CNN says."""
        found: dict[str, Any] = {}
        for name in CARDS:
            given, targets = self.events, None
            if name == DISTILLED:
                given = self.taught()
                targets = self.outputs(found[CNN], given, "teacher")
            card = ModelCard.find(CARDS[name], entries(name, self.quick))
            found[name], self.histories[name] = fit(
                card, given, folder=self.out / name, targets=targets, progress=True
            )
        return found

    def taught(self) -> Events:
        """Images that the distilled tree learns from, and those of its validation."""
        rows = [np.flatnonzero(self.events.split == code) for code in (0, 1)]
        return self.events[np.concatenate([rows[0][:TAUGHT], rows[1]])]

    @cached_property
    def judged(self) -> Events:
        """Test events of the figures of merit: muons, then all noise."""
        test = self.events.where("test")
        muon, noise = (np.flatnonzero(test.label == code) for code in (1, 0))
        return test[np.concatenate([muon[:JUDGED], noise])]

    @cached_property
    def predicted(self) -> dict[str, Array]:
        """Outputs of every network on the judged events, ``[E, T]``."""
        return {name: self.outputs(model, self.judged, name) for name, model in self.models.items()}

    @property
    def shown(self) -> dict[str, Array]:
        """The same under the names of the page."""
        return {NAMES[name]: found for name, found in self.predicted.items()}

    def outputs(self, model: Any, events: Events, name: str) -> Array:
        """Outputs of a network, from their file where network and events are those of the file."""
        key = fingerprint("outputs", model, events)
        path = self.out / "outputs" / f"{name}-{key[:16]}.safetensors"
        if not path.exists():
            found = np.zeros((len(events), len(model.outputs)))
            state = ResumableState(path.with_suffix(".unfinished"), key, {"outputs": found})
            for rows in state.blocks(f"outputs, {name}", len(events), 5_000, progress=True):
                found[rows] = model.logits(events[rows])
            write_tensors(path, {"outputs": found}, {})
        return read_tensors(path)[0]["outputs"].astype(np.float64)


def entries(name: str, quick: bool) -> list[str]:
    """Entries of the model card: how long it learns, and how large it is in a quick run."""
    part, parts = (1_000, 2) if quick else LENGTH[name]
    own = [f"training.epoch_events={part}", f"training.epochs={parts}"]
    own += [f"training.schedule={{kind: cyclic, lowest: .05, period: {parts}}}"]
    if name == LINEAR:
        own += [f"training.keep_checkpoints={[1, 2] if quick else [8, 16, 24]}"]
    if quick:
        own += ["channels=[8, 8, 8]" if CARDS[name] == "muon_soft_tree" else "channels=[4, 8, 8, 16]"]
    return own


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("muon-patterns"), help="folder for everything")
    parser.add_argument("--folder", type=Path, help="folder of muons.root and noise.root, if not the shipped")
    parser.add_argument("--quick", action="store_true", help="shipped sample, small networks, few images")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    where = [] if chosen.folder is None else [f"folder={chosen.folder.absolute()}"]
    study = Study(chosen.out, DatasetCard.find("muon_patterns", [*where, *SPLIT]), chosen.quick)
    pictures(study.page, study.events)
    merits = performance(study)
    asked = tracks(study.events.where("test"), 20 if study.quick else 250)
    smoothgrad = smoothing(study.page, study.models[CNN], asked, quick=study.quick)
    maps = population(study, asked, smoothgrad)
    completeness(study.page, maps)
    agreement(study.page, maps)
    trees(study)
    cases(study, asked, smoothgrad)
    print(study.page.write(opening(study, merits)))


# --- how well ------------------------------------------------------------------------------------


def performance(study: Study) -> dict[str, MomentumMerit]:
    """Figures of merit of every network, how many images it saw, and the trainings."""
    page, shown = study.page, study.shown
    page.heading("Four networks")
    for name, history in study.histories.items():
        part = 1_000 if study.quick else LENGTH[name][0]
        page.facts[f"image passes, {NAMES[name]}"] = f"{part * len(history):,}"
    passes = "; ".join(f"{NAMES[n]} {page.facts[f'image passes, {NAMES[n]}']}" for n in study.histories)
    page.text(f"Image passes in training: {passes}.")
    merits = figures_of_merit(page, study.judged, shown)
    training_figure(study)
    return merits


def training_figure(study: Study) -> None:
    """Loss of every training."""
    with style():
        figure, frames = plt.subplots(2, 2, figsize=(15, 11))
        for ax, (name, history) in zip(frames.flat, study.histories.items(), strict=True):
            training_curve(history, ax=ax)
            ax.set_title(NAMES[name], fontsize="small", pad=36)
        figure.tight_layout()
    caption = "Loss, in units of the targets' spread; an epoch is a part of the images, see the table."
    study.page.figure("training", figure, caption)


# --- the maps ------------------------------------------------------------------------------------


def population(study: Study, asked: Events, smoothgrad: Mapping[str, Any]) -> dict[str, Attribution]:
    """Maps of pT by every method, of the CNN and of the others."""
    folder, models = study.out / "maps", study.models
    found = of_model(models[CNN], asked, folder, smoothgrad)
    return found | others(models, asked, folder)


def others(models: Mapping[str, Any], events: Events, folder: Path) -> dict[str, Attribution]:
    """Maps of the CNN with a linear readout and of the tree."""
    return {
        "RAM, linear readout": kept(folder, "ram", models[LINEAR], events, TARGET),
        "IG, tree": kept(folder, "image_ig", models[TREE], events, TARGET),
        "path of the tree": kept(folder, "soft_tree", models[TREE], events, TARGET, upsampling="gradient"),
    }


def trees(study: Study) -> None:
    """How sure the trees are of their paths, how many leaves they use, how well one follows its teacher."""
    page = study.page
    page.heading("Soft trees")
    events = study.judged[study.judged.label == 1][:2_000]
    rows = []
    for name in (TREE, DISTILLED):
        found = tree_paths(study.models[name], events)
        cells = {"best path": found.paths.max(1), **_leaves(found), "from the CNN": _apart(study, name)}
        numbers = {key: _mean(np.asarray(v, dtype=np.float64)) for key, v in cells.items()}
        rows.append([NAMES[name], *(page.number(f"{k}, {NAMES[name]}", e) for k, e in numbers.items())])
    page.table(
        ("tree", "probability of the best path", "leaves in use", "best leaf alone: MAE", "|pT − CNN's pT|"),
        rows,
        f"Means over {len(events):,} muons, GeV; each tree was trained once. Leaves in use: exp of the "
        "entropy of the paths of an event. Best leaf alone: if only the leaf at the end of the most probable "
        "path spoke. Last: of all muons and noise of the table above.",
    )


def _leaves(found: TreePaths) -> dict[str, Array]:
    entropy = -(found.paths * np.log(np.clip(found.paths, 1e-12, None))).sum(1)
    alone = np.abs(found.leaves[found.best, 0] - found.events.targets[:, 0])
    return {"leaves in use": np.exp(entropy), "MAE of the best leaf": alone}


def _apart(study: Study, name: str) -> Array:
    return np.asarray(np.abs(study.predicted[name][:, 0] - study.predicted[CNN][:, 0]))


def _mean(values: Array) -> Estimate:
    return ratio_mean(values, np.ones(len(values)), np.ones(len(values)))


# --- three events --------------------------------------------------------------------------------


def cases(study: Study, asked: Events, smoothgrad: Mapping[str, Any]) -> None:
    """All methods side by side on three events that were chosen by what the networks say."""
    rows = chosen(study)
    events = study.judged[rows]
    page, models, folder = study.page, study.models, study.out / "maps"
    salt = {"base": "image_ig", "noise": "salt", "level": 0.02, "samples": 25, "steps": 8}
    first = of_model(models[CNN], events, folder, smoothgrad)
    first["SmoothGrad of IG, salt"] = kept(folder, "smoothgrad", models[CNN], events, TARGET, **salt)
    second = others(models, events, folder)
    second["RAM, linear readout, eta"] = kept(folder, "ram", models[LINEAR], events, "eta")
    second["IG, tree, eta"] = kept(folder, "image_ig", models[TREE], events, "eta")
    paths, masks = tree_paths(models[TREE], events), path_masks(models[TREE], events)
    spoke = influenced(study, events, asked)
    for i, (key, name) in enumerate(CASES.items()):
        page.heading(f"One event: {name}")
        page.text(f"{PICKED[key]} {_said(study, int(rows[i]))}")
        side_by_side(study, first, i, f"{key}_cnn", CNN)
        side_by_side(study, second, i, f"{key}_others", None)
        tree = tree_and_masks(paths, i, unit="GeV", labels=("layer", "strip"), masks=masks[i])
        page.figure(f"{key}_tree", tree, f"The way of the event through the soft tree ({name}). {NO_SUM}")
        draw(page, spoke, i, key, f"the event ({name})")


NO_SUM = (
    "Masks on the hits are gradient times input: they leave out what the biases of the convolutions add, and "
    "do not add up to the decisions."
)


def chosen(study: Study) -> NDArray[np.int64]:
    """Rows of the judged events: both right, CNN most wrong with the tree right, highest fake of the CNN."""
    events, pt = study.judged, study.judged.targets[:, 0]
    off = {name: np.abs(p[:, 0] / pt - 1) for name, p in study.predicted.items()}
    true = np.bincount(events.parent[events.truth[TRUTH]], minlength=len(events))
    clear = (true >= 6) & (pt > 7) & (pt < 20)
    both = np.where(clear & (pt < 13), np.maximum(off[CNN], off[TREE]), np.inf)
    wrong = np.where(clear & (off[TREE] < 0.1), off[CNN], -np.inf)
    fake = np.where(np.isnan(pt), study.predicted[CNN][:, 0], -np.inf)
    return np.array([both.argmin(), wrong.argmax(), fake.argmax()])


def _said(study: Study, row: int) -> str:
    true = study.judged.targets[row]
    said = (f"{NAMES[name]} {p[row, 0]:.2f} GeV, η = {p[row, 1]:.2f}" for name, p in study.predicted.items())
    what = f"True pT {true[0]:.2f} GeV, η = {true[1]:.2f}" if np.isfinite(true[0]) else "No muon"
    return f"{what}. Predicted: {'; '.join(said)}."


def side_by_side(study: Study, maps: Mapping[str, Attribution], event: int, key: str, of: str | None) -> None:
    """Maps of one event below each other."""
    own = {name: _model_of(name) if of is None else of for name in maps}
    predicted = {
        name: float(study.models[own[name]].logits(found.events[[event]])[0, _output(found)])
        for name, found in maps.items()
    }
    figure = convergence_figure(maps, event, truth=TRUTH, predicted=predicted)
    which = "the CNN" if of == CNN else "the CNN with a linear readout and the soft tree"
    study.page.figure(key, figure, f"Maps of {which}; framed in black: hits of the muon, in grey: others.")


def _model_of(name: str) -> str:
    return LINEAR if "linear" in name else TREE


def _output(found: Attribution) -> int:
    return found.events.schema.targets.index(found.target)


def influenced(study: Study, events: Events, asked: Events) -> Influence:
    """TracIn of a population, on the page, and of these events; noise is asked about as if pT were 0."""
    checkpoints = kept_checkpoints(study.out / LINEAR)
    train = learned(study.events, INFLUENTIAL)
    known = events.replace(targets=np.nan_to_num(events.targets))
    everything = Events.concatenate([known, asked[:100]])
    return influence(study.page, checkpoints, train, everything)["normalised"]


# --- the page ------------------------------------------------------------------------------------


def opening(study: Study, merits: Mapping[str, MomentumMerit]) -> str:
    """Title, samples, and the numbers of the first study beside ours."""
    page, events = study.page, study.events
    sizes = ", ".join(f"{(events.label == code).sum():,} {n}" for code, n in enumerate(events.schema.classes))
    splits = ", ".join(f"{(events.split == i).sum():,} {s}" for i, s in enumerate(("train", "valid", "test")))
    page.facts |= {"events": sizes, "split": splits}
    rows = "\n".join(f"| {' | '.join(row)} |" for row in beside(merits))
    template = Path(__file__).with_suffix(".md.in").read_text(encoding="utf-8")
    return template.format(sizes=sizes, splits=splits, rows=rows)


def beside(merits: Mapping[str, MomentumMerit]) -> Sequence[tuple[str, str, str]]:
    """Rows: network, the first study's figures, ours."""
    rows = [(NAMES[n], there, ", ".join(_three(merits[NAMES[n]]))) for n, there in THERE.items()]
    return [
        *rows,
        ("CNN, share of noise predicted at 15 GeV or more", "0.00147", fakes(merits[NAMES[CNN]].fakes)),
    ]


def _three(merit: MomentumMerit) -> list[str]:
    found = (merit.mae, merit.spread, merit.efficiency)
    return [measured(float(e.value), float(e.error)) for e in found]


if __name__ == "__main__":
    main()
