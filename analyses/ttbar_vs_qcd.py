"""All-hadronic top pairs against QCD multijets: what boosted trees, a dense network and an LSTM look at.

Follows the simple-model half of J. Choi, "Towards the XAI in HEP" (2023): decision trees and their
importances, overfitting seen in them, a dense network with Integrated Gradients and conductance, and its
capacity chosen by that. Beyond it: errors on every number, agreement of the methods (`importances.py`), and
an answer to why a quark-gluon score may outweigh a b-tag score. Writes a page, figures and numbers.

``--quick`` takes the shipped sample and small models. The full study wants more events, see
docs/simulation.md, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import capacity
import importances
import matplotlib.pyplot as plt
import numpy as np
import torch
from importances import NETWORK, TREES
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import at_step
from hepxai.core.estimate import Estimate, effective, ratio_mean
from hepxai.core.formatting import measured
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.metrics import auc, auc_difference, balanced_accuracy
from hepxai.models import ModelCard
from hepxai.plots import style
from hepxai.plots.matrices import step_matrix
from hepxai.plots.training import training_curve
from hepxai.report.study import StudyPage
from hepxai.run import Run
from hepxai.scan.table import spread_mean
from hepxai.training import fit

LSTM = "lstm"
STEPS = 6
"""Jets that every event has."""
SHOWN = ("jet1_btag", "jet1_qgl", "n_bjets")
"""Columns whose attribution is drawn against their value."""
LEFT_OUT = {
    "all columns": (),
    "without b-tag scores": ("btag",),
    "without the number of b jets": ("n_bjets",),
    "without either": ("btag", "n_bjets"),
    "without quark-gluon scores": ("qgl",),
}


@dataclass
class Study:
    """Where everything lies, and the page that grows.

    Attributes
    ----------
    out : Path
    dataset : DatasetCard
    quick : bool
    workers : int
    """

    out: Path
    dataset: DatasetCard
    quick: bool
    workers: int
    page: StudyPage = field(init=False)

    def __post_init__(self) -> None:
        self.page = StudyPage(self.out, "ttbar_vs_qcd")

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Trained models on the same events."""
        entries = importances.changes(self.quick) | {LSTM: ["training.epochs=3"] if self.quick else []}
        return importances.trained(self.out, self.dataset, entries)

    @property
    def seeds(self) -> range:
        """Seeds of models that are trained several times."""
        return capacity.seeds(quick=self.quick)

    @property
    def events(self) -> Events:
        """All selected events."""
        return self.runs[TREES].events


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("ttbar-vs-qcd"), help="folder for everything")
    parser.add_argument(
        "--folder", type=Path, help="folder of signal.root and background.root, if not the shipped"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that train")
    parser.add_argument("--quick", action="store_true", help="shipped sample, few trees, few epochs")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    where = [] if chosen.folder is None else [f"folder={chosen.folder.absolute()}"]
    dataset = DatasetCard.find("ttbar_qcd", where)
    study = Study(chosen.out, dataset, chosen.quick, chosen.workers)
    page, runs = study.page, study.runs
    performance(study)
    trees = importances.tree_importances(page, runs[TREES])
    network, maps = importances.network_importances(page, runs[NETWORK])
    importances.values(page, maps["feature_ig"], SHOWN)
    importances.groups(page, {name: runs[name] for name in (TREES, NETWORK)})
    flavour(study, maps["feature_ig"])
    importances.agreement(page, trees | network, maps)
    capacity.overfitting(page, dataset, workers=chosen.workers, quick=chosen.quick)
    importances.neurons(page, runs[NETWORK])
    capacity.widths(page, study.events, quick=chosen.quick)
    sequence(study)
    print(page.write(opening(study)))


# --- the models ----------------------------------------------------------------------------------


def performance(study: Study) -> None:
    """Figures of merit of every model, and how the training went."""
    page = study.page
    page.heading("Three models")
    rows = []
    for name, run in study.runs.items():
        for split, figures in run.metrics().items():
            cells = []
            for key in ("balanced_accuracy", "auc", "rejection@0.5"):
                found = Estimate(np.asarray(figures[key]["value"]), np.asarray(figures[key]["error"]), np.nan)
                cells.append(page.number(f"{key}, {name}, {split}", found))
            rows.append([name, split, *cells])
    page.table(
        ("model", "split", "accuracy", "AUC", "QCD rejection at 50 % of tt̄"),
        rows,
        "Accuracy: mean of the two classes' at logit 0, so that cross sections do not enter. Each model was "
        "trained once. The valid events chose its epoch or its number of trees, the test events nothing.",
    )
    with style():
        figure, frames = plt.subplots(1, len(study.runs), figsize=(7.5 * len(study.runs), 6))
        for ax, (name, run) in zip(frames, study.runs.items(), strict=True):
            training_curve(run.history(), ax=ax)
            ax.set_title(name, fontsize="small", pad=36)
        figure.tight_layout()
    page.figure("training", figure, "Loss in the training and the validation events.")


# --- quark-gluon or b-tag? -----------------------------------------------------------------------


def flavour(study: Study, found: Attribution) -> None:
    """What each score can tell alone, what it moves, and what a network loses that never saw it."""
    page, events = study.page, study.events
    page.heading("Quark-gluon or b-tag?")
    moved(page, found)
    page.table(
        ("column", "AUC alone"),
        [[name, page.number(f"AUC of {name} alone", alone)] for name, alone in single_columns(events)[:12]],
        "What a cut on one column tells, in either direction; test events.",
    )
    kinds, columns = importances.kinds(events), len(events.schema.globals)
    gone = {name: {c for kind in left_out for c in kinds[kind]} for name, left_out in LEFT_OUT.items()}
    scores = {name: retrained(study, name, without(events, left_out)) for name, left_out in gone.items()}
    test = events.where("test")
    signal, weight = test.label == 1, test.weight
    whole, rows = scores["all columns"], []
    for name, seeds in scores.items():
        measures = {"auc": auc, "balanced_accuracy": balanced_accuracy}
        found = {k: over_seeds([m(s, signal, weight) for s in seeds]) for k, m in measures.items()}
        if seeds is not whole:
            pairs = zip(whole, seeds, strict=True)
            found["auc lost"] = over_seeds([auc_difference(*pair, signal, weight) for pair in pairs])
        cells = [page.number(f"{k}, network {name}", e) for k, e in found.items()]
        rows.append([name, str(columns - len(gone[name])), *cells, *["–"] * (3 - len(cells))])
    page.table(
        ("dense network", "columns", "AUC (test)", "accuracy (test)", "AUC lost"),
        rows,
        f"Trained on fewer columns, the same card, mean over {len(whole)} seeds. Errors of events and seeds "
        "together; that of the AUC lost is for the same events and seeds in both networks.",
    )
    page.text(answer(page))


def over_seeds(found: Sequence[Estimate]) -> Estimate:
    """Mean over trainings that share their events; the error has the scatter of the seeds and the events."""
    seeds, events = spread_mean(np.array([float(e.value) for e in found])), [float(e.error) for e in found]
    return Estimate(seeds.value, np.hypot(seeds.error, np.mean(events)), found[0].n_eff)


def answer(page: StudyPage) -> str:
    """Why a quark-gluon score may get more attribution than a b-tag score, in the numbers of this page."""
    n = page.numbers
    jets = [(n[f"feature_ig, dense network, jet{i}_{k}"] for k in ("qgl", "btag")) for i in range(1, 5)]
    larger = [i for i, (qgl, btag) in enumerate(jets, start=1) if qgl.value > btag.value]
    found = f"in jet {', '.join(map(str, larger))}" if larger else "in none of the four jets"
    apart = {k: text(n[f"IG of {k}, difference"]) for k in ("qgl", "btag", "n_bjets")}
    lost = {k: text(n[f"auc lost, network {k}"]) for k in LEFT_OUT if k != "all columns"}
    return (
        "**The answer.** The first study wondered why its network considers a quark-gluon score more than a "
        f"b-tag score. Column by column the same can be seen here {found}. But a column's mean |attribution| "
        "says how far it moves the score, not how well: a quark-gluon score has a value of its own in every "
        "event, whereas most b-tag scores lie near 0, not far from the baseline, and get little. And what a "
        "b-tag tells is in more than one column. Summed over jets, quark-gluon scores set the classes apart "
        f"by {apart['qgl']}, b-tag scores by {apart['btag']}, and the number of b-tagged jets by another "
        f"{apart['n_bjets']}. Trained without quark-gluon scores, the network loses "
        f"{lost['without quark-gluon scores']} of AUC, without b-tag scores {lost['without b-tag scores']}, "
        f"without the number of b jets {lost['without the number of b jets']}, without either "
        f"{lost['without either']}. Where the last is more than the two before it together, each of them "
        "stands in for the other; so the last is to be compared with the loss without quark-gluon scores."
    )


def text(found: Estimate) -> str:
    """Number with its error."""
    return measured(float(found.value), float(found.error))


def moved(page: StudyPage, found: Attribution) -> None:
    """How far each kind of columns moves the logit, and how far it moves the classes apart."""
    names, classes = found.labels["feature"], found.events.schema.classes
    rows = []
    for kind, columns in importances.kinds(found.events).items():
        sums = found.values[:, [names.index(c) for c in columns]].astype(np.float64).sum(axis=1)
        size, own = np.abs(sums), [found.events.label == code for code in range(len(classes))]
        means = [weighted_mean(v[o], found.events.weight[o]) for v in (size, sums) for o in own]
        apart = Estimate(means[3].value - means[2].value, np.hypot(means[3].error, means[2].error), np.nan)
        keys = [f"mean |IG| of {kind}, {name}" for name in classes] + [f"IG of {kind}, difference"]
        texts = [page.number(k, e) for k, e in zip(keys, [*means[:2], apart], strict=True)]
        rows.append((float(apart.value), [kind, *texts]))
    page.table(
        ("columns", *(f"mean size, {name}" for name in classes), f"{classes[1]} − {classes[0]}"),
        [row for _, row in sorted(rows, key=lambda row: -row[0])],
        "Integrated Gradients, summed over the columns of a kind in each event: mean size, and by how much "
        "its mean differs between the classes, which is what sets them apart; logit, test events.",
    )


def weighted_mean(values: NDArray[np.float64], weight: NDArray[np.float64]) -> Estimate:
    """Weighted mean over events."""
    return ratio_mean(values, np.ones(len(values)), weight)


def single_columns(events: Events) -> list[tuple[str, Estimate]]:
    """AUC of every column by itself, the best first."""
    test = events.where("test")
    table, names = test.table()
    found = []
    for name, column in zip(names, table.T, strict=True):
        one = auc(column.astype(np.float64), test.label == 1, test.weight)
        better = one if one.value >= 0.5 else Estimate(1 - one.value, one.error, one.n_eff)
        found.append((name, better))
    return sorted(found, key=lambda row: -float(row[1].value))


def without(events: Events, columns: set[str]) -> Events:
    """The same events with fewer columns in their table."""
    schema = events.schema
    kept = [i for i, name in enumerate(schema.globals) if name not in columns]
    names, units = (tuple(row[i] for i in kept) for row in (schema.globals, schema.global_units))
    smaller = dataclasses.replace(schema, globals=names, global_units=units)
    return events.replace(globals=np.ascontiguousarray(events.globals[:, kept]), schema=smaller)


def retrained(study: Study, name: str, events: Events) -> list[NDArray[np.float64]]:
    """Logits on the test events of dense networks that are trained on these columns, one for each seed."""
    found, test = [], events.where("test")
    for seed in study.seeds:
        card = ModelCard.find(NETWORK, [*importances.changes(study.quick)[NETWORK], f"training.seed={seed}"])
        folder = study.out / "fewer_columns" / name.replace(" ", "_") / f"seed_{seed}"
        model, _ = fit(card, events, folder=folder, progress=True)
        found.append(model.logits(test)[:, 0])
    return found


# --- particles in order --------------------------------------------------------------------------


def sequence(study: Study) -> None:
    """Integrated Gradients of the LSTM over particles and time steps."""
    page = study.page
    page.heading("An LSTM, step by step")
    found = study.runs[LSTM].explain(["node_ig"], maximum=importances.MOST)["node_ig"]
    classes, sums = found.events.schema.classes, found.sum("feature")
    rows = []
    for step in range(STEPS):
        own = at_step(sums, step)
        means = [own.population(found.events.label == code) for code in range(len(classes))]
        apart = Estimate(means[1].value - means[0].value, np.hypot(means[1].error, means[0].error), np.nan)
        keys = [f"IG of jet {step + 1}, {name}" for name in (*classes, "difference")]
        rows.append([f"jet {step + 1}", *map(page.number, keys, (*means, apart))])
    page.table(
        ("time step", *classes, f"{classes[1]} − {classes[0]}"),
        rows,
        "Mean attribution to the logit of each time step, all features together; test events. It adds up to "
        f"the score to {found.checks['median_residual']:.1e} in the median.",
    )
    with style():
        figure, frames = plt.subplots(1, len(classes), figsize=(8.5 * len(classes), 6.5))
        for ax, name in zip(frames, classes, strict=True):
            step_matrix(found, name, steps=STEPS, ax=ax)
        figure.tight_layout()
    page.figure("steps", figure, "Mean attribution at each time step and of each feature; test events.")


# --- the page ------------------------------------------------------------------------------------


def opening(study: Study) -> str:
    """Title, samples, and the numbers of the first study beside ours."""
    page, events = study.page, study.events
    for code, name in enumerate(events.schema.classes):
        weight = events.weight[events.label == code]
        page.facts[f"{name} events"] = f"{len(weight):,}"
        page.facts[f"effective number of {name} events"] = f"{effective(weight):,.0f}"
        page.facts[f"selected cross section of {name} [pb]"] = f"{weight.sum():.4g}"
    sizes = ", ".join(f"{page.facts[f'{n} events']} {n}" for n in reversed(events.schema.classes))
    splits = ", ".join(f"{(events.split == i).sum():,} {s}" for i, s in enumerate(("train", "valid", "test")))
    page.facts["split"] = splits
    rows = "\n".join(f"| {' | '.join(row)} |" for row in beside(study, sizes))
    number = page.facts[f"effective number of {events.schema.classes[0]} events"]
    template = Path(__file__).with_suffix(".md.in").read_text(encoding="utf-8")
    fewer = " and of each network on fewer columns"
    named = {"splits": splits, "effective": number, "seeds": len(study.seeds), "fewer": fewer}
    return template.format(sizes=sizes, rows=rows, **named)


def beside(study: Study, sizes: str) -> Sequence[tuple[str, str, str]]:
    """Rows: quantity, the first study's value, ours."""
    numbers, facts = study.page.numbers, study.page.facts
    accuracy = (f"balanced_accuracy, {NETWORK}, {split}" for split in ("train", "valid", "test"))
    ranked = [numbers[f"feature_ig, dense network, {c}"] for c in ("jet1_qgl", "jet1_btag")]
    silent, chosen = facts["neurons without any conductance"], facts["recommended widths"]
    return [
        ("events", "300k + 300k, 6:1:3", f"{sizes}, 6:1:3"),
        (
            "dense network, accuracy (train, valid, test)",
            "about 90 % in train and valid, Adam, 30 epochs",
            ", ".join(text(numbers[key]) for key in accuracy),
        ),
        (
            "Integrated Gradients: quark-gluon and b-tag score of the leading jet",
            "quark-gluon larger",
            " and ".join(map(text, ranked)),
        ),
        (
            "neurons that do nothing, and a smaller network for that",
            "some; a smaller one overtrains less",
            f"{silent} of 128; recommended widths {chosen}, of {', '.join(map(str, capacity.WIDTHS))} tried",
        ),
    ]


if __name__ == "__main__":
    main()
