"""The charged-Higgs study: edge dropout chosen by what the network looks at, and what that is worth.

Trains TransformerConv → DynamicEdgeConv networks at eight values of the edge dropout, three seeds each,
and follows J. Choi ("Towards the XAI in HEP", 2023) from there: attention of the muon pair, mask graphs,
surrogate networks and edge Integrated Gradients on them. Beyond it: dependence on the di-muon mass, Shapley
interactions, agreement of the methods with each other and with the generator's truth (`population.py`).
Writes a page, figures and numbers.

``--quick`` takes the shipped sample, two values and a few epochs. The full study wants more events, see
docs/simulation.md, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import population
import torch
from numpy.typing import NDArray
from population import METHODS, PAIR

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import reduced, relative_to_uniform
from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.core.formatting import measured
from hepxai.datasets import DatasetCard
from hepxai.metrics.isolation import attention_from_rest, isolation
from hepxai.models import ModelCard
from hepxai.plots import event_display, style
from hepxai.report.study import StudyPage
from hepxai.run import Run
from hepxai.scan import Scan
from hepxai.scan.advice import advice
from hepxai.scan.page import write_scan
from hepxai.scan.ranking import best_against, variance_shares
from hepxai.scan.table import Table, spread_mean

MODEL = "transformer_edgeconv"
VALUES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
MASKS = (0.05, 0.25)
SURROGATES = (0.05, 0.2)


@dataclass
class Study:
    """Where everything lies, and the page that grows.

    Attributes
    ----------
    out : Path
    dataset : DatasetCard
    values : tuple of float
        Of the edge dropout.
    seeds, workers : int
    changes : list of str
        Entries of the model card that differ from the shipped one.
    """

    out: Path
    dataset: DatasetCard
    values: tuple[float, ...]
    seeds: int
    workers: int
    changes: list[str]
    page: StudyPage = field(init=False)

    def __post_init__(self) -> None:
        self.page = StudyPage(self.out, "charged_higgs")

    @cached_property
    def scan(self) -> Scan:
        """Trainings at all values, with all seeds."""
        return Scan.start(
            self.out / "scan",
            self.dataset,
            ModelCard.find(MODEL, self.changes),
            {"edge_dropout": list(self.values)},
            seeds=self.seeds,
            objectives=["pair_isolation", "valid_auc"],
        )

    def runs(self, dropout: float) -> list[Run]:
        """The trainings at a value, by seed."""
        point = next(p for p in self.scan.table().points if p.point["model.edge_dropout"] == dropout)
        return [Run.open(self.scan.trial_folder(trial)) for trial in point.trials]

    def run(self, dropout: float) -> Run:
        """The first training at a value."""
        return self.runs(dropout)[0]


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("charged-higgs"), help="folder for everything")
    parser.add_argument(
        "--folder", type=Path, help="folder of signal.root and background.root, if not the shipped"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that train")
    parser.add_argument("--quick", action="store_true", help="two values, two seeds, six epochs")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    where = [] if chosen.folder is None else [f"folder={chosen.folder.absolute()}"]
    study = Study(
        out=chosen.out,
        dataset=DatasetCard.find("charged_higgs", where),
        values=(0.05, 0.25) if chosen.quick else VALUES,
        seeds=2 if chosen.quick else 3,
        workers=chosen.workers,
        changes=["training.epochs=6"] if chosen.quick else [],
    )
    table = study.scan.run(workers=study.workers)
    best = scanned(study, table)
    masks(study)
    compared = [v for v in SURROGATES if v in study.values] or [study.values[-1]]
    population.surrogates(study.page, {f"{value:g}": study.run(value) for value in compared})
    run = study.run(best)
    found = run.explain(METHODS)
    page = study.page
    page.heading("Beyond the di-muon mass")
    given = Run.start(study.out / "pair_features", with_pair_features(study.dataset), run.card)
    given.train()
    population.mass_dependence(page, {"as it is": run, "given ΔR and log m": given})
    population.mass_in_maps(page, found)
    page.heading("Shapley values")
    population.contributions(page, found)
    population.interactions(page, found)
    page.heading("Do the methods agree?")
    population.agreement(page, found)
    page.heading("Do they find the truth?")
    population.truth(page, found)
    print(study.page.write(opening(study, run)))


# --- what the first study found --------------------------------------------------------------------------


def scanned(study: Study, table: Table) -> float:
    """Accuracy and attention at every value; the value one would choose."""
    write_scan(study.scan)
    page = study.page
    page.heading("Values of the edge dropout")
    names = ("test_accuracy", "valid_auc", "test_auc", "pair_attention", "pair_isolation")
    rows = []
    for point in table.points:
        value = point.point["model.edge_dropout"]
        rows.append([f"{value:g}", *(page.number(f"{m}, {value:g}", point.mean(m)) for m in names)])
        for trial in point.trials:
            for m in names:
                page.number(f"{m}, {value:g}, seed {trial.seed}", trial.metrics[m])
    header = ("edge dropout", "accuracy (test)", "AUC (valid)", "AUC (test)", "attention of μμ (valid)")
    shared = ", ".join(f"{point.statistical(m):.1g} of {n}" for m, n in zip(names, header[1:], strict=False))
    page.table(
        (*header, "isolation (valid)"),
        rows,
        f"Mean over {study.seeds} seeds ± its standard error, which says how far another seed would go. All "
        f"trainings share their events, whose statistical error is about {shared}.",
    )
    for name in ("attention_edge_dropout", "against_edge_dropout"):
        page.copied(study.scan.folder / "figures" / f"{name}.png", SCAN_CAPTIONS[name])
    for objective, sentences in advice(table, study.dataset).items():
        page.text(f"**{objective}.** {' '.join(sentences)}")
    page.text(value_or_seed(page, study.values, study.seeds))
    ranking = table.ranking("pair_isolation", "max")
    best = table.candidates[ranking.order[0]].point["model.edge_dropout"]
    page.facts["edge dropout chosen by the isolation of the muon pair"] = f"{best:g}"
    return float(best)


def results(page: StudyPage, metric: str, values: Sequence[float], seeds: int) -> NDArray[np.float64]:
    """Numbers of the page for a metric, one row per value, one column per seed."""
    keys = [[f"{metric}, {v:g}, seed {s}" for s in range(1, seeds + 1)] for v in values]
    return np.array([[float(page.numbers[key].value) for key in row] for row in keys])


def value_or_seed(page: StudyPage, values: Sequence[float], seeds: int) -> str:
    """Significance of the rise of the isolation, with the choice among all values allowed for."""
    isolations = results(page, "pair_isolation", values, seeds)
    found = best_against(isolations, 0)
    key = f"isolation at {values[found.best]:g}, the best of {len(values)}, less that at {values[0]:g}"
    texts = [
        page.number(f"{key}, {how}", e)
        for how, e in (("unpaired", found.gain), ("seed by seed", found.paired))
    ]
    page.facts |= {
        f"{key}: p-value of Student's t, seed by seed": f"{found.student:.2g}",
        f"{key}: p-value with the choice, all trainings shuffled": f"{found.p_pool:.2g}",
        f"{key}: p-value with the choice, shuffled within seeds": f"{found.p_blocks:.2g}",
    }
    shares = {m: variance_shares(results(page, m, values, seeds)) for m in ("pair_isolation", "valid_auc")}
    for metric, (by_value, by_seed) in shares.items():
        page.facts[f"share of the variance of {metric} that goes with the value"] = f"{by_value:.2f}"
        page.facts[f"share of the variance of {metric} that goes with the seed"] = f"{by_seed:.2f}"
    chance = [(n - 1) / (isolations.size - 1) for n in isolations.shape]
    value, seed, auc_value, auc_seed, by_value, by_seed = (
        f"{100 * share:.0f} %" for share in (*shares["pair_isolation"], *shares["valid_auc"], *chance)
    )
    return (
        f"**Value or seed?** The {key}: {texts[0]} if seeds are unrelated, {texts[1]} seed by seed "
        f"(Student's t with {seeds - 1} degrees of freedom: p = {found.student:.2g}). In toys without any "
        f"dependence on the value, the best of {len(values)} is as far above that at {values[0]:g} with p = "
        f"{found.p_pool:.2g} where all trainings are shuffled, {found.p_blocks:.2g} where those of each seed "
        f"are. Of the variance of the isolation in {isolations.size} trainings {value} goes with the value "
        f"and {seed} with the seed; of that of the validation AUC {auc_value} and {auc_seed} ({by_value} and "
        f"{by_seed} expected if neither mattered)."
    )


SCAN_CAPTIONS = {
    "attention_edge_dropout": "Attention of the muon pair (filled) and of all other pairs, for every value: "
    "the figure by which the first study chose 0.2 – 0.3.",
    "against_edge_dropout": "Every training and the mean over seeds.",
}


def masks(study: Study) -> None:
    """The same events at two values, and how isolated the muon pair is."""
    page = study.page
    page.heading("Mask graphs")
    values = [v for v in MASKS if v in study.values]
    maps = {v: [reduced(r.explain(["attention"])["attention"]) for r in study.runs(v)] for v in values}
    rows = [
        [f"{value:g}", name, *(isolated(page, what, value, found, code) for what in ISOLATION)]
        for value, found in maps.items()
        for code, name in enumerate(found[0].events.schema.classes)
    ]
    page.table(
        ("edge dropout", "class", "isolation I", "attention from the rest J"),
        rows,
        "Test events; mean over seeds ± its standard error (each seed). I: attention that the two muons pay "
        "to each other, J: attention that all others pay to them, both relative to equal attention (1). The "
        "pair is isolated if I > 1 and J < 1.",
    )
    page.text(grown(page, values, study.seeds))
    for value in values:
        page.number(f"same decision of two seeds, {value:g}", decided_alike(study.runs(value)))
        page.text(alike(page, value, study.seeds))
    chosen = typical(study.run(values[-1]))
    shown = {v: relative_to_uniform(found[0]) for v, found in maps.items()}
    with style():
        figure, frames = plt.subplots(
            len(chosen), len(values), figsize=(8.2 * len(values), 6.6 * len(chosen))
        )
        for line, (row, name) in zip(np.atleast_2d(frames), chosen, strict=True):
            for ax, value in zip(line, values, strict=True):
                event_display(shown[value], row, focus=PAIR, name=f"{name}, dropout {value:g}", ax=ax)
        figure.tight_layout()
    page.figure(
        "masks",
        figure,
        "The same test events at two values of the edge dropout (seed 1). Arrows: the strongest attention, "
        "from the particle looked at to the one that looks; colour: relative to equal attention.",
    )


ISOLATION = {"I": isolation, "J": attention_from_rest}


def isolated(page: StudyPage, what: str, value: float, found: list[Attribution], code: int) -> str:
    """I or J of one class at one value: mean over seeds, and each."""
    by_seed = [ISOLATION[what](one[one.events.label == code], PAIR) for one in found]
    key = f"{what}, {found[0].events.schema.classes[code]}, {value:g}"
    for seed, estimate in enumerate(by_seed, start=1):
        page.number(f"{key}, seed {seed}", estimate)
    mean = page.number(key, spread_mean(np.array([float(e.value) for e in by_seed])))
    return f"{mean} ({', '.join(f'{float(e.value):.2f}' for e in by_seed)})"


def grown(page: StudyPage, values: Sequence[float], seeds: int) -> str:
    """Change of I and J of the signal between two values, seed by seed."""
    texts = []
    for what in ISOLATION:
        first, last = results(page, f"{what}, signal", values, seeds)
        change = page.number(f"{what}, signal, change, seed by seed", spread_mean(last - first))
        texts.append(f"{what} of the signal changes by {change}")
    low, high = (f"{v:g}" for v in values)
    return f"From {low} to {high}, seed by seed, {', '.join(texts)} (mean over {seeds} seeds)."


def alike(page: StudyPage, value: float, seeds: int) -> str:
    """How often two seeds decide alike, beside unrelated networks of the same accuracy."""
    right = results(page, "test_accuracy", [value], seeds)[0]
    unrelated = np.mean([a * b + (1 - a) * (1 - b) for a, b in combinations(right, 2)])
    found = page.numbers[f"same decision of two seeds, {value:g}"]
    return (
        f"Two networks of edge dropout {value:g} decide alike in "
        f"{measured(float(found.value), float(found.error))} of the test events; in {unrelated:.2f} if they "
        "were right in events that have nothing to do with each other."
    )


def decided_alike(runs: list[Run]) -> Estimate:
    """Weighted share of the test events that two trainings decide alike, mean over pairs of trainings."""
    test = runs[0].events.split == 2
    signs = [r.scores[test, 0] > 0 for r in runs]
    alike = np.mean([a == b for a, b in combinations(signs, 2)], axis=0)
    return ratio_mean(alike, np.ones(len(alike)), runs[0].events.weight[test])


def typical(run: Run) -> list[tuple[int, str]]:
    """For each class, the test event of median score: nobody's pick."""
    own = run.events.where("test")
    logit = run.scores[run.events.split == 2, 0]
    picked = []
    for code, name in reversed(list(enumerate(own.schema.classes))):
        rows = np.flatnonzero(own.label == code)
        picked.append((int(rows[np.argsort(logit[rows])[len(rows) // 2]]), name))
    return picked


def with_pair_features(dataset: DatasetCard) -> DatasetCard:
    """The data set with ΔR and log mass of every pair among what the network sees."""
    return DatasetCard.model_validate(dataset.model_dump() | {"pair_features": ["delta_r", "log_mass"]})


# --- the page ------------------------------------------------------------------------------------


def opening(study: Study, run: Run) -> str:
    """Title, samples, and the numbers of the first study beside ours."""
    page, events = study.page, run.events
    for code, name in enumerate(events.schema.classes):
        page.facts[f"{name} events"] = f"{np.count_nonzero(events.label == code):,}"
    sizes = ", ".join(f"{page.facts[f'{n} events']} {n}" for n in reversed(events.schema.classes))
    splits = ", ".join(f"{(events.split == i).sum():,} {s}" for i, s in enumerate(("train", "valid", "test")))
    epochs = run.card.training.epochs
    page.facts |= {
        "split": splits,
        "epochs": str(epochs),
        "values": str(len(study.values)),
        "seeds": str(study.seeds),
    }
    rows = "\n".join(f"| {' | '.join(row)} |" for row in beside(study, sizes, epochs))
    template = Path(__file__).with_suffix(".md.in").read_text(encoding="utf-8")
    trainings = len(study.values) * study.seeds
    return template.format(sizes=sizes, splits=splits, seeds=study.seeds, trainings=trainings, rows=rows)


def beside(study: Study, sizes: str, epochs: int) -> list[tuple[str, str, str]]:
    """Rows: quantity, the first study's value, ours."""
    numbers, facts = study.page.numbers, study.page.facts
    accuracy = [numbers[f"test_accuracy, {v:g}"] for v in study.values]
    agreement = {
        k.rsplit(", ", 1)[1]: e for k, e in numbers.items() if k.startswith("surrogate agreement, train")
    }
    return [
        ("events", "105k + 105k", sizes),
        ("training", "30 epochs, Adam 0.002, cyclic", f"{epochs} epochs, Adam 0.002, cyclic"),
        ("accuracy", "about 80 % at every value", between(accuracy)),
        (
            "edge dropout chosen by the muon pair's attention",
            "0.2 – 0.3, by eye",
            f"{facts['edge dropout chosen by the isolation of the muon pair']} has the highest mean: see "
            '"Value or seed?"',
        ),
        (
            "muon pair isolated from the rest",
            "seen at 0.25, not at 0.05",
            "; ".join(f"{v:g}: {_isolation(numbers, v)}" for v in MASKS if v in study.values),
        ),
        (
            "surrogates, same decision on the training events",
            "about 90 %",
            ", ".join(f"{measured(float(e.value), float(e.error))} at {v}" for v, e in agreement.items()),
        ),
    ]


def _isolation(numbers: Mapping[str, Estimate], value: float) -> str:
    """I and J of the signal."""
    found = {w: numbers[f"{w}, signal, {value:g}"] for w in ISOLATION}
    return " but ".join(f"{w} = {measured(float(e.value), float(e.error))}" for w, e in found.items())


def between(found: list[Estimate]) -> str:
    """Lowest and highest of some means."""
    low, high = (f(found, key=lambda e: float(e.value)) for f in (min, max))
    return " to ".join(measured(float(e.value), float(e.error)) for e in (low, high))


if __name__ == "__main__":
    main()
